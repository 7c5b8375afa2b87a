# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as block devices of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import loop_devices

needs_loop = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and loop devices"
)


@needs_loop
@pytest.mark.parametrize("readonly", [True, False])
def test_a_device_shows_the_file_and_is_free_afterwards(tmp_path: Path, readonly: bool) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 4096)
    with loop_devices.attach(str(path), readonly) as device:
        number = os.stat(device).st_rdev
        assert loop_devices.file_of(number) == str(path)
        assert loop_devices.devices_of(str(path)) == [f"{os.major(number)}:{os.minor(number)}"]
        assert Path(device).read_bytes() == b"x" * 4096
        if readonly:
            with pytest.raises(OSError):
                Path(device).write_bytes(b"y")
    # Somebody else may have it by now.
    assert loop_devices.file_of(number) != str(path) and loop_devices.devices_of(str(path)) == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="disk"), loop_devices.attach(str(tmp_path / "disk"), True):
        pass


def test_what_is_no_loop_device_shows_no_file() -> None:
    assert loop_devices.file_of(os.makedev(0, 0)) == ""
