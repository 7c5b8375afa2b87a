# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a machine as libvirt's domain XML for QEMU, with the meaning of OpenNebula's KVM deployment file. Pure."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from ...errors import InvalidValue
from ...model import console_passwords, defaults, disk_targets, uplink, vlan_trunks
from ...model.dataclass_json import to_plain
from ...model.disk import SHARED_DIRECTORY, Disk, DiskFiles
from ...model.flags import TRUE
from ...model.libvirt_values import IO_LIMITS, IO_SUFFIXES, check_writable, raw_fragment
from ...model.network_drivers import DUMMY, OVSWITCH, SWITCHED
from ...model.nic import Nic, interface_id
from ...model.vm import Graphics, Growth, Topology, Vm
from ...model.whole_numbers import whole
from ..base import Deployment, Site, domain_name
from . import domain_hardware, domain_numa

NAMESPACE = "urn:nebula:provision:vm:1"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
# Where a definition says whose machine it is.
MARK_PATH = f"metadata/{{{NAMESPACE}}}vm"
# The attribute of it that names the run of a machine (Driver.name_run).
RUN = "run"
_PREFIX = "nebula"
ET.register_namespace(_PREFIX, NAMESPACE)
ET.register_namespace("qemu", QEMU_NAMESPACE)

CONSOLE_LOG = "console.log"
# Root ports of a q35 machine, of which its devices take some six; what is attached while it runs takes the others.
ROOT_PORTS = 16
# Slots of a bus of conventional PCI that take devices.
SLOTS_OF_BUS = 31
# What a machine has besides disks and NICs: the SCSI controller, the balloon and the channel of the agent; on q35 that
# of USB and the bridge to conventional PCI, on i440fx the chipset and the video.
TAKEN_OF_Q35, TAKEN_OF_I440FX = 5, 5
# Requests of a guest that wait at most, as a real oned has it.
_QUEUE_OF_DIRECTORIES = "1024"
# MiB of the smallest module of memory.
MODULE = 128
HYPERV = (
    ("relaxed", "on"), ("vapic", "on"), ("spinlocks", "on"), ("vpindex", "on"), ("runtime", "on"), ("synic", "on"),
    ("stimer", "on"), ("reset", "off"), ("frequencies", "on"), ("reenlightenment", "off"), ("tlbflush", "on"),
    ("ipi", "on"), ("evmcs", "off"),
)  # fmt: skip
TIMERS = (
    {"name": "rtc", "tickpolicy": "catchup"},
    {"name": "pit", "tickpolicy": "delay"},
    {"name": "hpet", "present": "no"},
)
# MiB of translated code that an emulated machine keeps: a Linux guest boots with no more.
TRANSLATED = 128
# Bytes that variables of a firmware take at most; OVMF's are 540 KiB.
MOST_NVRAM = 16 << 20
FIRMWARE_WORDS = ("UEFI", "EFI")


