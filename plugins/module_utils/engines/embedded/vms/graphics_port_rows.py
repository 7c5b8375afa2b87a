# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds and frees the ports of machines' graphics consoles: it knows how long a port stays the machine's."""

from __future__ import annotations

from ....dataclass import dataclass
from ..store import Store


@dataclass(frozen=True)
class GraphicsPortRows:
    """Writes the rows of ports that graphics_ports.py has given."""

    store: Store

    def hold(self, vm_id: int) -> None:
        """Keep a port that the machine is to have no more from others until its node has made the change, as the
        machine's domain listens there until then. Such a port is written below 0. The machine itself can have it
        again."""
        self.store.db.execute("UPDATE OR REPLACE vnc_ports SET port = -port WHERE vm_id = ? AND port > 0", (vm_id,))

    def drop_held(self, vm_id: int) -> None:
        """Free what hold() has kept."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port < 0", (vm_id,))

    def drop(self, vm_id: int) -> None:
        """Free the port that the machine has, and leave what is held for it."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port > 0", (vm_id,))

    def drop_all(self, vm_id: int) -> None:
        """Free all ports of a machine that has ended."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ?", (vm_id,))
