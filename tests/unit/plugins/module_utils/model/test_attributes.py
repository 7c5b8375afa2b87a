# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which attributes look like slips of known ones."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import (
    NOTES,
    SINGLES,
    VECTORS,
    WITHOUT_EFFECT,
    near_misses,
    without_effect,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

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


def test_context_is_free() -> None:
    assert near_misses(Template((("CONTEXT", (("NETWROK", "x"), ("HOSTNAM", "y"))),))) == []


def test_what_nothing_acts_on_is_said() -> None:
    template = Template.from_mapping(
        {"SCHED_REQUIREMENTS": "RACK = 1", "NIC": {"NETWORK": "a", "SECURITY_GROUPS": "0"}, "MYATTR": "x"}
    )
    assert without_effect(template) == [
        "SCHED_REQUIREMENTS is kept, and nothing acts on it yet",
        "NIC/SECURITY_GROUPS is kept, and nothing acts on it yet",
    ]


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


def test_what_has_no_effect_is_known() -> None:
    for name, keys in WITHOUT_EFFECT.items():
        assert name in SINGLES or name in VECTORS
        assert not ("" in keys and name in NOTES)
        assert all(key in (VECTORS[name] or ()) for key in keys if key)
