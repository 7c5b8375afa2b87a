# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalog and datastore are brought to what a list of images says, as check mode foresees it; what can't be is refused
before anything is copied."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    InvalidValue,
    NebulaError,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.install import next_step
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import way_back
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import decide
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.decide import Settings
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

MIB = 1024 * 1024
CONTENT = b"a kernel " * 10_000
SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
# What is known only once it is made.
LATER = ("id", "uuid", "source", "sha256", "checksum")
needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")
Apply = Callable[..., dict[str, Item]]


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files get their modes, and stay whose they are: only root can give them away."""
    monkeypatch.setattr(datastore, "adopt", lambda path, mode, *_owner: files.adopt(path, mode))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    (tmp_path / "nebula").mkdir()
    found = EmbeddedEngine(str(tmp_path / "nebula"), create=True)
    yield found
    found.close()


@pytest.fixture
def warnings() -> list[str]:
    """What the runs of a test warned of."""
    return []


@pytest.fixture
def apply(engine: EmbeddedEngine, warnings: list[str]) -> Apply:
    def run(*items: Mapping[str, Any], check: bool = False, **options: Any) -> dict[str, Item]:
        used = EmbeddedEngine(engine.store.root, check_mode=True) if check else engine
        done, said = decide.apply(used, items, Settings(check_mode=check, **options))
        if check:
            used.close()
        warnings.extend(said)
        return {item.name: item for item in done}

    return run


@pytest.fixture
def kernel(tmp_path: Path) -> dict[str, Any]:
    """An item with a file that is not looked into."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(CONTENT)
    return {"name": "demo", "type": "KERNEL", "path": str(path), "remote_src": True}


BLANK = {"name": "demo", "type": "DATABLOCK", "size": 4}


def registered(engine: EmbeddedEngine, *states: ImageState, **fields: Any) -> Image:
    """An image without a file, in the last of these states."""
    later = {key: fields.pop(key) for key in ("unfinished", "operation", "error") if key in fields}
    with engine.session():
        image = engine.images.allocate(Image(None, **{"name": "demo", **fields}))
        for state in states:
            image = engine.images.update(image.id, state=state)
        return engine.images.update(image.id, **later)


def error_of(done: Mapping[str, Item], kind: type[NebulaError], name: str = "demo") -> str:
    assert isinstance(done[name].error, kind), done[name].error
    return str(done[name].error)


def without(after: Mapping[str, Any] | None, keys: tuple[str, ...] = LATER) -> dict[str, Any]:
    return {key: value for key, value in (after or {}).items() if key not in keys}


# -- made, again, gone ------------------------------------------------------------------------------------------------


def test_an_image_lives_as_check_mode_foresees_it(apply: Apply, kernel: dict[str, Any], warnings: list[str]) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    wanted = {**kernel, "checksum": f"sha256:{digest}", "description": "d", "attributes": {"os": "none"}}
    predicted, made = apply(wanted, check=True)["demo"], apply(wanted)["demo"]
    assert predicted.is_changed and made.is_changed and predicted.before is made.before is None
    assert made.after is not None and predicted.after is not None
    # Of what is not looked into, the size is not known before.
    assert without(predicted.after, (*LATER, "size")) == without(made.after, (*LATER, "size"))
    assert (predicted.after["id"], predicted.after["source"], predicted.after["uuid"]) == (None, "", "")
    assert (made.after["state"], made.after["sha256"], made.after["attributes"]) == ("READY", digest, {"OS": "none"})
    assert made.after["origin"] == kernel["path"] and made.after["datastore_id"] == 2
    for check in (True, False):
        again = apply(wanted, check=check)["demo"]
        assert not again.is_changed and again.error is None and again.before == again.after == made.after
    for check in (True, False):
        gone = apply({"name": "demo", "state": "absent"}, check=check)["demo"]
        assert gone.is_changed and gone.error is None and gone.after is None and gone.before == made.after
    assert not apply({"name": "demo", "state": "absent"})["demo"].is_changed
    assert os.listdir(os.path.dirname(made.after["source"])) == [] and warnings == []


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


def test_one_that_fails_does_not_stop_the_others(apply: Apply, kernel: dict[str, Any]) -> None:
    gone = {**kernel, "name": "gone", "path": "/nowhere/x"}
    done = apply({**kernel, "name": "one"}, {"name": "none"}, gone, {**kernel, "name": "last"})
    assert [done[name].error is None for name in ("one", "none", "gone", "last")] == [True, False, False, True]
    assert done["last"].after is not None and done["last"].after["state"] == "READY"
    # Seen before it is registered.
    assert done["gone"].after is None and not done["gone"].is_changed


