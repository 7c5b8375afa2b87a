# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a host answers of backups of machines (nebula_machine_backup's `backups`), before it is shown or reported.
What machines are called, where they are, and which host writes their backups, its reader knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ...dataclass import dataclass
from ..machine_backup import FULL, INCREMENTAL
from . import answer_bounds, by_host
from .observed import MOST_VMS

FORETOLD = "would"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KINDS = ("", FULL, INCREMENTAL, FORETOLD)
# A machine has that many backups, of which each may be told.
MOST_BACKUPS = 10_000
MOST_TEXTS = 1000
LONGEST = 4000
MOST_BYTES = 1 << 50
MOST_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class BackedUp:
    """Holds what became of one backup of a machine, under the names that nebula_machine_backup has for it.
    catalog: whose machine it is, where it is another one than that of the run; else ""."""

    vm_id: int
    name: str = ""
    catalog: str = ""
    host: str = ""
    id: str = ""
    kind: str = ""
    reason: str = ""
    consistency: str = ""
    size: int = 0
    stored: int = 0
    seconds: float = 0.0
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""


def read(host: str, answer: Any) -> Optional[tuple[BackedUp, ...]]:
    """Return what a host's registered result has of backups; None if it is no answer of the module. Raise InvalidValue
    for what no host can mean."""
    what = f"host {host}: what it answered of backups"
    found = answer.get("backups") if isinstance(answer, Mapping) else None
    if found is None:
        return None
    answer_bounds.check_size(found, what)
    if not isinstance(found, (list, tuple)):
        raise answer_bounds.refusal(what, f"it is a {type(found).__name__}, and not a list")
    outcomes = by_host.entries(BackedUp, [*found], what, MOST_VMS + MOST_BACKUPS)
    for each in outcomes:
        answer_bounds.check_number(each.vm_id, 0, answer_bounds.LARGEST_NUMBER, what, "the id of a machine")
        answer_bounds.check_number(each.size, 0, MOST_BYTES, what, "size")
        answer_bounds.check_number(each.stored, 0, MOST_BYTES, what, "stored")
        answer_bounds.check_number(each.seconds, 0, MOST_SECONDS, what, "seconds")
        answer_bounds.check_count((*each.removed, *each.warnings), MOST_TEXTS, what, "it tells {} things of a machine")
        if each.kind not in KINDS:
            raise answer_bounds.refusal(what, "it tells of a kind of backup that there is not")
        if each.catalog and not _UUID.fullmatch(each.catalog):
            raise answer_bounds.refusal(what, "it tells of a catalog that has no UUID")
        texts = (each.name, each.id, each.reason, each.consistency, each.error, *each.removed, *each.warnings)
        if any(len(text) > LONGEST for text in texts):
            raise answer_bounds.refusal(what, f"a text has more than {LONGEST} characters")
    return outcomes
