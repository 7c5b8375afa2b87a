# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a path is on, and /dev/kvm as udev would have it."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import kvm_device, mounts

TABLE = """overlay / overlay rw 0 0
proc /proc proc rw 0 0
/dev/vda /var/lib ext4 rw 0 0
tmpfs /var/lib/nebula\\040two tmpfs rw 0 0
/dev/vdb /srv ext4 rw 0 0
tmpfs /srv tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/opt/x", ("/", "overlay")),
        ("/var/lib/nebula", ("/var/lib", "ext4")),
        ("/var/library", ("/", "overlay")),
        ("/var/lib/nebula two/a", ("/var/lib/nebula two", "tmpfs")),
        ("/srv/a", ("/srv", "tmpfs")),
    ],
)
def test_file_systems(path: str, found: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(TABLE, encoding="utf-8")
    assert mounts.file_system(path, str(tmp_path / "mounts")) == found


def test_of_this_host(tmp_path: Path) -> None:
    assert mounts.file_system("/proc/self")[1] == "proc"
    assert mounts.file_system(str(tmp_path / "not" / "there"))[0]
    assert mounts.file_system("/", str(tmp_path / "none")) == ("", "")


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = str(tmp_path / "kvm")
    try:
        # The null device's numbers: nothing of KVM is opened here.
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs root")
    os.chmod(path, 0o600)
    return path


@pytest.mark.skipif(os.path.exists(kvm_device.UDEV), reason="udev decides here")
def test_the_device_gets_group_and_mode_once(device: str) -> None:
    try:
        gid = grp.getgrnam(kvm_device.GROUP).gr_gid
    except KeyError:
        pytest.skip("there is no group kvm")
    before = kvm_device.current(device)
    wanted = kvm_device.wanted(device)
    assert wanted == {"uid": 0, "gid": gid, "mode": 0o660}
    kvm_device.apply(wanted, device)
    assert kvm_device.wanted(device) == {}
    kvm_device.apply(before, device)
    assert kvm_device.current(device) == {"uid": 0, "gid": 0, "mode": 0o600}


@pytest.mark.parametrize("mode", [0o666, 0o777])
def test_what_everybody_may_open_is_left(device: str, mode: int) -> None:
    os.chmod(device, mode)
    assert kvm_device.wanted(device) == {}


def test_where_udev_runs_it_decides(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_device, "UDEV", str(tmp_path))
    assert kvm_device.wanted(device) == {}


def test_no_device_or_no_device_at_all(tmp_path: Path) -> None:
    assert kvm_device.wanted(str(tmp_path / "none")) == {}
    (tmp_path / "file").touch()
    assert kvm_device.wanted(str(tmp_path / "file")) == {}
