# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the machines that the command line names (-e vm=…), and says what its word (-e do=…) does with them. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import nearest_word

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
_LISTED = 20


def machines_named(vms: Sequence[Mapping[str, Any]], pattern: Any) -> tuple[list[str], str]:
    """Return the names of the machines that the patterns (as in the shell: web-*) name, and what is wrong, or ""."""
    names = [str(vm["name"]) for vm in vms]
    found: list[str] = []
    for word in _asked_names(pattern, names):
        new = _matching(word, names)
        if not new:
            return [], _no_machine(word, names)
        found += [name for name in new if name not in found]
    if not found:
        return [], "No machine is named. Give its name, or a pattern such as web-*, by -e vm=NAME"
    return found, ""


def _asked_names(pattern: Any, names: Sequence[str]) -> list[str]:
    """Return the names and patterns that the user asks for. A blank or a comma may be part of a name."""
    if isinstance(pattern, (list, tuple)):
        return [str(word) for word in pattern if str(word)]
    text = str(pattern).strip()
    if _matching(text, names):
        return [text]
    parts = [part.strip() for part in text.split(",")]
    return [word for part in parts for word in ([part] if _matching(part, names) else part.split()) if word]


def _matching(word: str, names: Sequence[str]) -> list[str]:
    """Return the machine of exactly this name, which may hold [ or *; if there is none, all that the pattern names."""
    return [word] if word in names else [name for name in names if fnmatch.fnmatchcase(name, word)]


def _no_machine(word: str, names: Sequence[str]) -> str:
    near = nearest_word(word, names)
    there = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    meant = f" Did you mean {near!r}?" if near else ""
    return (
        f"vm {word}: the catalog has no machine of that name.{meant} There are: {there or 'none'}. Nothing was changed"
    )


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
        f"The lists of the inventory say {state} of {', '.join(found[:_LISTED])}"
        f"{f' and {len(found) - _LISTED} more' if len(found) > _LISTED else ''}: the next run of playbook "
        "nebula.provision.site makes it so again, unless nebula_vms says otherwise by then"
        for state, found in wanted.items()
    ]


def _state_of(name: str, listed: Any) -> str:
    for item in listed if isinstance(listed, (list, tuple)) else ():
        pattern = str(item.get("name")) if isinstance(item, Mapping) else ""
        if re.fullmatch(r"\d+".join(map(re.escape, pattern.split("%i"))), name):
            return str(item.get("state") or "running")
    return ""
