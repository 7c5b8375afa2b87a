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

    def hold(self, vm_id: int, host_id: int | None = None) -> None:
        """Keep a port that the machine is to have no more from others until its node has made the change, as the
        machine's domain listens there until then. Such a port is written below 0. The machine itself can have it
        again. host_id: of the host on which that is so, where it has ports on two."""
        which = "vm_id = ? AND port > 0 AND host_id = ifnull(?, host_id)"
        self.store.db.execute(f"UPDATE OR REPLACE vnc_ports SET port = -port WHERE {which}", (vm_id, host_id))

    def drop_held(self, vm_id: int) -> None:
        """Free what hold() has kept."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port < 0", (vm_id,))

    def drop(self, vm_id: int) -> None:
        """Free the port that the machine has, and leave what is held for it."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port > 0", (vm_id,))

    def drop_of_host(self, vm_id: int, host_id: int | None) -> None:
        """Free all ports of the machine on one of the two hosts between which it has moved, or was to."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND host_id = ?", (vm_id, host_id))

    def only_on(self, vm_id: int, host_id: int) -> int:
        """Give the machine back the port that is held for it on this host, and free those that it has elsewhere. Return
        the port, 0 if none is held."""
        execute = self.store.db.execute
        execute("DELETE FROM vnc_ports WHERE vm_id = ? AND host_id != ?", (vm_id, host_id))
        execute("UPDATE OR REPLACE vnc_ports SET port = -port WHERE vm_id = ? AND port < 0", (vm_id,))
        row = self.store.row("SELECT port FROM vnc_ports WHERE vm_id = ?", vm_id)
        return 0 if row is None else int(row["port"])

    def drop_all(self, vm_id: int) -> None:
        """Free all ports of a machine that has ended."""
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ?", (vm_id,))
