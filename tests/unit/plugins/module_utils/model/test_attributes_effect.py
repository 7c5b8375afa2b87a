# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No attribute is known and silently without effect: each makes another machine (or is refused by its name), is listed
as one that nothing acts on, or is a note."""

from __future__ import annotations

import dataclasses
import re
import uuid
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import consoles
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.reconcile import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import libvirt_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import (
    NOTES,
    SINGLES,
    VECTORS,
    WITHOUT_EFFECT,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.network import addresses
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

# The key under test goes into the first vector of its name; {} is where it stands.
ROOT = "DISK = [ IMAGE = os, DEV_PREFIX = vd {} ]"
VOLATILE = "DISK = [ IMAGE = os ]\nDISK = [ TYPE = fs, SIZE = 8 {} ]"
NIC = "NIC = [ NETWORK = six {} ]"
KERNEL = 'OS = [ KERNEL = "/kernel" {} ]'
INJECT = 'INJECT = [ PATH = "/etc/motd" {} ]'
MODEL = "CPU_MODEL = [ MODEL = qemu64 {} ]"


def limit(name: str) -> tuple[str, str]:
    """The attribute with what it stands on: a burst's length on the burst, that on the limit."""
    bare = re.sub("_MAX(_LENGTH)?$", "", name)
    below = [bare] * (name != bare) + [f"{bare}_MAX"] * name.endswith("_LENGTH")
    return ROOT.replace(" {}", "".join(f", {key} = 5" for key in below) + " {}"), "7"


