# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives each machine the ids of the host that its container's users have: a range in which its root is the first."""

from __future__ import annotations

from ..dataclass import dataclass
from ..errors import InvalidValue

# As many as a system of its own has users: 0 to 65535.
COUNT = 65536
# Above what distributions give to users for their containers (/etc/subuid: 100000 and on) and OpenNebula to its own
# (600100000), within what systemd leaves to containers (524288 to 1879048191).
FIRST = 0x24000000
# The number of ranges. Machines whose ids differ by it have the same range: a node does not run both.
RANGES = 16384


@dataclass(frozen=True)
class IdRange:
    """Describes a range of ids, the same for users and groups. start: the id on the host of the container's root."""

    start: int
    count: int = COUNT

    def line(self, inside: int = 0) -> str:
        """Return the range as the kernel takes it for a user namespace in which it begins with the id `inside`."""
        return f"{inside} {self.start} {self.count}"

    def holds(self, uid: int) -> bool:
        return self.start <= uid < self.start + self.count

    def overlaps(self, other: IdRange) -> bool:
        return self.start < other.start + other.count and other.start < self.start + self.count


# Whom unpacked images belong to, of which machines have copies: to nobody, and least of all to the host's root.
BASES = IdRange(FIRST + RANGES * COUNT)


def id_range(vm_id: int) -> IdRange:
    """Return the range of a machine. Whoever starts it makes sure that no other machine of the node has the same."""
    if vm_id < 0:
        raise InvalidValue(f"the range of ids of machine {vm_id}", "ids of machines are not negative")
    return IdRange(FIRST + vm_id % RANGES * COUNT)
