# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A context as a directory: what it holds, to whom, and what is left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.context import directory, iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.tests.tools.exchanging import exchanging, hostile_pair

OWN = os.geteuid()
VARIABLES = {"SET_HOSTNAME": "web-0", "PASSWORD": "s3cr3t"}


@pytest.fixture
def files(tmp_path: Path) -> list[ContextFile]:
    script = tmp_path / "init.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    place = tmp_path / "keys"
    (place / "more").mkdir(parents=True)
    (place / "more/id").write_bytes(b"\xff\0key")
    return [ContextFile(str(script), "init.sh"), ContextFile(str(place), "keys")]


def shown(place: Path) -> dict[str, tuple[str, int]]:
    found = {}
    for path in sorted(place.rglob("*")):
        kind = "directory" if path.is_dir() else path.read_bytes().decode("latin-1")
        found[str(path.relative_to(place))] = (kind, stat.S_IMODE(path.lstat().st_mode))
    return found


def test_it_holds_what_its_iso_would_for_its_root_alone(tmp_path: Path, files: list[ContextFile]) -> None:
    place = tmp_path / "disk.1"
    digest = directory.write_directory(str(place), VARIABLES, files, owner=OWN)
    with iso9660.build_iso(VARIABLES, files) as iso:
        assert digest == iso.digest
    found = shown(place)
    assert "SET_HOSTNAME='web-0'" in found.pop("context.sh")[0]
    assert found == {
        "init.sh": ("#!/bin/sh\n", 0o500),
        "keys": ("directory", 0o500),
        "keys/more": ("directory", 0o500),
        "keys/more/id": ("\xff\0key", 0o400),
    }
    assert stat.S_IMODE(place.stat().st_mode) == 0o500
    assert stat.S_IMODE((place / "context.sh").stat().st_mode) == 0o400


def test_it_follows_the_list_and_what_is_the_same_stays(tmp_path: Path, files: list[ContextFile]) -> None:
    place = tmp_path / "disk.1"
    directory.write_directory(str(place), VARIABLES, files, owner=OWN)
    kept, itself = (place / "init.sh").stat().st_ino, place.stat().st_ino
    assert directory.write_directory(str(place), VARIABLES, files, owner=OWN) == directory.write_directory(
        str(place), VARIABLES, files, owner=OWN
    )
    directory.write_directory(str(place), {**VARIABLES, "MORE": "1"}, files[:1], owner=OWN)
    assert sorted(shown(place)) == ["context.sh", "init.sh"]
    # A container that runs has the directory itself.
    assert ((place / "init.sh").stat().st_ino, place.stat().st_ino) == (kept, itself)
    assert "MORE='1'" in (place / "context.sh").read_text(encoding="utf-8")


def test_what_is_in_the_way_goes(tmp_path: Path) -> None:
    place, other = tmp_path / "disk.1", tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    place.mkdir()
    (place / "context.sh").mkdir()
    (place / "link").symlink_to(other)
    directory.write_directory(str(place), VARIABLES, owner=OWN)
    assert sorted(shown(place)) == ["context.sh"] and (other / "kept").exists()
    # An ISO of a former release, or of another hypervisor.
    iso = tmp_path / "disk.2"
    iso.write_bytes(b"iso")
    directory.write_directory(str(iso), VARIABLES, owner=OWN)
    assert sorted(shown(iso)) == ["context.sh"]


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("nocloud", ["context.sh", "meta-data", "user-data"]),
        ("configdrive", ["context.sh", "openstack", "openstack/latest", "openstack/latest/meta_data.json"]),
    ],
)
def test_other_formats_have_their_files(tmp_path: Path, format: str, names: list[str]) -> None:
    place = tmp_path / "disk.1"
    directory.write_directory(str(place), VARIABLES, owner=OWN, format=format, identity="u")
    assert set(names) <= set(shown(place))


GUEST = 3_000_000


@pytest.mark.parametrize("user", [0, GUEST])
@pytest.mark.skipif(OWN != 0, reason="a guest has another user, which only root can be")
def test_a_guest_that_exchanges_directories_and_links_loses_its_own_files_alone(tmp_path: Path, user: int) -> None:
    host = tmp_path / "host"
    host.mkdir(mode=0o700)
    for number in range(200):
        (host / f"file{number}").write_text("host's", encoding="utf-8")
    before = {path.name: (path.read_text(encoding="utf-8"), path.stat().st_uid) for path in host.iterdir()}
    tmp_path.chmod(0o711)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o711)
    for attempt in range(8):
        place = tmp_path / f"disk.{attempt}"
        place.mkdir(mode=0o700)
        inner, link = hostile_pair(place, host, GUEST)
        with exchanging(inner, link, user):
            try:
                directory.write_directory(str(place), VARIABLES, owner=GUEST)
            except NebulaError:
                # As root the guest of this test goes on with what is not its own any more, which no guest can.
                assert user == 0
        found = {path.name: (path.read_text(encoding="utf-8"), path.stat().st_uid) for path in host.iterdir()}
        assert found == before, f"attempt {attempt}"
        assert user == 0 or sorted(shown(place)) == ["context.sh"]


def test_what_a_guest_has_made_goes_however_deep_it_is(tmp_path: Path) -> None:
    place = tmp_path / "disk.1"
    place.mkdir()
    dig(place, 1500)
    directory.write_directory(str(place), VARIABLES, owner=OWN)
    assert sorted(shown(place)) == ["context.sh"]
