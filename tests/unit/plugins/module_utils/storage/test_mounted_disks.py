# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where disks of containers are mounted, and which are; tests/integration/test_lxc_disks.py mounts them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import mounted_disks
from ansible_collections.nebula.provision.plugins.module_utils.storage.mounted_disks import MountedDisk

UUID = "3f9a1c52-8e07-4d6b-b1a4-000000000005"


def test_a_place_tells_whose_it_is() -> None:
    point = mounted_disks.mount_point(UUID, 12)
    assert mounted_disks.parse_mount_point(point) == (UUID, 12)


@pytest.mark.parametrize(
    "path", ["", "/", "/srv", f"{mounted_disks.PLACE}/{UUID}", f"{mounted_disks.PLACE}/../{UUID}/1"]
)
def test_no_other_path_is_one(path: str) -> None:
    assert mounted_disks.parse_mount_point(path) == ("", 0)


@pytest.mark.parametrize(
    ("program", "found"), [((), "it has none"), (("mkfs.vfat",), "it has vfat"), (("mkswap",), "it has none")]
)
def test_what_is_not_mounted_is_refused_before_anything_is_made(
    program: tuple[str, ...], found: str, tmp_path: Path
) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1 << 20))
    if program:
        subprocess.run([*program, str(file)], check=True, capture_output=True)
    point = str(tmp_path / "point")
    with pytest.raises(ImageRefused, match=f"machine 5: disk 2: its file system: {found}"):
        mounted_disks.mount(MountedDisk(str(file), point, id_range(5)), "machine 5: disk 2")
    assert not Path(point).exists()


def test_nothing_is_given_back_where_nothing_was_mounted() -> None:
    assert not mounted_disks.release(UUID)
    assert mounted_disks.points(UUID) == []
    assert not mounted_disks.unmount(mounted_disks.mount_point(UUID, 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to others")
def test_what_a_version_before_gave_to_containers_is_taken_back_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounted_disks, "PLACE", str(tmp_path))
    theirs, ours = tmp_path / UUID, tmp_path / UUID.replace("0", "1")
    for path, owner in ((theirs, 700_000), (ours, 0)):
        path.mkdir(mode=0o700)
        os.chown(path, owner, 700_000)
    foreseen, done, again = Changes(True), Changes(False), Changes(False)
    mounted_disks.close_old_directories(foreseen)
    assert theirs.stat().st_uid == 700_000
    mounted_disks.close_old_directories(done)
    mounted_disks.close_old_directories(again)
    assert foreseen.after == done.after and list(done.after) == [str(theirs)] and not again.after
    found = theirs.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 700_000, 0o710)
