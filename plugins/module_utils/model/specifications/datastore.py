# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of datastores may say; made from datastore.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True),
    "type": Key(choices=("IMAGE", "FILE", "SYSTEM"), case="upper", changes="never"),
    "capacity_check": Key(type="bool", changes="always"),
    "shared": Key(type="bool", changes="never"),
    "hosts": Key(type="list", elements="str", changes="always"),
    "description": Key(changes="always"),
    "attributes": Key(type="dict", changes="always"),
    "state": Key(choices=("present", "absent"), default="present", empty=True),
}
