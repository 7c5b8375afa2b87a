# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which attributes look like slips of known ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import (
    ACTS,
    KEPT,
    KVM,
    NO_EFFECT,
    NOTES,
    REFUSED,
    SILENT,
    SINGLES,
    TABLE,
    VECTORS,
    XEN,
    add_near_misses,
    near_misses,
    refuse_attributes,
    unknown_keys,
    without_effect,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

SLIPS = {
    "MEMROY": "MEMORY",
    "MEMORRY": "MEMORY",
    "MEMOR": "MEMORY",
    "MEMERY": "MEMORY",
    "HYPERVISR": "HYPERVISOR",
    "SCHEDREQUIREMENTS": "SCHED_REQUIREMENTS",
    "VPCU": "VCPU",
    "GRAPHIC": "GRAPHICS",
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips_are_seen(name: str) -> None:
    assert near_misses(Template(((name, "1"),))) == [f"{name} is not a known attribute: did you mean {SLIPS[name]}?"]


@pytest.mark.parametrize(
    ("name", "known"),
    [("DISC", "DISK"), ("DISKS", "DISK"), ("NICS", "NIC"), ("CONTEX", "CONTEXT"), ("CPUMODEL", "CPU_MODEL")],
)
def test_slips_of_vectors_are_seen(name: str, known: str) -> None:
    assert near_misses(Template(((name, (("A", "b"),)),))) == [
        f"{name} is not a known attribute: did you mean {known}?"
    ]


@pytest.mark.parametrize(
    ("name", "key", "known"),
    [
        ("DISK", "IMGE", "IMAGE"),
        ("DISK", "TRAGET", "TARGET"),
        ("DISK", "SIZ", "SIZE"),
        ("DISK", "DEVPREFIX", "DEV_PREFIX"),
        ("NIC", "NETWROK", "NETWORK"),
        ("NIC", "MODE", "MODEL"),
        ("OS", "BOTO", "BOOT"),
        ("GRAPHICS", "PASSWORD", "PASSWD"),
        ("GRAPHICS", "COLOUR", ""),
        ("GRAPHICS", "LISTN", "LISTEN"),
        ("FEATURES", "GUESTAGENT", "GUEST_AGENT"),
    ],
)
def test_slips_inside_vectors_are_seen(name: str, key: str, known: str) -> None:
    expected = [f"{name}/{key} is not a known attribute: did you mean {known}?"] if known else []
    assert near_misses(Template(((name, ((key, "x"),)),))) == expected


def test_the_vector_is_named_by_its_index() -> None:
    template = Template((("DISK", (("IMAGE", "a"),)), ("DISK", (("IMAEG", "b"),))))
    assert near_misses(template) == ["DISK[1]/IMAEG is not a known attribute: did you mean IMAGE?"]


@pytest.mark.parametrize(
    "name",
    [
        "MYATTR",
        "OWNER",
        "ROLE",
        "TIER",
        "RACK",
        "LOGS",
        "ENV",
        "TEAM",
        "NOTE",
        "SITE",
        "STAGE",
        "APP",
        "TAG",
        "IP",
        "DNS",
    ],
)
def test_users_own_attributes_are_left_alone(name: str) -> None:
    assert near_misses(Template(((name, "x"),))) == []


def test_a_word_of_users_own_that_is_nearly_a_known_one_is_left_alone() -> None:
    assert near_misses(parse("ROUTER = a")) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FEATURES = [ FOOBAR = 1 ]", ["FEATURES/FOOBAR is not a known attribute, and nothing acts on it"]),
        (
            "NIC = [ NETWORK = a ] NIC = [ NETWORK = a, FOOBAR = 1 ]",
            ["NIC[1]/FOOBAR is not a known attribute, and nothing acts on it"],
        ),
        (
            "OS = [ KERNELCOMMAND = quiet ]",
            ["OS/KERNELCOMMAND is not a known attribute, and nothing acts on it: did you mean KERNEL_CMD?"],
        ),
        ("NIC_DEFAULT = [ RATE = 1 ]", ["NIC_DEFAULT/RATE is not a known attribute, and nothing acts on it"]),
        (
            "NIC = [ IP_ADDRESS = x ]",
            ["NIC/IP_ADDRESS is not a known attribute, and nothing acts on it: did you mean IP?"],
        ),
        (
            "NIC_ALIAS = [ HWADDR = x ]",
            ["NIC_ALIAS/HWADDR is not a known attribute, and nothing acts on it: did you mean MAC?"],
        ),
        (
            "DISK = [ BOOT_ORDER = 1 ]",
            ["DISK/BOOT_ORDER is not a known attribute, and nothing acts on it: did you mean BOOT in OS?"],
        ),
        ("TOPOLOGY = 2", ["TOPOLOGY is a single value, and nothing acts on it: write TOPOLOGY = [ … ]"]),
        # Told as a whole.
        ("SNAPSHOT = 2 VMGROUP = x MEMORY = 512", []),
        # Told by near_misses().
        ("DISK = [ IMGAE = a ]", []),
        # Vectors that hold anything, and those of users' own.
        ("CONTEXT = [ FOOBAR = 1 ] USER_INPUTS = [ FOOBAR = 1 ] SITE = [ FOOBAR = 1 ]", []),
        ('NIC = [ ROLE = web ] CONTEXT = [ A = "is $nic[ Role ]" ]', []),
        (
            'NIC = [ ROLE = web ] CONTEXT = [ A = "$NIC[ROLES] $DISK[ROLE]" ]',
            ["NIC/ROLE is not a known attribute, and nothing acts on it"],
        ),
    ],
)
def test_keys_that_no_vector_knows_are_told(text: str, told: list[str]) -> None:
    assert unknown_keys(parse(text)) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("DISK = [ IMGAE = a ]", ["DISK/IMGAE is not a known attribute: did you mean IMAGE?"]),
        ("NIC = [ NETWROK = a ]", ["NIC/NETWROK is not a known attribute: did you mean NETWORK?"]),
        ("NIC_ALIAS = [ NETWROK = a ]", ["NIC_ALIAS/NETWROK is not a known attribute: did you mean NETWORK?"]),
    ],
)
def test_slips_within_vectors_are_seen(text: str, told: list[str]) -> None:
    assert near_misses(parse(text)) == told


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("template web: DISK 1", "x; DISK[1]/IMGAE is not a known attribute: did you mean IMAGE?"),
        ("template web: DISK 1: SIZE", "x; DISK[1]/IMGAE is not a known attribute: did you mean IMAGE?"),
        ("template web: DISK 0", "x"),
        ("template web: OS/BOOT = a", "x; OS/FOOBAR is not a known attribute, and nothing acts on it"),
        ("template web: MEMORY = 1G", "x"),
        ("template web", "x"),
        ("image a", "x"),
    ],
)
def test_an_error_names_the_slips_of_its_vector(asked: str, found: str) -> None:
    error = InvalidValue(asked, "x", "y")
    add_near_misses(
        error, "template web", parse("DISK = [ IMAGE = a ] DISK = [ IMGAE = b ] OS = [ FOOBAR = 1 ] MEMROY = 1")
    )
    assert (error.asked, error.found, error.remedy) == (asked, found, "y")


