# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Current and desired to changed and diff. The one place where that is decided, for real runs and check mode alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from .dataclass import dataclass
from .errors import NebulaError

# Errors that one message tells in full.
SHOWN = 50


@dataclass
class Item:
    """Says what a run did (or would do) with one object.
    before, after: the object as shown to users, without secrets.
    view: the object as results show it, where that is not `after`."""

    name: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    error: NebulaError | None = None
    changed: bool | None = None
    view: Mapping[str, Any] | None = None

    @property
    def is_changed(self) -> bool:
        return self.before != self.after if self.changed is None else self.changed


@dataclass
class Result:
    """Holds a module's whole answer.
    payload: what goes beside changed and diff, already in its final form.
    renews: something is made anew as this release makes it, and is what it was to users."""

    items: list[Item] = field(default_factory=list)
    payload: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    renews: bool = False

    @property
    def changed(self) -> bool:
        return any(item.is_changed for item in self.items)

    @property
    def errors(self) -> list[Item]:
        return [item for item in self.items if item.error is not None]

    def diff(self) -> list[dict[str, str]]:
        return [
            {
                "before_header": item.name,
                "after_header": item.name,
                "before": as_text(item.before),
                "after": as_text(item.after),
            }
            for item in self.items
            if item.is_changed
        ]


def as_text(value: Mapping[str, Any] | None) -> str:
    if not value:
        return ""
    return json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False) + "\n"


def differences(current: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `desired` whose values differ; what the user did not set (None or absent) never does."""
    return {key: value for key, value in desired.items() if value is not None and current.get(key) != value}


def summary(failed: Sequence[Item]) -> str:
    """Return one message for all that failed, the first in full."""
    texts = [f"{item.error}" for item in failed]
    if len(texts) == 1:
        return texts[0]
    shown = texts[:SHOWN]
    rest = len(texts) - len(shown)
    return f"{len(texts)} failed:\n" + "\n".join(f"- {t}" for t in shown) + (f"\n… and {rest} more" if rest else "")