def test_of_two_of_one_name_the_second_is_refused(engine: EmbeddedEngine) -> None:
    done, _warnings = decide.apply(engine, [BLANK, {**BLANK, "size": 9}], Settings())
    assert [type(item.error) for item in done] == [type(None), InvalidValue]
    assert str(done[1].error) == "image demo: the list has it twice. Keep one of the two"
    assert engine.images.info("demo").size == 4


def test_what_a_killed_run_was_removing_is_another_image_afterwards(engine: EmbeddedEngine, apply: Apply) -> None:
    apply(BLANK)
    with engine.session():
        old = engine.images.update("demo", state=ImageState.DELETE)
    foreseen, made = apply(BLANK, check=True)["demo"], apply(BLANK)["demo"]
    assert made.error is None and without(foreseen.after) == without(made.after)
    now = engine.images.info("demo")
    assert now.uuid != old.uuid and now.state == ImageState.READY and not os.path.exists(old.source)


@pytest.mark.parametrize("state", [ImageState.LOCKED, ImageState.ERROR])
def test_what_has_no_content_is_stored_anew(engine: EmbeddedEngine, apply: Apply, state: ImageState) -> None:
    image = registered(engine, state, type=ImageType.DATABLOCK, error="the disk was full")
    for check in (True, False):
        done = apply({**BLANK, "description": "d"}, check=check)["demo"]
        assert done.error is None and done.is_changed and done.before is not None and done.after is not None
        assert (done.before["error"], done.after["error"], done.after["description"]) == ("the disk was full", "", "d")
        assert (done.after["id"], done.after["state"], done.after["size"]) == (image.id, "READY", 4)
    assert engine.images.info("demo").uuid == image.uuid


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

    monkeypatch.setattr(datastore, "protect", refuse)
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


@needs_qemu_img
def test_an_image_is_stored_and_then_made_larger(engine: EmbeddedEngine, apply: Apply, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"content" + bytes(MIB))
    wanted = {"name": "demo", "path": str(path), "remote_src": True, "size": 5, "persistent": True}
    predicted, made = apply(wanted, check=True)["demo"], apply(wanted)["demo"]
    assert made.error is None and made.after is not None and predicted.after is not None
    assert predicted.after["size"] == made.after["size"] == 5 and made.after["state"] == "READY"
    now = engine.images.info("demo")
    assert os.path.getsize(now.source) == 5 * MIB and Path(now.source).read_bytes().startswith(b"content")
    larger = {"name": "demo", "size": 7, "state": "disabled", "description": "d"}
    predicted, done = apply(larger, check=True)["demo"], apply(larger)["demo"]
    assert done.error is None and done.is_changed and done.after == predicted.after and done.before == made.after
    assert done.after is not None and (done.after["size"], done.after["state"]) == (7, "DISABLED")
    assert not apply(larger)["demo"].is_changed


def test_check_mode_foresees_another_content_once_snapshots_are_gone_and_once_it_is_closed(
    engine: EmbeddedEngine, apply: Apply
) -> None:
    registered(engine, ImageState.READY, format="qcow2", size=4, persistent=True, snapshots='[{"id": 0}]')
    done = apply({"name": "demo", "snapshot_flatten": True, "persistent": False}, check=True)["demo"]
    assert done.error is None and done.after is not None
    assert (done.after["persistent"], done.after["generation"]) == (False, 2)


def test_what_a_killed_run_was_making_larger_is_seen_to_first(engine: EmbeddedEngine, apply: Apply) -> None:
    apply({**BLANK, "persistent": True})
    image = engine.images.info("demo")
    note = {"do": "grow", "was": "READY", "to": {"size": 6, "generation": 1, "sha256": "", "notes": {}}}
    for done in (False, True):
        with engine.session():
            engine.images.update("demo", state=ImageState.LOCKED, operation=json.dumps(note))
        if done:
            # The file is larger already, and only the catalog does not know.
            os.truncate(image.source, 6 * MIB)
        predicted, made = apply({"name": "demo"}, check=True)["demo"], apply({"name": "demo"})["demo"]
        assert made.error is None and made.is_changed and made.after == predicted.after
        now = engine.images.info("demo")
        assert (now.state, now.size, now.operation) == (ImageState.READY, 6 if done else 4, "")


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


