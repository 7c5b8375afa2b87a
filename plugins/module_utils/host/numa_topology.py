# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which nodes of memory and processors (NUMA) this host has, from the kernel's sysfs."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from ..model.host import HostNode

SYSTEM = "/sys/devices/system"
MEMINFO = "/proc/meminfo"
_NODE = re.compile(r"node([0-9]{1,4})")
_PAGES = re.compile(r"hugepages-([0-9]{1,9})kB")


def nodes(allowed: Collection[int], system: str = SYSTEM, meminfo: str = MEMINFO) -> tuple[HostNode, ...]:
    """Return the host's nodes in the order of their numbers; none where the kernel tells of none.
    allowed: numbers of the processors that machines can have."""
    try:
        names = os.listdir(f"{system}/node")
    except OSError:
        return ()
    numbers = sorted(int(found[1]) for name in names if (found := _NODE.fullmatch(name)))
    # An only node has all of the host's memory. What it says by itself is less, and not the same each time, in a
    # virtual machine that gets its memory as it uses it.
    whole = meminfo if len(numbers) == 1 else ""
    return tuple(_node(number, f"{system}/node/node{number}", frozenset(allowed), system, whole) for number in numbers)


def usable(system: str = SYSTEM, groups: str = "/sys/fs/cgroup") -> frozenset[int]:
    """Return the numbers of the processors that machines of this host can have: those that it was given, if it is a
    container itself. What the kernel keeps other processes from (isolcpus=) is among them."""
    online = frozenset(numbers_of(_read(f"{system}/cpu/online")))
    for name in ("cpuset.cpus.effective", "cpuset/cpuset.effective_cpus"):
        given = frozenset(numbers_of(_read(f"{groups}/{name}")))
        if given:
            return online & given
    return online


def numbers_of(text: str) -> list[int]:
    """Return the numbers of a list as the kernel writes it: 0-3,8."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _dash, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _node(number: int, place: str, allowed: frozenset[int], system: str, meminfo: str) -> HostNode:
    memory = 0
    for line in _read(meminfo or f"{place}/meminfo").splitlines():
        words = line.split()
        if "MemTotal:" in words:
            memory = int(words[words.index("MemTotal:") + 1]) // 1024
    pages = {}
    for name in sorted(_names(f"{place}/hugepages")):
        found = _PAGES.fullmatch(name)
        size = int(found[1]) // 1024 if found else 0
        count = int(_read(f"{place}/hugepages/{name}/nr_hugepages") or "0") if size else 0
        if count:
            pages[str(size)] = count
    aside = sum(int(size) * count for size, count in pages.items())
    cores: dict[tuple[int, ...], None] = {}
    for cpu in numbers_of(_read(f"{place}/cpulist")):
        if cpu in allowed:
            siblings = numbers_of(_read(f"{system}/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu))
            cores[tuple(each for each in siblings if each in allowed)] = None
    distances = tuple(int(word) for word in _read(f"{place}/distance").split())
    return HostNode(number, max(0, memory - aside), tuple(cores), pages, distances)


def _names(place: str) -> list[str]:
    try:
        return os.listdir(place)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