def render(vm: Vm, site: Site) -> Deployment:
    """Return the deployment file of a machine on this site. Raise InvalidValue for RAW data that is no XML fragment."""
    raw = raw_fragment(vm.raw.get("kvm", ""), f"virtual machine {vm.name}: RAW")
    domain, _mark = begin_domain(site.accelerator, vm, site)
    _growth(domain, vm)
    threads = _number(vm.features, "IOTHREADS", "FEATURES")
    if threads:
        add_text_element(domain, "iothreads", str(threads))
    tuned = ET.Element("cputune")
    if site.cpu_shares:
        add_text_element(tuned, "shares", str(cpu_shares(vm.cpu, site.cpu_shares)))
        domain_hardware.add_cpu_limit(tuned, vm)
    domain_numa.add_pins(tuned, vm)
    if len(tuned):
        domain.append(tuned)
    domain_numa.add_memory_nodes(domain, vm)
    domain_numa.add_memory_backing(domain, vm)
    _os(domain, vm, site)
    domain_hardware.add_power_management(domain, vm)
    _features(domain, vm, site)
    _cpu(domain, vm, site)
    _clock(domain, vm, site, raw)
    devices = ET.SubElement(domain, "devices")
    add_text_element(devices, "emulator", vm.emulator or site.emulator)
    iothreads = _iothreads(vm)
    _disks(devices, vm, site, iothreads[0])
    _controllers(devices, vm, iothreads[1])
    for nic in vm.nics:
        _interface(devices, nic, vm, site)
    _console(devices, site, raw)
    if flag(vm.features, "GUEST_AGENT", default=True):
        channel = ET.SubElement(devices, "channel", {"type": "unix"})
        ET.SubElement(channel, "source", {"mode": "bind"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
    for device in vm.inputs:
        ET.SubElement(devices, "input", without_empty(type=device.type.lower(), bus=device.bus.lower()))
    domain_hardware.add_iommu(devices, vm, raw)
    domain_hardware.add_host_devices(devices, vm)
    if vm.tpm is not None:
        tpm = ET.SubElement(devices, "tpm", {"model": vm.tpm.model})
        ET.SubElement(tpm, "backend", {"type": "emulator", "version": vm.tpm.version})
    if vm.graphics is not None:
        add_graphics(devices, vm.graphics, vm.graphics.type.lower())
    domain_hardware.add_video(devices, vm, raw)
    domain_hardware.add_encryption(domain, vm)
    if raw is not None:
        merge(domain, raw)
    return deployment_of(domain, vm, site)


def _growth(domain: ET.Element, vm: Vm) -> None:
    """Say how many processors and how much memory it has, and how many and how much it may come to."""
    vcpu, growth = vm.vcpu or 1, vm.growth or Growth()
    current = {"current": str(vcpu)} if vm.most_vcpus > vcpu else {}
    memory = domain.find("memory")
    if memory is not None and _has_modules(vm):
        most = ET.Element("maxMemory", {"slots": str(growth.slots), "unit": "KiB"})
        # QEMU starts no machine with slots for modules that has room for none.
        most.text = str(max(growth.memory, vm.memory + MODULE) * 1024)
        domain.insert(list(domain).index(memory), most)
    elif memory is not None and growth.memory > vm.memory:
        memory.text = str(growth.memory * 1024)
        add_text_element(domain, "currentMemory", str(vm.memory * 1024), unit="KiB")
    add_text_element(domain, "vcpu", str(vm.most_vcpus), **current)


def growth_of(domain: ET.Element) -> Growth | None:
    """Return how far a machine may grow by its definition; None if that says nothing of it."""
    vcpu, memory, most = domain.find("vcpu"), domain.find("memory"), domain.find("maxMemory")
    growth = Growth(
        memory=_kib(most if most is not None else memory) // 1024,
        vcpu=(whole(vcpu.text or "") or 0) if vcpu is not None and vcpu.get("current") else 0,
        slots=(whole(most.get("slots", "")) or 0) if most is not None else 0,
    )
    current = domain.find("currentMemory")
    if most is None and (current is None or _kib(current) == _kib(memory)):
        growth = Growth(vcpu=growth.vcpu)
    return None if growth == Growth() else growth


def hardware_version_of(domain: ET.Element) -> int:
    """Return the hardware version of the machine that a definition is of."""
    mark = domain.find(MARK_PATH)
    return (whole(mark.get("hardware_version", "")) or 0) if mark is not None else 0


def memory_of(domain: ET.Element) -> int:
    """Return the MiB that a machine is started with, by its definition."""
    current = domain.find("currentMemory")
    return _kib(current if current is not None else domain.find("memory")) // 1024


def _kib(element: ET.Element | None) -> int:
    return (whole((element.text or "").strip()) or 0) if element is not None else 0


def begin_domain(kind: str, vm: Vm, site: Site) -> tuple[ET.Element, ET.Element]:
    """Return a definition with what each machine has, and its mark, which says no generation yet."""
    domain = ET.Element("domain", {"type": kind})
    add_text_element(domain, "name", domain_name(vm.vm_id))
    add_text_element(domain, "uuid", vm.uuid)
    add_text_element(domain, "title", vm.name)
    values = {"catalog": site.catalog, "id": str(vm.vm_id), "generation": "0", "directory": site.directory}
    if vm.hardware_version:
        values["hardware_version"] = str(vm.hardware_version)
    mark = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{NAMESPACE}}}vm", values)
    add_text_element(domain, "memory", str(vm.memory * 1024), unit="KiB")
    return domain, mark


