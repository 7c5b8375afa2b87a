# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is under way with images of a catalog that an earlier version wrote goes on where it was; and the catalog
refuses a step that does not follow."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import read_copy, restore
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images import returns
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import VERSION
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG
from ansible_collections.nebula.provision.plugins.module_utils.errors import WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    GROW,
    REWRITE,
    Clone,
    Operation,
    Prepare,
    Return,
    Rewrite,
    Save,
    returning_host,
    write,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.saved_disks import is_being_saved
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import rewrite

# A catalog with an image in each operation, as the version wrote it that had them as texts of five grammars.
VERSION_4 = Path(__file__).resolve().parents[6] / "fixtures" / "catalog" / "version_4.sql"
HOST = 'node "1" \\ é'
GROWN = {"size": 9, "generation": 1, "sha256": "", "notes": {"was": ["älter"], "sparse": 1}}
REWRITTEN = {**GROWN, "format": "qcow2", "luks_secret": "", "snapshots": ""}
UNDER_WAY: dict[str, Operation | None] = {
    "ready": None,
    "source": None,
    "clone": Clone(1),
    "saved": Save("vm:8e3c/disk.0"),
    "returns": Return(HOST),
    "may-return": Return(HOST, ran=False),
    "saved-away": Return("node2"),
    "prepared": Prepare(ImageState.READY),
    "prepared-disabled": Prepare(ImageState.DISABLED),
    "grown": Rewrite(GROW, GROWN, ImageState.READY),
    "rewritten": Rewrite(REWRITE, REWRITTEN, ImageState.READY),
    "rewritten-whole": Rewrite(REWRITE, REWRITTEN, ImageState.READY, whole=True),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(tmp_path / CATALOG, isolation_level=None)) as old:
        old.executescript(VERSION_4.read_text(encoding="utf-8"))
    return tmp_path


@pytest.fixture
def engine(root: Path) -> Iterator[EmbeddedEngine]:
    with contextlib.closing(EmbeddedEngine(str(root))) as opened, opened.session():
        yield opened


@pytest.mark.parametrize("check_mode", [False, True])
def test_each_operation_is_known_by_its_new_form(root: Path, check_mode: bool) -> None:
    with contextlib.closing(EmbeddedEngine(str(root), check_mode)) as engine:
        assert {image.name: image.operation for image in engine.images.pool()} == UNDER_WAY


def test_all_but_rewrites_are_as_this_version_writes_them(engine: EmbeddedEngine) -> None:
    texts = {row["name"]: row["operation"] for row in engine.store.rows("SELECT name, operation FROM images")}
    for name, operation in UNDER_WAY.items():
        assert isinstance(operation, Rewrite) or texts[name] == write(operation)


def test_a_clone_goes_on_and_its_source_is_held_until_its_end(engine: EmbeddedEngine) -> None:
    assert engine.images.info("source").state == ImageState.CLONE
    engine.images.update("clone", state=ImageState.READY, operation=None)
    assert engine.images.info("source").state == ImageState.READY


def test_a_second_clone_holds_the_source_of_the_first_one(engine: EmbeddedEngine) -> None:
    engine.images.clone("source", Image(None, "second"))
    engine.images.update("clone", state=ImageState.ERROR, operation=None, error="x")
    assert engine.images.info("source").state == ImageState.CLONE
    engine.images.delete("second")
    assert engine.images.info("source").state == ImageState.READY


def test_a_save_goes_on(engine: EmbeddedEngine) -> None:
    image = engine.images.info("saved")
    assert is_being_saved(image, "vm:8e3c/disk.0") and not is_being_saved(image, "vm:8e3c/disk.1")


def test_what_is_on_a_host_is_awaited_from_there(engine: EmbeddedEngine) -> None:
    assert {i.name: returning_host(i.operation) for i in engine.images.pool() if returning_host(i.operation)} == {
        "returns": HOST,
        "may-return": HOST,
        "saved-away": "node2",
    }
    assert returns.coming_from(engine.store, HOST) == ["may-return", "returns"]
    back = engine.images.returned("returns")
    assert (back.state, back.operation, back.generation) == (ImageState.READY, None, 1)
    # Its machine is not known to have run: there may be nothing.
    assert engine.images.returned("may-return", "it is not there").state == ImageState.READY


def test_what_was_on_a_host_that_is_forgotten_never_comes(engine: EmbeddedEngine) -> None:
    returns.forget_host(engine.store, HOST)
    for name in ("returns", "may-return"):
        assert (engine.images.info(name).state, engine.images.info(name).operation) == (ImageState.ERROR, None)
    assert returning_host(engine.images.info("saved-away").operation) == "node2"


def test_a_rewrite_is_finished_or_undone(engine: EmbeddedEngine) -> None:
    for name in ("rewritten", "grown"):
        undone = rewrite.finish_or_undo(engine, engine.images.info(name), finished=False)
        assert (undone.state, undone.size, undone.operation) == (ImageState.READY, 4, None)
    done = rewrite.finish_or_undo(engine, engine.images.info("rewritten-whole"), finished=True)
    assert (done.state, done.size, done.generation, done.operation) == (ImageState.READY, 9, 1, None)
    assert done.notes == REWRITTEN["notes"]


def test_an_old_backup_tells_its_images_and_stays_as_it_is(root: Path) -> None:
    before = (root / CATALOG).read_bytes()
    copy = read_copy.look(str(root / CATALOG))
    assert (copy.schema, {image.name: image.operation for image in copy.images}) == (4, UNDER_WAY)
    assert (root / CATALOG).read_bytes() == before


def test_an_old_backup_that_is_restored_has_them_in_their_new_form(root: Path, tmp_path_factory) -> None:
    place = str(tmp_path_factory.mktemp("restored"))
    with restore.candidate(place, str(root / CATALOG), "") as coming:
        assert coming.db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        texts = {row["name"]: row["operation"] for row in coming.rows("SELECT name, operation FROM images")}
        assert (texts["returns"], texts["clone"]) == (write(Return(HOST)), write(Clone(1)))


# -- steps that do not follow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "found"),
    [
        ("ready", {"state": ImageState.LOCKED, "operation": Return("node1")}, "in which return does not begin"),
        ("ready", {"operation": Prepare(ImageState.READY)}, "state READY does not go with"),
        ("prepared", {"state": ImageState.READY}, "prepare is under way, which state READY does not go with"),
        ("saved", {"operation": Clone(0)}, "save is under way, which clone does not follow"),
        ("clone", {"operation": Rewrite(GROW, {}, ImageState.READY)}, "clone is under way, which grow does not follow"),
    ],
)
def test_a_step_that_does_not_follow_is_refused_and_changes_nothing(
    engine: EmbeddedEngine, name: str, changes: dict[str, object], found: str
) -> None:
    before = engine.images.info(name)
    with pytest.raises(WrongState) as caught:
        engine.images.update(name, **changes)
    assert found in caught.value.found
    assert engine.images.info(name) == before


def test_no_image_is_registered_in_the_midst_of_an_operation(engine: EmbeddedEngine) -> None:
    with pytest.raises(WrongState, match="prepare does not begin"):
        engine.images.allocate(Image(None, "new", operation=Prepare(ImageState.READY)))


def test_what_is_under_way_does_not_keep_an_image_from_being_removed(engine: EmbeddedEngine) -> None:
    for name, operation in UNDER_WAY.items():
        if operation is not None and not isinstance(operation, Return):
            assert engine.images.update(name, state=ImageState.DELETE).operation == operation
            engine.images.delete(name)
