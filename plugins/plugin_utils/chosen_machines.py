# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the machines that the command line names (-e vm=…), and says what its word (-e do=…) does with them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import nearest_word
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.named_machines import LISTED, named

# A word → the item of nebula_vms that does it.
ITEMS: dict[str, dict[str, Any]] = {
    "start": {"state": "running"},
    "stop": {"state": "poweroff"},
    "poweroff": {"state": "poweroff", "hard": True},
    "reboot": {"state": "rebooted"},
    "reset": {"state": "reset"},
    "suspend": {"state": "suspended"},
}
CONSOLE = "console"
WORDS = (*ITEMS, CONSOLE)
# What people say elsewhere.
_MEANT = {
    "shutdown": "stop",
    "halt": "stop",
    "off": "stop",
    "on": "start",
    "run": "start",
    "resume": "start",
    "destroy": "poweroff",
    "restart": "reboot",
    "pause": "suspend",
    "save": "suspend",
    "log": CONSOLE,
}
_STATES = ("running", "poweroff", "suspended")


def machines_named(vms: Sequence[Mapping[str, Any]], pattern: Any) -> tuple[list[str], str]:
    """Return the names of the machines that the patterns (as in the shell: web-*) name, and what is wrong, or ""."""
    return named([str(vm["name"]) for vm in vms], pattern)


def problem_of_word(word: Any) -> str:
    """Return what is wrong with the word of -e do=…; "" if it is known."""
    if word in WORDS:
        return ""
    near = _MEANT.get(str(word).lower()) or nearest_word(str(word), WORDS)
    asked = f"do {word}: there is no such word." if word else "Nothing is asked for: give -e do=WORD."
    meant = f" Did you mean {near!r}?" if near else ""
    return f"{asked}{meant} Known are {', '.join(WORDS)}. Nothing was changed"


def items(names: Sequence[str], word: str) -> list[dict[str, Any]]:
    """Return the items of nebula_vms that do what the word says."""
    return [{"name": name, **ITEMS[word]} for name in names]


def changed_back_by_lists(names: Sequence[str], word: str, listed: Any) -> list[str]:
    """Return sentences about the machines that the next run of the inventory's lists brings into another state.
    listed: nebula_vms of the inventory; an item whose name has %i stands for each number."""
    if ITEMS[word]["state"] not in _STATES:
        return []
    wanted: dict[str, list[str]] = {}
    for name in names:
        state = _state_of(name, listed)
        if state in _STATES and state != ITEMS[word]["state"]:
            wanted.setdefault(state, []).append(name)
    return [
        f"The lists of the inventory say {state} of {', '.join(found[:LISTED])}"
        f"{f' and {len(found) - LISTED} more' if len(found) > LISTED else ''}: the next run of playbook "
        "nebula.provision.site makes it so again, unless nebula_vms says otherwise by then"
        for state, found in wanted.items()
    ]


def _state_of(name: str, listed: Any) -> str:
    for item in listed if isinstance(listed, (list, tuple)) else ():
        pattern = str(item.get("name")) if isinstance(item, Mapping) else ""
        if re.fullmatch(r"\d+".join(map(re.escape, pattern.split("%i"))), name):
            return str(item.get("state") or "running")
    return ""