def deployment_of(domain: ET.Element, vm: Vm, site: Site) -> Deployment:
    """Return the finished definition as a deployment file. Raise InvalidValue for text that XML can't hold."""
    for element in domain.iter():
        for name, text in (("", element.text or ""), *element.attrib.items()):
            check_writable(text, f"virtual machine {vm.name}: {element.tag}{f'/{name}' if name else ''}")
    ET.indent(domain)
    text = ET.tostring(domain, encoding="unicode")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    # Written once, which takes most of the time. No text and no attribute holds a bare "<": this is the mark itself.
    before, begin, rest = text.partition(f"<{_PREFIX}:vm ")
    mark, end, after = rest.partition(">")
    mark = mark.replace(' generation="0"', f' generation="{site.generation}"')
    return Deployment(text="".join((before, begin, mark, end, after, "\n")), digest=digest)


def cpu_shares(cpu: float, whole: int) -> int:
    """Return the weight of `cpu` processors, within what cgroups take. whole: the weight of one processor."""
    lowest, highest = (2, 262144) if whole == 1024 else (1, 10000)
    # Decimal fractions are not exact in binary: 0.07 * 100 is 7.000000000000001, and that is 7.
    return min(max(math.ceil(round(cpu * whole, 6)), lowest), highest)


def context_medium(vm: Vm, path: str | None) -> str:
    """Return the context's <disk>, which libvirt wants for a change of it. path: its medium; None: it has none."""
    devices = ET.Element("devices")
    if vm.context is not None:
        files = None if path is None else DiskFiles(path=path, format="raw")
        _disk(devices, _context_disk(vm), files, vm)
    return ET.tostring(devices[0], encoding="unicode")


def _os(domain: ET.Element, vm: Vm, site: Site) -> None:
    os_ = ET.SubElement(domain, "os")
    by_word = vm.os.firmware.upper() in FIRMWARE_WORDS
    if by_word:
        # libvirt picks the files itself, by the descriptors that the firmware's package brings: no path of ours.
        os_.set("firmware", "efi")
    add_text_element(os_, "type", "hvm", arch=vm.os.arch or defaults.ARCH, machine=machine_type(vm))
    nvram = f"{site.directory}/{nvram_name(vm)}"
    if by_word:
        firmware = ET.SubElement(os_, "firmware")
        secure = "yes" if vm.os.firmware_secure else "no"
        ET.SubElement(firmware, "feature", {"enabled": secure, "name": "enrolled-keys"})
        ET.SubElement(firmware, "feature", {"enabled": secure, "name": "secure-boot"})
        add_text_element(os_, "nvram", nvram)
    elif starts_by_uefi(vm):
        secure = "yes" if vm.os.firmware_secure else "no"
        add_text_element(os_, "loader", vm.os.firmware, readonly="yes", type="pflash", secure=secure)
        template = vm.os.firmware.replace("_CODE", "_VARS").replace(".secboot", "")
        add_text_element(os_, "nvram", nvram, **({"template": template} if template != vm.os.firmware else {}))
    if vm.os.kernel:
        add_text_element(os_, "kernel", vm.os.kernel)
        if vm.os.initrd:
            add_text_element(os_, "initrd", vm.os.initrd)
        root = f"root=/dev/{vm.os.root}" if vm.os.root else ""
        command = " ".join(part for part in (root, vm.os.kernel_cmd) if part)
        if command:
            add_text_element(os_, "cmdline", command)


def starts_by_uefi(vm: Vm) -> bool:
    return bool(vm.os.firmware) and vm.os.firmware.upper() != "BIOS"


def nvram_name(vm: Vm) -> str:
    """Return the file, in the machine's directory, of the variables of its firmware."""
    return f"{domain_name(vm.vm_id)}_VARS.fd"


def machine_type(vm: Vm) -> str:
    return vm.os.machine or "q35"


