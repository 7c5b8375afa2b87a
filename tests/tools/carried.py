# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the model as another process reads them: what tests of those that travel as JSON have in common."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain


def carried(value: Any) -> Any:
    """The object that another process makes of the JSON that this one writes."""
    return from_plain(type(value), json.loads(json.dumps(to_plain(value))))


def unset(value: Any) -> set[str]:
    """The fields of an object that are as their default has them: a sample that is to show all has none."""
    found = set()
    for field in dataclasses.fields(value):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if getattr(value, field.name) == default:
            found.add(field.name)
    return found
