# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories of a host a guest may write to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.storage import given_directories

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what others may enter is root's to say")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "above" / "shared"
    found.mkdir(parents=True)
    for each in (found, *found.parents):
        if each.is_relative_to("/tmp") and each != Path("/tmp"):
            each.chmod(0o755)
    return found


def test_one_that_others_can_not_come_to(place: Path) -> None:
    place.parent.chmod(0o700)
    given_directories.check(str(place), False)


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o750, 0o1777, 0o700])
def test_one_that_others_could_enter(place: Path, mode: int) -> None:
    """Its own mode is the guest's to change."""
    place.chmod(mode)
    with pytest.raises(InvalidValue, match="a guest could put programs and devices there for them"):
        given_directories.check(str(place), False)
    # Nothing is written there.
    given_directories.check(str(place), True)


def test_one_that_another_user_could_exchange(place: Path) -> None:
    os.chown(place.parent, 1000, 1000)
    place.parent.chmod(0o700)
    with pytest.raises(InvalidValue, match="user 1000 owns"):
        given_directories.check(str(place), False)


def test_none_at_all(place: Path) -> None:
    (place / "file").write_text("x", encoding="ascii")
    (place.parent / "link").symlink_to(place)
    for path, found in (("none", "no such directory"), ("shared/file", "no such directory"), ("link", "it leads to")):
        with pytest.raises(NotFound, match=found):
            given_directories.check(str(place.parent / path), True)


def test_errors_are_ours(place: Path) -> None:
    with pytest.raises(NebulaError):
        given_directories.check(str(place) + "/" + "x" * 300, False)