def _features(domain: ET.Element, vm: Vm, site: Site) -> None:
    features = ET.SubElement(domain, "features")
    for name, default in (("ACPI", True), ("APIC", False), ("PAE", False)):
        if flag(vm.features, name, default):
            ET.SubElement(features, name.lower())
    if vm.os.firmware_secure and vm.os.firmware:
        ET.SubElement(features, "smm", {"state": "on"})
    domain_hardware.add_interrupt_controller(features, vm)
    if site.accelerator == "qemu":
        # Translated code would take up to 1 GiB of each machine's host.
        cache = ET.SubElement(ET.SubElement(features, "tcg"), "tb-cache", {"unit": "MiB"})
        cache.text = str(TRANSLATED)
    # Emulation has none of these, and libvirt refuses a domain that asks for them there.
    if flag(vm.features, "HYPERV") and site.accelerator == "kvm":
        hyperv = ET.SubElement(features, "hyperv")
        for name, state in () if domain_hardware.add_fragment(hyperv, vm, "HYPERV_OPTIONS") else HYPERV:
            ET.SubElement(hyperv, name, {"state": state, **({"retries": "8191"} if name == "spinlocks" else {})})


def _cpu(domain: ET.Element, vm: Vm, site: Site) -> None:
    model = vm.cpu_model.get("MODEL", "")
    if not model:
        if vm.topology is not None or vm.numa is not None or _has_modules(vm):
            _shape(ET.SubElement(domain, "cpu"), vm)
        return
    if model == "host-passthrough":
        # Without KVM there is no host's CPU to pass through: all that emulation has comes nearest.
        cpu = ET.SubElement(domain, "cpu", {"mode": model if site.accelerator == "kvm" else "maximum"})
    elif model in ("host-model", "maximum"):
        cpu = ET.SubElement(domain, "cpu", {"mode": model})
    else:
        cpu = ET.SubElement(domain, "cpu", {"mode": "custom", "match": "exact"})
        add_text_element(cpu, "model", model, fallback="forbid")
    _shape(cpu, vm)
    for feature in vm.cpu_model.get("FEATURES", "").split(","):
        if feature.strip():
            ET.SubElement(cpu, "feature", {"policy": "require", "name": feature.strip()})


def _has_modules(vm: Vm) -> bool:
    return vm.growth is not None and bool(vm.growth.slots)


def _shape(cpu: ET.Element, vm: Vm) -> None:
    """Say in what the guest sees its processors, and the memory that modules are added to."""
    if vm.topology is not None:
        ET.SubElement(cpu, "topology", {name: str(value) for name, value in to_plain(vm.topology).items()})
    if _has_modules(vm):
        # QEMU takes modules only for a node of NUMA.
        processors = f"0-{vm.most_vcpus - 1}" if vm.most_vcpus > 1 else "0"
        cell = {"id": "0", "cpus": processors, "memory": str(vm.memory * 1024), "unit": "KiB"}
        ET.SubElement(ET.SubElement(cpu, "numa"), "cell", cell)
    domain_numa.add_cells(cpu, vm)


def topology_of(cpu: ET.Element | None) -> Topology | None:
    """Return the sockets, cores and threads in the <cpu> of a definition; None if it says nothing of them."""
    found = None if cpu is None else cpu.find("topology")
    numbers = [whole((found.get(name) or "") if found is not None else "") for name in ("sockets", "cores", "threads")]
    return None if None in numbers else Topology(*(number or 0 for number in numbers))


def _clock(domain: ET.Element, vm: Vm, site: Site, raw: ET.Element | None) -> None:
    local = flag(vm.features, "LOCALTIME")
    timed = vm.hardware_version and flag(vm.features, "HYPERV") and not domain_hardware.brings(raw, "clock")
    if not (local or timed):
        return
    clock = ET.SubElement(domain, "clock", {"offset": "localtime" if local else "utc"})
    if domain_hardware.add_fragment(clock, vm, "HYPERV_TIMERS"):
        return
    for timer in TIMERS:
        ET.SubElement(clock, "timer", dict(timer))
    if site.accelerator == "kvm":
        ET.SubElement(clock, "timer", {"name": "hypervclock", "present": "yes"})


