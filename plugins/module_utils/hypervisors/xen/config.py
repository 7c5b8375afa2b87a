# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a machine as a file of `xl` (and the older `xm`), with the meaning of OpenNebula's for Xen. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

from ...dataclass import dataclass
from ...errors import InvalidValue
from ...host.console import console_log
from ...model import console_passwords, defaults, disk_targets
from ...model.disk import DiskFiles
from ...model.flags import TRUE
from ...model.nic import Nic
from ...model.vm import Graphics, Vm
from ..base import Deployment, Site, domain_name
from . import switch_ports
from . import xen_declaration as xen

# What one whole processor weighs to Xen's credit scheduler, and the weights it takes.
CREDIT = 256
LOWEST, HIGHEST = 1, 65535
FIRST_PORT = defaults.FIRST_GRAPHICS_PORT
# How xl calls the driver that can read a format.
_PREFIX = {"raw": "file:", "qcow2": "qcow2:"}
# Models that xl's QEMU has; all others (virtio) are those of other hypervisors.
NIC_MODELS = ("e1000", "rtl8139", "ne2k_pci", "pcnet")
MARK = "# nebula"


def render(vm: Vm, site: Site) -> Deployment:
    """Return the deployment file of a machine on this site. Raise InvalidValue for what its format can't express."""
    where = f"virtual machine {vm.name}"
    kind = xen.kind_of(vm)
    lines = [f"name = {quoted(domain_name(vm.vm_id))}", f"uuid = {quoted(vm.uuid)}"]
    lines += [f"#O CPU_CREDITS = {credits(vm.cpu)}", f"cpu_weight = {quoted(str(credits(vm.cpu)))}"]
    lines += [f"cap = {quoted(str(vm.cpu_limit))}"] if vm.cpu_limit else []
    lines += [f"memory  = {quoted(str(vm.memory))}", f"vcpus  = {quoted(str(vm.vcpu or 1))}"]
    lines += _boot(vm, kind, where)
    lines += _list("disk", _disks(vm, site, kind, where))
    lines += [f"# port {record}" for record in switch_ports.records(vm)]
    lines += _list("vif", [_vif(nic, site, kind, where) for nic in vm.nics])
    lines += _graphics(vm.graphics, kind)
    lines += _features(vm, kind)
    if kind == xen.HVM:
        lines += _serial(site)
    raw = vm.raw.get("xen", "").strip("\n")
    lines += raw.split("\n") if raw else []
    text = "\n".join(lines) + "\n"
    mark = f"{MARK} catalog={site.catalog} id={vm.vm_id} generation={site.generation} directory={site.directory}\n"
    return Deployment(text=mark + text, digest=hashlib.sha256(text.encode()).hexdigest())


def credits(cpu: float) -> int:
    return min(max(math.ceil(round(cpu * CREDIT, 6)), LOWEST), HIGHEST)


def quoted(text: str) -> str:
    """Return the text as a string of xl, and of Python, in which xm reads its files."""
    escaped = "".join(
        "\\" + character
        if character in "\\'"
        else f"\\x{ord(character):02x}"
        if ord(character) < 32 or ord(character) == 127
        else character
        for character in text
    )
    return f"'{escaped}'"


@dataclass(frozen=True)
class Devices:
    """Holds the devices in a machine's file: disks by the number of the device, NICs by MAC."""

    disks: Mapping[int, str]
    nics: Mapping[str, str]


def devices_of(vm: Vm, site: Site) -> Devices:
    kind, where = xen.kind_of(vm), f"virtual machine {vm.name}"
    disks = _disks(vm, site, kind, where)
    numbers = [device_number(entry.rsplit(",", 2)[1].partition(":")[0]) for entry in disks]
    return Devices(dict(zip(numbers, disks)), {nic.mac.lower(): _vif(nic, site, kind, where) for nic in vm.nics})


def device_number(device: str) -> int:
    """Return the number of a disk's device in a machine, as Xen counts (vbd-interface)."""
    prefix, index = disk_targets.prefix_of(device), disk_targets.letter_index(device)
    if prefix == "hd" and index < 4:
        return (3, 3, 22, 22)[index] << 8 | (index % 2) << 6
    if prefix == "sd" and index < 16:
        return 8 << 8 | index << 4
    return 202 << 8 | index << 4 if index < 16 else 1 << 28 | index << 8


def _list(name: str, entries: list[str]) -> list[str]:
    return [f"{name} = [", *(f"    {quoted(entry)}," for entry in entries), "]"]


