# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the demo image, and removes it with what was downloaded for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..host.files import require_absolute
from ..storage import demo_image
from ..sync import Item, Result


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Build the image unless it is there, made of the same parts."""
    dest, cache = _places(params)
    found = demo_image.read_record(dest)
    wanted = demo_image.inputs(params["arch"])
    if not params["force"] and found and all(found.get(key) == value for key, value in wanted.items()):
        record = found
    elif check_mode:
        record = dict(wanted, sha256=None, size=None, versions={})
    else:
        record = demo_image.build(dest, cache, params["arch"])
    shown = dict(record, path=str(dest))
    return Result([Item(str(dest), found and dict(found, path=str(dest)), shown)], {"demo_image": shown})


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Remove the image and what was downloaded for it."""
    dest, cache = _places(params)
    there = demo_image.leftovers(dest, cache)
    if not check_mode:
        demo_image.remove(there, cache)
    before = {"files": [str(path) for path in there]}
    return Result([Item(str(dest), before, {"files": []})], {"demo_image": {"path": str(dest)}})


def _places(params: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return the image's path and the directory of downloads. Raises InvalidValue for one that is not absolute."""
    for option in ("dest", "cache"):
        require_absolute(params[option], f"{option} {params[option]!r}")
    return Path(params["dest"]), Path(params["cache"])
