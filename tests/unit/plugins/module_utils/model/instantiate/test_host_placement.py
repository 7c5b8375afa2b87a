# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host gives a machine to itself. Processors and memory are the subject of test_numa_placement.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.host import HostHardware, HostNode, PciDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_placement import (
    HostPlace,
    Taken,
    found_place,
    overlap,
    place,
    taken_by,
    taken_of,
    wants_elsewhere,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_wants import HostWants
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.numa_placement import (
    NoPlaceError,
    NumaPlace,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import (
    HostDevice,
    MemoryEncryption,
    Numa,
    NumaNode,
    Topology,
    Vm,
)

FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"
HARDWARE = HostHardware(
    (HostNode(0, 4096, ((0, 1),)),),
    True,
    (PciDevice(FIRST, "10de", "1eb8", "0302"), PciDevice(SECOND, "10de", "1eb8", "0302", "vfio-pci")),
    ("SEV", "SEV-ES"),
)
GPU = HostDevice("", "10de", "", "0302")
SEV = MemoryEncryption("SEV", 256)
CORE = Numa("core", (NumaNode(1, 512),))


def given(wants: HostWants, *taken: Taken) -> HostPlace:
    return place(wants, HARDWARE, taken, frozenset())


def test_all_of_it_at_once() -> None:
    found = given(HostWants(CORE, (GPU, HostDevice(FIRST)), SEV))
    pinned = Numa("core", (NumaNode(1, 512, "", (0,), 0),))
    devices = (HostDevice(SECOND, "10de", "", "0302"), HostDevice(FIRST))
    assert found == HostPlace(NumaPlace(pinned, 1), devices, SEV)
    with pytest.raises(NoPlaceError, match="of whole cores that no other machine has"):
        given(HostWants(CORE), Taken(pinned))
    with pytest.raises(
        NoPlaceError, match=r"each of its devices at 0000:01:00\.0, or of their groups, is another machine's"
    ):
        given(HostWants(None, (HostDevice(FIRST),)), Taken(None, 0, devices))


def test_what_answers_to_a_template_stays() -> None:
    pinned = Numa("core", (NumaNode(1, 512, "", (0,), 0),))
    other = Numa("core", (NumaNode(1, 512, "", (1,), 0),))
    runs = Taken(pinned, 1, (HostDevice(SECOND, "10de", "", "0302"),))
    wanted = Taken(other, 1, (HostDevice(FIRST),))
    free = HostHardware()
    # Nothing is asked of the host.
    found = place(HostWants(CORE, (GPU,)), HARDWARE, [], frozenset(), [runs, wanted])
    assert found == HostPlace(NumaPlace(pinned, 1), runs.devices)
    found = place(HostWants(CORE, (HostDevice(FIRST),)), HARDWARE, [], frozenset(), [runs, wanted])
    assert found == HostPlace(NumaPlace(pinned, 1), wanted.devices)
    assert place(HostWants(CORE), free, [], frozenset(), [wanted]) == HostPlace(NumaPlace(other, 1))
    with pytest.raises(NoPlaceError):
        place(HostWants(Numa("thread", CORE.nodes)), free, [], frozenset(), [runs])


def test_what_a_machine_has() -> None:
    pinned = Numa("thread", (NumaNode(2, 512, "", (0, 1), 0),))
    vm = Vm(0, "u", "web", "kvm", 2.0, 512, numa=pinned, host_devices=(GPU,), topology=Topology(1, 1, 2))
    assert taken_by(vm) == Taken(pinned, 2, (GPU,))
    assert taken_by(Vm(0, "u", "web", "kvm", 2.0, 512, topology=Topology(1, 1, 2))) == Taken()
    assert overlap(taken_by(vm), taken_by(vm)) == "processors 0, 1"
    assert overlap(Taken(None, 0, (HostDevice(FIRST),)), Taken(None, 0, (HostDevice(FIRST),))) == f"device {FIRST}"
    assert overlap(taken_by(vm), Taken()) == ""


def test_what_a_machine_has_that_is_taken_over() -> None:
    wants = HostWants(CORE, (GPU,), SEV)
    nodes = (NumaNode(1, 512, "", (1,), 0),)
    found = found_place(wants, nodes, (FIRST,), None)
    assert found == HostPlace(NumaPlace(Numa("core", nodes), 1), (HostDevice(FIRST, "10de", "", "0302"),), SEV)
    assert found_place(wants, (), (FIRST,), None) is None
    assert found_place(wants, nodes, (), None) is None
    assert found_place(HostWants(None, (HostDevice(SECOND),)), (), (FIRST,), None) is None
    assert found_place(HostWants(None, (HostDevice(FIRST),)), (), (FIRST,), None) is not None


def test_what_it_has_is_what_it_wants_of_another_host() -> None:
    plain = Vm(1, "u", "web", "kvm", 1.0, 512)
    assert wants_elsewhere(plain) is None
    pinned = Numa("core", (NumaNode(1, 512, "1:20", (3,), 1),), 1, 2, -1, 2, "shared")
    vm = Vm(1, "u", "web", "kvm", 1.0, 512, topology=Topology(1, 1, 2), numa=pinned, encryption=SEV)
    wanted = Numa("core", (NumaNode(1, 512, "1:20"),), 1, 2, -1, 2, "shared")
    assert wants_elsewhere(vm) == HostWants(wanted, (), SEV)
    assert taken_by(vm) == Taken(pinned, 2, (), True)
    assert taken_of(pinned, Topology(1, 1, 2)) == Taken(pinned, 2)
    # What it sees of processors that are not its own is nothing that it holds.
    assert taken_of(None, Topology(1, 1, 2)) == Taken()
