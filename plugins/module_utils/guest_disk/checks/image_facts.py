# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the facts that an inspection found in an image, and the forms of a point's answer. points.py judges them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cache

from ...dataclass import dataclass

PASS, FAIL, NOT_APPLICABLE, NOT_TESTED = "pass", "fail", "not applicable", "not tested"
FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
LINUX, WINDOWS = "linux", "windows"
# Types of a partition that has EFI boot loaders: of a GPT, and of an MBR.
ESP = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef")


@dataclass(frozen=True)
class Answer:
    """Answers one point.
    result: one of the four words above.
    why: what was found.
    remedy: "" for what is as it should be."""

    result: str
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class Node:
    """Describes a file of the guest. target: where a link leads. text: the content, if the file is one that is read."""

    kind: str = FILE
    mode: int = 0o644
    size: int = 0
    target: str = ""
    text: str = ""


@dataclass(frozen=True)
class Partition:
    """Describes a partition.
    start, size: bytes.
    type: GUID or byte, as blkid tells it.
    bootable: bit 2 of a GPT partition's attributes, or the flag of an MBR's."""

    number: int
    device: str
    start: int
    size: int
    type: str = ""
    bootable: bool = False


@dataclass(frozen=True)
class System:
    """Describes a file system, or what else is on a device: type "" if it is not known."""

    device: str
    type: str
    label: str = ""
    uuid: str = ""
    partition_uuid: str = ""
    partition_label: str = ""


@dataclass(frozen=True)
class Facts:
    """Holds all facts of an image that a point is decided by.
    name: what the system calls itself.
    table: gpt, dos or "".
    boot: whose code is in the first sector, "" for none.
    root: device of the root; root_type: its file system.
    tree: absolute path → what is there, of all paths that are looked at.
    mounted: mount point → device.
    failed: device → why it can't be read.
    kernel: version of the newest kernel, "" if there is none.
    builtin, modules: names of its drivers, built in or beside it.
    initrd: drivers in its initial RAM disk; None if it could not be read: then initrd_why says why.
    registry: of Windows: path in lower case → value; a key that is there has the value None.
    zone: the time zone that is wanted."""

    os: str
    name: str = ""
    size: int = 0
    table: str = ""
    partitions: tuple[Partition, ...] = ()
    boot: str = ""
    root: str = ""
    root_type: str = ""
    systems: tuple[System, ...] = ()
    tree: Mapping[str, Node] = field(default_factory=dict)
    mounted: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    builtin: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    initrd: frozenset[str] | None = None
    initrd_why: str = ""
    registry: Mapping[str, object] = field(default_factory=dict)
    zone: str = "UTC"

    def has(self, *paths: str) -> bool:
        return any(path in self.tree for path in paths)

    def text(self, path: str) -> str:
        """Return the content of a file as text; "" for a path that is not there or is no file."""
        node = self.tree.get(path)
        return node.text if node is not None else ""

    def matching(self, *patterns: str) -> Iterator[tuple[str, Node]]:
        """Yield the paths that match a pattern, in order. A star stands for any characters but a slash."""
        # With the part before the first character that stands for something else.
        wanted = [(re.split(r"[*\[]", pattern, maxsplit=1)[0], _pattern_form(pattern)) for pattern in patterns]
        for path in sorted(self.tree):
            if any(path.startswith(fixed) and form.fullmatch(path) for fixed, form in wanted):
                yield path, self.tree[path]

    def system_of(self, device: str) -> System | None:
        return next((system for system in self.systems if system.device == device), None)


@cache
def _pattern_form(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern: a star is any name or part of one; [ ] as a shell has them. A
    guest's own configuration may be the pattern: what is between two stars is looked for once, where it is first,
    so that many stars take no longer."""
    chunks = ["".join(map(_literal, re.split(r"(\[!?[^\[\]]+\])", chunk))) for chunk in re.split(r"\*+", pattern)]
    first, middle, last = chunks[0], chunks[1:-1], chunks[-1] if len(chunks) > 1 else None
    text = first + "".join(f"(?=(?P<m{at}>[^/]*?{chunk}))(?P=m{at})" for at, chunk in enumerate(middle))
    try:
        return re.compile(text if last is None else f"{text}[^/]*{last}", re.DOTALL)
    except re.error:
        # As [z-a]: a shell takes what is no pattern as it is.
        return re.compile(re.escape(pattern), re.DOTALL)


def _literal(part: str) -> str:
    if not part.startswith("["):
        return re.escape(part)
    return "[" + re.sub(r"^!", "^", part[1:]).replace("[", r"\[")


def passed(why: str) -> Answer:
    return Answer(PASS, why)


def bad(why: str, remedy: str) -> Answer:
    return Answer(FAIL, why, remedy)


def not_applicable(why: str) -> Answer:
    return Answer(NOT_APPLICABLE, why)


def not_tested(why: str, remedy: str = "") -> Answer:
    return Answer(NOT_TESTED, why, remedy)


def first_items(items: list[str], most: int = 4) -> str:
    """Return the first items of a list, as words of a sentence."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
