# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of backups tells which are complete, keeps the newest, and brings files of images back.

Only root can give a file away, so os.chown, the seam to the operating system, is replaced by one that does nothing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ChecksumMismatch,
    InvalidValue,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.catalog_backup import ImageFile, Manifest
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_directory

pytestmark = pytest.mark.usefixtures("no_owners")
CATALOG = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"
OTHER = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac002"
UUID = "5f0d1f0e-91c3-4d3f-8b58-0d1f0e2ac003"
STRANGE = ("notes.txt", f".{CATALOG}-00000001-20260102T030405Z.db.tmp.txt", "images.old")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir()
    return path


def manifest(plan: int = 1, catalog: str = CATALOG, images: tuple[ImageFile, ...] = (), day: int = 2) -> Manifest:
    time = f"202601{day:02d}T030405Z"
    return Manifest(backup_directory.name_of(catalog, plan, time), catalog, plan, 7, time, 3, "0" * 64, images=images)


def saved(place: Path, *manifests: Manifest) -> None:
    for each in manifests:
        (place / each.file).write_bytes(b"abc")
        backup_directory.write(str(place), each)


def copy_of(place: Path, name: str, content: bytes = b"content") -> str:
    (place / backup_directory.IMAGES).mkdir(exist_ok=True)
    (place / backup_directory.IMAGES / name).write_bytes(content)
    return f"{backup_directory.IMAGES}/{name}"


def test_a_backup_is_called_after_its_catalog_plan_and_time():
    assert backup_directory.name_of(CATALOG, 12, "20260102T030405Z") == f"{CATALOG}-00000012-20260102T030405Z.db"


# -- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        (),
        (ImageFile("demo", UUID, "/x"), ImageFile("", "", "", 0)),
        (ImageFile('\u00e4\n"', UUID, "/x y", 1 << 60, "ab", "images/1"),),
    ],
)
def test_a_manifest_reads_back_as_it_was_written(place, images):
    written = manifest(images=images)
    assert backup_directory.read(backup_directory.write(str(place), written)) == written


def test_a_manifest_is_for_nobody_else(place):
    path = backup_directory.write(str(place), manifest())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and path == f"{place}/{manifest().file}.json"


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"file": 1}', "\udcff", "null"])
def test_what_is_no_manifest_is_told_with_its_path(place, text):
    path = place / "x.db.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CatalogError, match=rf"^manifest {path}: it can't be read: .*Name another backup$"):
        backup_directory.read(str(path))


def test_a_missing_manifest_is_told_too(place):
    with pytest.raises(CatalogError, match="No such file"):
        backup_directory.read(str(place / "x.db.json"))


def test_a_manifest_of_a_newer_version_is_left_to_it(place):
    path = Path(backup_directory.write(str(place), manifest()))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(CatalogError, match=r"its format is 2. Use the newer nebula\.provision that wrote it"):
        backup_directory.read(str(path))


def test_manifests_come_oldest_first_and_say_what_is_unreadable(place):
    saved(place, manifest(1, OTHER, day=9), manifest(7, day=3), manifest(8, day=3), manifest(9, day=1))
    (place / "broken.db.json").write_text("{")
    # Without a manifest it is no backup.
    (place / f"{CATALOG}-00000099-20260130T030405Z.db").write_bytes(b"half")
    found, unreadable = backup_directory.manifests(str(place))
    assert [each.plan for each in found] == [9, 7, 8, 1]
    assert [str(place / "broken.db.json") in str(error) for error in unreadable] == [True]


def test_no_directory_holds_no_backups(tmp_path):
    assert backup_directory.manifests(str(tmp_path / "nowhere")) == ([], [])


# -- the newest ------------------------------------------------------------------------------------------------------


def test_the_newest_is_that_of_the_latest_time(place):
    saved(place, manifest(5, day=1), manifest(3, day=2), manifest(9, OTHER, day=3))
    assert backup_directory.newest(str(place), [CATALOG]) == str(place / manifest(3, day=2).file)
    assert backup_directory.newest(str(place), [CATALOG, "x"]) == str(place / manifest(3, day=2).file)


def test_of_one_catalog_it_need_not_be_named(place):
    saved(place, manifest(5, day=1), manifest(6, day=2))
    assert backup_directory.newest(str(place), []) == str(place / manifest(6, day=2).file)