def _boot(vm: Vm, kind: str, where: str) -> list[str]:
    lines = []
    if kind == xen.HVM:
        lines += ["builder = 'hvm'", f"boot = {quoted(xen.boot_letters(vm))}"]
        if vm.os.firmware and vm.os.firmware.upper() != "BIOS":
            lines.append("bios = 'ovmf'")
    elif kind == xen.PVH:
        lines.append("type = 'pvh'")
    if vm.os.kernel:
        lines.append(f"kernel = {quoted(vm.os.kernel)}")
        if vm.os.initrd:
            lines.append(f"ramdisk = {quoted(vm.os.initrd)}")
        if vm.os.root:
            lines.append(f"root = {quoted(vm.os.root if vm.os.root.startswith('/') else '/dev/' + vm.os.root)}")
        if vm.os.kernel_cmd:
            lines.append(f"extra = {quoted(vm.os.kernel_cmd)}")
    elif vm.os.bootloader:
        lines.append(f"bootloader = {quoted(vm.os.bootloader)}")
    elif kind != xen.HVM:
        raise InvalidValue(
            f"{where}: OS/MACHINE = {vm.os.machine}",
            "it has no firmware, and neither KERNEL nor BOOTLOADER is given",
            'Name KERNEL (and INITRD), or BOOTLOADER = "pygrub" for the one on its disk; or leave MACHINE out',
        )
    return lines


def _disks(vm: Vm, site: Site, kind: str, where: str) -> list[str]:
    # A boot loader outside of the machine reads the first disk of the list, whatever its name.
    first = min((disk.boot_order for disk in vm.disks if disk.boot_order), default=0)
    disks = sorted(vm.disks, key=lambda disk: not (kind != xen.HVM and first and disk.boot_order == first))
    entries = [
        _disk(
            site.disks[disk.disk_id],
            disk.target,
            disk.type == "CDROM",
            disk.readonly,
            kind,
            f"{where}: disk {disk.disk_id}",
        )
        for disk in disks
    ]
    if vm.context is not None:
        context = vm.context
        cdrom = context.device != "disk"
        entries.append(_disk(site.disks[context.disk_id], context.target, cdrom, True, kind, f"{where}: context"))
    return entries


def _disk(files: DiskFiles, target: str, cdrom: bool, readonly: bool, kind: str, where: str) -> str:
    if "," in files.path or "\n" in files.path:
        raise InvalidValue(f"{where}: {files.path}", "xl takes no path with a comma in it", "Use another nebula_root")
    prefix = "phy:" if files.block else _PREFIX[files.format]
    # A PVH machine has no drives for CDROMs: a read-only disk with the same content.
    device = disk_targets.without_suffix(target) + (":cdrom" if cdrom and kind != xen.PVH else "")
    return f"{prefix}{files.path},{device},{'r' if readonly or cdrom else 'w'}"


def _vif(nic: Nic, site: Site, kind: str, where: str) -> str:
    model = nic.model.lower() if kind == xen.HVM and nic.model.lower() in NIC_MODELS else ""
    switch_ports.refuse(nic, site, kind == xen.HVM and bool(model or nic.boot_order), where)
    fields = {
        # An HVM machine has an emulated NIC beside each of Xen's, and OVN knows one port of each.
        "type": "vif" if kind == xen.HVM and switch_ports.is_ovn_nic(nic) else "",
        "model": model,
        "mac": nic.mac,
        "ip": nic.ip,
        "bridge": nic.bridge,
        "vifname": nic.target,
        "script": switch_ports.SCRIPT if switch_ports.is_switched(nic) else nic.options.get("SCRIPT", ""),
    }
    for name, value in fields.items():
        if any(character in value for character in ",'\"\n"):
            raise InvalidValue(
                f"{where}: NIC {nic.nic_id}: {name} = {value}", "xl takes no comma or quote there", "Remove it"
            )
    return ",".join(f"{name}={value}" for name, value in fields.items() if value)


def _graphics(graphics: Graphics | None, kind: str) -> list[str]:
    if graphics is None:
        return []
    display = str(graphics.port - FIRST_PORT) if graphics.port else ""
    values = {
        "vnclisten": graphics.listen,
        "vncunused": "0" if display else "1",
        "vncdisplay": display,
        "vncpasswd": console_passwords.used_part("vnc", graphics.password),
        "keymap": graphics.keymap,
    }
    given = {name: value for name, value in values.items() if value}
    if kind == xen.HVM:
        return ["vnc = '1'", *(f"{name} = {quoted(value)}" for name, value in given.items())]
    for name, value in given.items():
        if any(character in value for character in ",'\"\n"):
            raise InvalidValue(
                f"GRAPHICS: {'PASSWD' if name == 'vncpasswd' else name}",
                "xl takes no comma or quote there, for a machine that is not HVM",
                "Choose another",
            )
    return [f"vfb = [{quoted(','.join(['type=vnc', *(f'{name}={value}' for name, value in given.items())]))}]"]


def _features(vm: Vm, kind: str) -> list[str]:
    lines = []
    if kind == xen.HVM:
        if any(device.type == "tablet" for device in vm.inputs):
            lines += ["usb = 1", "usbdevice = 'tablet'"]
        elif any(device.type == "mouse" for device in vm.inputs):
            lines += ["usb = 1", "usbdevice = 'mouse'"]
        for feature, name in (("PAE", "pae"), ("ACPI", "acpi"), ("APIC", "apic")):
            if vm.features.get(feature):
                lines.append(f"{name} = {int(_flag(vm.features, feature))}")
        if _flag(vm.features, "HYPERV"):
            lines.append("viridian = 1")
    if _flag(vm.features, "LOCALTIME"):
        lines.append("localtime = '1'")
    return lines


