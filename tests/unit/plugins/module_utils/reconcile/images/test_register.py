# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image is registered that is to be stored, and what is refused before that."""

from __future__ import annotations

import json
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
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType

SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


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


def test_of_what_was_found_out_of_an_installation_a_clone_takes_nothing(engine: EmbeddedEngine, apply: Apply) -> None:
    apply(
        {
            **BLANK,
            "attributes": {"OS": "Debian", installation_marks.FROM: "debian.iso", installation_marks.VERIFIED: "YES"},
        }
    )
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


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "{}", "remote_src": True, "type": "KERNEL"},
        {"path": "{}", "remote_src": True},
        {"from": "base", "packages": ["{}"]},
        {"from": "base", "files": [{"path": "/x", "src": "{}"}]},
    ],
)
def test_a_file_that_no_earlier_task_makes_is_refused_in_check_mode_as_in_the_run(
    engine: EmbeddedEngine, apply: Apply, warnings: list[str], keys: dict[str, Any]
) -> None:
    registered(engine, ImageState.READY, name="base")
    item = json.loads(json.dumps({"name": "demo", **keys}).replace("{}", "/nowhere/a.deb"))
    said = error_of(apply(item), NotFound)
    assert said.startswith("image demo: ") and "/nowhere/a.deb" in said
    for declared in ({}, {"datastores": [], "paths": ["/nowhere/b.deb"]}):
        assert error_of(apply(item, check=True, declared=declared), NotFound) == said and warnings == []
    done = apply(item, check=True, declared={"paths": ["/nowhere//a.deb"]})["demo"]
    assert done.error is None and done.is_changed
    assert len(warnings) == 1 and "/nowhere/a.deb" in warnings[0] and warnings[0].endswith("as given in check mode")
    # A directory of that name is no file that is yet to come.
    wrong = json.loads(json.dumps({"name": "demo", **keys}).replace("{}", "/"))
    if "packages" not in keys:
        assert apply(wrong, check=True)["demo"].error is not None


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
