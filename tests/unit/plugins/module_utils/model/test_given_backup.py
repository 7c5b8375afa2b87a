# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may say of a machine that the front-end backs up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.given_backup import (
    AskedBackup,
    GivenBackup,
    GivenDisk,
    read,
    read_asked,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

VM = Vm(1, "u", "web", "kvm", cpu=1.0, memory=64, disks=(Disk(0, "vda", size=1), Disk(2, "vdb", size=2)))
DISK = GivenDisk(0, "vda", "qcow2", 1 << 20, "vda", "b")
GIVEN = GivenBackup("RUNNING", "frozen", "by libvirt", (DISK,), True, files={"nvram": 7})


def test_what_can_be_true_is_read() -> None:
    assert read(to_plain(GIVEN), VM, "backup") == GIVEN
    grown = replace(GIVEN, disks=(replace(DISK, size=2 << 20),))
    assert read(to_plain(grown), VM, "backup") == grown


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"state": "DONE"}, "its state or consistency"),
        ({"consistency": "fine"}, "its state or consistency"),
        ({"disks": (replace(DISK, disk_id=1),)}, "the machine has none of that number"),
        ({"disks": (DISK, DISK)}, "it has disk 0 once more"),
        ({"disks": (replace(DISK, size=512),)}, "512 bytes, where 1048576 to 2097152"),
        ({"disks": (replace(DISK, size=(2 << 20) + 512),)}, "2097664 bytes, where"),
        ({"disks": (replace(DISK, format="tar", size=0),)}, "the root of a container, and the machine's is none"),
        ({"disks": (replace(DISK, size=1 << 50),)}, "bytes, where"),
        ({"disks": (replace(DISK, size=(1 << 20) + 1),)}, "bytes, where"),
        ({"disks": (replace(DISK, format="vmdk"),)}, "of a format"),
        ({"disks": (replace(DISK, target="a\nb"),)}, "of a format, or at a place"),
        ({"disks": (replace(DISK, export="{"),)}, "shown by a name"),
        ({"disks": (replace(DISK, bitmap='a"'),)}, "shown by a name"),
        ({"disks": (replace(DISK, image="other"),)}, "of another image"),
        ({"disks": (replace(DISK, bitmap=""),)}, "does not know of all disks"),
        ({"reason": "x" * 5000}, "it says too much"),
        ({"left_out": ("x",) * 5000}, "it says too much"),
        ({"checkpoint": "a/b"}, "its checkpoint"),
        ({"files": {"../x": 1}}, "further files"),
        ({"files": {"nvram": 1 << 40}}, "further files"),
        ({"files": {"json": 1}}, "further files"),
    ],
)
def test_what_can_not_be_true_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=f"backup: what its host says of it: .*{words}"):
        read(to_plain(replace(GIVEN, **changed)), VM, "backup")


@pytest.mark.parametrize("plain", [None, [], {}, {"state": 1}, "x"])
def test_what_is_no_answer_is_refused(plain: Any) -> None:
    with pytest.raises(InvalidValue, match="it can't be read"):
        read(plain, VM, "backup")


def test_what_the_front_end_asks_for() -> None:
    order = AskedBackup("nebula-0a-x", "nebula-0a-w")
    assert read_asked(to_plain(order), "backup") == order
    for plain in ({"checkpoint": "a b"}, {"checkpoint": "a", "since": "../x"}, [], {"checkpoint": 1}):
        with pytest.raises(InvalidValue, match="what the front-end asks for"):
            read_asked(plain, "backup")
