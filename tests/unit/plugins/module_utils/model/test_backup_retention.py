# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups are kept, and how the others go: by a table, and by properties that hold for any."""

from __future__ import annotations

import calendar
import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.backup_retention import (
    KEYS,
    Expiry,
    Merge,
    checked,
    expiry,
    kept,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    INCREMENTAL,
    MachineBackup,
)


def backup(id: str, when: int = 0, parent: str = "") -> MachineBackup:
    kind = INCREMENTAL if parent else FULL
    return MachineBackup(id, "", 1, "", "", "", "kvm", when, kind, "", CRASH_CONSISTENT, "", (), parent=parent)


def at(text: str) -> MachineBackup:
    return backup(text, calendar.timegm(time.strptime(text, "%Y-%m-%d %H")))


DAYS = [
    *("2025-12-28 23", "2025-12-29 00", "2025-12-31 12", "2026-01-01 01", "2026-01-01 02"),
    *("2026-01-04 23", "2026-01-05 00", "2026-02-01 00"),
]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({}, DAYS),
        ({"last": 0}, DAYS),
        ({"last": 1}, DAYS[-1:]),
        ({"last": 3}, DAYS[-3:]),
        ({"daily": 3}, ["2026-02-01 00", "2026-01-05 00", "2026-01-04 23"]),
        ({"daily": 4}, ["2026-02-01 00", "2026-01-05 00", "2026-01-04 23", "2026-01-01 02"]),
        # Weeks begin on Mondays: 2025-12-29 to 2026-01-04 is one, across the years.
        ({"weekly": 4}, ["2026-02-01 00", "2026-01-05 00", "2026-01-04 23", "2025-12-28 23"]),
        ({"monthly": 2}, ["2026-02-01 00", "2026-01-05 00"]),
        ({"monthly": 12}, ["2026-02-01 00", "2026-01-05 00", "2025-12-31 12"]),
        ({"last": 1, "monthly": 3, "daily": 1}, ["2026-02-01 00", "2026-01-05 00", "2025-12-31 12"]),
    ],
)
def test_what_is_kept(keep: dict[str, int], expected: list[str]) -> None:
    assert kept([at(day) for day in DAYS], keep) == set(expected)


def test_of_one_time_the_last_is_the_newest() -> None:
    assert kept([backup("2", 5), backup("1", 5, "2"), backup("3", 4)], {"last": 1}) == {"1"}


@pytest.mark.parametrize(
    ("keep", "text"),
    [({"hourly": 1}, "no such rule"), ({"last": -1}, "no number"), ({"last": True}, "no number"), ({"last": 0}, "no")],
)
def test_rules_that_can_not_be_meant(keep: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidValue, match=text):
        checked(keep, "nebula_machine_backup_keep")
    assert checked({"daily": 2}, "x") == {"last": 0, "daily": 2, "weekly": 0, "monthly": 0}


@given(st.integers(0, 130_000), st.integers(0, 130_000))
def test_months_are_those_of_the_calendar(one: int, other: int) -> None:
    first, second = (datetime.date(1970, 1, 1) + datetime.timedelta(days) for days in (one, other))
    same = (first.year, first.month) == (second.year, second.month)
    found = kept([backup("1", one * 86400), backup("2", other * 86400 + 1)], {"monthly": 2})
    assert (len(found) == 1) == same


RULES = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 5))
TIMES = st.lists(st.integers(0, 300).map(lambda half: half * 43200), unique=True, max_size=25)


@given(TIMES, RULES, st.sampled_from(KEYS))
def test_rules_keep_the_newest_and_more_where_they_say_more(times: list[int], rules: dict[str, int], name: str) -> None:
    backups = [backup(str(time), time) for time in times]
    found = kept(backups, rules)
    if times:
        assert str(max(times)) in found
    assert found <= {each.id for each in backups}
    if any(rules.values()):
        assert found <= kept(backups, {**rules, name: rules.get(name, 0) + 1})
        assert len(found) <= sum(rules.values())
        # What is kept now is kept if it is looked at again.
        assert kept([each for each in backups if each.id in found], rules) == found


@st.composite
def forests(draw: st.DrawFn) -> list[MachineBackup]:
    """Backups, each a full one or on one before it."""
    found: list[MachineBackup] = []
    for number in range(draw(st.integers(0, 14))):
        parent = draw(st.integers(-1, number - 1))
        found.append(backup(f"{number:02}", number, f"{parent:02}" if parent >= 0 else ""))
    return found


@given(forests(), st.sets(st.integers(0, 14)))
def test_no_chain_breaks(backups: list[MachineBackup], numbers: set[int]) -> None:
    keep = {f"{number:02}" for number in numbers}
    parents = {each.id: each.parent for each in backups}
    found = expiry(backups, keep)
    for id in found.removed:
        assert id not in parents.values() and id not in keep
        del parents[id]
    for merge in found.merges:
        below = [id for id, parent in parents.items() if parent == merge.expired[-1]]
        assert below == [merge.into]
        for lower, upper in zip(merge.expired, merge.expired[1:]):
            assert [id for id, parent in parents.items() if parent == lower] == [upper]
        parents[merge.into] = parents[merge.expired[0]]
        for id in merge.expired:
            assert id not in keep
            del parents[id]
    assert keep & {each.id for each in backups} <= set(parents)
    assert all(not parent or parent in parents for parent in parents.values())
    # Others stay only where several rest on them.
    for id in set(parents) - keep:
        assert sum(parent == id for parent in parents.values()) > 1
    left = [backup(id, 0, parent) for id, parent in parents.items()]
    assert expiry(left, keep) == Expiry()


def test_several_in_a_row_are_merged_at_once() -> None:
    chain = [backup("1"), backup("2", 2, "1"), backup("3", 3, "2"), backup("4", 4, "3"), backup("5", 5, "4")]
    assert expiry(chain, {"3", "5"}) == Expiry((), (Merge(("1", "2"), "3"), Merge(("4",), "5")))
    assert expiry(chain, {"2"}) == Expiry(("5", "4", "3"), (Merge(("1",), "2"),))
