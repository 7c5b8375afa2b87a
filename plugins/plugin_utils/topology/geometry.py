# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the shapes that a picture is made of, with their places. A picture is a column of blocks, each of which stays
in one piece when it is printed; y is counted from the top of its block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from .text_width import cut_to_width, width

# A line of text reaches so far above and below its base line, by the size of its font.
ABOVE, BELOW = 0.95, 0.28


@dataclass(frozen=True)
class Box:
    """Is a rectangle. kind: one of the style's classes. colour: the number of a network's colour, -1 for none."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    colour: int = -1
    round: float = 5


@dataclass(frozen=True)
class Text:
    """Is a line of text.
    x: where it begins, or where it ends if it is aligned right.
    whole: what is shown when a pointer rests on it, if the text is cut or does not say everything."""

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
        """Return the largest area that it can cover: left, top, right, bottom."""
        wide = min(self.room, width(self.text, self.size, self.mono, self.bold))
        left = self.x - wide if self.right else self.x
        return left, self.y - ABOVE * self.size, left + wide, self.y + BELOW * self.size


@dataclass(frozen=True)
class Mark:
    """Is the sign of a state, which has a form of its own beside its colour."""

    x: float
    y: float
    mood: str


@dataclass(frozen=True)
class Line:
    """Is a connection, horizontal or vertical."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: int
    wide: float = 2


@dataclass(frozen=True)
class Dot:
    """Marks where lines are connected; lines that cross without a dot are not connected."""

    x: float
    y: float
    colour: int


Shape = Union[Box, Text, Mark, Line, Dot]


@dataclass
class Block:
    """Is a part of the picture. title, summary: describe it to readers who do not see it.
    leads: whether it has to be on the same page as the next block."""

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
        shown = cut_to_width(text, room, size, mono, bold)
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
