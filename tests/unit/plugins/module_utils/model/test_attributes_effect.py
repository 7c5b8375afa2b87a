# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of attributes tells the truth, of KVM and of Xen: what it says acts makes another machine (or is refused by
its name where its value can't be), what it says is refused is so by its name, what it says has no effect has none and
is warned of, and the rest is silently kept."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import uuid
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms import generated_passwords
from ansible_collections.nebula.provision.plugins.module_utils.engines.hypervisors_of_hosts import hypervisors_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import config
from ansible_collections.nebula.provision.plugins.module_utils.model import beancounters, network_checks
from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import (
    ACTS,
    KEPT,
    KVM,
    NO_EFFECT,
    REFUSED,
    TABLE,
    VECTORS,
    XEN,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, HostHardware, HostNode, PciDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

# The key under test goes into the first vector of its name; {} is where it stands.
SECRET = "3f9a1c52-8e07-4d6b-b1a4-000000000019"
ROOT = "DISK = [ IMAGE = os, DEV_PREFIX = vd {} ]"
VOLATILE = "DISK = [ IMAGE = os ]\nDISK = [ TYPE = fs, SIZE = 8 {} ]"
NIC = "NIC = [ NETWORK = six {} ]"
ALIAS = "NIC_ALIAS = [ NETWORK = six {} ]"
NICS = "NIC = [ NETWORK = six ]\nNIC = [ NETWORK = six {} ]\n"
FOUR = "NIC = [ NETWORK = other ]\nNIC_ALIAS = [ NETWORK = other {} ]"
FILTERED = "NIC = [ NETWORK = filtered {} ]"
SWITCHED = "NIC = [ NETWORK = switched {} ]"
KERNEL = 'OS = [ KERNEL = "/kernel" {} ]'
INJECT = 'INJECT = [ PATH = "/etc/motd" {} ]'
MODEL = "CPU_MODEL = [ MODEL = qemu64 {} ]"


def limit(name: str) -> tuple[str, str]:
    """The attribute with what it stands on: a burst's length on the burst, that on the limit."""
    bare = re.sub("_MAX(_LENGTH)?$", "", name)
    below = [bare] * (name != bare) + [f"{bare}_MAX"] * name.endswith("_LENGTH")
    return ROOT.replace(" {}", "".join(f", {key} = 5" for key in below) + " {}"), "7"


# Attribute: a line with its place, and a value that is not what the machine has anyway. Others are 7.
TOPOLOGY = ("TOPOLOGY/SOCKETS", "TOPOLOGY/CORES", "TOPOLOGY/THREADS")
PINNED = "VCPU = 2\nTOPOLOGY = [ PIN_POLICY = CORE ]\n"
PART = "NUMA_NODE = [ TOTAL_CPUS = 1, MEMORY = 32 {} ]"
HARDWARE = HostHardware(
    tuple(HostNode(number, 2048, ((2 * number,), (2 * number + 1,)), {"2": 256}, (10, 20)) for number in (0, 1)),
    True,
    (PciDevice("0000:01:00.0", "10de", "1eb8", "0302"),),
    ("SEV",),
)
CASES: dict[str, tuple[str, str]] = {
    "NAME": ("{}", "web"),
    "HYPERVISOR": ("{}", "nosuch"),
    "EMULATOR": ("{}", "/usr/bin/another"),
    "DISK/IMAGE": ("DISK = [ DEV_PREFIX = vd {} ]", "other"),
    "DISK/IMAGE_ID": ("DISK = [ DEV_PREFIX = vd {} ]", "1"),
    "DISK/DEV_PREFIX": ("DISK = [ IMAGE = os {} ]", "vd"),
    "DISK/TARGET": (ROOT, "vdc"),
    "DISK/DRIVER": (ROOT, "raw"),
    "DISK/CACHE": (ROOT, "unsafe"),
    "DISK/IO": (ROOT, "threads"),
    "DISK/DISCARD": (ROOT, "ignore"),
    "DISK/ERROR_POLICY": (ROOT, "stop"),
    "DISK/TYPE": ("DISK = [ IMAGE = os ]\nDISK = [ SIZE = 8 {} ]", "swap"),
    "DISK/FORMAT": (VOLATILE, "qcow2"),
    "DISK/FS": (VOLATILE, "ext4"),
    "DISK/SIZE": (ROOT, "4096"),
    "DISK/READONLY": (ROOT, "YES"),
    "DISK/SOURCE": (f"{ROOT.replace(' {}', '')}\nDISK = [ TYPE = FILESYSTEM {{}} ]", "/srv"),
    "DISK/MOUNT_TAG": (f"{ROOT.replace(' {}', '')}\nDISK = [ TYPE = FILESYSTEM, SOURCE = /srv {{}} ]", "data"),
    "DISK/MOUNT_POINT": (f"{ROOT.replace(' {}', '')}\nDISK = [ TYPE = FILESYSTEM, SOURCE = /srv {{}} ]", "/data"),
    "DISK/SHAREABLE": (ROOT.replace(" {}", ", DRIVER = raw {}"), "YES"),
    "DISK/BUS": (ROOT, "scsi"),
    "DISK/IOTHREAD": (f"FEATURES = [ IOTHREADS = 9 ]\n{ROOT}", "7"),
    "VIDEO/TYPE": ("VIDEO = [ {} ]", "qxl"),
    "VIDEO/VRAM": ("VIDEO = [ TYPE = qxl {} ]", "16384"),
    "VIDEO/RESOLUTION": ("VIDEO = [ TYPE = qxl {} ]", "800x600"),
    "VIDEO/IOMMU": ("VIDEO = [ TYPE = virtio {} ]", "YES"),
    "VIDEO/ATS": ("VIDEO = [ TYPE = virtio {} ]", "YES"),
    "IOMMU/MODEL": ("IOMMU = [ {} ]", "virtio"),
    "IOMMU/MODE": ("IOMMU = [ MODEL = intel {} ]", "device"),
    "IOMMU/OPTIONS": ("IOMMU = [ MODEL = intel {} ]", "eim=on"),
    "HYPERV_OPTIONS": ("FEATURES = [ HYPERV = YES ]\n{}", "<relaxed state='on'/>"),
    "HYPERV_TIMERS": ("FEATURES = [ HYPERV = YES ]\n{}", "<timer name='hpet' present='yes'/>"),
    "SPICE_OPTIONS": ("GRAPHICS = [ TYPE = spice ]\n{}", "<sound model='ich9'/>"),
    "DISK/LUKS_SECRET": ("DISK = [ IMAGE = sealed {} ]", "7B3A5D1C-0f3e-4a52-9a43-1f6a4a0c1d11"),
    "DISK/SIZE_IOPS_SEC": (ROOT.replace(" {}", ", TOTAL_IOPS_SEC = 5 {}"), "7"),
    "NIC/NETWORK": ("NIC = [ {} ]", "other"),
    "NIC/NETWORK_ID": ("NIC = [ {} ]", "1"),
    "NIC/IP": (NIC, "10.66.0.12"),
    "NIC/IP6": (NIC, "2001:db8::aff:fe42:c"),
    "NIC/IP6_GLOBAL": ("NIC = [ NETWORK = other {} ]", "2001:db8::7"),
    "NIC/IP6_ULA": ("NIC = [ NETWORK = other {} ]", "fd00::7"),
    "NIC/MAC": (NIC, "02:00:0a:42:00:0c"),
    "NIC/LINK": (NIC, "down"),
    "NIC/INBOUND_PEAK_BW": (NIC.replace(" {}", ", INBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/INBOUND_PEAK_KB": (NIC.replace(" {}", ", INBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/OUTBOUND_PEAK_BW": (NIC.replace(" {}", ", OUTBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/OUTBOUND_PEAK_KB": (NIC.replace(" {}", ", OUTBOUND_AVG_BW = 5 {}"), "7"),
    **{f"NIC/{key}": (NIC, "10.66.0.7") for key in ("GATEWAY", "NETWORK_ADDRESS", "NETWORK_MASK", "VROUTER_IP")},
    **{f"NIC/{key}": (NIC, "2001:db8::7") for key in ("GATEWAY6", "IP6_GATEWAY", "VROUTER_IP6")},
    "NIC/NAME": (NICS + "NIC_ALIAS = [ NETWORK = six, PARENT = front ]", "front"),
    "NIC_ALIAS/NETWORK": ("NIC_ALIAS = [ {} ]", "six"),
    "NIC_ALIAS/NETWORK_ID": ("NIC_ALIAS = [ {} ]", "0"),
    "NIC_ALIAS/PARENT": (NICS.replace(" {}", "") + ALIAS, "NIC1"),
    "NIC_ALIAS/NAME": (ALIAS, "NIC0"),
    "NIC_ALIAS/EXTERNAL": (ALIAS, "YES"),
    "NIC_ALIAS/IP": (ALIAS, "10.66.0.12"),
    "NIC_ALIAS/IP6": (ALIAS, "2001:db8::aff:fe42:c"),
    "NIC_ALIAS/IP6_GLOBAL": (FOUR, "2001:db8::7"),
    "NIC_ALIAS/IP6_ULA": (FOUR, "fd00::7"),
    "NIC_ALIAS/MAC": (ALIAS, "02:00:0a:42:00:0c"),
    "OS/ARCH": ("OS = [ {} ]", "i686"),
    "OS/MACHINE": ("OS = [ {} ]", "pc"),
    "OS/BOOT": ("OS = [ {} ]", "disk0"),
    "OS/KERNEL": ("OS = [ {} ]", "/kernel"),
    "OS/KERNEL_DS": ("OS = [ {} ]", "$FILE[IMAGE=kernel]"),
    "OS/INITRD": (KERNEL, "/initrd"),
    "OS/INITRD_DS": (KERNEL, "$FILE[IMAGE=initrd]"),
    "OS/KERNEL_CMD": (KERNEL, "quiet"),
    "OS/ROOT": (KERNEL, "vda"),
    "OS/UUID": ("OS = [ {} ]", "01234567-89ab-4cde-8f01-23456789abcd"),
    "OS/FIRMWARE": ("OS = [ {} ]", "UEFI"),
    "OS/FIRMWARE_SECURE": ("OS = [ FIRMWARE = UEFI {} ]", "YES"),
    "OS/SD_DISK_BUS": ("OS = [ {} ]", "sata"),
    "GRAPHICS/TYPE": ("GRAPHICS = [ {} ]", "spice"),
    "GRAPHICS/LISTEN": ("GRAPHICS = [ TYPE = vnc {} ]", "127.0.0.7"),
    "GRAPHICS/PORT": ("GRAPHICS = [ TYPE = vnc {} ]", "5977"),
    "GRAPHICS/PASSWD": ("GRAPHICS = [ TYPE = vnc {} ]", "7"),
    "GRAPHICS/KEYMAP": ("GRAPHICS = [ TYPE = vnc {} ]", "de"),
    "GRAPHICS/RANDOM_PASSWD": ("GRAPHICS = [ TYPE = vnc {} ]", "NO"),
    "INPUT/TYPE": ("INPUT = [ {} ]", "tablet"),
    "INPUT/BUS": ("INPUT = [ TYPE = tablet {} ]", "usb"),
    "FEATURES/ACPI": ("FEATURES = [ {} ]", "NO"),
    "FEATURES/GUEST_AGENT": ("FEATURES = [ {} ]", "NO"),
    **{f"FEATURES/{key}": ("FEATURES = [ {} ]", "YES") for key in ("APIC", "PAE", "HYPERV", "LOCALTIME")},
    "FEATURES/VIRTIO_BLK_QUEUES": (f"FEATURES = [ PAE = NO {{}} ]\n{ROOT.replace(' {}', '')}", "7"),
    "CPU_MODEL/MODEL": ("CPU_MODEL = [ {} ]", "qemu64"),
    "CPU_MODEL/FEATURES": (MODEL, "vmx"),
    "DISK/FORCE_BUS": ("DISK = [ IMAGE = windows, BUS = scsi {} ]", "YES"),
    "INJECT/PATH": ("INJECT = [ CONTENT = x {} ]", "/etc/motd"),
    "INJECT/CONTENT": (INJECT, "secret"),
    "INJECT/SRC": (INJECT, "/nosuch"),
    "INJECT/MODE": (INJECT.replace(" {}", ", CONTENT = x {}"), "0600"),
    "INJECT/OWNER": (INJECT.replace(" {}", ", CONTENT = x {}"), "7"),
    "INJECT/GROUP": (INJECT.replace(" {}", ", CONTENT = x {}"), "7"),
    "INJECT/DISK": ("DISK = [ IMAGE = os ]\nDISK = [ IMAGE = os ]\n" + INJECT.replace(" {}", ", CONTENT = x {}"), "1"),
    "INJECT/PARTITION": (INJECT.replace(" {}", ", CONTENT = x {}"), "7"),
    "INJECT_VIA": (INJECT.replace(" {}", ", CONTENT = x") + "\n{}", "guestfs"),
    "TPM/MODEL": ("TPM = [ {} ]", "tpm-tis"),
    "TPM/VERSION": ("TPM = [ MODEL = tpm-tis {} ]", "1.2"),
    "OS/TPM": ("OS = [ {} ]", "YES"),
    "RAW/TYPE": ('RAW = [ DATA = "<on_crash>destroy</on_crash>" {} ]', "kvm"),
    "RAW/DATA": ("RAW = [ TYPE = kvm {} ]", "<on_crash>destroy</on_crash>"),
    "NIC/SECURITY_GROUPS": (FILTERED, "100"),
    "NIC/FILTER_IP_SPOOFING": (FILTERED, "NO"),
    "NIC/FILTER_MAC_SPOOFING": (FILTERED, "NO"),
    "NIC/VLAN_TAGGED_ID": (SWITCHED, "10,20"),
    "NIC_DEFAULT": ("NIC_DEFAULT = [ {} ]", "e1000"),
    "TPM": ("TPM = [ {} ]", "tpm-tis"),
    **dict.fromkeys(TOPOLOGY, ("VCPU = 2\nTOPOLOGY = [ {} ]", "2")),
    "CONTEXT": ("", ""),
    "TOPOLOGY/PIN_POLICY": ("VCPU = 2\nTOPOLOGY = [ {} ]", "CORE"),
    "TOPOLOGY/NODE_AFFINITY": ("TOPOLOGY = [ SOCKETS = 1 {} ]", "1"),
    "TOPOLOGY/HUGEPAGE_SIZE": ("TOPOLOGY = [ SOCKETS = 1 {} ]", "2"),
    "TOPOLOGY/MEMORY_ACCESS": ("TOPOLOGY = [ HUGEPAGE_SIZE = 2 {} ]", "shared"),
    **dict.fromkeys(("NUMA_NODE", "NUMA_NODE/DISTANCE"), (f"{PINNED}{PART}\n{PART.replace(' {}', '')}", "1:30")),
    "NUMA_NODE/TOTAL_CPUS": (f"{PINNED}NUMA_NODE = [ MEMORY = 64 {{}} ]", "2"),
    "NUMA_NODE/MEMORY": (f"{PINNED}NUMA_NODE = [ TOTAL_CPUS = 2 {{}} ]", "64"),
    **dict.fromkeys(("PCI", "PCI/CLASS"), ("PCI = [ {} ]", "0302")),
    "PCI/VENDOR": ("PCI = [ {} ]", "10de"),
    "PCI/DEVICE": ("PCI = [ {} ]", "1eb8"),
    "PCI/SHORT_ADDRESS": ("PCI = [ {} ]", "01:00.0"),
    **dict.fromkeys(("MEMORY_ENCRYPTION", "MEMORY_ENCRYPTION/TYPE"), ("MEMORY_ENCRYPTION = [ {} ]", "SEV")),
    "MEMORY_TUNE_OFFSET": ("MEMORY_ENCRYPTION = [ TYPE = SEV ]\n{}", "7"),
    "VCPU_MAX": ("{}", "4"),
    "MEMORY_MAX": ("{}", "320"),
    "MEMORY_RESIZE_MODE": ("MEMORY_MAX = 320\n{}", "HOTPLUG"),
    "HOTPLUG_SLOTS": ("{}", "24"),
    "MEMORY_SLOTS": ("MEMORY_MAX = 320\nMEMORY_RESIZE_MODE = HOTPLUG\n{}", "4"),
}
ON_XEN: dict[str, tuple[str, str]] = {
    "CPULIMIT": ("{}", "50"),
    "DISK/DEV_PREFIX": ("DISK = [ IMAGE = os {} ]", "hd"),
    "DISK/DRIVER": (ROOT, "qcow2"),
    "NIC/MODEL": (NIC, "e1000"),
    "NIC/SCRIPT": (NIC, "vif-bridge"),
    "OS/MACHINE": (KERNEL, "pvh"),
    "OS/BOOT": ("OS = [ {} ]", "nic0"),
    "OS/BOOTLOADER": ("OS = [ {} ]", "pygrub"),
    "INPUT/BUS": ("INPUT = [ TYPE = tablet {} ]", "ps2"),
    "RAW/TYPE": ("RAW = [ DATA = \"on_crash = 'destroy'\" {} ]", "xen"),
    "RAW/DATA": ("RAW = [ TYPE = xen {} ]", "on_crash = 'destroy'"),
}
BARE = {"DISK": ROOT, "NIC": NIC, "NIC_ALIAS": ALIAS}
# What a vector that is named as such, with whatever it holds, is tried with.
WITHIN = {
    "NIC_DEFAULT": "MODEL", "TPM": "MODEL", "NUMA_NODE": "DISTANCE", "PCI": "CLASS", "MEMORY_ENCRYPTION": "TYPE",
}  # fmt: skip
# With what yes is said where that is not YES.
YES = {
    "OS/BOOTLOADER": "pygrub", "NIC/SCRIPT": "/bin/true", "TPM": "tpm-tis", "TPM/MODEL": "tpm-tis",
    "TPM/VERSION": "2.0", "MEMORY_ENCRYPTION": "SEV", "MEMORY_ENCRYPTION/TYPE": "SEV", "NIC_DEFAULT/NETWORK": "six",
    "NIC_DEFAULT/NETWORK_ID": "0", "NIC_DEFAULT/NETWORK_UID": "7", "NIC_DEFAULT/NETWORK_UNAME": "ann",
    "NIC_ALIAS/SECURITY_GROUPS": "100", "NIC_ALIAS/FILTER": "clean-traffic", "NIC_ALIAS/FILTER_IP_SPOOFING": "YES",
    "NIC_ALIAS/FILTER_MAC_SPOOFING": "YES",
    **{f"MEMORY/{name}": "240:240" for name in beancounters.NAMES},
}  # fmt: skip
# Values that are none are refused, whatever they do.
TAKEN = {
    "CLONE": "NO", "SAVE": "YES", "VN_MAD": "dummy", "SHAREABLE": "YES", "FORCE_BUS": "YES", "BUS": "scsi",
    "SD_DISK_BUS": "scsi", "FIRMWARE_SECURE": "NO", "GUEST_AGENT": "YES", "CPULIMIT": "50", "ARCH": "i686",
}  # fmt: skip


def told(what: str) -> list[tuple[str, str]]:
    """Of each hypervisor, what the table says this of: SINGLE, VECTOR, VECTOR/KEY."""
    return [
        (hypervisor, text)
        for hypervisor in (KVM, XEN)
        for entry in TABLE
        if entry.on(hypervisor) == what
        for text in entry.texts()
        if not text.endswith("/*") and not (what == NO_EFFECT and text.startswith("CONTEXT/"))
    ]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    opened = {name: furnished(str(tmp_path_factory.mktemp(name)), name) for name in (KVM, XEN)}
    yield opened
    for engine in opened.values():
        engine.close()


@pytest.fixture
def engine(engines):
    return engines[KVM]


def furnished(root: str, hypervisor: str) -> EmbeddedEngine:
    opened = EmbeddedEngine(root, create=True)
    with opened.session():
        opened.hosts.allocate(
            Host(None, "node", hypervisor, state=HostState.MONITORED, memory=4096, cpu=16.0, hardware=HARDWARE)
        )
        for name, kind in (
            ("os", ImageType.OS), ("other", ImageType.OS), ("kernel", ImageType.KERNEL), ("initrd", ImageType.RAMDISK),
        ):  # fmt: skip
            image = opened.images.allocate(Image(None, name, type=kind))
            opened.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", source=f"/{name}")
        sealed = opened.images.allocate(Image(None, "sealed", type=ImageType.OS))
        opened.images.update(
            sealed.id, state=ImageState.READY, size=16, format="qcow2", source="/sealed", luks_secret=SECRET
        )
        windows = Image(None, "windows", type=ImageType.OS, attributes={"GUEST_OS": "windows"}, bus="sata")
        image = opened.images.allocate(windows)
        opened.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", source="/windows")
        six = AddressRange(NEW_AR, "IP4_6", 9, ip="10.66.0.10", global_prefix="2001:db8::", ula_prefix="fd00::")
        opened.networks.allocate(Network(None, "six", bridge="br6", address_ranges=(six,)))
        four = AddressRange(NEW_AR, "IP4", 9, ip="10.77.0.10")
        opened.networks.allocate(Network(None, "other", bridge="br4", address_ranges=(four,)))
        on = {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}
        opened.networks.allocate(Network(None, "filtered", bridge="br7", attributes=on, address_ranges=(four,)))
        opened.networks.allocate(Network(None, "switched", vn_mad="ovswitch", address_ranges=(four,)))
        opened.security_groups.allocate(SecurityGroup(None, "web"))
    return opened


class Undone(Exception):
    pass


def made(engine, template: Template, warned: list[str] | None = None) -> list[object]:
    """All that a node gets to act on, or the refusal's text; nothing of it is kept. warned: gets the warnings."""
    found: list[object] = []
    always = uuid.UUID(int=1)
    with mock.patch("uuid.uuid4", lambda: always), pytest.raises(Undone), engine.session(), engine.attempt():
        stored = engine.templates.allocate("tested", template)
        item = {"name": template.get("NAME") or "machine", "template": stored.name}
        if warned is not None:
            with contextlib.suppress(NebulaError):
                warned += validate(template, hypervisors=hypervisors_of(engine.hosts))
        outcomes, _warnings = reconcile(engine, [item], ["node"])
        errors = [str(outcome.error) for outcome in outcomes if outcome.error]
        found += errors or [acted_on(planned) for planned in engine.vms.plans(["node"])["node"].vms]
        found += [] if errors else [engine.networks.guards()]
        raise Undone
    return found


def acted_on(planned) -> object:
    vm = planned.vm
    count = len(vm.disks) + (vm.context is not None)
    files = {number: DiskFiles(path=f"/disk.{number}", format="raw") for number in range(count)}
    site = Site("/vm", "catalog", 1, files, accelerator="kvm")
    deployment = config.render(vm, site) if vm.hypervisor == XEN else domain_xml.render(vm, site)
    # What storage makes of a disk, besides what the deployment file says of it.
    disks = [dataclasses.replace(disk, options={}, bus="") for disk in vm.disks]
    return vm.name, deployment.text, disks, vm.context and vm.context.variables, vm.cpu


def template_of(line: str, part: str) -> Template:
    # A first pair has no comma before it.
    text = re.sub(r"\[ ,", "[", line.format(part))
    text = "" if re.search(r"\[\s*\]", text) else text
    needed = {"CPU": "1", "MEMORY": "64", "DISK": "[ IMAGE = os ]", "NIC": "[ NETWORK = six ]"}
    missing = [f"{name} = {own}" for name, own in needed.items() if not re.search(rf"^{name} =", text, re.MULTILINE)]
    return parse("\n".join([text, *missing, 'CONTEXT = [ NETWORK = "YES" ]']) + "\n")


def case_of(hypervisor: str, attribute: str) -> tuple[str, str, str]:
    """The line with a place for the attribute, what stands there, and the name of it."""
    vector, _slash, key = attribute.rpartition("/")
    if attribute in VECTORS:
        vector, key = attribute, WITHIN.get(attribute, "X")
    default = limit(key) if re.search("_(BYTES|IOPS)_SEC", key) else (BARE.get(vector, f"{vector} = [ {{}} ]"), "7")
    cases = {**CASES, **(ON_XEN if hypervisor == XEN else {})}
    line, value = cases.get(attribute, default if vector else ("{}", "7"))
    return line, f'{", " * bool(vector)}{key} = "{value}"', key


@pytest.mark.parametrize(("hypervisor", "attribute"), told(ACTS))
def test_what_acts_makes_another_machine(engines, hypervisor: str, attribute: str) -> None:
    line, part, key = case_of(hypervisor, attribute)
    warned: list[str] = []
    with_it = made(engines[hypervisor], template_of(line, part), warned)
    assert with_it != made(engines[hypervisor], template_of(line, "") if line else Template())
    if isinstance(with_it[0], str):
        assert key in with_it[0] or "nosuch" in with_it[0]
    assert not any(text.startswith(f"{attribute} is kept") for text in warned)


@pytest.mark.parametrize(("hypervisor", "attribute"), told(REFUSED))
def test_what_is_refused_is_so_by_its_name(engines, hypervisor: str, attribute: str) -> None:
    line, _part, key = case_of(hypervisor, attribute)
    if attribute == "GRAPHICS/RANDOM_PASSWD":
        line = "GRAPHICS = [ TYPE = vnc {} ]"
    elif attribute == "MEMORY_ENCRYPTION":
        key = "TYPE"
    elif attribute in ("OS/TPM", "OS/BOOTLOADER"):
        line = "OS = [ {} ]"
    comma = ", " * ("/" in attribute or attribute in VECTORS)
    template = template_of(line, f'{comma}{key} = "{YES.get(attribute, "YES")}"')
    (text,) = made(engines[hypervisor], template)
    # A vector that is refused as such is named, and its keys are not.
    name = attribute.partition("/")[0] if attribute.startswith(("TPM", "MEMORY")) else attribute.rpartition("/")[2]
    assert isinstance(text, str) and name in text
    with pytest.raises(InvalidValue, match=name):
        validate(template, hypervisors=[hypervisor])


@pytest.mark.parametrize("attribute", ["GRAPHICS/RANDOM_PASSWD", "OS/FIRMWARE_SECURE", "OS/TPM"])
def test_who_says_no_to_what_is_refused_is_not(attribute: str) -> None:
    vector, _slash, key = attribute.partition("/")
    line = "GRAPHICS = [ TYPE = vnc {} ]" if vector == "GRAPHICS" else "OS = [ {} ]"
    validate(template_of(line, f", {key} = NO"), hypervisors=[XEN])


@pytest.mark.parametrize(("hypervisor", "attribute"), told(NO_EFFECT))
def test_what_has_no_effect_has_none_and_is_warned_of(engines, hypervisor: str, attribute: str) -> None:
    vector, _slash, key = attribute.rpartition("/")
    named = attribute
    if not vector:
        line, part = "{}", f"{key} = [ TYPE = 7 ]" if key in VECTORS else f"{key} = {TAKEN.get(key, '7')}"
    else:
        line = {
            **BARE,
            "RAW": f"RAW = [ TYPE = {hypervisor} {{}} ]",
            "FEATURES": "FEATURES = [ PAE = NO {} ]",
            "GRAPHICS": "GRAPHICS = [ TYPE = vnc {} ]",
            "PCI": "PCI = [ CLASS = 0302 {} ]",
            "OS": "OS = [ UUID = 01234567-89ab-4cde-8f01-23456789abcd {} ]",
        }.get(vector, f"{vector} = [ XYZ = 7 {{}} ]")
        part = f", {key} = {TAKEN.get(key, '7')}"
        own = [entry for entry in TABLE if entry.vector == vector and "" in entry.names]
        whole = [entry for entry in own if entry.on(hypervisor) == NO_EFFECT]
        named = vector if whole else attribute
    warned: list[str] = []
    with_it = made(engines[hypervisor], template_of(line, part), warned)
    assert with_it == made(engines[hypervisor], template_of(line, ""))
    assert not isinstance(with_it[0], str)
    assert len([text for text in warned if text.startswith(f"{named} is kept, and nothing acts on it ")]) == 1


@pytest.mark.parametrize("hypervisor", [KVM, XEN])
@pytest.mark.parametrize("name", ["REPORT_READY", "READY_SCRIPT", "READY_SCRIPT_PATH"])
def test_what_of_a_context_has_no_effect_reaches_the_guest_and_is_warned_of(engines, hypervisor, name) -> None:
    assert (
        next(entry for entry in TABLE if entry.vector == "CONTEXT" and name in entry.names).on(hypervisor) == NO_EFFECT
    )
    warned: list[str] = []
    with_it, plain = (
        made(engines[hypervisor], template_of("{}", "").merge_context(more), warned) for more in ({name: "YES"}, {})
    )
    assert with_it[0][3].pop(name) == "YES"
    assert with_it == plain
    assert len([text for text in warned if text.startswith(f"CONTEXT/{name} is kept, and nothing acts on it ")]) == 1


def test_who_says_no_to_reporting_is_not_warned() -> None:
    assert validate(template_of("{}", "").merge_context({"REPORT_READY": "NO"})) == []


@pytest.mark.parametrize(("hypervisor", "attribute"), told(KEPT))
def test_what_is_for_people_is_kept_without_a_word(engines, hypervisor: str, attribute: str) -> None:
    warned: list[str] = []
    with_it = made(engines[hypervisor], template_of("{}", f"{attribute} = x"), warned)
    assert with_it == made(engines[hypervisor], template_of("{}", "")) and warned == []


@pytest.mark.parametrize("hypervisor", [KVM, XEN])
def test_what_says_something_for_all_nics_says_it_for_those_that_do_not(engines, hypervisor: str) -> None:
    nics = 'NIC = [ NETWORK = six ]\nNIC = [ NETWORK = six, MODEL = "" ]\nNIC = [ NETWORK = six, MODEL = rtl8139 ]'
    defaults = "NIC_DEFAULT = [ MODEL = e1000, DNS = 10.66.0.2 ]"
    each = [", MODEL = e1000, DNS = 10.66.0.2", ', MODEL = "", DNS = 10.66.0.2', ", MODEL = rtl8139, DNS = 10.66.0.2"]
    written = "\n".join(f"NIC = [ NETWORK = six {more} ]" for more in each)
    found = made(engines[hypervisor], template_of(f"{nics}\n{defaults}{{}}", ""))
    assert found == made(engines[hypervisor], template_of(f"{written}{{}}", "")) and not isinstance(found[0], str)


def test_networks_limit_their_nics(engine) -> None:
    limits = dict.fromkeys(network_checks.BANDWIDTH, "7")
    with engine.session():
        slow = AddressRange(NEW_AR, "IP4", 9, ip="10.88.0.10")
        engine.networks.allocate(Network(None, "slow", bridge="br8", attributes=limits, address_ranges=(slow,)))
    text = made(engine, template_of("NIC = [ NETWORK = slow {} ]", ""))[0][1]
    for way in ("inbound", "outbound"):
        assert f'<{way} average="7" peak="7" burst="7" />' in text


@pytest.fixture(autouse=True)
def one_password(monkeypatch):
    """The one thing in which two machines of the same template differ."""
    monkeypatch.setattr(generated_passwords, "_password", lambda _kind: "abcdefgh")


def test_the_same_makes_the_same(engine) -> None:
    assert made(engine, template_of(NIC, "")) == made(engine, template_of(NIC, ""))


def test_every_case_is_of_an_attribute_that_acts() -> None:
    acting = {(hypervisor, text) for hypervisor, text in told(ACTS)}
    assert {(KVM, name) for name in CASES if (XEN, name) not in acting} <= acting
    assert {(XEN, name) for name in ON_XEN} <= acting
    assert set(YES) | {"OS/TPM", "OS/FIRMWARE_SECURE"} == {text for _on, text in told(REFUSED)}
