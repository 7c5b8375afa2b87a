# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the memory of a running container: the limits of its cgroup, which hold at once."""

from __future__ import annotations

from typing import Any

from ...errors import InUse, Unsupported
from . import container_xml

HARD, SWAP = "hard_limit", "swap_hard_limit"
# libvirt's word for no limit, in KiB.
UNLIMITED = (1 << 53) - 1
MIB = 1024


def memory_limit(domain: Any, live: int) -> int:
    """Return the KiB that a running container may have; 0 if nothing says it."""
    found = int(domain.memoryParameters(live).get(HARD, UNLIMITED))
    return found if found < UNLIMITED else 0


def adjust(domain: Any, live: int, text: str, apart: bool, asked: str) -> bool:
    """Set the limits of a running container to those of a definition. Return False if they are the same. Raise InUse
    for a container that takes more. Whoever calls it explains what libvirt says.
    live: libvirt's flag for what runs.
    text: the definition.
    apart: the kernel counts swap by itself (cgroups of version 2), and ends processes of a container that takes
    more than a new limit, where it says no otherwise."""
    memory, swap = container_xml.memory_limits(text)
    had, had_swap = container_xml.memory_limits(domain.XMLDesc(0))
    if (had, had_swap) == (memory, swap):
        return False
    shown = f"{asked}: MEMORY = {memory // MIB}"
    if apart and swap is not None and memory > swap:
        raise Unsupported(shown, "libvirt takes no limit of memory above that of swap", "Power it off first")
    if apart and memory < had:
        taken = domain.info()[2]
        # Part of it is of files, which could be let go: nothing tells how much.
        if taken > memory:
            raise InUse(
                shown,
                f"it takes {-(-taken // MIB)} MB, with what it has of files, and its kernel would end processes of it",
                "Power it off first, or give it more",
            )
    limits = {} if had_swap == swap else {SWAP: UNLIMITED if swap is None else swap}
    # There is no moment in which the limit of memory is above that of both.
    steps = [{HARD: had, **limits}, {HARD: memory}] if memory > had else [{HARD: memory}, {HARD: memory, **limits}]
    for step in steps:
        domain.setMemoryParameters(step, live)
    return True
