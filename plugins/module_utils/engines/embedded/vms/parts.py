# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what the functions share that carry out verbs about machines."""

from __future__ import annotations

from typing import Callable

from ....context.files_on_frontend import Sources
from ..hosts import Hosts
from ..images.image_verbs import Images
from ..networks.network_verbs import Networks
from ..store import Store
from .assemble import Assembler
from .capacity import Capacity
from .disk_hosts import DiskHosts
from .disk_task_rows import DiskTasks
from .given_up import GivenUps
from .graphics_ports import GraphicsPorts
from .nics import Nics
from .polls import Polls
from .vm_rows import VmRows


class Parts:
    """Holds the catalog, the engine's other ports, and what nodes said of machines. now: returns s since the epoch."""

    def __init__(
        self, store: Store, images: Images, networks: Networks, hosts: Hosts, sources: Sources, now: Callable[[], int]
    ) -> None:
        self.store, self.images, self.networks, self.hosts = store, images, networks, hosts
        self.sources, self.now = sources, now
        self.rows, self.polls = VmRows(store), Polls()
        self.nics, self.assembler = Nics(networks), Assembler(store, sources)
        self.tasks, self.given_ups = DiskTasks(store, images, now), GivenUps(store, networks)
        self.ports = GraphicsPorts(store, self.polls)
        self.capacity = Capacity(hosts, self.rows, self.polls)
        self.disk_hosts = DiskHosts(hosts, self.rows)