def test_context_is_free() -> None:
    assert near_misses(Template((("CONTEXT", (("NETWROK", "x"), ("HOSTNAM", "y"))),))) == []


def test_what_nothing_acts_on_is_said() -> None:
    template = Template.from_mapping(
        {"COST": "1", "CPU_COST": "2", "NIC": {"NETWORK": "a", "RDP": "YES", "FILTER": "x"}, "SNAPSHOT": {"NAME": "1"}}
    )
    either = [
        "CPU_COST is kept, and nothing acts on it yet: nothing is billed",
        "NIC/RDP is kept, and nothing acts on it yet: there is no Sunstone that would connect",
        "SNAPSHOT is kept, and nothing acts on it yet: disk_snapshots of an item makes snapshots of disks",
    ]
    assert without_effect(template, KVM) == either
    xen = "NIC/FILTER is kept, and nothing acts on it on Xen: an interface of Xen is its kernel's, and not QEMU's"
    assert without_effect(template, XEN) == [either[0], xen, *either[1:]]


@pytest.mark.parametrize(
    ("text", "hypervisor", "found"),
    [
        ("MEMORY_ENCRYPTION = SEV", XEN, "VM a: MEMORY_ENCRYPTION: elsewhere no machine's memory is encrypted"),
        ("MEMORY_ENCRYPTION = []", XEN, "VM a: MEMORY_ENCRYPTION: elsewhere no machine's memory is encrypted"),
        ("OS = [ TPM = yes ]", XEN, "VM a: OS/TPM: Xen's tools make none"),
        ("NIC = [ SCRIPT = a ] NIC = [ SCRIPT = b ]", KVM, "VM a: NIC/SCRIPT: libvirt runs none"),
        ("NIC_DEFAULT = [ NETWORK_ID = 0 ]", KVM, "VM a: NIC_DEFAULT/NETWORK_ID: OpenNebula takes none there"),
        ("OS = [ TPM = yes, FIRMWARE_SECURE = YES ]", KVM, ""),
        ("OS = [ TPM = no, FIRMWARE_SECURE = 0 ] GRAPHICS = [ RANDOM_PASSWD = off ] NIC = [ SCRIPT = a ]", XEN, ""),
        ('OS = [ BOOTLOADER = "" ]', KVM, ""),
    ],
)
def test_what_is_refused_is_named_and_who_says_no_is_not(text: str, hypervisor: str, found: str) -> None:
    if not found:
        refuse_attributes(parse(text), "VM a", hypervisor)
        return
    with pytest.raises(InvalidValue) as caught:
        refuse_attributes(parse(text), "VM a", hypervisor)
    assert str(caught.value).startswith(found) and caught.value.remedy


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("MACHINE = q35", "MACHINE is not a known attribute: did you mean MACHINE in OS?"),
        ("DISK = [ IO_THREADS = 1 ]", "DISK/IO_THREADS is not a known attribute: did you mean IOTHREAD?"),
        ("OS = [ SDDISKBUS = sata ]", "OS/SDDISKBUS is not a known attribute: did you mean SD_DISK_BUS?"),
        ("FEATURES = [ IOTHREAD = 1 ]", "FEATURES/IOTHREAD is not a known attribute: did you mean IOTHREADS?"),
    ],
)
def test_what_stands_in_the_wrong_place_is_told_the_right_one(text: str, meant: str) -> None:
    assert near_misses(parse(text)) == [meant]


