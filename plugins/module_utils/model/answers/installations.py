# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers after waiting for installations (nebula_install_wait's `waited`), before it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ...dataclass import dataclass
from . import answer_bounds, by_host
from .observed import MOST_ID, MOST_VMS

# No installation is watched as long as this.
MOST_SECONDS = 1 << 31
MOST_LINES = 100


@dataclass(frozen=True)
class Waited:
    """Holds what became of an installation, under the names that nebula_install_wait has for it. vm_id is None only
    where no node is named."""

    name: str
    vm_id: Optional[int] = None
    installed: bool = False
    how: str = ""
    seconds: float = 0.0
    percent: int = 0
    last_lines: tuple[str, ...] = ()


def read(answers: Iterable[Mapping[str, Any]]) -> tuple[dict[str, tuple[Waited, ...]], dict[str, str]]:
    """Return by host what its node says of installations, and by host why that was refused."""
    return by_host.read(answers, "waited", _read_installations)


def _read_installations(host: str, given: list[Any], what: str) -> tuple[Waited, ...]:
    found = by_host.entries(Waited, given, what, MOST_VMS)
    for each in found:
        check_machine(host, each.vm_id, each.seconds, each.last_lines, what)
        answer_bounds.check_number(each.percent, 0, 100, what, "percent")
    if host and len({each.name for each in found}) != len(found):
        raise answer_bounds.refusal(what, "it tells of an installation twice")
    return found


def check_machine(host: str, vm_id: int | None, seconds: float, lines: tuple[str, ...], what: str) -> None:
    """Raise InvalidValue for what no node says of a machine that it has watched."""
    if vm_id is not None:
        answer_bounds.check_number(vm_id, 0, MOST_ID, what, "the id of a machine")
    elif host:
        raise answer_bounds.refusal(what, "it does not say of which machine it tells")
    if not 0 <= seconds <= MOST_SECONDS:
        raise answer_bounds.refusal(what, f"seconds is {seconds}")
    answer_bounds.check_count(lines, MOST_LINES, what, "it has {} last lines")