def _disks(devices: ET.Element, vm: Vm, site: Site, iothreads: Mapping[int, str]) -> None:
    for disk in vm.disks:
        if disk.type == SHARED_DIRECTORY:
            _shared_directory(devices, disk)
        else:
            _disk(devices, disk, site.disks[disk.disk_id], vm, iothreads.get(disk.disk_id, ""))
    if vm.context is not None:
        _disk(devices, _context_disk(vm), site.disks[vm.context.disk_id], vm)


def _shared_directory(devices: ET.Element, disk: Disk) -> None:
    element = ET.SubElement(devices, "filesystem", {"type": "mount", "accessmode": "passthrough"})
    ET.SubElement(element, "driver", {"type": "virtiofs", "queue": _QUEUE_OF_DIRECTORIES})
    ET.SubElement(element, "source", {"dir": disk.source})
    ET.SubElement(element, "target", {"dir": disk.options["MOUNT_TAG"]})
    if disk.readonly:
        ET.SubElement(element, "readonly")


def _iothreads(vm: Vm) -> tuple[dict[int, str], str]:
    """Return the I/O thread of each disk on virtio, by its id, and that of the SCSI controller: in turn, unless the
    disk names its own. They are empty where FEATURES/IOTHREADS asks for none."""
    threads = _number(vm.features, "IOTHREADS", "FEATURES")
    if not threads:
        return {}, ""
    turn = itertools.cycle(range(1, threads + 1))
    on_virtio = [disk for disk in vm.disks if disk.type != SHARED_DIRECTORY and bus_of(disk, vm) == "virtio"]
    return {disk.disk_id: disk.options.get("IOTHREAD") or str(next(turn)) for disk in on_virtio}, str(next(turn))


def _context_disk(vm: Vm) -> Disk:
    context = vm.context
    return Disk(
        disk_id=context.disk_id if context else len(vm.disks),
        target=context.target if context else "",
        bus=context.bus if context else "",
        type="FILE" if context and context.device == "disk" else "CDROM",
        readonly=True,
        clone=True,
        options={"DISCARD": ""},
    )


def _disk(devices: ET.Element, disk: Disk, files: DiskFiles | None, vm: Vm, iothread: str = "") -> None:
    cdrom = disk.type == "CDROM"
    block = files is not None and files.block
    kind = {"type": "block" if block else "file", "device": "cdrom" if cdrom else "disk"}
    element = ET.SubElement(devices, "disk", kind)
    options = disk.options
    format_ = "raw" if cdrom or files is None else files.format
    bus = bus_of(disk, vm)
    driver = without_empty(
        name="qemu",
        type=format_,
        cache=disk.cache,
        error_policy=options.get("ERROR_POLICY", "").lower(),
        io=options.get("IO", "").lower(),
        discard=disk.discard,
        iothread=iothread,
        queues=_queues(options.get("VIRTIO_BLK_QUEUES", "") or vm.features.get("VIRTIO_BLK_QUEUES", ""), vm)
        if bus == "virtio"
        else "",
    )
    ET.SubElement(element, "driver", driver)
    if files is not None:
        source = ET.SubElement(element, "source", {"dev" if block else "file": files.path})
        if disk.luks_secret:
            encryption = ET.SubElement(source, "encryption", {"format": "luks"})
            ET.SubElement(encryption, "secret", {"type": "passphrase", "uuid": disk.luks_secret})
        if cdrom and not disk.clone:
            # An image that other machines read too: it keeps its owner.
            _unlabelled(source)
        # The whole chain by name. Nothing is probed in a file that a guest could have written; AppArmor's profile
        # admits only what is named here.
        below = element
        for path, backing_format in files.backing:
            below = ET.SubElement(below, "backingStore", {"type": "file"})
            ET.SubElement(below, "format", {"type": backing_format})
            _unlabelled(ET.SubElement(below, "source", {"file": path}))
        ET.SubElement(below, "backingStore")
    ET.SubElement(element, "target", {"dev": disk.target, "bus": bus})
    _iotune(element, options)
    if disk.readonly or cdrom:
        ET.SubElement(element, "readonly")
    if flag(options, "SHAREABLE"):
        ET.SubElement(element, "shareable")
    if options.get("SERIAL"):
        add_text_element(element, "serial", options["SERIAL"])
    if disk.boot_order:
        ET.SubElement(element, "boot", {"order": str(disk.boot_order)})
    if bus == "scsi":
        address = {
            "type": "drive",
            "controller": "0",
            "bus": "0",
            "target": str(disk_targets.letter_index(disk.target)),
            "unit": "0",
        }
        ET.SubElement(element, "address", address)


