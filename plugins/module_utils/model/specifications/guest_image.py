# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of guest images may say; made from guest_image.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "path": Key(required=True, option={"type": "path"}),
    "format": Key(choices=("auto", "raw", "qcow2"), default="auto"),
    "trusted": Key(type="bool", default=False),
    "via": Key(choices=("auto", "guestfs", "mount"), default="auto"),
}
