# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the machines that a user names, by names and patterns of the shell."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from ..model.object_names import nearest_word

# Names that a message lists.
LISTED = 20


_NOT_THERE = "the catalog has no machine of that name"


def named(
    names: Sequence[str], pattern: Any, further: Sequence[str] = (), missing: str = _NOT_THERE
) -> tuple[list[str], str]:
    """Return the names of the machines that the patterns (as in the shell: web-*) name, and what is wrong, or "".
    further: names that can be asked for, too, and are not proposed
    missing: what is said where there is none of a name"""
    found: list[str] = []
    known = [*names, *further]
    for word in _asked_names(pattern, known):
        new = _matching(word, known)
        if not new:
            return [], _no_machine(word, names, missing)
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


def is_pattern(text: str) -> bool:
    """Return whether a text that is no machine's name may be meant to name several."""
    return any(character in text for character in "*?[, ")


def _no_machine(word: str, names: Sequence[str], missing: str) -> str:
    near = nearest_word(word, names)
    there = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    meant = f" Did you mean {near!r}?" if near else ""
    return f"vm {word}: {missing}.{meant} There are: {there or 'none'}. Nothing was changed"