def _unlabelled(source: ET.Element) -> None:
    ET.SubElement(source, "seclabel", {"model": "dac", "relabel": "no"})


def bus_of(disk: Disk, vm: Vm) -> str:
    """Return the disk's bus: what it says, else what the letters of its target mean on this machine. Raise
    InvalidValue if they mean none."""
    bus = disk.bus.lower() or disk_targets.bus_of(disk.target, disk_targets.Board(machine_type(vm), vm.os.sd_disk_bus))
    if not bus:
        raise InvalidValue(
            f"virtual machine {vm.name}: disk {disk.disk_id}, TARGET {disk.target!r}",
            "its prefix stands for no bus",
            "Use a TARGET such as vda, sda or hda",
        )
    return bus


def _iotune(element: ET.Element, options: Mapping[str, str]) -> None:
    wanted: list[tuple[str, str]] = []
    for name in IO_LIMITS:
        names = [name + suffix for suffix in IO_SUFFIXES]
        wanted += [(each.lower(), options[each]) for each in names if options.get(each)]
    if options.get("SIZE_IOPS_SEC"):
        wanted.append(("size_iops_sec", options["SIZE_IOPS_SEC"]))
    if wanted:
        iotune = ET.SubElement(element, "iotune")
        for tag, value in wanted:
            add_text_element(iotune, tag, value)


