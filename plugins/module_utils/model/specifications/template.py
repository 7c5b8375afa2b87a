# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of templates may say; made from template.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "template": Key(type="raw", option={"type": "json", "no_log": True}, changes="always"),
    "template_file": Key(type="path", changes="always", near=("file",)),
    "state": Key(choices=("present", "absent"), empty=True, default="present"),
    "strict": Key(type="bool", empty=True, default=False),
}
