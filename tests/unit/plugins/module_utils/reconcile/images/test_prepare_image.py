# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is prepared as its item says; one of the catalog is held meanwhile, and is never READY half prepared."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    InUse,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NotFound,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair.preparation import STEPS, Outcome, Spec
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair.repair_steps import Step
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    GROW,
    Operation,
    Prepare,
    Rewrite,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import prepare_image as image_prepares
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.prepare_image import (
    Settings,
    apply,
    view,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

MIB = 1024 * 1024
REAL, CHECK = Settings(), Settings(check_mode=True)
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("qemu-io") is None, reason="needs qemu-utils"
)


class Appliance:
    """Stands where libguestfs works on the overlay: it writes one byte there, and says what it is told to say."""

    def __init__(self) -> None:
        self.asked: list[Spec] = []
        self.outcome = Outcome("Debian 12", (Step("hostname", (), "it was", "it is"), Step("files", (), "no", "yes")))
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, disk: str, format: str, directory: str, spec: Spec, what: str) -> Outcome:
        self.asked.append(spec)
        self.meanwhile()
        if self.outcome.done:
            path = os.path.join(directory, disk)
            subprocess.run(["qemu-io", "-f", format, "-c", "write -q -P 65 0 512", path], check=True)
        return self.outcome


@pytest.fixture
def appliance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Appliance:
    """No guest is here to be opened: what is tested is what goes on around that."""
    made = Appliance()
    monkeypatch.setattr(image_prepares.preparation, "prepare", made)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(file_injection, "SCRATCH", str(tmp_path / "scratch"))
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    return path


def stored(
    engine: EmbeddedEngine, *states: ImageState, unfinished: str = "", operation: Operation | None = None, **fields: Any
) -> Image:
    with engine.session():
        image = engine.images.allocate(Image(None, "demo", **fields))
        for state in (ImageState.READY, *states):
            image = engine.images.update("demo", state=state, sha256="0" * 64)
        image = engine.images.update("demo", unfinished=unfinished)
        if operation is not None:
            image = engine.images.update("demo", state=ImageState.LOCKED, operation=operation)
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(bytes(MIB))
    return image


def written(image: Image | Path) -> bool:
    return Path(image.source if isinstance(image, Image) else image).read_bytes().startswith(b"AAAA")


def prepare(engine: EmbeddedEngine | None, settings: Settings = REAL, **keys: Any) -> Item:
    """The item; nothing is warned of."""
    warnings: list[str] = []
    done = apply(engine, keys, settings, warnings)
    assert warnings == []
    return done


# -- what an item says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ["an image: it needs a name or a path, and not both", "Give name for one of the catalog"]),
        ({"name": "demo", "path": "/x"}, ["it needs a name or a path, and not both"]),
        (
            {"path": "/x", "steps": ["hostnme"]},
            ["image /x: step 'hostnme': there is no such step", "Known are context"],
        ),
        ({"path": "/x", "via": "ftp"}, ["image /x: via 'ftp': there is no such via", "auto, guestfs, nbd, loop"]),
        ({"path": "/x", "timezone": "/etc/x"}, ["timezone '/etc/x'", "Write it as Europe/Berlin"]),
        ({"path": "/x", "timezone": "../x"}, ["timezone '../x': it is not the name of a zone"]),
        ({"path": "/x", "timezone": "a\nb"}, ["timezone 'a\\nb'"]),
        ({"path": "/x", "files": [{"content": ""}]}, ["file ?: it needs a path, and one of content, content_base64"]),
        ({"path": "/x", "files": [{"path": "/a"}]}, ["file /a: it needs a path, and one of"]),
        (
            {"path": "/x", "files": [{"path": "/a", "content": "", "src": "/b"}]},
            ["file /a: it needs a path, and one of"],
        ),
        ({"path": "/x", "files": [{"path": "/a", "content": "", "mode": "rw"}]}, ["mode 'rw'", "Write it as '0644'"]),
        ({"path": "/x", "files": [{"path": "/a", "content": "", "mode": 1.5}]}, ["file /a: mode 1.5: it is no octal"]),
        ({"path": "/x", "files": [{"path": "/a", "content": "", "mode": "77777"}]}, ["mode '77777': it is no octal"]),
        ({"path": "/x", "files": [{"path": "/a", "content_base64": "%"}]}, ["content_base64: it is not base64"]),
        ({"path": "/x", "files": [{"path": "a", "content": ""}]}, ["file 'a': it is not an absolute path"]),
        ({"path": "/x", "files": [{"path": "/a", "src": "/nowhere/b"}]}, ["/nowhere/b"]),
        ({"path": "relative"}, ["image relative: the path is not absolute"]),
        ({"path": "/nowhere/x.raw"}, ["image /nowhere/x.raw: there is no such file on this host"]),
        ({"name": "demo"}, ["image demo: there is no catalog", "Give its path"]),
    ],
)
def test_what_can_not_be_meant_is_refused(keys: dict[str, Any], words: list[str]) -> None:
    done = prepare(None, **keys)
    said = str(done.error)
    assert [word for word in words if word not in said] == [], said
    assert not done.is_changed and done.name == (keys.get("name") or keys.get("path") or "?")