def test_what_is_added_may_come_later_in_check_mode(
    engine: EmbeddedEngine, apply: Apply, warnings: list[str], tmp_path: Path
) -> None:
    registered(engine, ImageState.READY, name="base")
    additions = {"packages": ["/nowhere/a.deb"], "files": [{"path": "/x", "src": "/nowhere/x"}]}
    wanted = {"name": "demo", "from": "base", **additions}
    foreseen = apply(wanted, check=True)["demo"]
    assert foreseen.error is None and foreseen.is_changed and foreseen.after is not None
    assert (foreseen.after["sha256"], foreseen.after["checksum"], foreseen.after["origin"]) == ("", "", "image base")
    assert warnings == [
        f"image demo: /nowhere/{name} is not there; taken as given in check mode" for name in ("a.deb", "x")
    ]
    assert "/nowhere/a.deb" in error_of(apply(wanted), NotFound)
    assert [image.name for image in engine.images.pool()] == ["base"]
    assert engine.images.info("base").state == ImageState.READY


# -- images made of each other ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_an_image_of_the_list_is_made_before_its_clones(
    engine: EmbeddedEngine, apply: Apply, kernel: dict[str, Any], reverse: bool
) -> None:
    clone = {"name": "copy", "clone_of": "demo", "description": "mine"}
    items = [kernel, clone, {"name": "second", "clone_of": "copy"}]
    items = items[::-1] if reverse else items
    predicted, made = apply(*items, check=True), apply(*items)
    assert list(made) == [item["name"] for item in items]
    for name in made:
        assert made[name].error is None and made[name].is_changed
        assert without(predicted[name].after, (*LATER, "size")) == without(made[name].after, (*LATER, "size"))
    copy = engine.images.info("copy")
    assert (copy.origin, copy.description, copy.type) == ("image demo", "mine", ImageType.KERNEL)
    assert Path(engine.images.info("second").source).read_bytes() == CONTENT
    assert not any(item.is_changed for item in apply(*items).values())


def test_an_image_is_not_made_of_one_that_fails(engine: EmbeddedEngine, apply: Apply, kernel: dict[str, Any]) -> None:
    wrong = {**kernel, "checksum": "sha256:" + "0" * 64}
    done = apply(wrong, {"name": "copy", "clone_of": "demo"})
    assert error_of(done, WrongState, "copy") == (
        "image copy: made of demo: that is in this list too, and something is the matter with it. "
        "Mend that, then run this again"
    )
    assert not done["copy"].is_changed and len(engine.images.pool()) == 1


def test_of_what_was_found_out_of_an_installation_a_clone_takes_nothing(engine: EmbeddedEngine, apply: Apply) -> None:
    apply({**BLANK, "attributes": {"OS": "Debian", next_step.FROM: "debian.iso", next_step.VERIFIED: "YES"}})
    done = apply({"name": "copy", "clone_of": "demo", "type": "DATABLOCK"})["copy"]
    assert done.error is None and done.after is not None and done.after["attributes"] == {"OS": "Debian"}


def test_what_was_done_to_the_file_of_an_image_is_noted_of_its_clone(engine: EmbeddedEngine, apply: Apply) -> None:
    """Notes name the generation that they hold of: what machines wrote to the image since is in the clone too."""
    apply(BLANK)
    with engine.session():
        engine.images.update("demo", generation=2, notes={"compress": 2, "sparse": 1})
    assert apply({"name": "copy", "clone_of": "demo", "type": "DATABLOCK"})["copy"].error is None
    notes = engine.images.info("copy").notes
    assert (notes.get("compress"), notes.get("sparse")) == (0, None)


def ordered(*items: Mapping[str, Any]) -> list[int]:
    return decide._sources_first([decide._checked(item).spec for item in items])


NAMES = st.sampled_from("abcdef")


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, st.one_of(st.none(), NAMES, st.just("elsewhere"))), st.sampled_from(["clone_of", "from"]))
def test_sources_come_first_whatever_the_list(made_of: dict[str, str | None], key: str) -> None:
    items = [{"name": name, key: source} for name, source in made_of.items()]
    order = ordered(*items)
    assert sorted(order) == list(range(len(items)))
    places = {items[number]["name"]: place for place, number in enumerate(order)}

    def in_a_circle(name: str | None) -> bool:
        seen: list[str | None] = []
        while name in made_of and name not in seen:
            seen.append(name)
            name = made_of[str(name)]
        return name in seen

    for name, source in made_of.items():
        if source in made_of and not in_a_circle(name):
            assert places[str(source)] < places[name]


