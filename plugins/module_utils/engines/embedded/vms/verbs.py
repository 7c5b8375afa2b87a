# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that the embedded engine has for machines, each carried out by the file that is named after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from ....context.sources import Sources
from ....model.device_matching import Has
from ....model.host import Host
from ....model.image import Image
from ....model.owner import Owner
from ....model.plan import GivenUp, Observed, Plan, VmOutcome
from ....model.template import Template
from ...ports import VmOrders, VmRecord, VmRequest, VmsPort
from ..hosts import Hosts
from ..images.verbs import Images
from ..networks.verbs import Networks
from ..store import Store
from .actions import Actions
from .adopt import Adoption
from .assemble import Assembler
from .capacity import Capacity
from .decide import Decisions
from .disk_hosts import DiskHosts
from .disk_tasks import DiskTasks
from .end import Endings
from .given_up import GivenUps
from .graphics_ports import GraphicsPorts
from .instantiate import Instantiation
from .nics import Nics
from .observe import Observation
from .plans import Plans
from .polls import Polls
from .record import Recording
from .recreate import Recreation
from .rows import VmRows
from .transitions import Transitions
from .update import Updates
from .view import View


class Vms(VmsPort):
    """All methods are called within a transaction of the store. What they do is documented at VmsPort. now: s since the
    epoch."""

    def __init__(
        self, store: Store, images: Images, networks: Networks, hosts: Hosts, sources: Sources, now: Callable[[], int]
    ) -> None:
        rows, polls, nics, assembler = VmRows(store), Polls(), Nics(networks), Assembler(store, sources)
        tasks, given_up = DiskTasks(store, images, now), GivenUps(store, networks)
        ports, capacity, disk_hosts = GraphicsPorts(store, polls), Capacity(hosts, rows, polls), DiskHosts(hosts, rows)
        view = View(rows, images, networks, hosts, given_up)
        decisions = Decisions(rows, networks, tasks, now)
        transitions = Transitions(rows, ports, now)
        endings = Endings(rows, images, networks, hosts, ports, disk_hosts, tasks, given_up, now)
        observation = Observation(rows, networks, hosts, polls, given_up, transitions, view)
        made_of = (rows, hosts, images, networks, capacity, ports, nics, assembler)
        self._rows, self._view, self._assembler, self._given_up = rows, view, assembler, given_up
        self._endings, self._observation = endings, observation
        self._plans = Plans(store, hosts, sources, tasks, polls, given_up)
        self._instantiation = Instantiation(*made_of, polls, view, now)
        self._adoption = Adoption(*made_of, polls, observation, view, now)
        self._updates = Updates(*made_of, tasks, decisions, view)
        self._recreation = Recreation(*made_of, disk_hosts, decisions, view)
        self._actions = Actions(rows, networks, images, hosts, ports, capacity, polls, tasks, decisions, view)
        self._recording = Recording(
            rows, images, networks, ports, disk_hosts, tasks, given_up, transitions, endings, view
        )

    def pool(
        self,
        names: Iterable[str] | None = None,
        patterns: Iterable[str] | None = None,
        ids: Iterable[int] | None = None,
        done: bool = False,
    ) -> list[VmRecord]:
        return self._view.pool(names, patterns, ids, done)

    def names(self) -> dict[int, str]:
        return self._rows.names()

    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        return self._rows.history(vm_id)

    def instantiate(self, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None) -> list[VmRecord]:
        return self._instantiation.instantiate(requests, hosts)

    def adopt(
        self, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
    ) -> VmRecord:
        return self._adoption.adopt(vm_id, request, hosts, foreseen)

    def action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord:
        return self._actions.action(vm_id, wanted, orders)

    def disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        return self._actions.disk_save_as(vm_id, disk_id, image, consistency)

    def disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        return self._actions.disk_snapshot(vm_id, disk_id, name, wanted)

    def devices(self, vm_id: int) -> Mapping[str, Sequence[Has]]:
        return self._updates.devices(vm_id)

    def update(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        return self._updates.update(vm_id, template, owner)

    def rename(self, vm_id: int, name: str) -> VmRecord:
        return self._updates.rename(vm_id, name)

    def recreate(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        return self._recreation.recreate(vm_id, template, owner)

    def observe(self, observed: Sequence[Observed]) -> list[VmRecord]:
        return self._observation.observe(observed)

    def given_up(self) -> list[GivenUp]:
        return list(self._given_up.seen)

    def plans(self, hosts: Sequence[str] | None = None, end_given_up: bool = False) -> dict[str, Plan]:
        return self._plans.plans(hosts, end_given_up)

    def record(self, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
        return self._recording.record(host, outcomes, done_number)

    def forget(self, host: Host, gone: bool) -> None:
        """End the machines of a host that is given up; see HostsPort.forget."""
        self._endings.forget(host, gone)

    def gone_for_good(self, name: str) -> list[str]:
        """Free what is held for machines of a forgotten host; the addresses."""
        return self._given_up.gone(name)

    def fetched(self) -> set[str]:
        """SHA-256 of the files from URLs that machines have."""
        return self._assembler.fetched()