@pytest.mark.parametrize(
    ("there", "catalogs", "error", "found"),
    [
        ([], [], NotFound, "there is none that is complete"),
        ([manifest()], [OTHER, "a"], NotFound, f"there is none that is complete of catalog {OTHER} or a"),
        ([manifest(), manifest(2, OTHER)], [], InvalidValue, f"they are of several catalogs: {CATALOG}, {OTHER}"),
    ],
)
def test_where_there_is_no_newest(place, there, catalogs, error, found):
    saved(place, *there)
    with pytest.raises(error) as caught:
        backup_directory.newest(str(place), catalogs)
    assert (caught.value.asked, caught.value.found) == (f"a backup in {place}", found)
    assert caught.value.remedy == "Name its file: -e nebula_backup=/path/to/it.db"


def test_one_that_cannot_be_read_may_be_the_newest(place):
    saved(place, manifest())
    (place / "broken.db.json").write_text("{")
    with pytest.raises(CatalogError, match=r"broken\.db\.json"):
        backup_directory.newest(str(place), [CATALOG])


# -- a directory that is held, and pruned ----------------------------------------------------------------------------


def test_a_directory_is_made_and_closed(tmp_path):
    with backup_directory.locked(str(tmp_path / "a" / "b")):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_what_was_left_half_done_goes_and_all_else_stays(place):
    place.chmod(0o755)
    name = manifest().file
    for left in (f".{name}.tmp", f".{name}.json.x7f.tmp", *STRANGE, name):
        (place / left).write_bytes(b"x")
    with backup_directory.locked(str(place)):
        assert sorted(os.listdir(place)) == sorted([*STRANGE, name])
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


@pytest.mark.parametrize(("keep", "gone"), [(0, []), (1, [1, 2]), (2, [1]), (3, []), (9, [])])
def test_the_newest_of_one_catalog_are_kept(place, keep, gone):
    own = [manifest(day, day=day) for day in (1, 2, 3)]
    saved(place, *own, manifest(1, OTHER, day=1))
    assert backup_directory.prune(str(place), keep, CATALOG) == [own[day - 1].file for day in gone]
    kept = [each for each in (*own, manifest(1, OTHER, day=1)) if each.catalog == OTHER or each.plan not in gone]
    assert sorted(os.listdir(place)) == sorted(name for each in kept for name in (each.file, each.file + ".json"))


def test_copies_go_with_the_last_backup_that_names_them(place):
    names = [copy_of(place, f"{UUID}-{number}") for number in (1, 2, 3)]
    copy_of(place, f".{UUID}-4.tmp")
    copy_of(place, "somebody's")
    images = [ImageFile("demo", UUID, "/x", 7, copy=name) for name in names]
    saved(place, manifest(1, images=tuple(images[:2]), day=1), manifest(2, images=(images[1],), day=2))
    backup_directory.prune(str(place), 1, CATALOG)
    assert sorted(os.listdir(place / "images")) == [f"{UUID}-2", "somebody's"]


