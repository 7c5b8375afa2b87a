# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalog and datastore are brought to what a list of images says, as check mode foresees it; what can't be is refused
before anything is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_lists import BLANK, CONTENT, LATER, MIB, Apply, error_of, registered, without
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import GROW, Rewrite
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


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


def test_one_that_fails_does_not_stop_the_others(apply: Apply, kernel: dict[str, Any]) -> None:
    gone = {**kernel, "name": "gone", "path": "/nowhere/x"}
    done = apply({**kernel, "name": "one"}, {"name": "none"}, gone, {**kernel, "name": "last"})
    assert [done[name].error is None for name in ("one", "none", "gone", "last")] == [True, False, False, True]
    assert done["last"].after is not None and done["last"].after["state"] == "READY"
    # Seen before it is registered.
    assert done["gone"].after is None and not done["gone"].is_changed


def test_of_two_of_one_name_the_second_is_refused(engine: EmbeddedEngine) -> None:
    done, _warnings = image_list_decision.apply(engine, [BLANK, {**BLANK, "size": 9}], Settings())
    assert [type(item.error) for item in done] == [type(None), InvalidValue]
    assert str(done[1].error) == "image demo: the list has it twice. Keep one of the two"
    assert engine.images.info("demo").size == 4


@needs_qemu_img
def test_an_image_is_stored_and_then_made_larger(engine: EmbeddedEngine, apply: Apply, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(BOOT + b"content" + bytes(MIB))
    wanted = {"name": "demo", "path": str(path), "remote_src": True, "size": 5, "persistent": True}
    predicted, made = apply(wanted, check=True)["demo"], apply(wanted)["demo"]
    assert made.error is None and made.after is not None and predicted.after is not None
    assert predicted.after["size"] == made.after["size"] == 5 and made.after["state"] == "READY"
    now = engine.images.info("demo")
    assert os.path.getsize(now.source) == 5 * MIB and Path(now.source).read_bytes().startswith(BOOT + b"content")
    larger = {"name": "demo", "size": 7, "state": "disabled", "description": "d"}
    predicted, done = apply(larger, check=True)["demo"], apply(larger)["demo"]
    assert done.error is None and done.is_changed and done.after == predicted.after and done.before == made.after
    assert done.after is not None and (done.after["size"], done.after["state"]) == (7, "DISABLED")
    assert not apply(larger)["demo"].is_changed


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


def ordered(*items: Mapping[str, Any]) -> list[int]:
    return image_list_decision._sources_first([image_list_decision._read_item(item).spec for item in items])


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


def test_only_what_has_no_content_has_to_be_stored(engine: EmbeddedEngine) -> None:
    registered(engine, ImageState.READY, name="ready")
    registered(engine, ImageState.LOCKED, name="locked")
    registered(engine, ImageState.ERROR, name="failed")
    registered(engine, ImageState.READY, name="grows", operation=Rewrite(GROW, {}, ImageState.READY))
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
    assert [spec.name for spec in image_list_decision.missing_content(engine, items)] == ["locked", "failed", "new"]
