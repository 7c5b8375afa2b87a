# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and results for tests of lists of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

MIB = 1024 * 1024
CONTENT = b"a kernel " * 10_000
BLANK = {"name": "demo", "type": "DATABLOCK", "size": 4}
# What is known only once it is made.
LATER = ("id", "uuid", "source", "sha256", "checksum")
Apply = Callable[..., dict[str, Item]]


def registered(engine: EmbeddedEngine, *states: ImageState, **fields: Any) -> Image:
    """An image without a file, in the last of these states."""
    later = {key: fields.pop(key) for key in ("unfinished", "operation", "error") if key in fields}
    with engine.session():
        image = engine.images.allocate(Image(None, **{"name": "demo", **fields}))
        for state in states:
            image = engine.images.update(image.id, state=state)
        if "operation" in later:
            later["state"] = ImageState.LOCKED
        return engine.images.update(image.id, **later)


def error_of(done: Mapping[str, Item], kind: type[NebulaError], name: str = "demo") -> str:
    assert isinstance(done[name].error, kind), done[name].error
    return str(done[name].error)


def without(after: Mapping[str, Any] | None, keys: tuple[str, ...] = LATER) -> dict[str, Any]:
    return {key: value for key, value in (after or {}).items() if key not in keys}
