# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_restore takes and does."""

from __future__ import annotations

from typing import Any

from ..arguments import ENGINE
from ..model import defaults
from ..reconcile import backups

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "file": {"type": "path"},
        "directory": {"type": "path", "default": defaults.BACKUPS},
        "observed": {"type": "list", "elements": "dict", "required": True},
        "force": {"type": "bool", "default": False},
        "unknown": {"type": "str", "choices": ["keep", "remove"], "default": "keep"},
        "new_catalog": {"type": "bool", "default": False},
        **ENGINE,
    }
}
run = backups.restore