# Attribute: a line with its place, and a value that is not what the machine has anyway. Others are 7.
CASES: dict[str, tuple[str, str]] = {
    "NAME": ("{}", "web"),
    "HYPERVISOR": ("{}", "nosuch"),
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
    "DISK/SHAREABLE": (ROOT, "YES"),
    "DISK/BUS": (ROOT, "scsi"),
    "DISK/IOTHREAD": (f"FEATURES = [ IOTHREADS = 9 ]\n{ROOT}", "7"),
    "DISK/SIZE_IOPS_SEC": (ROOT.replace(" {}", ", TOTAL_IOPS_SEC = 5 {}"), "7"),
    "NIC/NETWORK": ("NIC = [ {} ]", "other"),
    "NIC/NETWORK_ID": ("NIC = [ {} ]", "1"),
    "NIC/IP": (NIC, "10.66.0.12"),
    "NIC/IP6": (NIC, "2001:db8::aff:fe42:c"),
    "NIC/IP6_GLOBAL": ("NIC = [ NETWORK = other {} ]", "2001:db8::7"),
    "NIC/IP6_ULA": ("NIC = [ NETWORK = other {} ]", "fd00::7"),
    "NIC/MAC": (NIC, "02:00:0a:42:00:0c"),
    "NIC/INBOUND_PEAK_BW": (NIC.replace(" {}", ", INBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/INBOUND_PEAK_KB": (NIC.replace(" {}", ", INBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/OUTBOUND_PEAK_BW": (NIC.replace(" {}", ", OUTBOUND_AVG_BW = 5 {}"), "7"),
    "NIC/OUTBOUND_PEAK_KB": (NIC.replace(" {}", ", OUTBOUND_AVG_BW = 5 {}"), "7"),
    **{f"NIC/{key}": (NIC, "10.66.0.7") for key in ("GATEWAY", "NETWORK_ADDRESS", "NETWORK_MASK", "VROUTER_IP")},
    **{f"NIC/{key}": (NIC, "2001:db8::7") for key in ("GATEWAY6", "IP6_GATEWAY", "VROUTER_IP6")},
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
    "INJECT_VIA": (INJECT.replace(" {}", ", CONTENT = x") + "\n{}", "guestfs"),
    "TPM/MODEL": ("TPM = [ {} ]", "tpm-tis"),
    "TPM/VERSION": ("TPM = [ MODEL = tpm-tis {} ]", "1.2"),
    "OS/TPM": ("OS = [ {} ]", "YES"),
    "RAW/TYPE": ('RAW = [ DATA = "<on_crash>destroy</on_crash>" {} ]', "kvm"),
    "RAW/DATA": ("RAW = [ TYPE = kvm {} ]", "<on_crash>destroy</on_crash>"),
}
BARE = {"DISK": ROOT, "NIC": NIC}


def known() -> list[str]:
    """SINGLE and VECTOR/KEY of all that is known and not said to be without effect."""
    names = [name for name in SINGLES - NOTES if "" not in WITHOUT_EFFECT.get(name, ())]
    for name, keys in VECTORS.items():
        silent = WITHOUT_EFFECT.get(name, ())
        if "" not in silent and keys is not None:
            names += [f"{name}/{key}" for key in keys if key not in silent]
    return sorted(names)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    opened = EmbeddedEngine(str(tmp_path_factory.mktemp("catalog")), create=True)
    with opened.session():
        opened.host_allocate(Host(None, "node", state=HostState.MONITORED, memory=4096, cpu=16.0))
        for name, kind in (
            ("os", ImageType.OS), ("other", ImageType.OS), ("kernel", ImageType.KERNEL), ("initrd", ImageType.RAMDISK),
        ):  # fmt: skip
            image = opened.image_allocate(Image(None, name, type=kind))
            opened.image_update(image.id, state=ImageState.READY, size=16, format="qcow2", source=f"/{name}")
        windows = Image(None, "windows", type=ImageType.OS, attributes={"GUEST_OS": "windows"}, bus="sata")
        image = opened.image_allocate(windows)
        opened.image_update(image.id, state=ImageState.READY, size=16, format="qcow2", source="/windows")
        six = AddressRange(NEW_AR, "IP4_6", 9, ip="10.66.0.10", global_prefix="2001:db8::", ula_prefix="fd00::")
        opened.vn_allocate(Network(None, "six", bridge="br6", address_ranges=(six,)))
        four = AddressRange(NEW_AR, "IP4", 9, ip="10.77.0.10")
        opened.vn_allocate(Network(None, "other", bridge="br4", address_ranges=(four,)))
    yield opened
    opened.close()


class Undone(Exception):
    pass


def made(engine, template: Template) -> list[object]:
    """All that a node gets to act on, or the refusal's text; nothing of it is kept."""
    found: list[object] = []
    always = uuid.UUID(int=1)
    with mock.patch("uuid.uuid4", lambda: always), pytest.raises(Undone), engine.session(), engine.attempt():
        stored = engine.template_allocate("tested", template)
        item = {"name": template.get("NAME") or "machine", "template": stored.name}
        outcomes, _warnings = reconcile(engine, [item], ["node"])
        errors = [str(outcome.error) for outcome in outcomes if outcome.error]
        found += errors or [acted_on(planned) for planned in engine.vm_plans(["node"])["node"].vms]
        raise Undone
    return found


def acted_on(planned) -> object:
    vm = planned.vm
    count = len(vm.disks) + (vm.context is not None)
    files = {number: DiskFiles(path=f"/disk.{number}", format="raw") for number in range(count)}
    deployment = libvirt_xml.render(vm, Site("/vm", "catalog", 1, files, accelerator="kvm"))
    # What storage makes of a disk, besides what the deployment file says of it.
    disks = [dataclasses.replace(disk, options={}) for disk in vm.disks]
    return deployment.text, disks, vm.context and vm.context.variables, vm.cpu


def template_of(line: str, part: str) -> Template:
    # A first pair has no comma before it.
    text = re.sub(r"\[ ,", "[", line.format(part))
    text = "" if re.search(r"\[\s*\]", text) else text
    needed = {"CPU": "1", "MEMORY": "64", "DISK": "[ IMAGE = os ]", "NIC": "[ NETWORK = six ]"}
    missing = [f"{name} = {own}" for name, own in needed.items() if not re.search(rf"^{name} =", text, re.MULTILINE)]
    return parse("\n".join([text, *missing, 'CONTEXT = [ NETWORK = "YES" ]']) + "\n")


@pytest.mark.parametrize("attribute", known())
def test_what_is_known_has_an_effect(engine, attribute: str) -> None:
    vector, _slash, key = attribute.rpartition("/")
    default = limit(key) if re.search("_(BYTES|IOPS)_SEC", key) else (BARE.get(vector, f"{vector} = [ {{}} ]"), "7")
    line, value = CASES.get(attribute, default if vector else ("{}", "7"))
    part = f'{", " * bool(vector)}{key} = "{value}"'
    with_it, without_it = made(engine, template_of(line, part)), made(engine, template_of(line, ""))
    assert with_it != without_it
    if isinstance(with_it[0], str):
        assert key in with_it[0] or "nosuch" in with_it[0]


def silent() -> list[str]:
    return sorted(f"{name}/{key}" if key else name for name, keys in WITHOUT_EFFECT.items() for key in keys)


@pytest.mark.parametrize("attribute", silent())
def test_what_is_said_to_have_no_effect_has_none(engine, attribute: str) -> None:
    vector, _slash, key = attribute.rpartition("/")
    if not vector:
        line, part = "{}", f"{key} = [ TYPE = 7 ]" if key in VECTORS else f"{key} = 7"
    else:
        line = {**BARE, "RAW": "RAW = [ TYPE = kvm {} ]"}.get(vector, f"{vector} = [ PAE = NO {{}} ]")
        part = f", {key} = {({'CLONE': 'NO', 'SAVE': 'YES', 'VN_MAD': 'dummy'}).get(key, '7')}"
    with_it, without_it = made(engine, template_of(line, part)), made(engine, template_of(line, ""))
    assert with_it == without_it
    assert not isinstance(with_it[0], str)


def test_networks_limit_their_nics(engine) -> None:
    limits = dict.fromkeys(addresses.BANDWIDTH, "7")
    with engine.session():
        slow = AddressRange(NEW_AR, "IP4", 9, ip="10.88.0.10")
        engine.vn_allocate(Network(None, "slow", bridge="br8", attributes=limits, address_ranges=(slow,)))
    text = made(engine, template_of("NIC = [ NETWORK = slow {} ]", ""))[0][0]
    for way in ("inbound", "outbound"):
        assert f'<{way} average="7" peak="7" burst="7" />' in text


@pytest.fixture(autouse=True)
def one_password(monkeypatch):
    """The one thing in which two machines of the same template differ."""
    monkeypatch.setattr(consoles, "_password", lambda _kind: "abcdefgh")


def test_the_same_makes_the_same(engine) -> None:
    assert made(engine, template_of(NIC, "")) == made(engine, template_of(NIC, ""))


def test_every_case_is_of_a_known_attribute() -> None:
    assert set(CASES) <= set(known())
