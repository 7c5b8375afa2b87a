# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks names of images, networks, templates, hosts and virtual machines, by one rule for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidValue

LONGEST = 128
# OpenNebula takes these in no name. / is refused here as well, and so are control characters.
_NOT_OPENNEBULAS = "&|:\\\";'#{}$<>"


def check_name(kind: str, name: Any) -> str:
    """Return the name, if an object of that kind ("image", "template" …) may have it; else raise InvalidValue.

    Names reach paths, command lines, logs and deployment files: what could mean something else there is refused."""
    remedy = f"Use up to {LONGEST} characters without / and control characters, not . or .., no blanks at either end"
    if not isinstance(name, str) or not name:
        found = "the name is empty" if name is None or name == "" else f"the name is a {type(name).__name__}"
        raise InvalidValue(f"{kind} {name!r}" if name else kind, found, "Give it a name, in quotes if it is a number")
    shown = f"{kind} {name[:LONGEST]!r}"
    fault = _fault_of_name(name)
    if fault:
        raise InvalidValue(shown, fault, remedy)
    return name


def _fault_of_name(name: str) -> str:
    if len(name) > LONGEST:
        return f"the name has {len(name)} characters"
    if "/" in name:
        return "the name holds a /"
    if name in (".", ".."):
        return "the name is that of a directory"
    if name != name.strip():
        return "the name begins or ends with a blank"
    for character in name:
        # Line and paragraph separators break logs as a newline does.
        if not character.isprintable() or character in "\u2028\u2029":
            return f"the name holds the character {character!r}"
    return ""


def doubt_of_name(kind: str, name: str) -> str:
    """Return a warning about a name that a real OpenNebula would not take for such an object, "" if it would."""
    why = _why_opennebula_refuses(kind, name)
    return f"{kind} {name!r} could not go to a real OpenNebula: {why}. Here it may keep its name" if why else ""


def _why_opennebula_refuses(kind: str, name: str) -> str:
    held = [character for character in dict.fromkeys(name) if character in _NOT_OPENNEBULAS]
    if held:
        return "it takes no name with " + " ".join(held)
    size = len(name.encode())
    if size > LONGEST:
        return f"it takes no more than {LONGEST} bytes, and these are {size}"
    if kind == "host" and not _is_hostname(name):
        return "it takes 2 to 63 letters, digits, - . and _ for a host, of which - . and _ are not the first"
    return ""


def _is_hostname(name: str) -> bool:
    known = all(character in "-._" or (character.isascii() and character.isalnum()) for character in name)
    return known and 2 <= len(name) <= 63 and name[0] not in "-._"


def nearest_word(word: str, known: Iterable[str]) -> str:
    """Return the known word that `word` is most likely a slip of, or ""."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return found[0] if found else ""


def known_are(word: str, known: Iterable[str], form: str = "{!r}") -> str:
    """Return what to write in place of a word that is not known: the known one that is near, and all of them."""
    words = list(known)
    return did_you_mean(nearest_word(word, words), form) + "Known are " + ", ".join(words)


def did_you_mean(near: str, form: str = "{!r}") -> str:
    """Return the question whether that word is meant, with a blank behind it; "" where no word is near.
    form: how the word is written in it."""
    return f"Did you mean {form.format(near)}? " if near else ""