def _controllers(devices: ET.Element, vm: Vm, iothread: str) -> None:
    scsi = ET.SubElement(devices, "controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
    queues = _queues(vm.features.get("VIRTIO_SCSI_QUEUES", "auto"), vm) or "1"
    ET.SubElement(scsi, "driver", without_empty(queues=queues, iothread=iothread))
    if "q35" in machine_type(vm):
        root = ET.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
        hole = _number(vm.features, "PCIHOLE64", "FEATURES")
        if hole:
            add_text_element(root, "pcihole64", str(hole), unit="KiB")
        # A machine that asks for none has as many as ever, whatever it has.
        ports = max(ROOT_PORTS, _taken_slots(vm) + vm.hotplug_slots if vm.hotplug_slots else 0)
        for index in range(1, ports + 1):
            ET.SubElement(devices, "controller", {"type": "pci", "index": str(index), "model": "pcie-root-port"})
        bridge = {"type": "pci", "index": str(ports + 1), "model": "pcie-to-pci-bridge"}
        ET.SubElement(devices, "controller", bridge)
    elif vm.hotplug_slots:
        # Each bridge takes a slot of bus 0.
        lacking = _taken_slots(vm) + vm.hotplug_slots - SLOTS_OF_BUS
        bridges = math.ceil(lacking / (SLOTS_OF_BUS - 1))
        for index in range(bridges + 1 if bridges > 0 else 0):
            model = "pci-bridge" if index else "pci-root"
            ET.SubElement(devices, "controller", {"type": "pci", "index": str(index), "model": model})


def _taken_slots(vm: Vm) -> int:
    """Return how many slots of PCI the machine's devices take at most: of q35 those of PCI Express behind ports."""
    # The sound card of SPICE is a device of conventional PCI.
    taken = TAKEN_OF_Q35 if "q35" in machine_type(vm) else TAKEN_OF_I440FX + domain_hardware.sound_cards_of_spice(vm)
    taken += len(vm.nics) + len(vm.host_devices)
    return taken + sum(1 for disk in vm.disks if disk.type == SHARED_DIRECTORY or bus_of(disk, vm) == "virtio")


def hotplug_slots_of(domain: ET.Element) -> int:
    """Return the slots that a definition reserves for devices which come while the machine runs; 0 for those that each
    machine has."""
    models = [each.get("model") for each in domain.iterfind("devices/controller") if each.get("type") == "pci"]
    disks = [each for each in domain.iterfind("devices/disk/target") if each.get("bus") == "virtio"]
    # What RAW brings is counted where it always was.
    own = ("hostdev[@type='pci']", "filesystem") if hardware_version_of(domain) > 1 else ()
    taken = len(disks) + sum(len(domain.findall(f"devices/{name}")) for name in ("interface", *own))
    if "pcie-root" in models:
        ports = models.count("pcie-root-port")
        return max(0, ports - taken - TAKEN_OF_Q35) if ports > ROOT_PORTS else 0
    bridges = models.count("pci-bridge")
    taken += len(domain.findall("devices/sound"))
    return max(0, SLOTS_OF_BUS + bridges * (SLOTS_OF_BUS - 1) - taken - TAKEN_OF_I440FX) if bridges else 0


def _queues(value: str, vm: Vm) -> str:
    """Return the number of queues; "auto" is one for each virtual processor that it may come to."""
    return str(vm.most_vcpus) if value.lower() == "auto" else value


def add_mtu(element: ET.Element, nic: Nic) -> None:
    """Add the MTU of the host's side, where the machine is told more than an interface has by itself. Without it
    libvirt takes the bridge's MTU, so nothing is written otherwise."""
    size = uplink.large_mtu(nic.network_values, nic.options)
    if size and element.get("type") == "bridge":
        ET.SubElement(element, "mtu", {"size": str(size)})


def add_interface(devices: ET.Element, nic: Nic, vm: Vm) -> ET.Element:
    """Add a NIC with what it is attached to, and its MAC."""
    network_driver = nic.network_values.get("VN_MAD", "")
    bridged = bool(nic.bridge) and network_driver != DUMMY
    element = ET.SubElement(devices, "interface", {"type": "bridge" if bridged else "ethernet"})
    if bridged:
        ET.SubElement(element, "source", {"bridge": nic.bridge})
        if network_driver in SWITCHED:
            port = ET.SubElement(element, "virtualport", {"type": "openvswitch"})
            ET.SubElement(port, "parameters", {"interfaceid": interface_id(vm.uuid, nic.nic_id)})
        if network_driver == OVSWITCH:
            _vlan(element, vlan_trunks.port_of(nic.network_values, nic.options))
    ET.SubElement(element, "mac", {"address": nic.mac})
    return element


def _interface(devices: ET.Element, nic: Nic, vm: Vm, site: Site) -> None:
    values = {**nic.network_values, **nic.options}
    element = add_interface(devices, nic, vm)
    if nic.target:
        ET.SubElement(element, "target", {"dev": nic.target})
    model = nic.model or defaults.NIC_MODEL
    ET.SubElement(element, "model", {"type": model})
    if model == "virtio":
        # No name: libvirt takes vhost-net where the kernel has it, and an explicit one fails where it has not.
        queues = _queues(values.get("VIRTIO_QUEUES", "auto"), vm)
        queued = queues not in ("", "0", "1")
        if site.userspace_switch and nic.network_values.get("VN_MAD", "") in SWITCHED:
            # It forwards what a guest leaves without a checksum for the host to fill in, and nobody fills it in.
            offload = ET.SubElement(element, "driver", {"name": "qemu", **({"queues": queues} if queued else {})})
            ET.SubElement(offload, "host", {"csum": "off"})
        elif queued:
            ET.SubElement(element, "driver", {"queues": queues})
    add_mtu(element, nic)
    add_bandwidth(element, values)
    if values.get("FILTER"):
        reference = ET.SubElement(element, "filterref", {"filter": values["FILTER"]})
        if nic.ip:
            ET.SubElement(reference, "parameter", {"name": "IP", "value": nic.ip})
    if vm.hardware_version and nic.options.get("LINK", "").strip().lower() == "down":
        ET.SubElement(element, "link", {"state": "down"})
    if nic.boot_order:
        ET.SubElement(element, "boot", {"order": str(nic.boot_order)})


def _vlan(element: ET.Element, port: vlan_trunks.Port) -> None:
    """Add the VLANs of a port of Open vSwitch. A port without any would be in all of them."""
    is_trunk = bool(port.trunks) or not port.tag
    vlan = ET.SubElement(element, "vlan", {"trunk": "yes"} if is_trunk else {})
    for number in port.carried:
        native = number == port.tag and port.mode
        ET.SubElement(vlan, "tag", {"id": str(number), **({"nativeMode": "untagged"} if native else {})})


def add_bandwidth(element: ET.Element, values: Mapping[str, str]) -> None:
    found: list[tuple[str, dict[str, str]]] = []
    for direction in ("inbound", "outbound"):
        limits = {
            key: values[f"{direction.upper()}_{name}"]
            for key, name in (("average", "AVG_BW"), ("peak", "PEAK_BW"), ("burst", "PEAK_KB"))
            if values.get(f"{direction.upper()}_{name}")
        }
        if limits.get("average"):
            found.append((direction, limits))
    if found:
        bandwidth = ET.SubElement(element, "bandwidth")
        for direction, limits in found:
            ET.SubElement(bandwidth, direction, limits)


def _console(devices: ET.Element, site: Site, raw: ET.Element | None) -> None:
    """Add serial port 0: a terminal for `virsh console`, with a log of all it shows in the machine's directory."""
    log = {"file": f"{site.directory}/{CONSOLE_LOG}", "append": "on"}
    own = None if raw is None else _raw_console(raw)
    if own is not None:
        if own.get("type") == "pty" and own.find("log") is None:
            ET.SubElement(own, "log", log)
        return
    serial = ET.SubElement(devices, "serial", {"type": "pty"})
    ET.SubElement(serial, "log", log)
    ET.SubElement(serial, "target", {"port": "0"})
    console = ET.SubElement(devices, "console", {"type": "pty"})
    ET.SubElement(console, "target", {"type": "serial", "port": "0"})


def _raw_console(raw: ET.Element) -> ET.Element | None:
    """Return the serial port 0 that RAW brings itself, if it does."""
    for serial in raw.findall("./devices/serial"):
        target = serial.find("target")
        if target is None or target.get("port", "0") == "0":
            return serial
    return None


def add_graphics(devices: ET.Element, graphics: Graphics, kind: str) -> None:
    element = ET.SubElement(
        devices,
        "graphics",
        without_empty(
            type=kind,
            port=str(graphics.port) if graphics.port else "-1",
            autoport="no" if graphics.port else "yes",
            listen=graphics.listen,
            passwd=console_passwords.used_part(kind, graphics.password),
            keymap=graphics.keymap,
        ),
    )
    if graphics.listen:
        ET.SubElement(element, "listen", {"type": "address", "address": graphics.listen})


# Sections that a domain has once: what RAW says in them joins ours.
SECTIONS = ("devices", "features", "os", "cputune", "clock", "metadata", "cpu")


def merge(domain: ET.Element, raw: ET.Element) -> None:
    for extra in list(raw):
        ours = domain.find(extra.tag) if extra.tag in SECTIONS else None
        if ours is None:
            single = domain.find(extra.tag) if "}" not in extra.tag else None
            if single is not None:
                domain.remove(single)
            domain.append(extra)
            continue
        ours.attrib.update(extra.attrib)
        for child in list(extra):
            if extra.tag in ("features", "os", "cputune"):
                same = ours.find(child.tag)
                if same is not None:
                    ours.remove(same)
            ours.append(child)


def add_text_element(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def attribute_of(parent: ET.Element, path: str, name: str) -> str:
    """Return an attribute of the element at a path below another; "" where either is not there."""
    child = parent.find(path)
    return "" if child is None else child.get(name, "")


def without_empty(**attributes: str) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if value}


def flag(values: Mapping[str, str], name: str, default: bool = False) -> bool:
    value = values.get(name, "")
    return value.upper() in TRUE if value else default


def _number(values: Mapping[str, str], name: str, where: str) -> int:
    value = values.get(name, "")
    if not value:
        return 0
    number = whole(value)
    if number is None:
        raise InvalidValue(f"{where} {name} = {value!r}", "it is not a number", "Give a whole number")
    return number
