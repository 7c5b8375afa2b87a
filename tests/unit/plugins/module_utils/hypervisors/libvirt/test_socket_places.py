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

USER, GROUP = 64055, 64111


@pytest.fixture(autouse=True)
def _one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_places, "_groups_of", lambda owner: {GROUP} if owner == USER else set())


@pytest.fixture
def libvirt() -> Iterator[Path]:
    # pytest's own directories are closed to all others.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


def test_groups_are_those_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert socket_places._groups_of(0) == {*os.getgrouplist("root", 0)}
    assert socket_places._groups_of(2000111001) == set()


@pytest.mark.root
def test_it_is_for_nobody_but_root_and_the_owner(libvirt: Path) -> None:
    place = libvirt / "ours" / "one-1"
    for mode, group in ((0o755, 0), (0o711, 0), (0o750, GROUP)):
        libvirt.chmod(mode)
        os.chown(libvirt, 0, group)
        socket_places.make(str(place), USER, "backing up")
        assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, USER)
        assert place.parent.stat().st_mode & 0o777 == 0o711
        place.rmdir()


@pytest.mark.root
def test_where_the_owner_can_not_get_there_nothing_is_made(libvirt: Path) -> None:
    for mode, group in ((0o700, GROUP), (0o750, 0), (0o705, GROUP)):
        libvirt.chmod(mode)
        os.chown(libvirt, 0, group)
        told = f"number {USER}.*whose mode is {mode:04o}.*chmod 0755 {libvirt}, then"
        with pytest.raises(HypervisorError, match=told):
            socket_places.make(str(libvirt / "ours" / "one-1"), USER, "backing up")
        assert os.listdir(libvirt) == []
    # Root's QEMU passes everywhere, and so does the owner of the directory.
    socket_places.make(str(libvirt / "ours" / "one-1"), 0, "backing up")
    os.chown(libvirt, USER, -1)
    socket_places.make(str(libvirt / "ours" / "one-2"), USER, "backing up")
