# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that end: what becomes free with them, and what is held where their host was given up."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Callable

from ....dataclass import dataclass
from ....model import orders
from ....model.host import Host
from ....model.states import VmState
from ....model.transfer import SHARED
from ..hosts import Hosts
from ..images.returns import forget_host
from ..images.verbs import Images
from ..networks.verbs import Networks
from ..store import compact
from .disk_hosts import DiskHosts
from .disk_tasks import DiskTasks
from .given_up import FORGOTTEN, GivenUps
from .graphics_ports import GraphicsPorts
from .rows import VmRows


@dataclass(frozen=True)
class Endings:
    """It ends machines in the catalog, once their hosts have. now: s since the epoch."""

    rows: VmRows
    images: Images
    networks: Networks
    hosts: Hosts
    ports: GraphicsPorts
    disk_hosts: DiskHosts
    tasks: DiskTasks
    given_up: GivenUps
    now: Callable[[], int]

    def end(self, row: sqlite3.Row, host: str, reason: str = "") -> None:
        """Note that a machine has ended, and free all that it had. host: where it was. reason: why, if nobody asked
        for it."""
        now = self.now()
        self.tasks.abandon(self.tasks.pending(row))
        self.images.uses.release(row["id"], written=True, back=self.disk_hosts.back(row))
        self.networks.leases.release([row["id"]])
        self.ports.drop_all(row["id"])
        self.hosts.promise(row["host_id"], -row["memory"], -row["overhead"], -row["cpu"], -1)
        # No secret outlives the machine: its context and passwords go with it.
        self.rows.store.db.execute(
            "UPDATE vms SET state = ?, lcm_state = 0, settled = 1, etime = ?, error = '', orders = ?,"
            " request = '[]', body = ? WHERE id = ?",
            (VmState.DONE, now, orders.EMPTY, compact(without_secrets(json.loads(row["body"]))), row["id"]),
        )
        self.rows.remember([(row["id"], host, "DONE", "terminate", reason)], now)

    def forget(self, host: Host, gone: bool) -> None:
        """End the machines of a host that is given up. gone: they run nowhere, and never will. Otherwise they may run
        on, and keep what no other machine could have beside them: their addresses, and the images that they write
        to."""
        for row in self.rows.store.rows("SELECT * FROM vms WHERE host_id = ? AND state != 6", host.id):
            shared = [] if gone or host.transfer != SHARED else self.images.uses.written_by(row["id"])
            if not gone:
                self.given_up.give_up(row["id"], host.name)
            self.end(row, host.name, f"host {host.name} {FORGOTTEN}")
            self.rows.store.db.execute("UPDATE vms SET wanted = 'DONE' WHERE id = ?", (row["id"],))
            self.images.disable(shared)
        if gone:
            self.given_up.gone(host.name)
        forget_host(self.images.store, host.name)


def without_secrets(body: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a machine that has ended, by the plain form of it."""
    if body.get("context"):
        body["context"]["variables"] = {}
        body["context"]["files"] = []
    if body.get("graphics"):
        body["graphics"]["password"] = ""
    body["raw"] = {}
    if body.get("owner"):
        body["owner"]["attributes"] = {}
    for disk in body.get("disks", ()):
        disk["inject"] = []
    return body
