# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks and NICs that come to a machine, stay or go are told apart, and each keeps its id for good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.device_ids import (
    compare,
    devices_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


def template(disks="", nics=""):
    """A letter is the image of a disk, or the network of a NIC."""
    return Template(
        (*(("DISK", (("IMAGE", letter),)) for letter in disks), *(("NIC", (("NETWORK", letter),)) for letter in nics))
    )


def machine(disks=(), nics=(), **values):
    """disks, nics: the ids that they have."""
    return Vm(
        7,
        "u",
        "web",
        "kvm",
        1.0,
        64,
        disks=tuple(Disk(number, f"vd{number}") for number in disks),
        nics=tuple(Nic(number, 0, "n", "br0", f"02:00:00:00:00:{number:02x}") for number in nics),
        **values,
    )


def compared(vm, old, new, next_disk):
    return compare(vm, old, new, next_disk, devices_of(vm))


def kept(devices):
    return [None if disk is None else disk.disk_id for disk in devices.kept.disks]


# -- who stays ---------------------------------------------------------------------------------------------------------


def test_where_nothing_comes_or_goes_all_stays():
    vm = machine((0, 1), (0,), context=Context(2, "hdb"))
    devices = compared(vm, template("ab", "n"), template("ab", "n"), 3)
    assert (kept(devices), devices.new_disks, devices.gone_disks) == ([0, 1], {}, ())
    assert (dict(devices.interfaces.nics), devices.interfaces.new_nics, devices.interfaces.gone) == (
        {0: vm.nics[0]},
        {},
        (),
    )
    assert (devices.kept.context, devices.kept.next_disk) == (vm.context, 3)


@pytest.mark.parametrize(
    ("old", "new", "stays", "comes", "goes"),
    [
        ("a", "ab", [0, None], {1: 9}, ()),
        ("a", "ba", [None, 0], {0: 9}, ()),
        ("a", "bac", [None, 0, None], {0: 9, 2: 10}, ()),
        ("ab", "b", [1], {}, (0,)),
        ("abc", "ac", [0, 2], {}, (1,)),
        ("ab", "", [], {}, (0, 1)),
        ("", "ab", [None, None], {0: 9, 1: 10}, ()),
        # Two of the same image: the last one is the new one, or the one that goes.
        ("aa", "a", [0], {}, (1,)),
        ("a", "aa", [0, None], {1: 9}, ()),
        # One in the place of another is another one.
        ("ab", "ac", [0, None], {1: 9}, (1,)),
        ("abc", "ca", [2, 0], {}, (1,)),
    ],
)
def test_disks_that_come_stay_and_go(old, new, stays, comes, goes):
    devices = compared(machine(range(len(old))), template(old), template(new), 9)
    assert (kept(devices), devices.new_disks, devices.gone_disks) == (stays, comes, goes)


@pytest.mark.parametrize(
    ("old", "new", "stays", "comes", "goes"),
    [
        ("n", "nm", [0], {1: 1}, ()),
        ("n", "mn", [1], {0: 1}, ()),
        ("nm", "m", [0], {}, (0,)),
        ("", "nm", [], {0: 0, 1: 1}, ()),
        ("nm", "", [], {}, (0, 1)),
    ],
)
def test_nics_that_come_stay_and_go(old, new, stays, comes, goes):
    devices = compared(machine(nics=range(len(old))), template(nics=old), template(nics=new), 0)
    assert (list(devices.interfaces.nics), devices.interfaces.new_nics, devices.interfaces.gone) == (stays, comes, goes)


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_a_machine_keeps_the_ids_that_it_has_by_now():
    """Disk 1 and NIC 0 went before."""
    devices = compared(machine((0, 2), (1,)), template("ac", "m"), template("acd", "mo"), 5)
    assert (kept(devices), devices.new_disks) == ([0, 2, None], {2: 5})
    assert ([nic.nic_id for nic in devices.interfaces.nics.values()], devices.interfaces.new_nics) == ([1], {1: 2})


def test_the_id_of_a_nic_that_went_is_no_other_ones():
    devices = compared(machine(nics=(0,), next_nic=4), template(nics="n"), template(nics="nmo"), 0)
    assert devices.interfaces.new_nics == {1: 4, 2: 5}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_no_id_is_used_twice_however_often_they_come_and_go(steps):
    """Each step adds a disk and a NIC at a place, or takes these away where they are there."""
    vm, before, next_disk = machine(), "", 0
    seen_disks: set[int] = set()
    seen_nics: set[int] = set()
    for letter, place in steps:
        wanted = before.replace(letter, "") if letter in before else before[:place] + letter + before[place:]
        devices = compared(vm, template(before, before), template(wanted, wanted), next_disk)
        assert seen_disks.isdisjoint(devices.new_disks.values())
        assert seen_nics.isdisjoint(devices.interfaces.new_nics.values())
        disks = [
            devices.new_disks[number] if disk is None else disk.disk_id
            for number, disk in enumerate(devices.kept.disks)
        ]
        nics = [
            devices.interfaces.nics[number].nic_id
            if number in devices.interfaces.nics
            else devices.interfaces.new_nics[number]
            for number in range(len(wanted))
        ]
        assert len(set(disks)) == len(set(nics)) == len(disks) == len(wanted)
        assert {*disks, *devices.gone_disks} == {*(disk.disk_id for disk in vm.disks), *devices.new_disks.values()}
        assert {*nics, *devices.interfaces.gone} == {
            *(nic.nic_id for nic in vm.nics),
            *devices.interfaces.new_nics.values(),
        }
        seen_disks.update(disks)
        seen_nics.update(nics)
        next_disk = max([next_disk, *(number + 1 for number in disks)])
        vm = machine(disks, nics, next_nic=max([vm.next_nic, *(number + 1 for number in nics)]))
        before = wanted


def test_a_disk_that_grows_is_told_with_its_size():
    vm = machine((0, 4))
    vm = replace(vm, disks=(vm.disks[0], replace(vm.disks[1], size=5)))
    old, new = (
        Template((("DISK", (("IMAGE", "a"),)), ("DISK", (("TYPE", "fs"), ("SIZE", size))))) for size in ("5", "9")
    )
    devices = compared(vm, old, new, 5)
    assert (kept(devices), devices.grown, devices.kept.moved) == ([0, 4], {4: 9}, ())


def test_a_disk_that_the_list_puts_elsewhere_is_told():
    old, new = (Template((("DISK", (("IMAGE", "a"), ("TARGET", target))),)) for target in ("vd0", "sda"))
    assert compared(machine((0,)), old, new, 1).kept.moved == (0,)
    assert compared(machine((0,)), new, old, 1).kept.moved == ()
