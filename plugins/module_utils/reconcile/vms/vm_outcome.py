# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what became of an item of a list of machines, and what stays different from the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...engines.ports import VmRecord
from ...errors import NebulaError
from ...model.image import Image
from ...model.object_ids import id_of
from ...model.template_changes import Change
from ...model.waiting_changes import PartChange
from ...printable import printable
from .vm_item import Spec


@dataclass(frozen=True)
class Difference:
    """Describes what the list wants of a machine, and what the machine neither has nor gets.
    what: the difference in words, with what was found and what is wanted
    remedy: what the user can do
    until: what it has to wait for, in a few words"""

    name: str
    id: int
    host: str
    attribute: str
    found: str
    wanted: str
    what: str
    remedy: str
    until: str = ""

    @property
    def sentence(self) -> str:
        return printable(f"VM {self.name} (id {self.id}) {self.what}; left as it is: {self.remedy}")


@dataclass
class Outcome:
    """Holds what was decided about a machine.
    before, after: None where there is no machine
    changes: what becomes different in its template
    spec: the item, of a machine that is there and stays
    parts: the same of a running machine, part by part, with when it changes
    differences: what was found different and left alone
    destroys: disks are lost with their content
    saves: by number of the disk, the image as which it is to be saved, if that is not under way or done
    moves: how it would move to another host, in check mode"""

    name: str
    before: VmRecord | None = None
    after: VmRecord | None = None
    error: NebulaError | None = None
    changes: list[Change] = field(default_factory=list)
    parts: list[PartChange] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    destroys: bool = False
    saves: dict[int, Image] = field(default_factory=dict)
    spec: Spec | None = None
    moves: Mapping[str, Any] | None = None

    @property
    def differs(self) -> tuple[str, ...]:
        """Return the differences as sentences."""
        return tuple(each.sentence for each in self.differences)

    def left(
        self, record: VmRecord, attribute: str, found: str, wanted: str, what: str, remedy: str, until: str
    ) -> None:
        self.differences.append(
            Difference(record.name, id_of(record), record.host, attribute, found, wanted, what, remedy, until)
        )
