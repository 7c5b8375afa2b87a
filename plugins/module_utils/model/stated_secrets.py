# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds secrets that a backup's template was made without: given by name, in the backup, or in the machine's item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..errors import InvalidValue


def of_item(item: Optional[Mapping[str, Any]]) -> dict[str, str]:
    """Return what an item of nebula_vms says of a machine's context and other attributes, by the names of secrets."""
    found: dict[str, str] = {}
    given = item or {}
    attributes = given.get("attributes")
    for name, vector in {
        **(attributes if isinstance(attributes, Mapping) else {}),
        "CONTEXT": given.get("context"),
    }.items():
        if isinstance(vector, Mapping):
            found.update({f"{str(name).upper()}/{str(key).upper()}": str(text) for key, text in vector.items()})
        elif isinstance(vector, str):
            found[str(name).upper()] = vector
    return found


def complete(
    needed: Sequence[str], stated: Mapping[str, str], further: Sequence[Mapping[str, str]], asked: str
) -> dict[str, str]:
    """Return the secrets that are needed. Raise InvalidValue that names all which are missing.
    stated: by these names, or by their last parts. further: where they are looked for then, in this order."""
    short = {name: stated[name.rpartition("/")[2]] for name in needed if name.rpartition("/")[2] in stated}
    sources = [stated, short, *further]
    found = {name: next((each[name] for each in sources if name in each), None) for name in needed}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise InvalidValue(
            asked,
            f"the backup was made without the values of {', '.join(missing)}",
            "Give them: nebula_machine_restore_secrets: {"
            + ", ".join(f"{name}: …" for name in missing)
            + "}, or the machine's item in nebula_vms. Nothing was changed",
        )
    return {name: value for name, value in found.items() if value is not None}
