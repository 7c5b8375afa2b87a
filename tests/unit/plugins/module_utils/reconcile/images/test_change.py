# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed of an image that has its content, and what it can't become."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from image_lists import BLANK, MIB, Apply, error_of, registered

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    InvalidValue,
    NebulaError,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    Prepare,
    Return,
    Save,
    write,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.change import convert
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


def test_what_can_be_changed_is_changed(apply: Apply) -> None:
    before = apply(BLANK)["demo"].after
    assert before is not None
    changes = {
        "description": "new", "dev_prefix": "vd", "target": "vdb", "firmware": "UEFI", "bus": "sata",
        "attributes": {"A": 1}, "state": "disabled",
    }  # fmt: skip
    for check in (True, False):
        done = apply({"name": "demo", **changes}, check=check)["demo"]
        assert done.is_changed and done.before == before and done.after is not None
        assert {key for key in before if before[key] != done.after[key]} == set(changes)
    assert not apply({"name": "demo", **changes})["demo"].is_changed
    # What is said to be nothing goes.
    done = apply({"name": "demo", "attributes": {"A": None, "B": True}, "bus": "", "state": "enabled"})["demo"]
    assert done.after is not None
    assert (done.after["attributes"], done.after["bus"], done.after["state"]) == ({"B": "YES"}, "", "READY")


def test_a_file_that_machines_rest_on_is_closed_again(engine: EmbeddedEngine, apply: Apply) -> None:
    """A run was killed between the catalog and the file."""
    apply(BLANK)
    source = engine.images.info("demo").source
    os.chmod(source, 0o660)
    assert apply({"name": "demo"}, check=True)["demo"].is_changed and os.stat(source).st_mode & 0o222
    assert apply({"name": "demo"})["demo"].is_changed and not os.stat(source).st_mode & 0o222
    assert not apply({"name": "demo"})["demo"].is_changed


