# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's user has to get to its sockets, through directories that libvirt's daemons or others have made."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import socket_places

USER = 64055


@pytest.fixture
def libvirt() -> Iterator[Path]:
    # pytest's own directories are closed to all others.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.mark.root
def test_it_is_for_nobody_but_root_and_the_owner(libvirt: Path) -> None:
    place = libvirt / "ours" / "one-1"
    for mode in (0o755, 0o711, 0o750):
        libvirt.chmod(mode)
        socket_places.make(str(place), USER, "backing up")
        assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, USER)
        assert place.parent.stat().st_mode & 0o777 == 0o711
        place.rmdir()


@pytest.mark.root
def test_where_the_owner_can_not_get_there_nothing_is_made(libvirt: Path) -> None:
    libvirt.chmod(0o700)
    with pytest.raises(HypervisorError, match=f"number {USER}.*whose mode is 0700.*chmod 0755 {libvirt}, then"):
        socket_places.make(str(libvirt / "ours" / "one-1"), USER, "backing up")
    assert os.listdir(libvirt) == []
    # Root's QEMU passes everywhere, and so does the owner of the directory.
    socket_places.make(str(libvirt / "ours" / "one-1"), 0, "backing up")
    os.chown(libvirt, USER, -1)
    socket_places.make(str(libvirt / "ours" / "one-2"), USER, "backing up")
