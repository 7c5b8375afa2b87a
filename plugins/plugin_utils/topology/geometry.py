# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shapes that a picture is made of, with their places. A picture is a column of blocks, each of which stays in one
piece when it is printed; y is counted from the top of its block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from .legible import cut, width

# A line of text reaches so far above and below its base line, by the size of its font.
ABOVE, BELOW = 0.95, 0.28


@dataclass(frozen=True)
class Box:
    """kind: which of the style's classes it has. colour: the number of a network's colour, -1 for none."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    colour: int = -1
    round: float = 5


@dataclass(frozen=True)
class Text:
    """x: where it begins, or ends if it is aligned right. whole: what a pointer is shown, where the text is cut or says
    less than there is to know."""

    x: float
    y: float
    room: float
    text: str
    size: float
    kind: str = ""
    whole: str = ""
    mono: bool = False
    bold: bool = False
    right: bool = False

    @property
    def area(self) -> tuple[float, float, float, float]:
        """What it covers at most: left, top, right, bottom."""
        wide = min(self.room, width(self.text, self.size, self.mono, self.bold))
        left = self.x - wide if self.right else self.x
        return left, self.y - ABOVE * self.size, left + wide, self.y + BELOW * self.size


@dataclass(frozen=True)
class Mark:
    """The sign of a state, which has a form of its own beside its colour."""

    x: float
    y: float
    mood: str


@dataclass(frozen=True)
class Line:
    """A connection, horizontal or vertical."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: int
    wide: float = 2


@dataclass(frozen=True)
class Dot:
    """Where lines are connected; lines that cross without one are not."""

    x: float
    y: float
    colour: int


Shape = Union[Box, Text, Mark, Line, Dot]


@dataclass
class Block:
    """title and summary: what it shows, for those who do not see it. leads: it is on the same page as the next."""

    title: str
    summary: str
    height: float
    shapes: list[Shape] = field(default_factory=list)
    top: float = 0
    leads: bool = False

    def write(
        self,
        x: float,
        y: float,
        room: float,
        text: str,
        size: float = 12,
        kind: str = "",
        whole: str = "",
        mono: bool = False,
        bold: bool = False,
        right: bool = False,
    ) -> Text:
        """Add text that is cut to its room, and return it."""
        shown = cut(text, room, size, mono, bold)
        full = whole or (text if shown != text else "")
        added = Text(x, y, room, shown, size, kind, full, mono, bold, right)
        if shown:
            self.shapes.append(added)
        return added


@dataclass(frozen=True)
class Picture:
    width: float
    blocks: tuple[Block, ...]

    @property
    def height(self) -> float:
        return sum(block.height for block in self.blocks)