def test_the_order_of_a_list_stays_where_nothing_speaks_against_it() -> None:
    items = [{"name": "a", "from": "c"}, {"name": "b"}, {"name": "c"}, {"name": "d", "clone_of": "b"}]
    assert ordered(*items) == [2, 0, 1, 3]


@pytest.mark.parametrize(
    "refused",
    [
        {"clone_of": "copy"},
        {"name": None, "clone_of": "copy"},
        {"name": ["demo"], "clone_of": "copy"},
        {"name": "demo", "clone_of": "copy", "size": "much"},
        # Of two of one name the first is the image.
        {"name": "demo", "clone_of": "copy"},
    ],
)
def test_an_item_that_is_refused_changes_nothing_of_the_order(
    apply: Apply, kernel: dict[str, Any], refused: dict[str, Any]
) -> None:
    copy = {"name": "copy", "clone_of": "demo"}
    assert ordered(kernel, copy, refused) == [0, 1, 2]
    assert ordered(copy, kernel, refused) == [1, 0, 2]
    done = apply(copy, kernel, refused)
    assert done["copy"].error is None and done["copy"].is_changed


def test_an_item_without_a_source_is_not_made_of_an_image_called_none(apply: Apply, kernel: dict[str, Any]) -> None:
    called = {"name": "None", "clone_of": "demo"}
    assert ordered(kernel, called) == [0, 1]
    done = apply(kernel, called, {"name": "copy", "clone_of": "None"})
    assert [item.error for item in done.values()] == [None] * 3


# -- which have to be stored first ------------------------------------------------------------------------------------


