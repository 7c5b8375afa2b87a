# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each machine has ids of its own, which nobody else of the host has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import (
    BASES,
    COUNT,
    RANGES,
    IdRange,
    id_range,
)

# systemd's documentation of users and groups: what it leaves to containers.
CONTAINERS = IdRange(524288, 1879048191 - 524288 + 1)
machines = st.integers(0, 2**40)


@given(machines)
def test_a_range_is_in_what_systemd_leaves_to_containers(vm_id):
    ids = id_range(vm_id)
    assert ids.count == COUNT and CONTAINERS.holds(ids.start) and CONTAINERS.holds(ids.start + ids.count - 1)
    assert ids.start % COUNT == 0 and not ids.overlaps(BASES)
    # /etc/subuid's first users, and OpenNebula's.
    assert ids.start > 600100000 + COUNT


@given(machines, machines)
def test_two_machines_have_different_ones_unless_their_ids_differ_by_all_that_there_are(one, other):
    assert id_range(one).overlaps(id_range(other)) == ((one - other) % RANGES == 0)


def test_images_belong_to_nobody():
    assert CONTAINERS.holds(BASES.start + BASES.count - 1) and BASES.start == id_range(RANGES - 1).start + COUNT


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [(IdRange(5, 5), False), (IdRange(15, 5), True), (IdRange(20, 5), False), (IdRange(0, 11), True)],
)
def test_overlaps(other, overlaps):
    mine = IdRange(10, 10)
    assert mine.overlaps(other) is overlaps and other.overlaps(mine) is overlaps


def test_the_line_of_a_map():
    assert id_range(7).line() == "0 604438528 65536" and IdRange(5, 2).line(9) == "9 5 2"
    assert IdRange(5, 2).holds(6) and not IdRange(5, 2).holds(7) and not IdRange(5, 2).holds(4)


def test_an_id_below_zero_is_refused():
    with pytest.raises(InvalidValue, match="not negative"):
        id_range(-1)