def test_everything_is_in_the_table_once_and_says_why_it_does_not_act() -> None:
    texts = [text for entry in TABLE for text in entry.texts()]
    assert len(set(texts)) == len(texts)
    for entry in TABLE:
        assert {entry.kvm, entry.xen} <= {ACTS, REFUSED, NO_EFFECT, KEPT}
        assert entry.why or entry.kvm == entry.xen == ACTS
        assert not entry.why.endswith(".") and "|" not in entry.why
        assert entry.instead[0].isupper() and (KEPT not in (entry.kvm, entry.xen) or entry.kvm == entry.xen)


def test_what_is_known_comes_from_the_table() -> None:
    assert NOTES < SINGLES and "MEMORY" in SINGLES - NOTES
    assert "MODEL" in VECTORS["NIC_DEFAULT"] and VECTORS["CONTEXT"] is None
    assert {"SNAPSHOT", "CPU_COST"} <= SILENT and not SILENT & {"NIC", "CPULIMIT", "EMULATOR", "MEMORY_ENCRYPTION"}
    # A number for most, and beancounters for containers.
    assert SINGLES & set(VECTORS) == {"MEMORY"}


def test_what_7_4_added_is_known() -> None:
    for text in ("MEMORY_ENCRYPTION = [ TYPE = SEV ]", "MEMORY_TUNE_OFFSET = 1", "IOMMU = [ MODEL = intel ]"):
        (name,) = parse(text).names()
        assert name in SINGLES or name in VECTORS
    assert {"GIC", "RAS", "PCIHOLE64", "MIGRATE_COMPRESSED"} <= set(VECTORS["FEATURES"] or ())


@pytest.mark.parametrize(
    "text",
    [
        "HYPERV_TIMERS = x",
        "VROUTER = YES",
        "CONTEXT/REPORT_READY = YES",
        "NIC/RDP_ENABLE_WALLPAPER = YES",
        "NIC/IP6_PREFIX_LENGTH = 64",
        "DISK/CEPH_HOST = a",
        "PCI/MDEV_MODE = legacy",
        "SUNSTONE/NETWORK_SELECT = NO",
        "VCENTER_VM_FOLDER = a",
        "LXD_SECURITY_PRIVILEGED = YES",
        "INPUTS_ORDER = a",
        "NIC/WHITE_PORTS_TCP = 22",
        "FEATURES/DEVICE_MODEL = a",
    ],
)
def test_what_templates_of_opennebula_hold_is_in_the_table(text: str) -> None:
    name, _equals, value = text.partition(" = ")
    vector, _slash, key = name.rpartition("/")
    template = Template.from_mapping({vector: {key: value}} if vector else {name: value})
    assert near_misses(template) + unknown_keys(template) == []
    assert any(entry.vector == vector and key in entry.names for entry in TABLE)


def test_the_page_is_what_the_table_says() -> None:
    root = Path(__file__).parents[5]
    done = subprocess.run([sys.executable, str(root / "tests/tools/attributes.py"), "--check"], check=False)
    assert done.returncode == 0
    page = (root / "docs/attributes.md").read_text(encoding="utf-8")
    for entry in TABLE:
        assert all(f"`{name}`" in page for name in (*entry.names, entry.vector) if name not in ("", "*"))
