# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines can have a snapshot as a whole, and to which one they can't go back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import (
    SystemSnapshot,
    definition_of,
    differences,
    find,
    held_disks,
    holding,
    next_id,
    refuse_changed,
    refuse_without,
    tag_of,
    without,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import (
    Graphics,
    HostDevice,
    MemoryEncryption,
    Os,
    Tpm,
    Vm,
)

SYSTEM = Disk(0, "vda", image="base", size=8)
CONTEXT = Disk(3, "hda", type="CDROM")
NIC = Nic(0, 1, "Public", "br0", "02:00:0a:42:00:0a", model="virtio")
VM = Vm(
    1, "u", "web", "kvm", 1.0, 64, disks=(SYSTEM, CONTEXT), nics=(NIC,), graphics=Graphics(port=5901, password="geheim")
)


def snapshot(vm: Vm, number: int = 0, memory: bool = True) -> SystemSnapshot:
    disks = tuple(disk.disk_id for disk in held_disks(vm))
    return SystemSnapshot(number, "abc"[number], memory, 0, "m", disks, definition_of(vm))


def test_they_have_numbers_and_names_of_their_own() -> None:
    known = (snapshot(VM, 0), snapshot(VM, 2))
    assert (next_id(known), next_id(())) == (3, 0)
    assert find(known, "c") == known[1] and find(known, "b") is None
    assert known[1].tag == tag_of(2, "m") == "nebula-system-2-m"
    assert without(known, 0) == known[1:]
    with pytest.raises(NotFound):
        without(known, 1)


def test_they_hold_what_is_written_to() -> None:
    vm = replace(VM, disks=(*VM.disks, Disk(4, "vdb", readonly=True), Disk(5, "vdc", type="FS")))
    assert [disk.disk_id for disk in held_disks(vm)] == [0, 5]
    vm = replace(vm, system_snapshots=(snapshot(VM), snapshot(vm, 1)))
    assert (holding(vm, 0), holding(vm, 5), holding(vm, 3)) == (["a", "b"], ["b"], [])


@pytest.mark.parametrize(
    ("change", "error", "found", "running_alone"),
    [
        ({"disks": (CONTEXT,)}, InvalidValue, "nothing is ever written", False),
        ({"disks": (SYSTEM, Disk(1, "vdb", driver="raw"))}, Unsupported, "raw disk", False),
        ({"disks": (SYSTEM, Disk(1, "vdb", type="SWAP", driver="raw"))}, Unsupported, "raw disk", False),
        ({"disks": (replace(SYSTEM, luks_secret="s"),)}, Unsupported, "encrypted", False),
        ({"disks": (replace(SYSTEM, save=True),)}, Unsupported, "persistent image base", False),
        ({"disks": (SYSTEM, Disk(1, "data", type="FILESYSTEM", source="/srv"))}, Unsupported, "/srv", False),
        ({"os": Os(firmware="UEFI")}, Unsupported, "UEFI", True),
        ({"host_devices": (HostDevice("0000:01:00.0"),)}, Unsupported, "devices of its host", True),
        ({"encryption": MemoryEncryption("SEV", 1)}, Unsupported, "encrypted", True),
    ],
)  # fmt: skip
def test_what_can_have_none_is_told_with_what_to_change(
    change: dict[str, Any], error: type[NebulaError], found: str, running_alone: bool
) -> None:
    vm = replace(VM, **change)
    with pytest.raises(error, match=found) as caught:
        refuse_without(vm, True, "VM web: system snapshot a")
    assert caught.value.asked.startswith("VM web: system snapshot a") and caught.value.remedy
    if running_alone:
        refuse_without(vm, False, "VM web")
    else:
        with pytest.raises(error, match=found):
            refuse_without(vm, False, "VM web")


def test_others_can() -> None:
    refuse_without(replace(VM, os=Os(firmware="BIOS"), tpm=Tpm()), True, "VM web")


def test_what_changes_at_once_is_no_difference() -> None:
    now = replace(VM, name="www", cpu=2.0, graphics=replace(VM.graphics, password="x"), attributes={"A": "b"})
    assert differences(snapshot(VM), now) == []
    refuse_changed(snapshot(VM), now, "VM web")


@pytest.mark.parametrize(
    ("change", "told", "of_disks"),
    [
        ({"memory": 128}, "MEMORY was 64 MiB, and is 128 MiB", False),
        ({"vcpu": 2}, "VCPU was 1, and is 2", False),
        ({"nics": ()}, "NIC 0 was 02:00:0a:42:00:0a in network Public (virtio), and is not there", False),
        ({"disks": (SYSTEM, Disk(1, "vdb", type="FS", size=4))}, "DISK 1 was not there, and is FS at vdb, 4 MiB", True),
        ({"graphics": Graphics(port=5902)}, "port 5901, and is", False),
        ({"os": Os(machine="pc")}, "OS differs", False),
        ({"raw": {"kvm": "<x/>"}}, "RAW differs", False),
    ],
)
def test_what_memory_belongs_to_is_told_part_by_part(change: dict[str, Any], told: str, of_disks: bool) -> None:
    vm = replace(VM, **change)
    with pytest.raises(InvalidValue, match="not what it was then") as caught:
        refuse_changed(snapshot(VM), vm, "VM web: revert")
    assert told in caught.value.found
    assert "geheim" not in repr(snapshot(VM))
    # One without memory goes back to whatever the machine is, if it has the same disks.
    if of_disks:
        with pytest.raises(InvalidValue):
            refuse_changed(snapshot(VM, memory=False), vm, "VM web: revert")
    else:
        refuse_changed(snapshot(VM, memory=False), vm, "VM web: revert")
