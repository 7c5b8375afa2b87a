# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells how a host's part in OVN differs from what a run would make of it, as findings of an audit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import NebulaError
from ...model.audit_finding import Finding
from ...model.dataclass_json import to_plain
from .paths import Change

KIND = "ovn-differs"
REMEDY = "Run nebula.provision.ovn again"
_REMOVE = (
    "Run nebula.provision.ovn again, which removes that chassis unless it is alive, or its host is in the inventory. "
    "In an OVN of somebody else (nebula_ovn_remote) do so on the central host: ovn-sbctl chassis-del {}"
)
# Characters of a value that are shown.
LONGEST = 80


def of_change(host: str, asked: str, change: Change, held_by: str = "") -> list[dict[str, Any]]:
    """Return a finding for what would be changed.
    asked: what of the host it is about
    held_by: the chassis that has the host's place in the southbound database, "" for none"""
    if change.before == change.after:
        return []
    if change.before is None:
        found = "it is not set up for this catalog"
    else:
        found = ", ".join(_pairs(change.before, change.after or {}))
    return [
        finding_view(Finding(KIND, host, asked, found, _REMOVE.format(shlex.quote(held_by)) if held_by else REMEDY))
    ]


def of_error(host: str, error: NebulaError) -> list[dict[str, Any]]:
    return [finding_view(Finding(KIND, host, error.asked, error.found, error.remedy))]


def of_unknown_chassis(name: str, address: str) -> dict[str, Any]:
    """Return a finding for a chassis that no host of the inventory has."""
    quoted = shlex.quote(name)
    found = (
        f"it has the tunnels' address {address or '(none)'}, and the inventory has no host of that name. A host that "
        "comes to have this address is refused"
    )
    remedy = (
        f"If that host is gone for good, run nebula.provision.forget_host -e nebula_lost_host={quoted}, which removes "
        f"it (on the central host that is ovn-sbctl chassis-del {quoted}). Else name it in nebula_nodes"
    )
    return finding_view(Finding(KIND, "", f"chassis {name} in OVN", found, remedy))


def finding_view(finding: Finding) -> dict[str, Any]:
    """Return the finding as nebula_info shows findings of an audit."""
    return {**to_plain(finding), "sentence": str(finding)}


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        name = f"{path}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _pairs(old, new, f"{name}: ")
        elif old != new:
            yield f"{name} is {_short(old)} and is to be {_short(new)}"


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