def _serial(site: Site) -> list[str]:
    """Return serial port 0: a terminal for `xl console -t serial`, with a log of all it shows in the machine's
    directory. xl finds the terminal by the name of QEMU's device."""
    device = f"pty,id=serial0,logfile={site.directory}/{console_log.NAME},logappend=on"
    arguments = ["-chardev", device, "-serial", "chardev:serial0"]
    return [f"device_model_args = [{', '.join(quoted(argument) for argument in arguments)}]"]


def _flag(values: Mapping[str, str], name: str) -> bool:
    return values.get(name, "").strip().upper() in TRUE


# -- what stands in such a file ----------------------------------------------------------------------------------------
_PASSWORD = re.compile(r"\bvncpasswd(?: = '|=)((?:[^'\\,]|\\.)*)")
_PORT = re.compile(r"\bvncdisplay ?= ?'?(\d+)")
_WEIGHT = re.compile(r"^cpu_weight = '(\d+)'$", re.MULTILINE)
# The second word is xm's.
_CAP = re.compile(r"^(?:cap|cpu_cap) = '(\d+)'$", re.MULTILINE)
_MAC = re.compile(r"\bmac=([0-9a-f]{2}(?::[0-9a-f]{2}){5})\b")
_BRIDGE = re.compile(r"\bbridge=([^,'\n]+)")
_PORT_RECORD = re.compile(r"^# port \S+ (\S+) ", re.MULTILINE)
_VCPUS = re.compile(r"^vcpus  = '(\d+)'$", re.MULTILINE)
_FILE = re.compile(r"^(?:kernel|ramdisk) = '(/[^\n]*)'$", re.MULTILINE)
_MEMORY = re.compile(r"^memory  = '(\d+)'$", re.MULTILINE)
_DISK = re.compile(
    rf"^ {{4}}'(?:tap:)?(?:{'|'.join((*_PREFIX.values(), 'phy:'))})(?P<path>/[^,\n]*),[^,\n]+,(?P<mode>[rw])',$",
    re.MULTILINE,
)


def port_of(text: str) -> int:
    """Return the port of the machine's console, 0 if it has none."""
    found = _PORT.search(text)
    return FIRST_PORT + int(found[1]) if found else 0


def password_of(text: str) -> str:
    """Return the console's password up to the first comma, which no made-up one has; "" if there is none."""
    found = _PASSWORD.search(text)
    return _unquoted(found[1]) if found else ""


def weights_of(text: str) -> tuple[int, int]:
    """Return the weight and the cap (0: none) that the machine is to have."""
    weight, cap = _WEIGHT.search(text), _CAP.search(text)
    return int(weight[1]) if weight else CREDIT, int(cap[1]) if cap else 0


def macs_of(text: str) -> list[str]:
    return _MAC.findall(text)


def disks_of(text: str) -> list[str]:
    """Return the files of the machine's disks."""
    return [_unquoted(found["path"]) for found in _DISK.finditer(text)]


def _unquoted(text: str) -> str:
    return text.replace("\\'", "'").replace("\\\\", "\\")


@dataclass(frozen=True)
class Needs:
    """Holds what a host must have before it can start a machine.
    memory: MiB.
    bridges, switches: bridges of Linux, and of Open vSwitch.
    files: kernels and initrds.
    disks: their files, and whether the machine writes to them.
    emulator: what needs an emulator, "" if nothing does."""

    memory: int
    vcpus: int
    bridges: tuple[str, ...]
    files: tuple[str, ...]
    disks: tuple[tuple[str, bool], ...]
    emulator: str
    switches: tuple[str, ...] = ()


def needs_of(text: str) -> Needs:
    vcpus = _VCPUS.search(text)
    emulator = ""
    if re.search(r"^builder = 'hvm'$|^type = 'hvm'$", text, re.MULTILINE):
        emulator = "a machine of type HVM"
    elif re.search(rf"^ {{4}}'{_PREFIX['qcow2']}", text, re.MULTILINE):
        emulator = "a disk in qcow2"
    elif re.search(r"^vfb = \[", text, re.MULTILINE):
        emulator = "a graphical console"
    memory = _MEMORY.search(text)
    switches = tuple(dict.fromkeys(_PORT_RECORD.findall(text)))
    return Needs(
        memory=int(memory[1]) if memory else 0,
        vcpus=int(vcpus[1]) if vcpus else 1,
        bridges=tuple(name for name in dict.fromkeys(_BRIDGE.findall(text)) if name not in switches),
        files=tuple(_unquoted(found) for found in _FILE.findall(text)),
        disks=tuple((_unquoted(found["path"]), found["mode"] == "w") for found in _DISK.finditer(text)),
        emulator=emulator,
        switches=switches,
    )
