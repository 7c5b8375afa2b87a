# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which backups of a machine are kept: the last ones, and the newest of each of the last days, weeks and months
that have any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from ..dataclass import dataclass
from ..errors import InvalidValue
from .machine_backup import MachineBackup

LAST, DAILY, WEEKLY, MONTHLY = "last", "daily", "weekly", "monthly"
KEYS = (LAST, DAILY, WEEKLY, MONTHLY)
MOST = 100_000
_DAY = 86400


def _month(day: int) -> int:
    """Return which month of the calendar a day is in, each with a number of its own. day: days since 1970."""
    # Years begin with March here, so that the day of a leap year is their last; 400 of them are alike.
    era, of_era = divmod(day + 719468, 146097)
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    return (era * 400 + year) * 12 + (5 * of_year + 2) // 153


_PERIODS: dict[str, Callable[[int], int]] = {
    DAILY: lambda time: time // _DAY,
    # By ISO 8601: Monday is first, and 1970 began on a Thursday.
    WEEKLY: lambda time: (time // _DAY + 3) // 7,
    MONTHLY: lambda time: _month(time // _DAY),
}


def checked(keep: Mapping[str, object], asked: str) -> dict[str, int]:
    """Return the rules with all their keys. Raise InvalidValue for others, and for rules that keep nothing."""
    rules = dict.fromkeys(KEYS, 0)
    for name, count in keep.items():
        if name not in rules:
            raise InvalidValue(f"{asked}: {name}", "there is no such rule", f"Choose of {', '.join(KEYS)}")
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST:
            raise InvalidValue(
                f"{asked}: {name}: {count}", f"it is no number from 0 to {MOST}", "Give how many to keep"
            )
        rules[name] = count
    if keep and not any(rules.values()):
        raise InvalidValue(asked, "no backup would be kept", "Keep one at least: last: 1")
    return rules


def kept(backups: Sequence[MachineBackup], keep: Mapping[str, int]) -> set[str]:
    """Return the ids of the backups of one machine that are kept; without rules, of all. Times are UTC's. What others
    rest on is not looked at here: whoever deletes merges them.
    backups: the oldest first, where several have one time"""
    if not any(keep.values()):
        return {backup.id for backup in backups}
    newest_first = sorted(backups, key=lambda backup: backup.time)[::-1]
    found = {backup.id for backup in newest_first[: keep.get(LAST, 0)]}
    for name, period_of in _PERIODS.items():
        periods: set[int] = set()
        for backup in newest_first:
            if len(periods) >= keep.get(name, 0):
                break
            period = period_of(backup.time)
            if period not in periods:
                periods.add(period)
                found.add(backup.id)
    return found


@dataclass(frozen=True)
class Merge:
    """Says that backups, each of which rests on the one before it, become part of the next.
    expired: their ids, the oldest first. into: the id of the one that rests on the last of them."""

    expired: tuple[str, ...]
    into: str


@dataclass(frozen=True)
class Expiry:
    """Says how backups go. removed: ids of those on which nothing rests, in this order."""

    removed: tuple[str, ...] = ()
    merges: tuple[Merge, ...] = ()


def expiry(backups: Sequence[MachineBackup], keep: set[str]) -> Expiry:
    """Return how all but these go, so that no chain breaks: one on which nothing rests is removed, one on which a
    single other rests is merged into that. Others stay until they are such. keep: ids."""
    left = {backup.id: backup.parent for backup in backups}
    removed: list[str] = []
    while leaves := sorted(id for id in left if id not in keep and id not in left.values()):
        removed += leaves
        for id in leaves:
            del left[id]
    children: dict[str, list[str]] = {}
    for id, parent in left.items():
        children.setdefault(parent, []).append(id)

    def is_merged(id: str) -> bool:
        return id in left and id not in keep and len(children.get(id, ())) == 1

    merges = []
    for id in sorted(left):
        if is_merged(id) and not is_merged(left[id]):
            expired = [id]
            while is_merged(child := children[expired[-1]][0]):
                expired.append(child)
            merges.append(Merge(tuple(expired), child))
    return Expiry(tuple(removed), tuple(merges))
