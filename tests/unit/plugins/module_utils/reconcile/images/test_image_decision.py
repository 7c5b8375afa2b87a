# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item comes to by the state of its image: stored anew, seen to first, renamed."""

from __future__ import annotations

import os

import pytest
from image_lists import BLANK, MIB, Apply, error_of, registered, without

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import GROW, Rewrite
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template


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


def test_what_a_killed_run_was_making_larger_is_seen_to_first(engine: EmbeddedEngine, apply: Apply) -> None:
    apply({**BLANK, "persistent": True})
    image = engine.images.info("demo")
    to = {"size": 6, "generation": 1, "sha256": "", "notes": {}}
    for done in (False, True):
        with engine.session():
            engine.images.update("demo", state=ImageState.LOCKED, operation=Rewrite(GROW, to, ImageState.READY))
        if done:
            # The file is larger already, and only the catalog does not know.
            os.truncate(image.source, 6 * MIB)
        predicted, made = apply({"name": "demo"}, check=True)["demo"], apply({"name": "demo"})["demo"]
        assert made.error is None and made.is_changed and made.after == predicted.after
        now = engine.images.info("demo")
        assert (now.state, now.size, now.operation) == (ImageState.READY, 6 if done else 4, None)


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