def test_only_what_has_no_content_has_to_be_stored(engine: EmbeddedEngine) -> None:
    registered(engine, ImageState.READY, name="ready")
    registered(engine, ImageState.LOCKED, name="locked")
    registered(engine, ImageState.ERROR, name="failed")
    registered(engine, ImageState.LOCKED, name="grows", operation='{"do": "grow"}')
    registered(engine, ImageState.READY, ImageState.ERROR, name="installed", unfinished="installing")
    registered(engine, ImageState.READY, name="old")
    items: list[dict[str, Any]] = [
        {"name": name, "path": "/play/x"} for name in ("ready", "locked", "failed", "grows", "installed", "new")
    ]
    items += [
        {"name": "renamed", "renamed_from": "old", "path": "/play/x"},
        {"name": "gone", "path": "/play/x", "state": "absent"},
        {"name": "nothing"},
        {"name": "wrong", "path": 5.0, "size": "x"},
    ]
    assert [spec.name for spec in decide.missing_content(engine, items)] == ["locked", "failed", "new"]


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "fields", "keys", "error", "words"),
    [
        (
            [ImageState.LOCKED],
            {"operation": way_back("node1")},
            {},
            WrongState,
            ["was saved as it is on host node1, and has not come back", "provision.site once that host answers"],
        ),
        (
            [ImageState.LOCKED],
            {"operation": "save 3:0", "origin": "VM web"},
            {},
            WrongState,
            ["a machine's disk is being saved as it (VM web)", "Deploy that machine"],
        ),
        (
            [ImageState.LOCKED],
            {"operation": "prepare READY"},
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
            {"checksum": "sha256:" + "1" * 64},
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
                {"unfinished": "installing", "type": ImageType.DATABLOCK, "attributes": {next_step.FROM: "x.iso"}},
                keys,
                WrongState,
                [f"(id 0): {told}: it is being installed", "Wait for its end, or give it up"],
            )
            for keys, told in (
                ({"type": "OS"}, "type"),
                ({"persistent": True}, "persistent"),
                ({"firmware": "UEFI", "bus": "sata"}, "firmware, bus"),
                ({"state": "disabled"}, "state"),
                ({"attributes": {next_step.FROM: None}}, next_step.FROM),
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


@pytest.mark.parametrize(("known", "told"), [("", "none is known of it"), ("md5:12", "only md5:12 is known of it")])
def test_a_checksum_of_another_kind_is_not_compared(
    engine: EmbeddedEngine, apply: Apply, warnings: list[str], known: str, told: str
) -> None:
    registered(engine, ImageState.READY, checksum=known)
    assert apply({"name": "demo", "path": "/play/x", "checksum": "sha256:" + "0" * 64})["demo"].error is None
    assert warnings == [f"image demo (id 0): checksum sha256:{'0' * 64}: {told}; not compared"]


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


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({}, InvalidValue, ["there is none of that name, and no content is given", "Give path or size, or clone_of"]),
        ({"clone_of": "bse"}, NotFound, ["clone_of bse: the catalog has no image of that name", "See nebula_info"]),
        ({"from": "bse"}, NotFound, ["from bse: the catalog has no image of that name"]),
        ({"from": "cd"}, InvalidValue, ["from cd: that is of type CDROM", "Name an OS image"]),
        ({"from": "sealed"}, Conflict, ["from sealed: that is encrypted", "Add to it before it is encrypted"]),
        (
            {"clone_of": "base", "luks_secret": SECRET},
            InvalidValue,
            ["base is not encrypted, and no passphrase is given", "Give luks_passphrase"],
        ),
        (
            {"clone_of": "cd", "luks_secret": SECRET, "luks_passphrase": "x"},
            InvalidValue,
            ["luks_secret: not of type CDROM"],
        ),
        ({"clone_of": "base", "luks_passphrase": "x"}, InvalidValue, ["luks_secret is not given"]),
        ({"clone_of": "base", "type": "KERNEL"}, Conflict, ["type KERNEL: image base is of type OS", "Leave type out"]),
        ({"clone_of": "base", "size": 4}, Conflict, ["size 4 MB: image base has 9 MB, and is not made smaller"]),
        ({"clone_of": "base", "compress": True}, InvalidValue, ["compress: image base is raw", "Give format: qcow2"]),
        ({"size": 4, "type": "CDROM"}, InvalidValue, ["size: an empty image of type CDROM is of no use"]),
        (
            {"path": "/x", "size": 4, "type": "KERNEL"},
            InvalidValue,
            ["size: a file of type KERNEL is not made larger", "Leave size out"],
        ),
        ({"size": 4, "datastore": "files"}, InvalidValue, ["datastore files: that is of type FILE", "Name one"]),
        ({"size": 4, "luks_secret": SECRET}, InvalidValue, ["an empty disk is encrypted by its passphrase"]),
        ({"size": 4, "luks_passphrase": "x"}, InvalidValue, ["luks_secret is not given"]),
        ({"renamed_from": "older"}, NotFound, ["renamed_from older: there is no image of either"]),
        ({"path": 5, "size": -1}, InvalidValue, ["size -1"]),
    ],
)  # fmt: skip
def test_what_can_not_be_made_is_not_registered(
    engine: EmbeddedEngine, apply: Apply, keys: dict[str, Any], error: type[NebulaError], words: list[str]
) -> None:
    registered(engine, ImageState.READY, name="base", size=9)
    registered(engine, ImageState.READY, name="cd", type=ImageType.CDROM)
    registered(engine, ImageState.READY, name="sealed", luks_secret=SECRET, format="qcow2")
    before = engine.images.pool()
    for check in (True, False):
        done = apply({"name": "demo", **keys}, check=check)
        said = error_of(done, error)
        assert said.startswith("image demo: ") and [word for word in words if word not in said] == [], said
        assert done["demo"].after is None and not done["demo"].is_changed
    assert engine.images.pool() == before


# -- what is not here yet ---------------------------------------------------------------------------------------------


def test_a_file_of_the_control_node_has_to_be_sent(apply: Apply, kernel: dict[str, Any]) -> None:
    local = {**kernel, "remote_src": False}
    said = error_of(apply(local), NotFound)
    assert f"path {kernel['path']}: it is on the control node, and was not sent to this host. Set remote_src" in said
    # It is sent only where it is stored.
    assert apply(local, check=True)["demo"].error is None
    for check in (True, False):
        lost = apply(local, check=check, lost={"demo": "it is not on the control node"})
        assert "it is not on the control node. Give another path, or set remote_src: true" in error_of(lost, NotFound)
    assert apply(local, uploads={"demo": kernel["path"]})["demo"].error is None


def test_in_check_mode_an_earlier_task_may_be_about_to_bring_it(apply: Apply, warnings: list[str]) -> None:
    missing = {"name": "demo", "path": "/nowhere/x", "remote_src": True, "type": "KERNEL", "datastore": "later"}
    done = apply(missing, check=True)["demo"]
    assert done.error is None and done.is_changed
    assert len(warnings) == 2 and all(text.endswith("; taken as given in check mode") for text in warnings)
    assert "datastore 'later'" in warnings[0] and "/nowhere/x" in warnings[1]
    assert isinstance(apply(missing)["demo"].error, NotFound)


