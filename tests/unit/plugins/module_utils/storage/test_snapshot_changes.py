# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk in which a snapshot was broken off is mended; which one that is, a note says."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import snapshot_changes

CLUSTER = 65536


def test_a_note_stays_until_all_is_done(tmp_path: Path) -> None:
    place = str(tmp_path)
    with snapshot_changes.noted(place):
        assert snapshot_changes.are_unfinished(place)
    assert not snapshot_changes.are_unfinished(place)
    # Nothing was done.
    with pytest.raises(WrongState), snapshot_changes.noted(place):
        raise WrongState("a", "it runs", "Power it off first")
    assert not snapshot_changes.are_unfinished(place)
    with pytest.raises(HypervisorError), snapshot_changes.noted(place):
        raise HypervisorError("a", "QEMU is gone")
    assert snapshot_changes.are_unfinished(place)
    assert snapshot_changes.mend(place, [], "a") == []
    assert not snapshot_changes.are_unfinished(place)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """It has a cluster that it alone uses."""
    raw, path = tmp_path / "raw", tmp_path / "disk.0"
    raw.write_bytes(b"x" * CLUSTER + bytes(CLUSTER))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    raw.unlink()
    return path


def checked(path: Path) -> int:
    return subprocess.run(["qemu-img", "check", path], check=False, capture_output=True).returncode


def number(path: Path, at: int) -> int:
    return int(struct.unpack(">Q", path.read_bytes()[at : at + 8])[0])


def test_what_was_counted_for_a_snapshot_that_never_came(disk: Path) -> None:
    # As QEMU does it first: each cluster is counted once more, and still says that it is used once.
    block = number(disk, number(disk, 48))
    content = bytearray(disk.read_bytes())
    for cluster in range(len(content) // CLUSTER):
        if struct.unpack_from(">H", content, block + 2 * cluster)[0] and cluster > 3:
            struct.pack_into(">H", content, block + 2 * cluster, 2)
    disk.write_bytes(content)
    assert checked(disk) == 2
    assert snapshot_changes.mend(str(disk.parent), [DiskFiles(str(disk), "qcow2")], "a") == []
    assert checked(disk) == 0


def test_what_is_damaged_in_another_way_is_said(disk: Path) -> None:
    content = bytearray(disk.read_bytes())
    # Its table of tables leads outside of the file.
    struct.pack_into(">Q", content, number(disk, 40), 1 << 63 | 1 << 40)
    disk.write_bytes(content)
    (found,) = snapshot_changes.mend(str(disk.parent), [DiskFiles(str(disk), "qcow2")], "a")
    assert f"{disk} is damaged" in found


def test_what_somebody_has_open_is_not_called_damaged(disk: Path) -> None:
    (disk.parent / snapshot_changes.MARK).touch()
    words = ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=a,filename={disk}"]
    words += ["--blockdev", "driver=qcow2,node-name=b,file=a", "--pidfile", f"{disk.parent}/pid"]
    words += ["--nbd-server", f"addr.type=unix,addr.path={disk.parent}/nbd", "--daemonize"]
    words += ["--export", "type=nbd,id=e,node-name=b,writable=on,name=d"]
    subprocess.run(words, check=True)
    try:
        (found,) = snapshot_changes.mend(str(disk.parent), [DiskFiles(str(disk), "qcow2")], "a")
        assert "could not be checked" in found and "lock" in found
        assert snapshot_changes.are_unfinished(str(disk.parent))
    finally:
        os.kill(int((disk.parent / "pid").read_text()), signal.SIGTERM)