def test_a_slip_of_a_step_is_named() -> None:
    assert f"Did you mean {STEPS[1]!r}?" in str(prepare(None, path="/x", steps=[STEPS[1] + "x"]).error)


@needs_qemu
def test_specs_are_what_the_item_says(appliance: Appliance, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"\xff")
    files = [
        {"path": "/a", "content": "grüezi"},
        {"path": "/b", "content_base64": base64.b64encode(b"\0").decode(), "mode": "0600", "uid": 1, "gid": "2"},
        {"path": "/c", "src": str(tmp_path / "src")},
        # As YAML reads 0644 without quotes.
        {"path": "/d", "content": "", "mode": 0o644},
    ]
    keys = {"steps": ["files", STEPS[1]], "timezone": "Europe/Berlin", "files": files, "trusted": "yes", "via": "loop"}
    done = prepare(None, Settings(program="#!/bin/sh\n"), path=str(disk), **keys)
    assert done.error is None
    entries = (Entry("/a", "grüezi".encode()), Entry("/b", b"\0", 0o600, 1, 2), Entry("/c", b"\xff"), Entry("/d", b""))
    assert appliance.asked == [
        Spec(("files", STEPS[1]), "#!/bin/sh\n", "Europe/Berlin", entries, via="loop", trusted=True)
    ]


def test_in_check_mode_an_earlier_task_may_be_about_to_bring_it(engine: EmbeddedEngine) -> None:
    for keys in ({"path": "/nowhere/x.raw"}, {"name": "later"}):
        warnings: list[str] = []
        done = apply(engine, keys, CHECK, warnings)
        assert done.error is None and done.is_changed and done.before is None
        (warning,) = warnings
        assert warning.startswith("In check mode, taken as about to come: image")
    # What can't be meant is no matter of time.
    assert isinstance(prepare(engine, CHECK, path="relative").error, InvalidValue)


@needs_qemu
def test_in_check_mode_an_earlier_task_may_be_about_to_install_it(appliance: Appliance, disk: Path) -> None:
    def missing() -> None:
        raise MissingDependency("image demo", "program guestfish is not on this host", "Install it")

    appliance.meanwhile = missing
    warnings: list[str] = []
    foreseen = apply(None, {"path": str(disk)}, CHECK, warnings)
    assert foreseen.error is None and foreseen.is_changed and "guestfish" in warnings[0]
    assert isinstance(prepare(None, path=str(disk)).error, MissingDependency)


def test_steps_are_shown_in_the_order_in_which_they_are_done() -> None:
    after = {"os": "Debian", "files": "", STEPS[2]: "", STEPS[0]: "", "interrupted": "finished"}
    shown = view(Item("demo", {}, after, changed=True), {"name": "demo"})
    assert shown == {
        "name": "demo", "path": None, "changed": True, "os": "Debian", "steps": [STEPS[0], STEPS[2], "files"],
    }  # fmt: skip
    failed = view(Item("/x", error=NotFound("a", "b"), changed=False), {"path": "/x"})
    assert failed == {"name": None, "path": "/x", "changed": False, "os": None, "steps": []}


# -- by its path ------------------------------------------------------------------------------------------------------


