# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other content for an image: what has to be done for a specification, what is noted of it, and how what was
interrupted is finished or undone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InUse,
    InvalidValue,
    NebulaError,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import write
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import rewrite
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_item import spec_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_progress import (
    Settings,
    Work,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_view import image_view
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.rewrite import (
    DIG,
    GROW,
    REWRITE,
    Rework,
    rework_wanted,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, image_files
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

MIB = 1024 * 1024
SECRET, PASSPHRASE = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11", "smoked ham"
IMAGE = Image(3, "demo", state=ImageState.READY, size=8, format="raw", sha256="0" * 64)
QCOW2 = replace(IMAGE, format="qcow2")
SEALED = replace(QCOW2, luks_secret=SECRET)
needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


def due(image: Image, **keys: Any) -> Rework | None:
    return rework_wanted(spec_of({"name": "demo", **keys}), image)


def must(image: Image, **keys: Any) -> Rework:
    found = due(image, **keys)
    assert found is not None
    return found


def outcome(image: Image, rework: Rework) -> dict[str, Any]:
    return dict(rework.operation(image).to)


# -- what has to be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "keys"),
    [
        (IMAGE, {}),
        (IMAGE, {"size": 8, "format": "raw"}),
        # It is never made smaller.
        (IMAGE, {"size": 4}),
        (QCOW2, {"format": "qcow2"}),
        (QCOW2, {"snapshot_flatten": True}),
        (SEALED, {"luks_secret": SECRET}),
        (replace(QCOW2, notes={"compress": 0}), {"compress": True}),
        (replace(QCOW2, notes={"sparse": 0}), {"sparse": True}),
        (replace(IMAGE, notes={"sparse": 0}), {"sparse": True}),
        # Nothing of it is refused either: it is not asked for.
        (replace(IMAGE, vms=2, state=ImageState.USED), {"description": "x"}),
        (replace(IMAGE, type=ImageType.CDROM), {"size": 8}),
    ],
)
def test_nothing_is_done_to_what_is_as_specified(image: Image, keys: dict[str, Any]) -> None:
    assert due(image, **keys) is None


@pytest.mark.parametrize(
    ("image", "keys", "rework"),
    [
        (IMAGE, {"size": 9}, Rework(GROW, "raw", 9)),
        (QCOW2, {"size": 9}, Rework(GROW, "qcow2", 9)),
        (IMAGE, {"sparse": True}, Rework(DIG, "raw", 8, sparse=True)),
        # What grows keeps its zeroes; they are seen to afterwards.
        (IMAGE, {"sparse": True, "size": 9}, Rework(GROW, "raw", 9)),
        (QCOW2, {"sparse": True}, Rework(REWRITE, "qcow2", 8, sparse=True)),
        (IMAGE, {"format": "qcow2"}, Rework(REWRITE, "qcow2", 8)),
        (QCOW2, {"format": "raw", "size": 16}, Rework(REWRITE, "raw", 16)),
        (IMAGE, {"format": "qcow2", "compress": True}, Rework(REWRITE, "qcow2", 8, compress=True)),
        (QCOW2, {"compress": True}, Rework(REWRITE, "qcow2", 8, compress=True)),
        (
            replace(QCOW2, snapshots='[{"id": 0}]'),
            {"snapshot_flatten": True},
            Rework(REWRITE, "qcow2", 8, flatten=True),
        ),
        # What grows in its place is not packed; what was compressed stays so when it is written anew, but not as raw.
        (replace(QCOW2, notes={"compress": 0}), {"size": 9}, Rework(GROW, "qcow2", 9)),
        (replace(QCOW2, notes={"compress": 0}), {"sparse": True}, Rework(REWRITE, "qcow2", 8, True, sparse=True)),
        (replace(QCOW2, notes={"compress": 0}), {"format": "raw"}, Rework(REWRITE, "raw", 8)),
        # A machine has written to it since.
        (
            replace(QCOW2, generation=1, notes={"compress": 0}),
            {"sparse": True},
            Rework(REWRITE, "qcow2", 8, False, True),
        ),
        (
            replace(QCOW2, generation=1, notes={"compress": 0}),
            {"compress": True},
            Rework(REWRITE, "qcow2", 8, compress=True),
        ),
        (
            IMAGE,
            {"luks_secret": SECRET, "luks_passphrase": PASSPHRASE},
            Rework(REWRITE, "qcow2", 8, luks_secret=SECRET, key=PASSPHRASE),
        ),
        (
            SEALED,
            {"size": 9, "luks_passphrase": PASSPHRASE},
            Rework(GROW, "qcow2", 9, luks_secret=SECRET, source_key=PASSPHRASE, key=PASSPHRASE),
        ),
        # Encrypted, it is not compressed any more.
        (
            replace(QCOW2, notes={"compress": 0}),
            {"luks_secret": SECRET, "luks_passphrase": PASSPHRASE},
            Rework(REWRITE, "qcow2", 8, luks_secret=SECRET, key=PASSPHRASE),
        ),
    ],
)
def test_the_least_is_done_that_brings_what_is_specified(image: Image, keys: dict[str, Any], rework: Rework) -> None:
    assert due(image, **keys) == rework


def test_only_what_was_in_the_clear_is_encrypted() -> None:
    keys = {"luks_secret": SECRET, "luks_passphrase": PASSPHRASE}
    assert must(IMAGE, **keys).encrypts(IMAGE)
    assert not must(SEALED, size=9, **keys).encrypts(SEALED)
    assert not must(IMAGE, size=9).encrypts(IMAGE)


@pytest.mark.parametrize("key", ["compress", "sparse"])
@pytest.mark.parametrize("used", [{"vms": 1, "state": ImageState.USED}, {"state": ImageState.CLONE}])
def test_what_was_done_before_waits_for_the_end_of_the_next_use(key: str, used: dict[str, Any]) -> None:
    written = replace(QCOW2, generation=1, notes={key: 0})
    assert due(replace(written, **used), **{key: True}) is None
    assert must(written, **{key: True}).do == REWRITE
    # Asked for the first time it is refused.
    with pytest.raises(NebulaError, match=f"image demo \\(id 3\\): {key}: "):
        due(replace(written, notes={}, **used), **{key: True})


@pytest.mark.parametrize(
    ("image", "keys", "error", "words"),
    [
        (
            replace(IMAGE, type=ImageType.CDROM),
            {"size": 9},
            Conflict,
            ["size 9 MB: it is of type CDROM, whose file stays", "Remove it first"],
        ),
        (replace(IMAGE, type=ImageType.KERNEL), {"format": "qcow2"}, Conflict, ["format qcow2: it is of type KERNEL"]),
        (replace(IMAGE, vms=1), {"size": 9}, InUse, ["it is used by 1 machine.", "End these machines first"]),
        (replace(IMAGE, vms=2), {"size": 9}, InUse, ["it is used by 2 machines."]),
        (replace(IMAGE, unfinished="installing"), {"size": 9}, WrongState, ["it is being installed"]),
        (
            replace(IMAGE, state=ImageState.ERROR),
            {"size": 9},
            WrongState,
            ["it is in state ERROR", "Wait until it is READY"],
        ),
        (
            replace(QCOW2, snapshots='[{"id": 0}, {"id": 1}]'),
            {"size": 9},
            Conflict,
            ["its file holds disk snapshots (2)", "Give snapshot_flatten: true"],
        ),
        (
            SEALED,
            {"format": "raw", "luks_passphrase": PASSPHRASE},
            Conflict,
            ["format raw: it is encrypted, and a raw file would not be", "Make a new image"],
        ),
        (SEALED, {"compress": True}, Conflict, ["what is encrypted can't be compressed", "Leave compress out"]),
        (IMAGE, {"compress": True}, InvalidValue, ["compress: a raw file can't be compressed", "format: qcow2"]),
        (
            IMAGE,
            {"luks_secret": SECRET},
            InvalidValue,
            ["luks_secret: it is not encrypted yet", "Give luks_passphrase: that of the secret"],
        ),
        (
            SEALED,
            {"size": 9},
            InvalidValue,
            ["size 9 MB: it is encrypted, and can't be opened", "Give luks_passphrase for this run"],
        ),
    ],
)
def test_what_can_not_be_done_is_refused(
    image: Image, keys: dict[str, Any], error: type[NebulaError], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        due(image, **keys)
    said = str(caught.value)
    assert said.startswith("image demo (id 3): ") and [word for word in words if word not in said] == [], said
    assert PASSPHRASE not in said


# -- what is noted ----------------------------------------------------------------------------------------------------


def test_a_note_holds_no_key() -> None:
    told = must(IMAGE, luks_secret=SECRET, luks_passphrase=PASSPHRASE).operation(IMAGE)
    assert PASSPHRASE not in write(told)
    assert (told.do, told.was, told.to["luks_secret"]) == (REWRITE, ImageState.READY, SECRET)


def test_growth_is_another_generation_without_a_hash() -> None:
    assert outcome(IMAGE, Rework(GROW, "raw", 9)) == {"size": 9, "generation": 1, "sha256": "", "notes": {}}


def test_holes_change_nothing_of_what_is_read() -> None:
    image = replace(IMAGE, generation=4)
    assert outcome(image, Rework(DIG, "raw", 8, sparse=True)) == {"size": 8, "generation": 4, "notes": {"sparse": 4}}


def test_what_is_written_anew_has_no_snapshots_and_no_holes() -> None:
    image = replace(IMAGE, snapshots='[{"id": 0}]', notes={"recipe": "ab", "compress": 0})
    assert outcome(image, Rework(REWRITE, "qcow2", 8, flatten=True)) == {
        "size": 8,
        "generation": 1,
        "format": "qcow2",
        "snapshots": "",
        "luks_secret": "",
        "sha256": "",
        "notes": {"recipe": "ab", "sparse": 1},
    }


@pytest.mark.parametrize(
    ("notes", "rework", "after"),
    [
        ({"compress": 2}, Rework(GROW, "qcow2", 9), {"compress": 3}),
        ({"compress": 1}, Rework(GROW, "qcow2", 9), {}),
        ({"sparse": 2}, Rework(GROW, "qcow2", 9), {"sparse": 3}),
        ({"sparse": 1}, Rework(GROW, "qcow2", 9), {}),
        ({"compress": 2}, Rework(REWRITE, "qcow2", 8, compress=True), {"compress": 3, "sparse": 3}),
        ({"compress": 2}, Rework(REWRITE, "raw", 8), {"sparse": 3}),
    ],
)
def test_what_holds_of_the_content_goes_on_with_its_generation(
    notes: dict[str, int], rework: Rework, after: dict[str, int]
) -> None:
    assert outcome(replace(QCOW2, generation=2, notes=notes), rework)["notes"] == after


# -- carried out, finished and undone ---------------------------------------------------------------------------------


def stored(engine: EmbeddedEngine, state: ImageState = ImageState.READY) -> Image:
    with engine.session():
        image = engine.images.allocate(Image(None, "demo"))
        image = engine.images.update(image.id, state=ImageState.READY, size=1, sha256="0" * 64)
        image = engine.images.update(image.id, state=state)
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(b"content" + bytes(MIB - 7))
    return image


def begun(engine: EmbeddedEngine, image: Image, rework: Rework) -> Image:
    with engine.session():
        return rewrite.begin(engine, image, rework)


def run(engine: EmbeddedEngine, image: Image, rework: Rework, **settings: Any) -> Work:
    spec = spec_of({"name": "demo"})
    work = Work(Item("demo", image_view(image), changed=False), spec, image)
    rewrite.run(engine, work, Settings(**settings), rework)
    return work


GROWN = Rework(GROW, "raw", 3)


@needs_qemu_img
@pytest.mark.parametrize("state", [ImageState.READY, ImageState.DISABLED])
def test_an_image_that_grows_is_locked_meanwhile_and_then_as_it_was(engine: EmbeddedEngine, state: ImageState) -> None:
    held = begun(engine, stored(engine, state), GROWN)
    assert held.state == ImageState.LOCKED and image_view(held)["operation"] == GROW
    said: list[str] = []
    work = run(engine, held, GROWN, say=said.append)
    assert work.item.error is None and work.item.is_changed and work.todo == "again"
    now = engine.images.info("demo")
    assert (now.state, now.size, now.generation, now.sha256, now.operation) == (state, 3, 1, "", None)
    assert os.path.getsize(now.source) == 3 * MIB and Path(now.source).read_bytes().startswith(b"content")
    assert said == ["demo grow: begun"]
    assert os.listdir(os.path.dirname(now.source)) == [os.path.basename(now.source)]


@needs_qemu_img
def test_what_fails_leaves_the_image_as_it_was(engine: EmbeddedEngine) -> None:
    image = stored(engine)
    Path(image.source).write_bytes(b"")
    work = run(engine, begun(engine, image, GROWN), GROWN)
    assert work.item.error is not None and "image demo (id 0): it is empty" in str(work.item.error)
    assert not work.item.is_changed and work.todo == ""
    assert engine.images.info("demo") == image


def test_what_another_run_has_seen_to_is_looked_at_again(engine: EmbeddedEngine) -> None:
    held = begun(engine, stored(engine), GROWN)
    with engine.session():
        engine.images.update("demo", state=ImageState.READY, operation=None)
    work = run(engine, held, GROWN)
    assert work.todo == "again" and work.item.error is None and not work.item.is_changed
    assert os.path.getsize(held.source) == MIB


def test_what_another_run_has_begun_anew_is_its_own(engine: EmbeddedEngine) -> None:
    held = begun(engine, stored(engine), GROWN)
    with engine.session():
        others = engine.images.update("demo", operation=Rework(GROW, "raw", 5).operation(held))
    work = run(engine, held, GROWN)
    assert work.todo == "again" and engine.images.info("demo") == others
    assert os.path.getsize(held.source) == MIB
    with pytest.raises(WrongState, match="another run removed it meanwhile"), engine.session():
        rewrite.finish_or_undo(engine, held, True)


def test_what_another_run_holds_is_not_touched(engine: EmbeddedEngine) -> None:
    held = begun(engine, stored(engine), GROWN)
    with final_names.locked_destination(held.source, 0):
        for work in (run(engine, held, GROWN, wait_timeout=0), recovered(engine, held, wait_timeout=0)):
            assert isinstance(work.item.error, TimedOut) and "another run holds it" in str(work.item.error)
            assert not work.item.is_changed
    assert engine.images.info("demo") == held


def recovered(engine: EmbeddedEngine, image: Image, **settings: Any) -> Work:
    work = Work(Item("demo", changed=False), spec_of({"name": "demo"}), image)
    rewrite.run_recovery(engine, work, Settings(**settings))
    return work


def test_growth_that_was_not_done_is_undone(engine: EmbeddedEngine) -> None:
    image = stored(engine)
    held = begun(engine, image, GROWN)
    assert not rewrite.is_done(held)
    work = recovered(engine, held)
    assert work.todo == "again" and work.item.is_changed
    assert engine.images.info("demo") == image


def test_growth_that_only_the_catalog_does_not_know_is_noted(engine: EmbeddedEngine) -> None:
    held = begun(engine, stored(engine, ImageState.DISABLED), GROWN)
    os.truncate(held.source, 3 * MIB)
    assert rewrite.is_done(held)
    recovered(engine, held)
    now = engine.images.info("demo")
    assert (now.state, now.size, now.generation, now.sha256, now.operation) == (ImageState.DISABLED, 3, 1, "", None)


@pytest.mark.parametrize(
    ("whole", "made", "there", "done"),
    [
        # The note that it is whole comes before the rename, by which what was made is gone.
        (False, True, True, False),
        (True, True, True, False),
        (True, False, True, True),
        (False, False, True, False),
        (True, False, False, False),
    ],
)
def test_what_was_written_anew_is_in_place_once_it_was_whole_and_renamed(
    engine: EmbeddedEngine, whole: bool, made: bool, there: bool, done: bool
) -> None:
    rework = Rework(REWRITE, "qcow2", 1)
    held = begun(engine, stored(engine), rework)
    if whole:
        held = rewrite._step(engine, held)
    if made:
        Path(held.source + image_files.WORK).write_bytes(b"new")
    if not there:
        os.remove(held.source)
    assert rewrite.is_done(held) is done
    recovered(engine, held)
    now = engine.images.info("demo")
    assert (now.state, now.operation) == (ImageState.READY, None)
    assert (now.format, now.generation, now.sha256) == (("qcow2", 1, "") if done else ("raw", 0, "0" * 64))
    assert not os.path.exists(held.source + image_files.WORK)


def test_holes_are_never_taken_as_dug(engine: EmbeddedEngine) -> None:
    """They can be dug again, and nothing tells whether they were."""
    assert not rewrite.is_done(begun(engine, stored(engine), Rework(DIG, "raw", 1, sparse=True)))


@pytest.mark.parametrize("finished", [False, True])
def test_what_is_to_be_removed_is_not_ready_again(engine: EmbeddedEngine, finished: bool) -> None:
    held = begun(engine, stored(engine), GROWN)
    with engine.session():
        engine.images.update("demo", state=ImageState.DELETE)
    with pytest.raises(WrongState) as caught, engine.session():
        rewrite.finish_or_undo(engine, held, finished)
    assert str(caught.value) == ("image demo (id 0): grow: another run removed it meanwhile. Run again if it is wanted")
    assert engine.images.info("demo").state == ImageState.DELETE


def test_check_mode_predicts_what_a_run_comes_to(tmp_path: Path) -> None:
    made = EmbeddedEngine(str(tmp_path), create=True)
    image = stored(made, ImageState.DISABLED)
    made.close()
    checked = EmbeddedEngine(str(tmp_path), check_mode=True)
    with checked.session():
        predicted = rewrite.predicted_image(checked, image, GROWN)
    checked.close()
    assert predicted == replace(image, size=3, generation=1, sha256="")
    again = EmbeddedEngine(str(tmp_path))
    assert again.images.info("demo") == image
    held = begun(again, image, GROWN)
    with again.session():
        assert rewrite.recovered_view(again, held) == image
    again.close()