def test_a_file_that_can_not_be_closed_is_told(
    engine: EmbeddedEngine, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(BLANK)
    source = engine.images.info("demo").source
    os.chmod(source, 0o660)

    def refuse(path: str, **_how: bool) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(datastore_layout, "protect", refuse)
    said = error_of(apply({"name": "demo"}), NebulaError)
    assert said.startswith(f"image demo: path {source}: Operation not permitted"), said


@needs_qemu_img
def test_persistence_opens_and_closes_the_file(engine: EmbeddedEngine, apply: Apply) -> None:
    apply(BLANK)
    source = engine.images.info("demo").source
    for persistent in (True, False):
        predicted = apply({"name": "demo", "persistent": persistent}, check=True)["demo"]
        assert bool(os.stat(source).st_mode & 0o222) is not persistent
        done = apply({"name": "demo", "persistent": persistent})["demo"]
        assert done.error is None and done.is_changed and done.after == predicted.after
        assert bool(os.stat(source).st_mode & 0o222) is persistent
    # A machine may have written to it meanwhile.
    assert engine.images.info("demo").generation == 1


def test_check_mode_foresees_another_content_once_snapshots_are_gone_and_once_it_is_closed(
    engine: EmbeddedEngine, apply: Apply
) -> None:
    registered(engine, ImageState.READY, format="qcow2", size=4, persistent=True, snapshots='[{"id": 0}]')
    done = apply({"name": "demo", "snapshot_flatten": True, "persistent": False}, check=True)["demo"]
    assert done.error is None and done.after is not None
    assert (done.after["persistent"], done.after["generation"]) == (False, 2)


@needs_qemu_img
def test_an_image_in_error_is_enabled_with_the_file_that_it_has(engine: EmbeddedEngine, apply: Apply) -> None:
    apply(BLANK)
    source = engine.images.info("demo").source
    with engine.session():
        engine.images.update("demo", state=ImageState.ERROR, error="its host was forgotten")
    enabled = {**BLANK, "state": "enabled"}
    assert not apply({"name": "demo"})["demo"].is_changed
    os.chmod(source, 0o600)
    os.truncate(source, 0)
    said = error_of(apply(enabled), ImageRefused)
    assert said.startswith("image demo (id 0): enable: it is empty") and engine.images.info("demo").error
    os.truncate(source, 6 * MIB)
    os.chmod(source, 0o400)
    predicted, done = apply(enabled, check=True)["demo"], apply(enabled)["demo"]
    assert done.error is None and done.is_changed and done.after == predicted.after and done.after is not None
    assert (done.after["state"], done.after["error"], done.after["size"]) == ("READY", "", 6)
    assert engine.images.info("demo").source == source


def test_the_size_of_an_image_whose_file_is_on_a_host_is_what_the_list_says(
    engine: EmbeddedEngine, apply: Apply
) -> None:
    """There somebody made it larger; until it is back, the catalog's size is how much of it may come."""
    registered(engine, ImageState.READY, size=4, persistent=True)
    with engine.session():
        engine.store.db.execute(
            "UPDATE images SET state = ?, operation = ?", (int(ImageState.LOCKED_USED_PERS), write(Return("node1")))
        )
    predicted, done = apply({"name": "demo", "size": 9}, check=True)["demo"], apply({"name": "demo", "size": 9})["demo"]
    assert done.error is None and done.is_changed and done.after == predicted.after
    found = engine.images.info("demo")
    assert (found.size, found.state, found.operation) == (9, ImageState.LOCKED_USED_PERS, Return("node1"))
    assert not apply({"name": "demo", "size": 9})["demo"].is_changed
    # It is not made smaller, and nothing else is done to what is not here.
    assert not apply({"name": "demo", "size": 8})["demo"].is_changed
    error_of(apply({"name": "demo", "size": 10, "format": "qcow2"}), WrongState)
    assert engine.images.info("demo").size == 9


@pytest.mark.parametrize(
    ("states", "fields", "keys", "error", "words"),
    [
        (
            [ImageState.LOCKED],
            {"operation": Return("node1")},
            {},
            WrongState,
            ["was saved as it is on host node1, and has not come back", "provision.site once that host answers"],
        ),
        (
            [ImageState.LOCKED],
            {"operation": Save("vm:3/disk.0"), "origin": "VM web"},
            {},
            WrongState,
            ["a machine's disk is being saved as it (VM web)", "Deploy that machine"],
        ),
        (
            [ImageState.READY],
            {"operation": Prepare(ImageState.READY)},
            {"size": 4},
            WrongState,
            ["its content is being changed (prepare)", "run nebula_image_prepare for it again"],
        ),
        ([ImageState.LOCKED], {}, {}, WrongState, ["it is in state LOCKED: another run is storing it"]),
        ([ImageState.INIT], {}, {}, WrongState, ["in state INIT", "Give its path (or size, clone_of or from)"]),
        (
            [ImageState.ERROR],
            {"error": "cut"},
            {"state": "enabled"},
            WrongState,
            ["enable: it is in state ERROR and its file is not there (cut)", "Give its path to store it again"],
        ),
        (
            [ImageState.READY],
            {"size": 9},
            {"size": 4},
            Conflict,
            ["size 4 MB: it has 9 MB, and is not made smaller", "Make a new image of that size"],
        ),
        (
            [ImageState.READY],
            {"checksums": {"sha256": "1" * 64}},
            {"path": "/play/x", "checksum": "sha256:" + "0" * 64},
            Conflict,
            ["it was stored from sha256:1111", "never replaced: remove it first (state: absent)"],
        ),
        (
            [ImageState.READY],
            {},
            {"datastore": "fast"},
            Conflict,
            ["datastore fast: it lies in default, and an image is not moved", "Clone it there under a new name"],
        ),
        (
            [ImageState.READY],
            {"notes": {"recipe": "ab"}},
            {"from": "base", "commands": ["true"]},
            Conflict,
            ["from base: it was made with other packages, files or commands", "remove it first"],
        ),
        ([ImageState.READY], {}, {"luks_passphrase": "x"}, InvalidValue, ["luks_secret is not given, so"]),
        ([ImageState.READY], {}, {"type": "KERNEL"}, Conflict, ["type KERNEL: it is OS", "It can become CDROM"]),
        *(
            (
                [ImageState.READY],
                {
                    "unfinished": "installing",
                    "type": ImageType.DATABLOCK,
                    "attributes": {installation_marks.FROM: "x.iso"},
                },
                keys,
                WrongState,
                [f"(id 0): {told}: it is being installed", "Wait for its end, or give it up"],
            )
            for keys, told in (
                ({"type": "OS"}, "type"),
                ({"persistent": True}, "persistent"),
                ({"firmware": "UEFI", "bus": "sata"}, "firmware, bus"),
                ({"state": "disabled"}, "state"),
                ({"attributes": {installation_marks.FROM: None}}, installation_marks.FROM),
            )
        ),
    ],
)  # fmt: skip
def test_what_an_image_can_not_become_is_told(
    engine: EmbeddedEngine,
    apply: Apply,
    states: list[ImageState],
    fields: dict[str, Any],
    keys: dict[str, Any],
    error: type[NebulaError],
    words: list[str],
) -> None:
    image = registered(engine, *states, **fields)
    with engine.session():
        engine.datastores.allocate(Datastore(None, "fast"))
    for check in (True, False):
        done = apply({"name": "demo", **keys}, check=check)
        said = error_of(done, error)
        assert said.startswith("image demo") and [word for word in words if word not in said] == [], said
        assert not done["demo"].is_changed and done["demo"].before == done["demo"].after
    assert engine.images.info("demo") == image


def test_what_is_being_cloned_stays(engine: EmbeddedEngine, apply: Apply) -> None:
    image = registered(engine, ImageState.READY)
    with engine.session():
        engine.images.clone("demo", Image(None, "copy"))
    said = error_of(apply({"name": "demo", "state": "absent"}), WrongState)
    assert said.startswith("image demo: state absent: it is being cloned, or that was interrupted. Wait for that run")
    assert engine.images.info("demo").state == ImageState.CLONE and engine.images.info("demo").uuid == image.uuid


def test_what_a_machine_made_larger_is_no_conflict(engine: EmbeddedEngine, apply: Apply, warnings: list[str]) -> None:
    registered(engine, ImageState.READY, size=9, generation=1)
    done = apply({"name": "demo", "size": 4})["demo"]
    assert done.error is None and not done.is_changed
    assert warnings == ["image demo (id 0): size 4 MB: it has 9 MB by now, and is not made smaller"]


@pytest.mark.parametrize(("known", "told"), [({}, "none"), ({"md5": "12"}, "only md5:12")])
def test_a_checksum_of_another_kind_is_not_compared(
    engine: EmbeddedEngine, apply: Apply, warnings: list[str], known: dict[str, str], told: str
) -> None:
    registered(engine, ImageState.READY, checksums=known)
    assert apply({"name": "demo", "path": "/play/x", "checksum": "sha256:" + "0" * 64})["demo"].error is None
    assert warnings == [f"image demo (id 0): checksum sha256:{'0' * 64}: {told} is known of it; not compared"]


def test_what_it_was_made_of_need_not_be_kept(
    engine: EmbeddedEngine, apply: Apply, warnings: list[str], tmp_path: Path
) -> None:
    registered(engine, ImageState.READY, notes={"recipe": "ab"})
    wanted = {"name": "demo", "from": "base", "files": [{"path": "/etc/x", "src": "/nowhere/x"}]}
    assert apply(wanted)["demo"].error is None
    assert apply({**wanted, "files": []}, lost={"demo": "y is not on the control node"})["demo"].error is None
    assert warnings == [
        "image demo (id 0): /nowhere/x is not there any more; what it was made of is not compared",
        "image demo (id 0): y is not on the control node; what it was made of is not compared",
    ]


@needs_qemu_img
def test_conversion_keeps_what_was_written(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageState.READY, type=ImageType.DATABLOCK, persistent=True, size=1, sha256="0" * 64)
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(b"written" + bytes(2 * MIB))
    with engine.session():
        done = convert(engine, image, ImageType.OS, False, description="installed")
    assert (done.type, done.persistent, done.description) == (ImageType.OS, False, "installed")
    # A machine has made it larger since the catalog heard of its size.
    assert (done.generation, done.sha256, done.size) == (1, "", 3)
    assert Path(image.source).read_bytes().startswith(b"written")


@needs_qemu_img
def test_what_is_no_cd_does_not_become_one(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageState.READY, size=1, sha256="0" * 64)
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(bytes(MIB))
    with pytest.raises(ImageRefused, match="it is not an ISO file system"), engine.session():
        convert(engine, image, ImageType.CDROM, False)
    assert engine.images.info("demo") == image


def test_a_file_that_is_not_looked_into_is_none_that_changed(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageState.READY, sha256="0" * 64)
    with engine.session():
        same = convert(engine, image, ImageType.OS, False, description="d")
        # There is no file: nothing of it is known.
        other = convert(engine, same, ImageType.DATABLOCK, False)
    assert (same.sha256, same.description, same.generation) == ("0" * 64, "d", 0)
    assert (other.type, other.generation, other.sha256) == (ImageType.DATABLOCK, 0, "0" * 64)
