# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of image checks may say; made from image_check.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "path": Key(option={"type": "path"}),
    "format": Key(choices=("auto", "raw", "qcow2"), default="auto"),
    "trusted": Key(type="bool", default=False),
    "timezone": Key(default="UTC"),
    "os": Key(choices=("linux", "windows"), default="linux"),
}
