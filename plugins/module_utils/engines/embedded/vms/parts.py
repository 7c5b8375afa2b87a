# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what the functions share that carry out verbs about machines."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable

from ....context.files_on_frontend import Sources
from ....imported_by_name import file_named
from ..datastores import Datastores
from ..hosts import Hosts
from ..images.image_verbs import Images
from ..networks.network_verbs import Networks
from ..store import Store
from .disk_hosts import DiskHosts
from .disk_task_rows import DiskTasks
from .given_up import GivenUps
from .graphics_port_rows import GraphicsPortRows
from .polls import Polls
from .vm_rows import VmRows


class Parts:
    """Holds the catalog, the engine's other ports, and what nodes said of machines. now: returns s since the epoch."""

    def __init__(
        self, store: Store, images: Images, networks: Networks, hosts: Hosts, sources: Sources, now: Callable[[], int]
    ) -> None:
        self.store, self.images, self.networks, self.hosts = store, images, networks, hosts
        self.sources, self.now = sources, now
        self.datastores = Datastores(store)
        self.rows, self.polls = VmRows(store), Polls()
        self.tasks, self.given_ups = DiskTasks(store, images, now), GivenUps(store, networks)
        self.port_rows = GraphicsPortRows(store)
        self.disk_hosts = DiskHosts(hosts, self.rows)

    # What only decisions need comes with them (shipped/vm_decisions.py); they see it with its types (DecisionParts).
    @cached_property
    def nics(self) -> Any:
        return decision_file("nics").Nics(self.networks)

    @cached_property
    def assembler(self) -> Any:
        return decision_file("assemble").Assembler(self.store, self.sources)

    @cached_property
    def ports(self) -> Any:
        return decision_file("graphics_ports").GraphicsPorts(self.store, self.polls)

    @cached_property
    def host_places(self) -> Any:
        return decision_file("host_places").HostPlaces(self.store)

    @cached_property
    def capacity(self) -> Any:
        return decision_file("capacity").Capacity(self.hosts, self.rows, self.polls)


def decision_file(name: str) -> Any:
    """Return a file of this package that is shipped with decisions alone."""
    return file_named(f"engines.embedded.vms.{name}")
