# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides how text that guests, hosts and strangers' files have made reaches a terminal, a log or a page.

Which characters are shown as they are, and how all others are, is decided here and nowhere else. Pure."""

from __future__ import annotations

# What stands between two lines of the text.
# Lines below the first are indented, since Ansible begins each of its own ("PLAY RECAP", "ok: [host]") at the margin.
BLOCK = "\n    "
# Lines stay as they are: whoever prints them marks each, as a difference does, or they are on a page.
LINES = "\n"
# Cells of tables, names, and lines of progress are one line.
ONE_LINE = " "

# Lines that are in a block already, and the items of a list in a message of ours. Ansible begins none in these ways.
_INDENTED = ("    ", "- ")
# Letters and marks without a form of their own, which Unicode counts among those that print.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)]))
)
# More marks on one letter than any language has would grow into the lines above and below.
_MARKS = 2
_FIRST_MARK = "\u0300"


def printable(text: str, line_end: str = BLOCK) -> str:
    """Return the text without anything that a terminal obeys, that a reader does not see, or that turns the direction
    of writing: such a character is written as an escape. What was returned is returned again as it is.
    line_end: BLOCK, LINES or ONE_LINE, by which a line of the text is told from the lines around it."""
    if text.isascii() and text.isprintable():
        return text
    first, *others = _escaped(text).split("\n")
    if line_end == ONE_LINE:
        # Those of a block lose what they were indented by.
        return ONE_LINE.join([first, *(line.lstrip(" ") for line in others)]).replace("\t", " ")
    if line_end == LINES:
        return "\n".join([first, *others])
    # Empty ones as well: what stands behind the last of them would begin at the margin.
    return "\n".join([first, *(line if line.startswith(_INDENTED) else f"    {line}" for line in others)])


def _escaped(text: str) -> str:
    """Return the text whose only characters that do not print are line ends and tabs."""
    # Most texts have none of the characters for which it is asked.
    from unicodedata import category

    shown: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if character >= _FIRST_MARK and category(character) in ("Mn", "Me") else 0
        prints = character.isprintable() and character not in _UNSEEN and marks <= _MARKS
        is_kept = prints or character in "\n\t"
        shown.append(character if is_kept else character.encode("unicode_escape").decode())
    return "".join(shown)