@needs_qemu
def test_an_image_of_a_path_is_prepared_as_check_mode_says(appliance: Appliance, disk: Path) -> None:
    before = disk.read_bytes()
    foreseen = prepare(None, CHECK, path=str(disk))
    assert disk.read_bytes() == before and os.listdir(file_injection.SCRATCH) == []
    done = prepare(None, path=str(disk))
    assert done.error is None and done.is_changed and written(disk)
    assert foreseen == done and done.before == {"os": "Debian 12", "hostname": "it was", "files": "no"}
    assert done.after == {"os": "Debian 12", "hostname": "it is", "files": "yes"}
    assert not os.path.exists(disk.parent / ".disk.raw.context")


@needs_qemu
def test_nothing_is_changed_where_there_is_nothing_to_do(appliance: Appliance, disk: Path) -> None:
    appliance.outcome = Outcome("Debian 12", ())
    done = prepare(None, path=str(disk))
    assert done.error is None and not done.is_changed and done.after == {"os": "Debian 12"}


@needs_qemu
def test_a_guest_s_words_reach_no_terminal(appliance: Appliance, disk: Path) -> None:
    appliance.outcome = Outcome("", (Step("files", (), "\x1b[2J", "x" * 100_000),))
    done = prepare(None, path=str(disk))
    assert done.before is not None and done.before["files"] == "\\x1b[2J"
    assert done.after is not None and len(done.after["files"]) < 21_000


@needs_qemu
def test_what_fails_leaves_the_file_as_it_was(appliance: Appliance, disk: Path) -> None:
    def fail() -> None:
        raise CommandFailed("image demo: changing /etc/hostname", "no space", "See to it")

    appliance.meanwhile = fail
    done = prepare(None, path=str(disk))
    assert isinstance(done.error, CommandFailed) and not done.is_changed and not written(disk)
    assert sorted(os.listdir(disk.parent)) == ["disk.raw", "scratch"]


# -- of the catalog ---------------------------------------------------------------------------------------------------


@needs_qemu
@pytest.mark.parametrize("states", [(), (ImageState.DISABLED,)])
def test_an_image_is_locked_meanwhile_and_another_afterwards(
    engine: EmbeddedEngine, appliance: Appliance, states: tuple[ImageState, ...]
) -> None:
    def look() -> None:
        seen.append(engine.images.info("demo"))

    seen: list[Image] = []
    image, appliance.meanwhile = stored(engine, *states), look
    foreseen = prepare(engine, CHECK, name="demo")
    assert seen == [image] and engine.images.info("demo") == image and not written(image)
    done = prepare(engine, name="demo")
    assert done == foreseen and done.error is None and done.is_changed and written(image)
    assert (seen[1].state, seen[1].operation, seen[1].generation) == (
        ImageState.LOCKED, Prepare(image.state), 0,
    )  # fmt: skip
    now = engine.images.info("demo")
    assert (now.state, now.operation, now.generation, now.sha256) == (image.state, None, 1, "")
    assert os.listdir(os.path.dirname(now.source)) == [os.path.basename(now.source)]


@needs_qemu
def test_an_image_in_which_nothing_is_to_do_stays_the_same(engine: EmbeddedEngine, appliance: Appliance) -> None:
    image, appliance.outcome = stored(engine), Outcome("Debian 12", ())
    done = prepare(engine, name="demo")
    assert done.error is None and not done.is_changed
    assert engine.images.info("demo") == image


@needs_qemu
def test_an_image_whose_preparation_fails_is_as_it_was(engine: EmbeddedEngine, appliance: Appliance) -> None:
    def fail() -> None:
        raise CommandFailed("image demo: changing /etc/hostname", "no space", "See to it")

    image, appliance.meanwhile = stored(engine), fail
    assert isinstance(prepare(engine, name="demo").error, CommandFailed)
    assert engine.images.info("demo") == image and not written(image)


@needs_qemu
def test_what_a_killed_run_holds_is_gone_on_with(engine: EmbeddedEngine, appliance: Appliance) -> None:
    image = stored(engine)
    with engine.session():
        engine.images.update("demo", state=ImageState.LOCKED, operation=Prepare(ImageState.DISABLED))
    done = prepare(engine, name="demo")
    assert done.error is None and written(image)
    assert engine.images.info("demo").state == ImageState.DISABLED


