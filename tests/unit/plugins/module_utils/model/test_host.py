# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine takes of its host beside its own memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SHARED


@pytest.mark.parametrize(
    ("overhead", "memory", "vcpu", "mib"),
    [
        (Overhead(), 4096, 8, 0),
        (Overhead(fixed=64), 4096, 8, 64),
        (Overhead(vcpu=8), 4096, 4, 32),
        (Overhead(share=0.01), 1000, 1, 10),
        (Overhead(64, 8, 0.01), 1000, 2, 90),
        # A machine that does not say how many processors it has gets one.
        (Overhead(vcpu=8), 4096, None, 8),
        # A part of a MiB is a whole one: it has to be there.
        (Overhead(fixed=0.1), 1, 1, 1),
        (Overhead(share=0.5), 3, 1, 2),
    ],
)
def test_what_a_machine_takes_besides_is_counted_in_whole_mib(
    overhead: Overhead, memory: int, vcpu: int | None, mib: int
) -> None:
    assert overhead.of(memory, vcpu) == mib


@given(
    st.builds(Overhead, *[st.floats(min_value=0, max_value=100)] * 3),
    st.integers(min_value=1, max_value=1 << 20),
    st.integers(min_value=1, max_value=128),
)
@settings(max_examples=50)
def test_a_larger_machine_takes_no_less(overhead: Overhead, memory: int, vcpu: int) -> None:
    least = overhead.of(memory, vcpu)
    assert 0 <= least <= overhead.of(memory + 1, vcpu)
    assert least <= overhead.of(memory, vcpu + 1)


def test_a_host_that_was_not_looked_at_promises_nothing_twice_and_has_nothing() -> None:
    host = Host(None, "node1")
    assert (host.state, host.memory, host.cpu, host.vms) == (HostState.INIT, 0, 0.0, 0)
    assert (host.memory_overcommit, host.cpu_overcommit) == (1.0, 1.0)
    assert (host.transfer, host.overhead.of(1024, 2)) == (SHARED, 0)
