# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of image prepares may say; made from image_prepare.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "path": Key(option={"type": "path"}),
    "format": Key(choices=("auto", "raw", "qcow2"), default="auto"),
    "trusted": Key(type="bool", default=False),
    "via": Key(choices=("auto", "guestfs", "nbd", "loop"), default="auto"),
    "steps": Key(type="list", elements="str", default=[]),
    "timezone": Key(default=""),
    "files": Key(
        type="list",
        elements="dict",
        option={"type": "json", "no_log": True},
        options={
            "path": Key(),
            "content": Key(),
            "content_base64": Key(),
            "src": Key(),
            "mode": Key(type="raw", default="0644"),
            "uid": Key(type="int", default=0),
            "gid": Key(type="int", default=0),
        },
    ),
}