@needs_qemu_img
def test_what_is_refused_of_a_file_is_refused_before_it_is_registered(
    engine: EmbeddedEngine, apply: Apply, tmp_path: Path
) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(3 * MIB))
    given = {"name": "demo", "path": str(path), "remote_src": True}
    for check in (True, False):
        assert f"{path} has 3 MB, and is not made smaller" in error_of(
            apply({**given, "size": 2}, check=check), Conflict
        )
        said = error_of(apply({**given, "luks_secret": SECRET}, check=check), ImageRefused)
        assert said.startswith(f"image demo: luks_secret {SECRET}: it is not encrypted. Leave luks_secret out")
        said = error_of(apply({**given, "compress": True}, check=check), InvalidValue)
        assert f"{path} is raw, and a raw file can't be compressed. Store it without compress, then" in said
        assert "format qcow2: the file's format is raw" in error_of(
            apply({**given, "format": "qcow2"}, check=check), ImageRefused
        )
    assert engine.images.pool() == []


# -- renamed ----------------------------------------------------------------------------------------------------------


def test_an_image_is_renamed_once(engine: EmbeddedEngine, apply: Apply, warnings: list[str]) -> None:
    old = registered(engine, ImageState.READY, name="old")
    with engine.session():
        engine.templates.allocate("web", Template.from_mapping({"DISK": {"IMAGE": "old"}}))
        engine.templates.allocate("db", Template.from_mapping({"DISK": {"IMAGE": "older"}}))
    wanted = {"name": "demo", "renamed_from": "old"}
    foreseen, done = apply(wanted, check=True)["demo"], apply(wanted)["demo"]
    assert foreseen.after == done.after and done.is_changed and done.before is not None and done.after is not None
    assert (done.before["name"], done.after["name"], done.after["id"]) == ("old", "demo", old.id)
    assert warnings == ["image old is demo from now on; templates that still name the old one: web"] * 2
    assert not apply(wanted)["demo"].is_changed
    # Another one has got the old name: it is not meant.
    registered(engine, ImageState.READY, name="old")
    assert apply(wanted)["demo"].error is None


def test_two_images_are_not_one(engine: EmbeddedEngine, apply: Apply) -> None:
    registered(engine, ImageState.READY)
    registered(engine, ImageState.READY, name="old")
    said = error_of(apply({"name": "demo", "renamed_from": "old"}), Conflict)
    assert said == (
        "image demo: renamed_from old: id 0 has the name demo, and old (id 1) is there too. "
        "Choose another name, or remove one of the two"
    )
    assert [image.name for image in engine.images.pool()] == ["demo", "old"]


def test_what_goes_is_what_has_the_name(engine: EmbeddedEngine, apply: Apply) -> None:
    registered(engine, ImageState.READY, name="old")
    assert not apply({"name": "demo", "renamed_from": "old", "state": "absent"})["demo"].is_changed
    assert [image.name for image in engine.images.pool()] == ["old"]


def test_what_is_being_installed_keeps_its_name(engine: EmbeddedEngine, apply: Apply) -> None:
    registered(engine, ImageState.READY, name="old", unfinished="installing")
    said = error_of(apply({"name": "demo", "renamed_from": "old"}), WrongState)
    assert said.startswith("image demo: renamed_from old: it is being installed")


# -- other types ------------------------------------------------------------------------------------------------------


@needs_qemu_img
def test_conversion_keeps_what_was_written(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageState.READY, type=ImageType.DATABLOCK, persistent=True, size=1, sha256="0" * 64)
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(b"written" + bytes(2 * MIB))
    with engine.session():
        done = decide.convert(engine, image, ImageType.OS, False, description="installed")
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
        decide.convert(engine, image, ImageType.CDROM, False)
    assert engine.images.info("demo") == image


def test_a_file_that_is_not_looked_into_is_none_that_changed(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageState.READY, sha256="0" * 64)
    with engine.session():
        same = decide.convert(engine, image, ImageType.OS, False, description="d")
        # There is no file: nothing of it is known.
        other = decide.convert(engine, same, ImageType.DATABLOCK, False)
    assert (same.sha256, same.description, same.generation) == ("0" * 64, "d", 0)
    assert (other.type, other.generation, other.sha256) == (ImageType.DATABLOCK, 0, "0" * 64)