@needs_qemu
def test_what_is_half_written_is_finished(engine: EmbeddedEngine, appliance: Appliance) -> None:
    """A run was killed while it wrote what was whole beside the image into it."""
    image, appliance.outcome = stored(engine), Outcome("Debian 12", ())
    with engine.session():
        engine.images.update("demo", state=ImageState.LOCKED, operation=Prepare(ImageState.READY))
    place = image_overlay.locate_catalogued(image.source, "raw", "image demo")
    os.mkdir(place.directory)
    image_overlay.make_overlay(place, place.complete)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 512", place.complete], check=True)
    foreseen = prepare(engine, CHECK, name="demo")
    assert foreseen.is_changed and not written(image)
    done = prepare(engine, name="demo")
    assert done.error is None and done.is_changed and written(image)
    assert done.after == {"os": "Debian 12", "interrupted": "finished"}
    assert engine.images.info("demo").state == ImageState.READY and not os.path.exists(place.directory)


@needs_qemu
def test_what_a_run_left_for_another_content_is_thrown_away(engine: EmbeddedEngine, appliance: Appliance) -> None:
    """The image is READY: it was stored anew since, perhaps at the same place of the disk."""
    image, appliance.outcome = stored(engine), Outcome("Debian 12", ())
    place = image_overlay.locate_catalogued(image.source, "raw", "image demo")
    os.mkdir(place.directory)
    image_overlay.make_overlay(place, place.complete)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 512", place.complete], check=True)
    done = prepare(engine, name="demo")
    assert done.error is None and not done.is_changed and not written(image)
    assert not os.path.exists(place.directory)


@needs_qemu
def test_what_is_removed_meanwhile_is_neither_written_nor_taken_back(
    engine: EmbeddedEngine, appliance: Appliance
) -> None:
    def remove() -> None:
        with engine.session():
            engine.images.update("demo", state=ImageState.DELETE)

    image, appliance.meanwhile = stored(engine), remove
    done = prepare(engine, name="demo")
    assert str(done.error) == ("image demo: another run removed it meanwhile. Run again if it is wanted")
    assert engine.images.info("demo").state == ImageState.DELETE and not written(image)


@pytest.mark.parametrize(
    ("states", "fields", "error", "words"),
    [
        ([ImageState.LOCKED], {}, WrongState, ["it is in state LOCKED.", "run nebula_image for it again"]),
        (
            [],
            {"state": ImageState.LOCKED, "operation": Rewrite(GROW, {}, ImageState.READY)},
            WrongState,
            ["it is in state LOCKED."],
        ),
        ([ImageState.ERROR], {"error": "the disk was full"}, WrongState, ["in state ERROR (the disk was full)"]),
        ([], {"unfinished": "installing"}, WrongState, ["it is being installed"]),
        ([], {"type": ImageType.CDROM}, InvalidValue, ["Only disks (OS, DATABLOCK) hold a system"]),
    ],
)
def test_what_is_not_ready_is_not_prepared(
    engine: EmbeddedEngine,
    appliance: Appliance,
    states: list[ImageState],
    fields: dict[str, Any],
    error: type[NebulaError],
    words: list[str],
) -> None:
    image = stored(engine, *states, **fields)
    for settings in (REAL, CHECK):
        done = prepare(engine, settings, name="demo")
        assert isinstance(done.error, error) and "image demo" in done.error.asked
        assert [word for word in words if word not in str(done.error)] == []
    assert engine.images.info("demo") == image and appliance.asked == []


def test_what_a_machine_rests_on_is_not_prepared(engine: EmbeddedEngine, appliance: Appliance) -> None:
    stored(engine)
    with engine.session():
        engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) "
            "VALUES (0, 'vm', 'uuid', 3, 1, 'RUNNING', 1, 64, '', '', 0)"
        )
        engine.images.uses.acquire(0, 0, 0, writable=False)
    done = prepare(engine, name="demo")
    assert isinstance(done.error, InUse)
    assert str(done.error) == ("image demo (id 0): prepare: it is used by 1 machine. End these machines first")
    assert appliance.asked == []


def test_an_image_whose_file_is_gone_is_not_locked(engine: EmbeddedEngine, appliance: Appliance) -> None:
    image = stored(engine)
    os.remove(image.source)
    assert isinstance(prepare(engine, name="demo").error, NotFound)
    assert engine.images.info("demo") == image


def test_an_image_that_another_run_is_at_is_left_to_it(engine: EmbeddedEngine, appliance: Appliance) -> None:
    image = stored(engine)
    with final_names.locked_destination(image.source, 0):
        done = prepare(engine, Settings(wait_timeout=0), name="demo")
    assert isinstance(done.error, TimedOut) and engine.images.info("demo") == image
