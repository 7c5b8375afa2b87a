# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives machines' graphics consoles a port on their host."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ....dataclass import dataclass
from ....errors import BeingEnded, Conflict, NoCapacity
from ....model.defaults import FIRST_GRAPHICS_PORT, LAST_GRAPHICS_PORT
from ....model.host import Host
from ....model.instantiate.demands import Demands
from ....model.object_ids import id_of
from ..store import Store
from .polls import Polls


@dataclass(frozen=True)
class GraphicsPorts:
    """Gives the ports on which graphics of machines listen. polls: what else listens on the hosts."""

    store: Store
    polls: Polls

    def choose(self, wanted: Sequence[tuple[int, str, Demands, Host]]) -> dict[int, int]:
        """Take a port for each machine that has graphics, by its id: what GRAPHICS/PORT says, else 5900 + id, else the
        next that is free on the host, in the catalog and, as far as polled, on the host itself."""
        ports: dict[int, int] = {}
        for vm_id, name, demands, host in wanted:
            if not demands.graphics:
                continue
            host_id = id_of(host)
            port: int | None = demands.graphics_port
            if port:
                self._refuse_held_port(name, host, port, vm_id)
            else:
                port = self._free_port(host, FIRST_GRAPHICS_PORT + vm_id, vm_id)
            if port is None or (demands.graphics_port and not self._is_free(host, port, vm_id)):
                raise NoCapacity(
                    f"VM {name}: graphics port {port or 'above 5900'} on host {host.name}",
                    "it is taken" if port else "all are taken",
                    "Leave GRAPHICS/PORT out to get a free one, or end what holds it",
                )
            ports[vm_id] = port
            self.store.db.execute("DELETE FROM vnc_ports WHERE host_id = ? AND port = ?", (host_id, -port))
            self.store.db.execute("INSERT INTO vnc_ports VALUES (?, ?, ?)", (host_id, port, vm_id))
        return ports

    def adopt(self, asked: str, vm_id: int, host: Host, demands: Demands, port: int) -> int | None:
        """Take the port on which the machine listens already, 0 if it has no graphics; None for 0."""
        if demands.graphics != bool(port) or (demands.graphics_port and demands.graphics_port != port):
            wanted = "graphics" if demands.graphics else ""
            wanted = f"port {demands.graphics_port}" if demands.graphics_port else wanted
            found = f"its graphics have port {port}" if port else "it has no graphics"
            raise Conflict(
                asked, f"{found}, and the list says {wanted or 'none'}", "Give the item what the machine has"
            )
        if not port:
            return None
        row = self.store.row(
            "SELECT vms.id, vms.name FROM vnc_ports p JOIN vms ON vms.id = vm_id WHERE p.host_id = ? AND port = ?",
            id_of(host),
            port,
        )
        if row is not None:
            raise Conflict(
                asked, f"VM {row['name']} (id {row['id']}) has its graphics port {port}", "End that one, or recreate it"
            )
        self.store.db.execute("INSERT INTO vnc_ports VALUES (?, ?, ?)", (id_of(host), port, vm_id))
        return port

    def _refuse_held_port(self, name: str, host: Host, port: int, vm_id: int) -> None:
        """Raise BeingEnded for a port that is free once another machine has ended, or has been made anew."""
        row = self.store.row(
            "SELECT vms.id, vms.name, vms.wanted FROM vnc_ports JOIN vms ON vms.id = vm_id WHERE vnc_ports.host_id = ?"
            " AND port IN (?, -?) AND (port < 0 OR wanted = 'DONE') AND vm_id != ?",
            id_of(host),
            port,
            port,
            vm_id,
        )
        if row is not None:
            ends = row["wanted"] == "DONE"
            raise BeingEnded(
                f"VM {name}: graphics port {port} on host {host.name}",
                f"VM {row['name']} (id {row['id']}) has it"
                + (", and is being ended" if ends else " until it is made anew, or was off"),
                f"Run again when that {'machine is gone' if ends else 'is done'}, or leave GRAPHICS/PORT out to get a "
                "free one",
            )

    def _free_port(self, host: Host, wanted: int, vm_id: int) -> int | None:
        """Return the wanted port or the next that is free, from the first again after the last; None without one."""
        # Ports are looked up one by one: a host may use thousands, and the wanted one is free nearly always.
        beyond = range(max(wanted, FIRST_GRAPHICS_PORT), LAST_GRAPHICS_PORT + 1)
        before = range(FIRST_GRAPHICS_PORT, min(wanted, LAST_GRAPHICS_PORT + 1))
        return next((port for port in itertools.chain(beyond, before) if self._is_free(host, port, vm_id)), None)

    def _is_free(self, host: Host, port: int, vm_id: int) -> bool:
        if port in self.polls.taken_ports.get(host.name, ()):
            return False
        taken = "SELECT 1 FROM vnc_ports WHERE host_id = ? AND port IN (?, -?) AND (port > 0 OR vm_id != ?)"
        return self.store.row(taken, id_of(host), port, port, vm_id) is None
