# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of devices, and what is said where none is left. Machines have them in instantiate/test_disk_places.py."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import disk_targets, hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_targets import Board, Place, letter_index


@pytest.mark.parametrize(
    ("target", "index"), [("sda", 0), ("sdz", 25), ("sdaa", 26), ("sdaz", 51), ("sdba", 52), ("vdb", 1), ("hdc", 2)]
)
def test_letters(target: str, index: int) -> None:
    assert letter_index(target) == index


def board(hypervisor: str, machine: str = "", firmware: bool = True) -> Board:
    rule = hypervisor_rules.rules_of(hypervisor)
    return Board(machine or rule.machine, hypervisor=hypervisor, devices=rule.devices, firmware=firmware)


def places(kinds: str, *named: str) -> list[Place]:
    """A letter for each (OS, CDROM, data, read-only data, x for the context), the first ones with these targets."""
    words = {
        "o": disk_targets.OS,
        "c": disk_targets.CDROM,
        "d": disk_targets.DATA,
        "r": disk_targets.DATA,
        "x": disk_targets.CDROM,
    }
    return [
        Place(
            f"VM a: DISK {index}" if kind != "x" else "VM a: CONTEXT",
            words[kind],
            target=target,
            readonly=kind == "r",
            context=kind == "x",
        )
        for index, (kind, target) in enumerate(itertools.zip_longest(kinds, named, fillvalue=""))
    ]


XEN = {
    "as many as fit": ("odddx", (), ["xvda", "xvdc", "xvdd", "xvde", "xvdb"]),
    "five disks": ("odddd", (), ["xvda", "xvdb", "xvdc", "xvdd", "xvde"]),
    "disks beside a full set of drives": ("oddccc", (), ["xvda", "xvde", "xvdf", "xvdb", "xvdc", "xvdd"]),
    "what can't be written is no drive": ("orc", (), ["xvda", "xvde", "xvdb"]),
    "one drive is free": ("odddx", ("sda", "sdb", "sdc"), ["sda", "sdb", "sdc", "xvde", "xvdd"]),
    "drives only": ("cccc", (), ["xvda", "xvdb", "xvdc", "xvdd"]),
}


@pytest.mark.parametrize("case", XEN)
def test_a_cdrom_of_xen_is_an_emulated_drive(case: str) -> None:
    kinds, named, expected = XEN[case]
    assert [target for target, _bus in disk_targets.assign(places(kinds, *named), board("xen"))] == expected


FULL = {
    "disks have them": ("oddd" + "c", ("sda", "sdb", "sdc", "sdd")),
    "of five disks, the first four": ("oddddc", ("xvda", "xvdb", "xvdc", "xvdd", "xvde")),
    "and the context is left": ("odddx", ("hda", "hdb", "hdc", "hdd")),
    "five drives": ("ccccc", ()),
    "a system and four": ("occccx", ()),
}


@pytest.mark.parametrize("case", FULL)
def test_no_drive_is_left_for_a_cdrom_of_xen(case: str) -> None:
    kinds, named = FULL[case]
    with pytest.raises(InvalidValue) as caught:
        disk_targets.assign(places(kinds, *named), board("xen"))
    error = caught.value
    assert error.asked.startswith("VM a: ")
    assert "one of the 4 emulated drives" in error.found and "is DISK 0" in error.found
    assert "a TARGET such as xvde" in error.remedy
    assert ('CONTEXT_DEVICE = "disk"' in error.remedy) == error.asked.endswith("CONTEXT")


def test_without_a_firmware_a_cdrom_may_be_anywhere() -> None:
    found = disk_targets.assign(places("cccccx"), board("xen", firmware=False))
    assert [target for target, _bus in found] == ["xvda", "xvdb", "xvdc", "xvdd", "xvde", "xvdf"]


@pytest.mark.parametrize("hypervisor", sorted(hypervisor_rules.RULES))
@pytest.mark.parametrize("kinds", ["o" + "d" * 702, "d" * 703, "r" * 703])
def test_more_disks_than_letters_are_refused(hypervisor: str, kinds: str) -> None:
    with pytest.raises(InvalidValue, match=r"DISK \d+: DEV_PREFIX = .*targets are taken|devices on scsi"):
        disk_targets.assign(places(kinds), board(hypervisor))


@pytest.mark.parametrize("hypervisor", sorted(hypervisor_rules.RULES))
@pytest.mark.parametrize("machine", ["", "pc", "q35"])
@pytest.mark.parametrize("firmware", [True, False])
def test_every_mixture_gets_targets_of_its_own_or_is_refused(hypervisor: str, machine: str, firmware: bool) -> None:
    """No iterator ends where nobody waits for it."""
    wanted = board(hypervisor, machine, firmware)
    for count in range(1, 6):
        for kinds in itertools.combinations_with_replacement("ocdr", count):
            for named in ((), ("sda", "sdb", "sdc", "sdd"), ("hda", "hdc"), ("vda", "vdb", "vdc", "vdd", "vde")):
                asked = places("".join(kinds) + "x", *named[:count])
                try:
                    found = disk_targets.assign(asked, wanted)
                except InvalidValue:
                    continue
                assert len({target for target, _bus in found}) == len(asked)
