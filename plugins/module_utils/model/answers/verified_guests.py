# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers after it has waited for guests (nebula_verify's `vms`), before it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Optional

from ...dataclass import dataclass
from . import answer_bounds, by_host
from .installations import check_machine
from .observed import MOST_VMS

EVIDENCE = frozenset(("", "console", "login", "agent", "address"))
MOST_MISSING = 1000


@dataclass(frozen=True)
class Verified:
    """Holds what became of a guest, under the names that nebula_verify has for it, but for words, which is its `said`.
    vm_id is None only where no node is named."""

    name: str
    vm_id: Optional[int] = None
    verified: bool = False
    seconds: float = 0.0
    evidence: str = ""
    words: str = ""
    missing: tuple[str, ...] = ()
    tried: Mapping[str, str] = field(default_factory=dict)
    last_lines: tuple[str, ...] = ()


def read(answers: Iterable[Mapping[str, Any]]) -> tuple[dict[str, tuple[Verified, ...]], dict[str, str]]:
    """Return by host what its node says of guests, and by host why that was refused."""
    return by_host.read(answers, "vms", _read_guests)


def _read_guests(host: str, given: list[Any], what: str) -> tuple[Verified, ...]:
    if any(isinstance(each, Mapping) and "words" in each for each in given):
        raise answer_bounds.refusal(what, "it has a key 'words'")
    named = [
        {"words" if key == "said" else key: value for key, value in each.items()} if isinstance(each, Mapping) else each
        for each in given
    ]
    found = by_host.entries(Verified, named, what, MOST_VMS)
    for each in found:
        check_machine(host, each.vm_id, each.seconds, each.last_lines, what)
        if each.evidence not in EVIDENCE or not EVIDENCE.issuperset(each.tried):
            raise answer_bounds.refusal(what, "it tells of a kind of evidence that there is not")
        answer_bounds.check_count(each.missing, MOST_MISSING, what, "a guest lacks {} things")
    if host and len({each.name for each in found}) != len(found):
        raise answer_bounds.refusal(what, "it tells of a machine twice")
    return found
