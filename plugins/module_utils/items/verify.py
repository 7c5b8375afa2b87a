# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as results show them, to what their guests have to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import parse_json
from ..errors import InvalidValue
from ..host.console import Wanted

EXAMPLE = "Give a list of dicts with id, name, console, hostname and addresses"


def machines_of(text: str, pattern: str = "", patterns: Mapping[str, str] | None = None) -> list[Wanted]:
    """The machines of option vms (JSON) that there is something to hear from.

    Not those that have no console (check mode predicts them), nor those that have neither a context (addresses is null)
    nor a pattern.

    pattern: for all machines. patterns: by name, going before it.
    """
    found = parse_json(text, "vms")
    if not isinstance(found, list):
        raise InvalidValue("option vms", f"it is a {type(found).__name__}", EXAMPLE)
    machines = []
    for index, item in enumerate(found):
        if not isinstance(item, Mapping):
            raise InvalidValue(f"option vms, item {index}", f"it is a {type(item).__name__}", EXAMPLE)
        own = (patterns or {}).get(str(item.get("name"))) or pattern
        if not isinstance(own, str):
            found = f"it is a {type(own).__name__}"
            raise InvalidValue(f"option patterns, VM {item.get('name')}", found, "Give a regular expression, in quotes")
        if item.get("console") and (own or item.get("addresses", ()) is not None):
            machines.append(machine_of(item, index, own))
    return machines


def machine_of(item: Mapping[str, Any], index: int, pattern: str) -> Wanted:
    number, name, addresses = item.get("id"), item.get("name"), item.get("addresses") or []
    if not isinstance(number, int) or not isinstance(name, str):
        raise InvalidValue(f"option vms, item {index}", "id or name is missing", EXAMPLE)
    if not isinstance(addresses, list):
        raise InvalidValue(f"option vms, item {index} ({name}): addresses", "it is not a list", EXAMPLE)
    return Wanted(
        vm_id=number,
        name=name,
        console=str(item["console"]),
        hostname=str(item.get("hostname") or ""),
        addresses=tuple(str(address) for address in addresses),
        pattern=pattern,
    )
