# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of memory of containers that run, as libvirt is asked for them: tests/integration/test_lxc.py has a real one
do it, with cgroups of version 1. A domain here knows what libvirt would of it, and refuses what libvirt refuses."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import live_memory
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.live_memory import (
    HARD,
    MIB,
    SWAP,
    UNLIMITED,
)

LIVE = 1


class Domain:
    def __init__(self, wanted: str, memory: int, swap: int = UNLIMITED, taken: int = 1) -> None:
        self.wanted = wanted
        self.limits = {HARD: memory, SWAP: swap, "soft_limit": UNLIMITED}
        self.taken = taken
        self.steps = 0

    def memoryParameters(self, flags: int) -> dict[str, int]:
        assert flags == LIVE
        return dict(self.limits)

    def setMemoryParameters(self, wanted: dict[str, int], flags: int) -> None:
        assert flags == LIVE
        after = {**self.limits, **wanted}
        assert after[HARD] <= after[SWAP], "libvirt and the kernel refuse it"
        # One file is written after the other, the limit of memory first unless it becomes larger.
        assert wanted.get(HARD, 0) <= self.limits[SWAP], "the kernel refuses it"
        self.limits, self.steps = after, self.steps + 1

    def XMLDesc(self, flags: int) -> str:
        swap = self.limits[SWAP]
        # What it was started with stays there as its memory.
        return definition(1, None if swap == UNLIMITED else swap, self.limits[HARD])

    def info(self) -> list[int]:
        return [1, 0, self.taken, 1, 0]


def definition(memory: int, swap: int | None = None, hard: int | None = None) -> str:
    limits = (("hard_limit", hard), ("swap_hard_limit", swap))
    tuned = "".join(f"<{name} unit='KiB'>{value}</{name}>" for name, value in limits if value is not None)
    return f"<domain type='lxc'><memory unit='KiB'>{memory}</memory><memtune>{tuned}</memtune></domain>"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, None), (256, None)),
        ((64, None), (256, 288)),
        ((64, 96), (256, 288)),
        ((256, 288), (64, 96)),
        ((256, 288), (64, None)),
        ((64, 64), (65, 65)),
        ((64, 96), (64, 128)),
    ],
)
def test_each_comes_to_the_other_and_is_left_alone_then(
    before: tuple[int, int | None], after: tuple[int, int | None]
) -> None:
    text = definition(after[0] * MIB, None if after[1] is None else after[1] * MIB)
    domain = Domain(text, before[0] * MIB, UNLIMITED if before[1] is None else before[1] * MIB)
    assert live_memory.adjust(domain, LIVE, domain.wanted, False, "changing it")
    assert domain.limits[HARD] == after[0] * MIB == live_memory.memory_limit(domain, LIVE)
    assert domain.limits[SWAP] == (UNLIMITED if after[1] is None else after[1] * MIB)
    steps = domain.steps
    assert not live_memory.adjust(domain, LIVE, domain.wanted, False, "changing it") and domain.steps == steps


def test_where_the_kernel_would_end_processes_one_that_takes_more_is_refused() -> None:
    text = definition(64 * MIB)
    domain = Domain(text, 256 * MIB, taken=128 * MIB)
    with pytest.raises(InUse, match=r"changing it: MEMORY = 64: it takes 128 MB.* and its kernel would end processes"):
        live_memory.adjust(domain, LIVE, domain.wanted, True, "changing it")
    assert domain.steps == 0
    # Elsewhere the kernel itself says no.
    assert live_memory.adjust(domain, LIVE, domain.wanted, False, "changing it")
    assert live_memory.adjust(Domain(text, 256 * MIB, taken=32 * MIB), LIVE, text, True, "changing it")


def test_what_libvirt_takes_at_no_time_is_refused_by_name() -> None:
    domain = Domain(definition(256 * MIB, 32 * MIB), 64 * MIB, 64 * MIB)
    with pytest.raises(Unsupported, match="MEMORY = 256: libvirt takes no limit of memory above that of swap"):
        live_memory.adjust(domain, LIVE, domain.wanted, True, "changing it")
    assert domain.steps == 0


def test_one_without_a_limit_has_none() -> None:
    assert live_memory.memory_limit(Domain("", UNLIMITED), LIVE) == 0
