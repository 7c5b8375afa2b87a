# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_demo_image takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE
from ..reconcile import demo_images
from ..sync import Result

STATES = {"present": demo_images.present, "absent": demo_images.absent}
ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "dest": {"type": "path", "required": True},
        "cache": {"type": "path", "default": "/var/cache/nebula-provision"},
        "arch": {"type": "str", "choices": ["amd64"], "default": "amd64"},
        "state": {"type": "str", "choices": [*STATES], "default": "present"},
        "force": {"type": "bool", "default": False},
        **ENGINE,
    }
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return STATES[params["state"]](params, check_mode)