def test_no_copy_goes_while_a_manifest_cannot_be_read(place):
    copy_of(place, f"{UUID}-1")
    (place / "broken.db.json").write_text("{")
    backup_directory.prune(str(place), 1, CATALOG)
    assert os.listdir(place / "images") == [f"{UUID}-1"]


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_backup_that_was_changed_is_refused(place):
    content = bytes(backup_directory._BLOCK) + b"and more"
    (place / "x.db").write_bytes(content)
    assert backup_directory.sha256_of(str(place / "x.db")) == hashlib.sha256(content).hexdigest()
    backup_directory.check(str(place / "x.db"), replace(manifest(), sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(ChecksumMismatch, match=r"the file was changed or damaged. Use another backup"):
        backup_directory.check(str(place / "x.db"), manifest())


def test_a_copy_has_its_mode_and_leaves_no_half_of_it(place, tmp_path):
    (tmp_path / "source").write_bytes(b"content")
    (place / "copy").write_bytes(b"an older and longer one")
    backup_directory.copy_file(str(tmp_path / "source"), str(place / "copy"), 0o400)
    assert (place / "copy").read_bytes() == b"content" and stat.S_IMODE((place / "copy").stat().st_mode) == 0o400
    with pytest.raises(NotFound):
        backup_directory.copy_file(str(tmp_path / "nowhere"), str(place / "copy"))
    assert os.listdir(place) == ["copy"] and (place / "copy").read_bytes() == b"content"


def image(tmp_path: Path, content: bytes | None = b"content", **values) -> Image:
    source = tmp_path / "store" / "demo"
    source.parent.mkdir(exist_ok=True)
    if content is not None:
        source.write_bytes(content)
    return Image(
        **{"id": 3, "name": "demo", "uuid": UUID, "generation": 2, "source": str(source), "sha256": "s", **values}
    )


def test_images_are_copied_once_for_all_backups(place, tmp_path):
    one, warnings = image(tmp_path, state=ImageState.READY), []
    expected = [ImageFile("demo", UUID, one.source, 7, "s", f"images/{UUID}-2")]
    assert backup_directory.copy_images(str(place), [one], warnings) == expected
    path = place / "images" / f"{UUID}-2"
    inode = path.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert backup_directory.copy_images(str(place), [one], warnings) == expected and path.stat().st_ino == inode
    path.write_bytes(b"half")
    backup_directory.copy_images(str(place), [one], warnings)
    assert path.read_bytes() == b"content" and not warnings


def test_what_a_machine_writes_to_is_not_copied_and_told(place, tmp_path):
    warnings: list[str] = []
    found = backup_directory.copy_images(str(place), [image(tmp_path, state=ImageState.USED_PERS)], warnings)
    assert [each.copy for each in found] == [""] and os.listdir(place / "images") == []
    assert warnings == ["image demo (id 3) was not copied: a machine writes to it"]


def test_an_image_without_a_file_is_listed_without_a_size(place, tmp_path):
    found = backup_directory.copy_images(str(place), [image(tmp_path, None)], [])
    assert [(each.size, each.copy) for each in found] == [(None, "")]


def entry(tmp_path: Path, place: Path, content: bytes | None = b"content", **values) -> ImageFile:
    """What a backup says of an image whose file held "content"; content: of its copy, None for none."""
    name = copy_of(place, f"{UUID}-2", content) if content is not None else ""
    source, digest = str(tmp_path / "store" / "demo"), hashlib.sha256(b"content").hexdigest()
    return replace(ImageFile("demo", UUID, source, 7, digest, name), **values)


def test_a_file_that_is_there_is_left_alone(place, tmp_path):
    image(tmp_path)
    assert backup_directory.bring_back(str(place), entry(tmp_path, place), False) == ""


def test_a_file_of_another_length_is_told(place, tmp_path):
    image(tmp_path, b"longer content")
    said = backup_directory.bring_back(str(place), entry(tmp_path, place), False)
    assert said == f"its file {tmp_path}/store/demo has 14 bytes, and had 7"
    # A machine has written to it.
    assert backup_directory.bring_back(str(place), entry(tmp_path, place, sha256=""), False) == ""


def test_a_lost_file_comes_back_from_its_copy_and_nobody_may_write_to_it(place, tmp_path):
    assert backup_directory.bring_back(str(place), entry(tmp_path, place), True) == "restored"
    assert not (tmp_path / "store").exists()
    assert backup_directory.bring_back(str(place), entry(tmp_path, place), False) == "restored"
    found = tmp_path / "store" / "demo"
    assert found.read_bytes() == b"content" and not found.stat().st_mode & 0o222


@pytest.mark.parametrize(
    ("content", "values", "said"),
    [
        (None, {}, "is not there, and the backup has no copy of it"),
        (b"content", {"copy": "images/gone"}, "is not there, and the backup has no copy of it"),
        (b"CONTENT", {}, "is damaged"),
    ],
)
def test_a_lost_file_that_cannot_come_back_is_told(place, tmp_path, content, values, said):
    found = backup_directory.bring_back(str(place), entry(tmp_path, place, content, **values), False)
    assert found.startswith(f"its file {tmp_path}/store/demo is not there") and found.endswith(said)
    assert not (tmp_path / "store" / "demo").exists()


def test_an_error_about_one_image_does_not_end_the_others(place, tmp_path):
    (tmp_path / "store").write_bytes(b"in the way of the directory")
    said = backup_directory.bring_back(str(place), entry(tmp_path, place), False)
    assert str(tmp_path / "store") in said and said != "restored"
