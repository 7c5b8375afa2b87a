# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts our context program into the images of a list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidValue, MissingDependency, NebulaError, NotFound
from ..guest_disk.customize import context_program
from ..guest_disk.open import appliance_install, image_overlay, kernel_mount
from ..model.item_reader import read_item
from ..model.specifications.guest_image import KEYS
from ..sync import Item

WAYS = {"guestfs": appliance_install.install, "mount": kernel_mount.install}


def apply(given: Mapping[str, Any], program: str, check_mode: bool, warnings: list[str]) -> Item:
    """Carry the item out. Return it with its error, if any."""
    path = str(given.get("path") or "")
    try:
        if not path:
            raise InvalidValue("an image", "it has no path", "Give the full path on this host")
        item = read_item(given, KEYS, f"image {path}")
        way = _way(path, item)
        return _apply(path, item, way, program, check_mode)
    except (MissingDependency, NotFound) as error:
        if not check_mode or (isinstance(error, NotFound) and os.path.exists(path)):
            return Item(path or "?", error=error, changed=False)
        # Earlier tasks of the same run may be about to bring it.
        warnings.append(f"In check mode, taken as about to come: {error}")
        return Item(path, None, {"how": None, "os": None}, changed=True)
    except NebulaError as error:
        return Item(path or "?", error=error, changed=False)


def refuse_twins(items: Iterable[Mapping[str, Any]]) -> None:
    """Raise InvalidValue if two items are one file. An item without a path is refused elsewhere."""
    seen: set[str] = set()
    for item in items:
        if not item.get("path"):
            continue
        path = os.path.realpath(str(item["path"]))
        if path in seen:
            raise InvalidValue(f"option images: path {item.get('path')}", "two items are this file", "Name it once")
        seen.add(path)


def view(item: Item) -> dict[str, Any]:
    """Return an item as results show it."""
    after = item.after or {}
    return {"path": item.name, "changed": item.is_changed, "how": after.get("how"), "os": after.get("os")}


def _way(path: str, item: Mapping[str, Any]) -> str:
    asked: str = item["via"]
    if asked == "mount" and not item["trusted"]:
        raise InvalidValue(
            f"image {path}: via mount",
            "the image is not said to be trusted: a hostile file system can attack the kernel that mounts it",
            "Set trusted: true if you know where it comes from, or leave via out",
        )
    if asked != "auto":
        return asked
    return "mount" if item["trusted"] and not context_program.present("guestfish") else "guestfs"


def _apply(path: str, item: Mapping[str, Any], way: str, program: str, check_mode: bool) -> Item:
    image = image_overlay.locate(path, item["format"], item["trusted"])
    if check_mode and image_overlay.is_interrupted(image):
        return _item(path, True, {"how": way, "os": None}, program)
    with image_overlay.begin(image) as resumed:
        context_program.write(image.directory, program)
        outcome = WAYS[way](image.directory, image.what)
        if outcome.changed and not check_mode:
            image_overlay.commit(image)
    return _item(path, outcome.changed or resumed, {"how": way, "os": outcome.os}, program)


def _item(path: str, changed: bool, facts: Mapping[str, Any], program: str) -> Item:
    wanted = hashlib.sha256(program.encode()).hexdigest()
    before = "not installed, or not as it is now" if changed else f"installed, sha256 {wanted}"
    after = {**facts, "nebula_context": f"installed, sha256 {wanted}"}
    return Item(path, {**facts, "nebula_context": before}, after, changed=changed)
