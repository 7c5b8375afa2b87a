# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of an item of a list of machines, and what of it is not as the list says."""

from __future__ import annotations

from dataclasses import field

from ...dataclass import dataclass
from ...engines.ports import VmRecord
from ...errors import (
    NebulaError,
)
from ...model.changes import Change
from ...model.ids import id_of
from ...model.image import Image
from ...printable import printable


@dataclass(frozen=True)
class Difference:
    """What the list asks of a machine and is not so, nor becomes so. what: in which way, found and wanted with it;
    remedy: what the user can do."""

    name: str
    id: int
    host: str
    attribute: str
    found: str
    wanted: str
    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        return printable(f"VM {self.name} (id {self.id}) {self.what}; left as it is: {self.remedy}")


@dataclass
class Outcome:
    """What was decided. before and after are None where there is no machine; changes: what becomes different of its
    template; differences: what was found different and left alone; destroys: disks go with what they hold;
    saves: by number of disk, the image as which it is to be saved, of what is not under way or done."""

    name: str
    before: VmRecord | None = None
    after: VmRecord | None = None
    error: NebulaError | None = None
    changes: list[Change] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    destroys: bool = False
    saves: dict[int, Image] = field(default_factory=dict)

    @property
    def differs(self) -> tuple[str, ...]:
        """The differences as sentences."""
        return tuple(each.sentence for each in self.differences)

    def left(self, record: VmRecord, attribute: str, found: str, wanted: str, what: str, remedy: str) -> None:
        self.differences.append(
            Difference(record.name, id_of(record), record.host, attribute, found, wanted, what, remedy)
        )
