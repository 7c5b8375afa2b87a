# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine was made with stays as it is, whatever acts on those that are made later."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor_rules import rules_of
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.hardware_version import (
    doubt_of_machine,
    hardware_version_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

NEWEST = rules_of("kvm").hardware_version
DISK = "MEMORY = 64 DISK = [ IMAGE = a ] "
ALL = DISK + "VIDEO = [ TYPE = qxl ] GRAPHICS = [ TYPE = spice ] CPULIMIT = 50 OS = [ FIRMWARE = UEFI ]"


def version(text: str, before: str | None = None, had: int = 0, hypervisor: str = "kvm") -> int:
    former = None
    if before is not None:
        known = parse(before)
        former = FormerMachine(known, known, known, known, hardware_version=had)
    return hardware_version_of(parse(text), hypervisor, former)


def test_a_new_machine_has_the_newest() -> None:
    assert (version(DISK), version(DISK, hypervisor="xen")) == (NEWEST, 0)


@pytest.mark.parametrize("had", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    ["", "CPU = 2 ", "MEMORY_MAX = 512 ", 'CONTEXT = [ A = "1" ] ', "NIC = [ NETWORK = n ] ", "RAW = [ TYPE = kvm ] "],
)
def test_one_that_is_there_keeps_its_own(had: int, change: str) -> None:
    assert version(ALL + change, ALL, had) == had
    assert version(ALL.replace("qxl", "QXL"), ALL, had) == had


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (DISK, DISK + "VIDEO = [ TYPE = qxl ]"),
        (DISK + "VIDEO = [ TYPE = qxl ]", DISK),
        (DISK, DISK + "CPULIMIT = 50"),
        (DISK, DISK + "GRAPHICS = [ TYPE = spice ]"),
        (DISK, DISK + "OS = [ FIRMWARE = UEFI ]"),
        (DISK, DISK + "FEATURES = [ HYPERV = YES ]"),
        (DISK, DISK.replace("a ]", "a, ORDER = 1 ]")),
        (DISK, DISK + "HYPERV_OPTIONS = \"<relaxed state='on'/>\""),
        (DISK, DISK + "IOMMU = [ MODEL = virtio ]"),
        (DISK, DISK + "NIC = [ NETWORK = n, LINK = down ]"),
        (DISK, DISK + 'TOPOLOGY = [ PIN_POLICY = "CORE" ]'),
        (DISK, DISK + 'TOPOLOGY = [ HUGEPAGE_SIZE = "2" ]'),
        (DISK, DISK + 'NUMA_NODE = [ TOTAL_CPUS = "1" ]'),
        (DISK, DISK + 'PCI = [ CLASS = "0302" ]'),
        (
            DISK + "DISK = [ IMAGE = b, ORDER = 1 ] DISK = [ IMAGE = c, ORDER = 2 ]",
            DISK + "DISK = [ IMAGE = b, ORDER = 2 ] DISK = [ IMAGE = c, ORDER = 1 ]",
        ),
    ],
)
def test_one_whose_template_says_something_else_gets_the_newest(before: str, after: str) -> None:
    assert version(after, before) == NEWEST


def test_what_a_template_says_by_default_is_no_change() -> None:
    assert version(DISK + "GRAPHICS = [ TYPE = vnc ] FEATURES = [ HYPERV = NO ] OS = [ FIRMWARE = BIOS ]", DISK) == 0
    assert version(DISK + "CPULIMIT = 0 NIC = [ NETWORK = n, LINK = up ]", DISK) == 0
    assert version(DISK + 'TOPOLOGY = [ PIN_POLICY = "none", SOCKETS = 1 ]', DISK) == 0
    assert version(DISK + "OS = [ FIRMWARE = uefi ]", DISK + "OS = [ FIRMWARE = UEFI ]") == 0


def test_whose_template_says_more_than_it_has() -> None:
    doubt = doubt_of_machine("kvm", 0, parse(ALL.replace("a ]", "a, ORDER = 1 ]")))
    assert doubt is not None and doubt.startswith("CPULIMIT, VIDEO, DISK/ORDER do not act on it")
    assert doubt_of_machine("kvm", 1, parse(ALL)) is None
    later = 'TOPOLOGY = [ PIN_POLICY = "CORE" ] NUMA_NODE = [ TOTAL_CPUS = "1" ] PCI = [ CLASS = "0302" ]'
    assert str(doubt_of_machine("kvm", 1, parse(ALL + later))).startswith("NUMA_NODE, PCI, TOPOLOGY/PIN_POLICY do not")
    assert doubt_of_machine("kvm", NEWEST, parse(ALL + later)) is None
    assert doubt_of_machine("kvm", 0, parse(DISK)) is None
    assert doubt_of_machine("xen", 0, parse(ALL)) is None
    assert "CPULIMIT does not act" in str(doubt_of_machine("kvm", 0, parse(DISK + "CPULIMIT = 5")))
