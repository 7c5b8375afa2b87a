# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_demo_image takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arguments import ENGINE
from ..host.files import require_absolute
from ..storage import demo_image
from ..sync import Item, Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "dest": {"type": "path", "required": True},
        "cache": {"type": "path", "default": "/var/cache/nebula-provision"},
        "arch": {"type": "str", "choices": ["amd64"], "default": "amd64"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "force": {"type": "bool", "default": False},
        **ENGINE,
    }
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    for option in ("dest", "cache"):
        require_absolute(params[option], f"{option} {params[option]!r}")
    dest, cache = Path(params["dest"]), Path(params["cache"])
    if params["state"] == "absent":
        return remove(dest, cache, check_mode)
    found = demo_image.existing(dest)
    wanted = demo_image.inputs(params["arch"])
    if not params["force"] and found and all(found.get(key) == value for key, value in wanted.items()):
        record = found
    elif check_mode:
        record = dict(wanted, sha256=None, size=None, versions={})
    else:
        record = demo_image.build(dest, cache, params["arch"])
    shown = dict(record, path=str(dest))
    return Result([Item(str(dest), found and dict(found, path=str(dest)), shown)], {"demo_image": shown})


def remove(dest: Path, cache: Path, check_mode: bool) -> Result:
    there = demo_image.leftovers(dest, cache)
    if not check_mode:
        demo_image.remove(there, cache)
    before = {"files": [str(path) for path in there]}
    return Result([Item(str(dest), before, {"files": []})], {"demo_image": {"path": str(dest)}})
