# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_backup takes and does."""

from __future__ import annotations

from typing import Any

from ..arguments import ENGINE
from ..model import defaults
from ..reconcile import backups

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "directory": {"type": "path", "default": defaults.BACKUPS},
        "keep": {"type": "int", "default": defaults.KEPT_BACKUPS},
        "images": {"type": "bool", "default": False},
        **ENGINE,
    }
}
run = backups.backup
