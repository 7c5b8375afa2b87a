# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits others' text into a picture: as one printable line that is no longer than its place.

How wide text is depends on the reader's fonts. The widths here are those of DejaVu, which is the widest of the usual
fonts; for characters that another font has to draw they are the most that is likely."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable

# A monospaced character is as wide in all usual fonts, by the size of the font.
MONOSPACED = 0.605
# By the size of the font, too: characters that are at most so wide.
_ADVANCES = {
    character: advance
    for advance, characters in (
        (0.28, "'ijl"),
        (0.34, "IJ ,./:;\\|"),
        (0.42, "f-()[]t!r"),
        (0.50, '"*_`'),
        (0.55, "sz?c"),
        (0.58, "LFk"),
        (0.62, "vxyPTYaeo"),
        (0.64, "$0123456789ESbdghnpqu{}"),
        (0.70, "KABVXZCR"),
        (0.76, "UNHDG"),
        (0.84, "OQ&#+<=>^~w"),
        (1.01, "mMW@%"),
    )
    for character in characters
}
# Bold letters are as much wider.
_BOLD = 0.11
# One character that is a whole sentence in some scripts.
_SENTENCES = range(0xFBD0, 0xFE00)
ELLIPSIS = "…"
_DIGITS = re.compile(r"([0-9]+)")


def printable_line(value: Any) -> str:
    """Return the value as one printable line. No XML document may hold characters that do not print."""
    return "" if value is None else printable(str(value), ONE_LINE)


def width(text: str, size: float, mono: bool = False, bold: bool = False) -> float:
    """Return the largest width that a legible text can have in a font of that size."""
    return size * sum(_advance(character, mono, bold) for character in text)


def _advance(character: str, mono: bool, bold: bool) -> float:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0.0
    if ord(character) in _SENTENCES:
        return 18.0
    if ord(character) > 0x24F and character not in "…–→·—×":
        # Another font draws it, whose letters may be as wide as they are high; emoji are wider.
        return 1.5
    if mono:
        return MONOSPACED if ord(character) < 0x250 else 0.65
    base = unicodedata.normalize("NFD", character)[0]
    return _ADVANCES.get(base, 1.08) + (_BOLD if bold else 0)


def cut_to_width(text: str, room: float, size: float, mono: bool = False, bold: bool = False) -> str:
    """Return as much of a legible text as fits into the room, with an ellipsis if something is missing."""
    if width(text, size, mono, bold) <= room:
        return text
    left = room - width(ELLIPSIS, size, mono, bold)
    kept = 0
    for character in text:
        left -= size * _advance(character, mono, bold)
        if left < 0:
            break
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS


def number_of(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def natural_sort_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return the key that sorts texts as people do: web-2 goes before web-10."""
    parts = enumerate(_DIGITS.split(text))
    # Of two numbers the one with more digits is larger; they may have more than Python reads.
    found = [_number(part.lstrip("0")) if place % 2 else (1, 0, part.casefold()) for place, part in parts]
    # The text as it is comes last, so that no two are alike in which one is 01 and the other 1.
    return (*found, (2, 0, text))


def _number(digits: str) -> tuple[int, int, str]:
    return 0, len(digits), digits
