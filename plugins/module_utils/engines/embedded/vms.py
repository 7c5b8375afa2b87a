# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of the catalog: what was decided about them, what their nodes said, the plans between the two."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import sqlite3
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable

from ...context import formats, variables
from ...context.sources import Sources
from ...errors import BeingEnded, Conflict, InvalidValue, NebulaError, NoCapacity, NotFound, StalePlan, WrongState
from ...model import changes as model_changes
from ...model import defaults, rules
from ...model.devices import DEVICES, Has
from ...model.disk import Disk
from ...model.host import Host
from ...model.image import Image
from ...model.instantiate import build as instantiate
from ...model.instantiate.build import Kept
from ...model.instantiate.demands import Demands
from ...model.instantiate.demands import demands as demands_of
from ...model.instantiate.graphics import leaves_password
from ...model.instantiate.validate import refusals as refusals_of
from ...model.names import check_name
from ...model.network import Network
from ...model.nic import Nic
from ...model.owner import Owner
from ...model.plain import from_plain, to_plain
from ...model.plan import ADOPT, DiskTask, GivenUp, Observed, ObservedVm, Plan, VmOutcome
from ...model.states import FAILURES, ImageState, ImageType, LcmState, VmState, vm_state_name
from ...model.template import Template
from ...model.transfer import SHARED, way_back
from ...model.vm import Graphics, Vm
from ..ports import VmOrders, VmRecord, VmRequest, VmsPort
from . import consoles, unknown
from .device_orders import (
    compare,
    has_of,
    lasting,
    next_disk,
    nics_anew,
    nics_detached_before,
    runs_with_others,
    with_lasting,
)
from .disks import WAYS, Disks, text_of
from .given_up import GivenUps
from .hosts import Hosts
from .images import Images
from .networks import LeaseRequest, Networks
from .plans import Plans, Said, files_of, given_with
from .scheduler import NOTHING, Held, Homes, Scheduler
from .store import Store, compact

FIRST_VNC_PORT, LAST_VNC_PORT = defaults.FIRST_GRAPHICS_PORT, defaults.LAST_GRAPHICS_PORT
CHUNK = 500  # values per IN (…): SQLite's default limit is 999 in older versions

# What a machine does on its way to the state wanted, by (wanted, state before).
_ON_THE_WAY: dict[tuple[str, str], LcmState] = {
    ("RUNNING", "POWEROFF"): LcmState.BOOT_POWEROFF,
    ("RUNNING", "SUSPENDED"): LcmState.BOOT_SUSPENDED,
    ("RUNNING", "UNKNOWN"): LcmState.BOOT_UNKNOWN,
}
# States in which a guest goes on with what it read when it was started.
_WITH_MEMORY = ("RUNNING", "SUSPENDED", "UNKNOWN")
_ENDING = {
    "POWEROFF": LcmState.SHUTDOWN_POWEROFF,
    "SUSPENDED": LcmState.SAVE_SUSPEND,
    "DONE": LcmState.EPILOG,
}


class Vms(VmsPort):
    def __init__(
        self,
        store: Store,
        images: Images,
        networks: Networks,
        hosts: Hosts,
        sources: Sources,
        now: Callable[[], int],
    ) -> None:
        self.store = store
        self.images = images
        self.networks = networks
        self.hosts = hosts
        self.sources = sources
        self.now = now
        self.disks = Disks(store, images, now)
        self.said = Said()
        self._given_up = GivenUps(store, networks)
        # What nodes said in this run that are believed, by host, and what they have that the catalog does not.
        self._nodes: dict[str, Observed] = {}
        self._not_ours: dict[str, list[ObservedVm]] = {}
        self._plans = Plans(store, hosts, sources, self.disks, self.said, self._given_up)

    def plans(self, hosts: Sequence[str] | None = None, end_given_up: bool = False) -> dict[str, Plan]:
        return self._plans.plans(hosts, end_given_up)

    def given_up(self) -> list[GivenUp]:
        return list(self._given_up.seen)

    def gone_for_good(self, name: str) -> list[str]:
        """A forgotten host is gone for good: the addresses that its machines held, which are free now."""
        return self._given_up.gone(name)

    # -- reading ----------------------------------------------------------------------------------------------------
    def pool(
        self,
        names: Iterable[str] | None = None,
        patterns: Iterable[str] | None = None,
        ids: Iterable[int] | None = None,
        done: bool = False,
    ) -> list[VmRecord]:
        hosts = self._hosts_by_id()
        references = _References(self.images, self.networks)
        if names is None and patterns is None and ids is None:
            where = "" if done else "WHERE state != 6"
            rows = self.store.rows(f"SELECT * FROM vms {where} ORDER BY id")
            return [self._record(row, hosts, references) for row in rows]
        found: dict[int, sqlite3.Row] = {}
        # A name belongs to the machine that is not on its way out: the index says so too.
        alive = "" if done else " AND wanted != 'DONE'"
        for column, values in (("name", names), ("pattern", patterns)):
            for row in self._select(column, values or (), alive):
                found[row["id"]] = row
        for row in self._select("id", ids or (), "" if done else " AND state != 6"):
            found[row["id"]] = row
        return [self._record(found[vm_id], hosts, references) for vm_id in sorted(found)]

    def _record(self, row: sqlite3.Row, hosts: Mapping[int, Host], references: _References) -> VmRecord:
        body = json.loads(row["body"]) if row["body"] else {}
        outdated = row["state"] != VmState.DONE and self._outdated(body, references)
        return _record(row, hosts, body, outdated, self._given_up.doubled.get(row["id"], ""))

    def _select(self, column: str, values: Iterable[Any], condition: str) -> Iterable[sqlite3.Row]:
        wanted = list(dict.fromkeys(values))
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            marks = ", ".join("?" * len(part))
            yield from self.store.db.execute(f"SELECT * FROM vms WHERE {column} IN ({marks}){condition}", part)

    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        rows = self.store.rows(
            "SELECT time, host, state, action, reason FROM history WHERE vm_id = ? ORDER BY step", vm_id
        )
        return [dict(row) for row in rows]

    def _row(self, vm_id: int) -> sqlite3.Row:
        row = self.store.row("SELECT * FROM vms WHERE id = ?", vm_id)
        if row is None:
            raise NotFound(f"VM {vm_id}", "the catalog has none of this id", "List them with nebula_info")
        return row

    def _hosts_by_id(self) -> dict[int, Host]:
        return {host.id: host for host in self.hosts.pool() if host.id is not None}

    # -- deciding ---------------------------------------------------------------------------------------------------
    def instantiate(self, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None) -> list[VmRecord]:
        if not requests:
            return []
        now = self.now()
        references = _References(self.images, self.networks)
        pool = self.hosts.pool()
        scheduler = Scheduler(pool, self.said.others_memory(), hosts, self.said.unreached, self._held())
        hypervisors = {host.hypervisor for host in pool}
        homes = Homes()
        ids = self._new_ids(len(requests))
        placed: list[tuple[int, VmRequest, Demands, Host]] = []
        for vm_id, request in zip(ids, requests):
            check_name("VM", request.name)
            demands = references.demands(request.name, request.template)
            hypervisor = request.template.get("HYPERVISOR").lower()
            wanted = {each for each in hypervisors if rules.alike(hypervisor, each)} or {hypervisor}
            networks = references.networks_of(request.name, demands)
            host = scheduler.place(
                request.name,
                demands.cpu,
                demands.memory,
                demands.vcpu,
                hypervisor,
                request.host,
                references.refusals(request.name, request.template, wanted if hypervisor else hypervisors),
                homes.of(networks, self._hosts_of),
                self.said.without_bridge(networks),
            )
            homes.take(networks, host.name)
            placed.append((vm_id, request, demands, host))
        identities = self._identities([(vm_id, request) for vm_id, request, _d, _h in placed])
        self.store.db.executemany(
            "INSERT INTO vms (id, name, uuid, pattern, position, template, state, lcm_state, host_id, wanted, cpu,"
            " memory, overhead, request, body, stime) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
            [
                (vm_id, r.name, identities[vm_id], r.pattern, r.position, r.template_name, VmState.ACTIVE,
                 LcmState.PROLOG, host.id, r.wanted, d.cpu, d.memory, _overhead(host, d),
                 references.as_json(r.template), now)
                for vm_id, r, d, host in placed
            ],
        )  # fmt: skip
        nics = self._lease([(vm_id, r.name, d, None) for vm_id, r, d, _h in placed], references)
        ports = self._vnc_ports([(vm_id, r.name, d, host) for vm_id, r, d, host in placed])
        bodies, warnings = [], {}
        for vm_id, request, demands, host in placed:
            images = references.images_of(request.name, request.template, demands)
            self._acquire(vm_id, request.name, images)
            vm, said = self._assemble(
                vm_id,
                identities[vm_id],
                request.name,
                host,
                request.template,
                images,
                nics[vm_id],
                ports.get(vm_id),
                references,
                request.owner,
            )
            warnings[vm_id] = said
            bodies.append((compact(to_plain(vm)), vm_id))
            self.hosts.promise(_id(host), demands.memory, _overhead(host, demands), demands.cpu, 1)
        self.store.db.executemany("UPDATE vms SET body = ? WHERE id = ?", bodies)
        self._remember([(vm_id, h.name, "PROLOG", "instantiate", "") for vm_id, _r, _d, h in placed], now)
        records = self.pool(ids=[vm_id for vm_id, _r, _d, _h in placed])
        return [replace(record, warnings=warnings[record.id or 0]) for record in records]

    def adopt(
        self, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
    ) -> VmRecord:
        """Nothing of it is decided: its node has nothing to do."""
        check_name("VM", request.name)
        asked = f"VM {request.name}: adopting machine {vm_id}"
        self._refuse_known(asked, vm_id)
        found = unknown.find(asked, vm_id, self._not_ours, self._nodes, self.store.meta("catalog"))
        host = self._home_of(asked, found, request, hosts)
        references = _References(self.images, self.networks)
        demands = unknown.with_macs(asked, references.demands(request.name, request.template), found.macs)
        now = self.now()
        state, lcm = _numbers(found.state)
        self.store.db.execute(
            "INSERT INTO vms (id, name, uuid, pattern, position, template, state, lcm_state, host_id, generation, seq,"
            " wanted, settled, orders, cpu, memory, overhead, request, body, stime)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
            (
                vm_id, request.name, found.uuid, request.pattern, request.position, request.template_name, state, lcm,
                _id(host), found.generation, found.seq, found.state, found.compared is not None,
                "{}" if found.compared is not None else compact({"operation": ADOPT, "found": found.state}),
                demands.cpu, demands.memory, _overhead(host, demands), references.as_json(request.template), now,
            ),
        )  # fmt: skip
        self.store.take_ids("vms", 0)
        self.store.db.execute("UPDATE sequences SET next = max(next, ?) WHERE name = 'vms'", (vm_id + 1,))
        # What was held for a machine that nobody knew is what it leases.
        self.networks.release_given_up(vm_id)
        nics = self._lease([(vm_id, request.name, demands, None)], references)[vm_id]
        port = self._port_of(asked, vm_id, host, demands, found.port)
        images = references.images_of(request.name, request.template, demands)
        self._acquire(vm_id, request.name, images, adopted=True)
        vm, said = self._assemble(
            vm_id, found.uuid, request.name, host, request.template, images, nics, port, references, request.owner
        )
        if found.compared is None and not foreseen:
            raise NotFound(
                asked,
                f"host {found.host} has not compared it with the list",
                "Role vm has it compared before it decides: run that, with nebula_adopt_unknown",
            )
        if found.compared is not None:
            self._refuse_different(asked, found)
            # Its node alone knows it; with the next decision about the machine it gets one that the catalog knows.
            if vm.graphics is not None and vm.graphics.made_up:
                vm = replace(vm, graphics=replace(vm.graphics, password="", made_up=False))
        self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (compact(to_plain(vm)), vm_id))
        self.hosts.promise(_id(host), demands.memory, _overhead(host, demands), demands.cpu, 1)
        self._remember([(vm_id, host.name, found.state, ADOPT, "")], now)
        self._reckon_with(self._not_ours)
        return replace(self.pool(ids=[vm_id])[0], warnings=said)

    def _refuse_known(self, asked: str, vm_id: int) -> None:
        row = self.store.row("SELECT name, state FROM vms WHERE id = ?", vm_id)
        if row is not None:
            over = ", and ended it" if row["state"] == VmState.DONE else ""
            raise Conflict(
                asked,
                f"the catalog had given that id to VM {row['name']}{over}; the machine's domain, its directory and its "
                "mark are called by the id, so that it can't have another",
                "Save its disks as images or copy them, then end it by hand: the audit has the command",
            )

    def _home_of(self, asked: str, found: unknown.Found, request: VmRequest, hosts: Sequence[str] | None) -> Host:
        host = next((each for each in self.hosts.pool() if each.name == found.host), None)
        if host is None:
            raise NotFound(
                asked, f"host {found.host} is not in the catalog", "Add it with nebula_host, as site.yml does"
            )
        if hosts is not None and found.host not in hosts:
            raise WrongState(
                asked, f"it is on host {found.host}, which is not part of this run", "Run for that host too"
            )
        if request.host not in ("", found.host):
            raise Conflict(
                asked, f"it is on host {found.host}, and the list says {request.host}", f"Say host: {found.host}"
            )
        refusals = refusals_of(request.template, f"VM {request.name}", {host.hypervisor})
        if host.hypervisor in refusals:
            raise refusals[host.hypervisor]
        hypervisor = request.template.get("HYPERVISOR").lower()
        if hypervisor and not rules.alike(hypervisor, host.hypervisor):
            raise Conflict(asked, f"host {host.name} runs {host.hypervisor}, and the list says {hypervisor}")
        fixed = template_uuid(request.template)
        if fixed and fixed != found.uuid:
            raise Conflict(asked, f"it has the UUID {found.uuid}, and the list says {fixed}", "Leave OS/UUID out")
        row = self.store.row("SELECT id, name FROM vms WHERE uuid = ? AND state != 6", found.uuid)
        if row is not None:
            raise Conflict(asked, f"VM {row['name']} (id {row['id']}) has its UUID {found.uuid}", "End one of the two")
        return host

    def _port_of(self, asked: str, vm_id: int, host: Host, demands: Demands, port: int) -> int | None:
        """The port of its graphics, taken for it."""
        if demands.graphics != bool(port) or (demands.graphics_port and demands.graphics_port != port):
            wanted = f"port {demands.graphics_port}" if demands.graphics_port else "graphics" * demands.graphics
            found = f"its graphics have port {port}" if port else "it has no graphics"
            raise Conflict(
                asked, f"{found}, and the list says {wanted or 'none'}", "Give the item what the machine has"
            )
        if not port:
            return None
        row = self.store.row(
            "SELECT vms.id, vms.name FROM vnc_ports p JOIN vms ON vms.id = vm_id WHERE p.host_id = ? AND port = ?",
            _id(host),
            port,
        )
        if row is not None:
            raise Conflict(
                asked, f"VM {row['name']} (id {row['id']}) has its graphics port {port}", "End that one, or recreate it"
            )
        self.store.db.execute("INSERT INTO vnc_ports VALUES (?, ?, ?)", (_id(host), port, vm_id))
        return port

    def _refuse_different(self, asked: str, found: unknown.Found) -> None:
        compared = found.compared
        if compared is None or (compared.uuid, compared.generation) != (found.uuid, found.generation):
            raise Conflict(asked, f"it has changed on host {found.host} while it was compared", "Run again")
        if compared.differences:
            raise Conflict(
                asked,
                f"on host {found.host} it is not what the list says: {'; '.join(compared.differences)}",
                "Give the item what the machine has, then run again. Nothing was changed",
            )

    def _hosts_of(self, network: Network) -> Iterable[str]:
        spread = self.networks.spread(network).get(_id(network))
        return [] if spread is None else spread.hosts

    def _held(self) -> dict[str, Held]:
        """By host, what machines hold that are being ended. A plan has them besides those that take their place, which
        their node starts once they are gone."""
        return {
            row["name"]: Held(row["memory"], row["cpu"])
            for row in self.store.rows(
                "SELECT hosts.name, sum(vms.memory + vms.overhead) AS memory, sum(vms.cpu) AS cpu"
                " FROM vms INDEXED BY vms_unsettled JOIN hosts ON hosts.id = vms.host_id"
                " WHERE settled = 0 AND wanted = 'DONE' GROUP BY hosts.id"
            )
        }

    def _new_ids(self, count: int) -> list[int]:
        """Ids that no host has for something of somebody else's: a machine of such an id could never start there."""
        ids: list[int] = []
        while len(ids) < count:
            lacking = count - len(ids)
            first = self.store.take_ids("vms", lacking)
            ids += [vm_id for vm_id in range(first, first + lacking) if vm_id not in self.said.foreign_ids]
        return ids

    def _identities(self, wanted: Sequence[tuple[int, VmRequest]]) -> dict[int, str]:
        """A UUID for each machine: what OS/UUID fixes, else a new one."""
        identities: dict[int, str] = {}
        for vm_id, request in wanted:
            fixed = template_uuid(request.template)
            if fixed:
                row = self.store.row("SELECT name FROM vms WHERE uuid = ? AND state != 6", fixed)
                if row is not None or fixed in identities.values():
                    raise Conflict(
                        f"VM {request.name}: OS/UUID {fixed}",
                        f"VM {row['name'] if row else request.pattern or request.name} has it",
                        "Leave UUID out where more than one machine is made from the template",
                    )
            identities[vm_id] = fixed or str(uuids.uuid4())
        return identities

    def _assemble(
        self,
        vm_id: int,
        identity: str,
        name: str,
        host: Host,
        template: Template,
        images: Mapping[int, Image],
        nics: Sequence[Nic],
        vnc_port: int | None,
        references: _References,
        owner: Owner,
        fetched: Mapping[str, str] | None = None,
        kept: Kept | None = None,
        graphics: Graphics | None = None,
    ) -> tuple[Vm, list[str]]:
        """fetched: of files from URLs, what the machine has and keeps. kept: disks and context that it has. graphics:
        those that it has."""
        vm = instantiate.build(
            template,
            vm_id=vm_id,
            uuid=identity,
            name=name,
            hypervisor=host.hypervisor,
            images=images,
            nics=nics,
            vnc_port=vnc_port,
            kept=kept,
        )
        vm = replace(vm, owner=owner)
        doubts = instantiate.doubts(template, vm, images)
        vm = consoles.closed(vm, graphics)
        if fetched is None:
            vm = replace(vm, disks=self._with_sources(vm))
        if vm.context is None:
            return vm, doubts
        named_networks, named_images = references.of_context(template)
        context, said = variables.build(vm, template, networks=named_networks, images=named_images)
        if context is not None and (context.files or context.format != formats.DEFAULT):
            # Not those that only $IMAGE names: a disk may hold what no other machine is to read.
            names = {image.source: image.name for image in named_images if image.type == ImageType.CONTEXT}
            files = [replace(file, image=names.get(file.source, "")) for file in context.files]
            try:
                context = replace(context, files=self.sources.found(files, fetched or {}))
                # What its node would refuse, before the machine has anything.
                formats.documents(context.format, context.variables, identity, [file.target for file in files])
            except NebulaError as error:
                error.asked = f"VM {name}: {error.asked}"
                raise
            said += [
                f"In check mode, taken as about to come: FILES: {file.source!r} is not here yet"
                for file in files
                if file.source in self.sources.absent
            ]
        return replace(vm, context=context), [*doubts, *said]

    def _with_sources(self, vm: Vm) -> tuple[Disk, ...]:
        """The disks, with what came from the URLs of files that are to be in them; each file is looked at."""
        disks = []
        for disk in vm.disks:
            entries = []
            for entry in disk.inject:
                try:
                    file = self.sources.found([entry.file], {})[0] if entry.file is not None else None
                except NebulaError as error:
                    error.asked = f"VM {vm.name}: INJECT {entry.path}: {error.asked}"
                    raise
                entries.append(replace(entry, file=file))
            disks.append(replace(disk, inject=tuple(entries)))
        return tuple(disks)

    def fetched(self) -> set[str]:
        """Digests of the files from URLs that machines have."""
        return {
            file.sha256
            for row in self.store.rows("SELECT body FROM vms WHERE state != 6 AND body LIKE '%\"sha256\"%'")
            for file in files_of(from_plain(Vm, json.loads(row["body"])), disks=True)
            if file.sha256
        }

    def _lease(
        self, wanted: Sequence[tuple[int, str, Demands, Mapping[int, int] | None]], references: _References
    ) -> dict[int, list[Nic]]:
        """NICs with their leases for each machine, all leases of the batch in one go. wanted: with the ids of those
        that are to be leased, by number; None for all, whose ids are their numbers."""
        requests, places = [], []
        nics: dict[int, list[Nic]] = {vm_id: [] for vm_id, _n, _d, _f in wanted}
        for vm_id, name, demands, ids in wanted:
            for index, demand in enumerate(demands.nics):
                nic_id = index if ids is None else ids.get(index)
                if nic_id is None:
                    continue
                network = references.network(f"VM {name}, NIC {index}", demand.network)
                requests.append(LeaseRequest(_id(network), vm_id, nic_id, ip=demand.ip, mac=demand.mac, ip6=demand.ip6))
                places.append((vm_id, nic_id, network))
        for (vm_id, index, network), lease in zip(places, self.networks.lease(requests)):
            nics[vm_id].append(
                Nic(
                    nic_id=index,
                    network_id=network.id,
                    network=network.name,
                    bridge=network.bridge,
                    mac=lease.mac,
                    ip=lease.ip,
                    ip6=lease.ip6,
                    ip6_ula=lease.ip6_ula,
                    ar_id=lease.ar_id,
                    network_values=references.nic_values(network, lease.ar_id),
                )
            )
        return nics

    def _nics(
        self,
        row: sqlite3.Row,
        demands: Demands,
        there: Mapping[int, Nic],
        coming: Mapping[int, int],
        references: _References,
    ) -> list[Nic]:
        """NICs of a machine that has some already. there: by number, those that stay; coming: of the others, the id."""
        leased = iter(self._lease([(row["id"], row["name"], demands, coming)], references)[row["id"]])
        staying = dict(zip(there, self._refreshed(tuple(there.values()), references)))
        return [staying[index] if index in staying else next(leased) for index in range(len(demands.nics))]

    def _vnc_ports(self, wanted: Sequence[tuple[int, str, Demands, Host]]) -> dict[int, int]:
        """5900 + vmid, else the next free one of the host: free in the catalog and, as far as polled, on the host."""
        ports: dict[int, int] = {}
        for vm_id, name, demands, host in wanted:
            if not demands.graphics:
                continue
            host_id = _id(host)
            port = demands.graphics_port or self._free_port(host, FIRST_VNC_PORT + vm_id, vm_id)
            self._refuse_held_port(name, host, port, vm_id)
            if port is None or not self._is_free(host, port, vm_id):
                raise NoCapacity(
                    f"VM {name}: graphics port {port or 'above 5900'} on host {host.name}",
                    "it is taken" if port else "all are taken",
                    "Leave GRAPHICS/PORT out to get a free one, or end what holds it",
                )
            ports[vm_id] = port
            self.store.db.execute("DELETE FROM vnc_ports WHERE host_id = ? AND port = ?", (host_id, -port))
            self.store.db.execute("INSERT INTO vnc_ports VALUES (?, ?, ?)", (host_id, port, vm_id))
        return ports

    def _hold_port(self, vm_id: int) -> None:
        """Keep the machine's port from others until its node has done without: its domain listens there until then.
        Such a port is below 0. The machine itself can have it again."""
        self.store.db.execute("UPDATE OR REPLACE vnc_ports SET port = -port WHERE vm_id = ? AND port > 0", (vm_id,))

    def _drop_held_port(self, vm_id: int) -> None:
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port < 0", (vm_id,))

    def _refuse_held_port(self, name: str, host: Host, port: int | None, vm_id: int) -> None:
        """BeingEnded for one that is free once another machine is gone, or is as it is to be."""
        if port is None:
            return
        row = self.store.row(
            "SELECT vms.id, vms.name, vms.wanted FROM vnc_ports JOIN vms ON vms.id = vm_id WHERE vnc_ports.host_id = ?1"
            " AND port IN (?2, -?2) AND (port < 0 OR wanted = 'DONE') AND vm_id != ?3",
            _id(host),
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
        """The wanted one or the next free, from the first again after the last. Looked up one by one: a host has
        thousands of ports in use, and the wanted one is free nearly always."""
        beyond = range(max(wanted, FIRST_VNC_PORT), LAST_VNC_PORT + 1)
        before = range(FIRST_VNC_PORT, min(wanted, LAST_VNC_PORT + 1))
        return next((port for port in itertools.chain(beyond, before) if self._is_free(host, port, vm_id)), None)

    def _is_free(self, host: Host, port: int, vm_id: int) -> bool:
        if port in self.said.taken_ports.get(host.name, ()):
            return False
        taken = "SELECT 1 FROM vnc_ports WHERE host_id = ?1 AND port IN (?2, -?2) AND (port > 0 OR vm_id != ?3)"
        return self.store.row(taken, _id(host), port, vm_id) is None

    def _acquire(self, vm_id: int, name: str, images: Mapping[int, Image], adopted: bool = False) -> None:
        for disk_id, image in images.items():
            try:
                self.images.acquire(vm_id, disk_id, _id(image), image.persistent, adopted)
            except NebulaError as error:
                error.asked = f"VM {name}, disk {disk_id}: {error.asked}"
                raise

    def action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord:
        row = self._row(vm_id)
        before = vm_state_name(row["state"], row["lcm_state"])
        way = _ON_THE_WAY.get((wanted, before)) or _ENDING.get(wanted) or LcmState.BOOT
        if orders.operation:
            way = LcmState.RUNNING
        if wanted == "RUNNING" and before != "RUNNING":
            self._leave_taken_port(row)
            self._refuse_without_room(row, before)
        self._decide(row, way, wanted, orders, orders.operation or wanted.lower())
        return self.pool(ids=[vm_id])[0]

    def _refuse_without_room(self, row: sqlite3.Row, before: str) -> None:
        """NoCapacity for a machine that was never made because one did not end whose place it was to have."""
        if before != "PROLOG_FAILURE" or self._ran(row):
            return
        host = self._hosts_by_id()[row["host_id"]]
        held = self._held().get(host.name, NOTHING)
        room = Scheduler([host], self.said.others_memory(), ending={host.name: held}).rooms[0]
        # Its own share is counted already.
        if not room.has(0, 0.0):
            raise NoCapacity(
                f"VM {row['name']} (id {row['id']}): {row['memory']} MiB + {row['overhead']} MiB overhead of memory"
                f" and {row['cpu']:g} CPU",
                f"what the machines of host {host.name} were promised is more than it has, by "
                f"{max(0, -int(room.memory))} MiB and {max(0.0, round(-room.cpu, 6)):g} CPU",
                "End other machines there, or remove this one (state: absent) to have it made on another host",
            )

    def _ran(self, row: sqlite3.Row) -> bool:
        """Whether the machine was ever there as a whole."""
        # One that was adopted may have been SUSPENDED from the first.
        ran = "SELECT 1 FROM history WHERE vm_id = ? AND state IN ('RUNNING', 'POWEROFF', 'SUSPENDED', 'BOOT_FAILURE')"
        return self.store.row(ran, row["id"]) is not None

    def _leave_taken_port(self, row: sqlite3.Row) -> None:
        """Give a machine that does not run another console port if somebody else listens on its own. One that the
        template fixes stays: its node says what is wrong."""
        graphics = json.loads(row["body"]).get("graphics") or {}
        host = self._hosts_by_id()[row["host_id"]]
        if graphics.get("port") not in self.said.taken_ports.get(host.name, ()):
            return
        demands = _References(self.images, self.networks).demands(row["name"], _request(row))
        if demands.graphics and not demands.graphics_port:
            self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND port > 0", (row["id"],))
            port = self._vnc_ports([(row["id"], row["name"], demands, host)])[row["id"]]
            body = from_plain(Vm, json.loads(row["body"]))
            if body.graphics is not None:
                body = replace(body, graphics=replace(body.graphics, port=port))
            self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (compact(to_plain(body)), row["id"]))

    def disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        row = self._row(vm_id)
        return self._tasked(row, self.disks.save_as(row, disk_id, image, consistency))

    def disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        row = self._row(vm_id)
        return self._tasked(row, self.disks.snapshot(row, disk_id, name, wanted))

    def _tasked(self, row: sqlite3.Row, task: DiskTask | None) -> VmRecord:
        if task is not None:
            orders = json.loads(row["orders"]) if not row["settled"] else {}
            known = VmOrders(**{key: orders[key] for key in ("hard", "shutdown_timeout", "operation") if key in orders})
            way = LcmState(row["lcm_state"]) if row["state"] == VmState.ACTIVE else None
            if row["settled"]:
                way = WAYS.get((task.kind, self.disks.state_then(row)), way)
            self._decide(row, way, row["wanted"], known, task.kind, task=task)
        return self.pool(ids=[row["id"]])[0]

    def devices(self, vm_id: int) -> Mapping[str, Sequence[Has]]:
        return has_of(json.loads(self._row(vm_id)["body"]))

    def update(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        row = self._row(vm_id)
        vm = from_plain(Vm, json.loads(row["body"]))
        changes = model_changes.changes(_request(row), template, rules.of(vm.hypervisor).live, has_of(to_plain(vm)))
        host = self._hosts_by_id()[row["host_id"]]
        references = _References(self.images, self.networks)
        devices = compare(vm, _request(row), template, next_disk(self.store, vm))
        self.disks.refuse_tasked(row, devices.gone_disks)
        demands = _of_images_had(references.demands(row["name"], template), devices.kept)
        images = references.images_of(row["name"], template, demands)
        port = vm.graphics.port if vm.graphics else None
        if demands.graphics and (port is None or (demands.graphics_port and demands.graphics_port != port)):
            self._hold_port(vm_id)
            port = self._vnc_ports([(vm_id, row["name"], demands, host)])[vm_id]
        elif not demands.graphics:
            self._hold_port(vm_id)
        gives = self._repromise(row, host, demands)
        came = {disk_id: images[index] for index, disk_id in devices.new_disks.items() if index in images}
        self._acquire(vm_id, row["name"], came)
        self.networks.let_go(vm_id, devices.gone_nics)
        nics = self._nics(row, demands, devices.nics, devices.new_nics, references)
        body, said = self._assemble(
            vm_id,
            row["uuid"],
            row["name"],
            host,
            template,
            images,
            nics,
            port,
            references,
            owner or vm.owner,
            {} if any(change.attribute == "CONTEXT" for change in changes) else _fetched(vm),
            devices.kept,
            vm.graphics,
        )
        body = replace(body, disks=_keep_sources(vm, body, devices.grown), next_nic=max(body.next_nic, vm.next_nic))
        body = replace(body, former=_former(vm, body, self.disks.found_state(row)))
        self._store(vm_id, references.as_json(template), body, demands, host)
        renamed = body.name != vm.name
        acting = [change for change in changes if change.how != "catalog"]
        left = with_lasting(row, devices, any(change.attribute in DEVICES for change in acting))
        if renamed or body.context != vm.context or acting or (row["settled"] and left):
            state = LcmState(row["lcm_state"]) if row["state"] == VmState.ACTIVE else None
            action = "rename" if renamed else "updateconf"
            self._decide(row, state, row["wanted"], VmOrders(), action, row["seq"] + 1, left=left, gives=gives)
        return replace(self.pool(ids=[vm_id])[0], warnings=said)

    def rename(self, vm_id: int, name: str) -> VmRecord:
        row = self._row(vm_id)
        asked = f"VM {row['name']} (id {vm_id}): rename to {name}"
        check_name("VM", name)
        if row["wanted"] == "DONE":
            raise WrongState(asked, "it is being ended", "Its name is free once it is gone")
        other = self.store.row("SELECT id FROM vms WHERE name = ? AND wanted != 'DONE' AND id != ?", name, vm_id)
        if other is not None:
            raise Conflict(asked, f"id {other['id']} has that name", "Choose another name")
        if name != row["name"]:
            # One of a pattern would be ended by its count.
            self.store.db.execute("UPDATE vms SET name = ?, pattern = '', position = NULL WHERE id = ?", (name, vm_id))
            return self.update(vm_id, _request(row), None)
        return self.pool(ids=[vm_id])[0]

    def _store(self, vm_id: int, request: str, body: Vm, demands: Demands, host: Host) -> None:
        """What the machine was asked to be, is to be, and takes of its host."""
        costs = (demands.cpu, demands.memory, _overhead(host, demands))
        self.store.db.execute(
            "UPDATE vms SET request = ?, body = ?, cpu = ?, memory = ?, overhead = ? WHERE id = ?",
            (request, compact(to_plain(body)), *costs, vm_id),
        )

    def _refreshed(self, nics: Sequence[Nic], references: _References) -> list[Nic]:
        """The NICs with what their networks say by now; leases and bridges are as they were."""
        return [
            replace(nic, network_values=references.values_of(nic.network_id, nic.ar_id))
            if nic.network_id is not None and nic.ar_id is not None
            else nic
            for nic in nics
        ]

    def _outdated(self, body: Mapping[str, Any], references: _References) -> bool:
        """Whether the machine's context was made of what its networks no longer say."""
        if not body.get("context"):
            return False
        return any(
            nic["network_id"] is not None
            and dict(references.values_of(nic["network_id"], nic["ar_id"])) != nic["network_values"]
            for nic in body.get("nics", ())
        )

    def recreate(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        row = self._row(vm_id)
        old = from_plain(Vm, json.loads(row["body"]))
        host = self._hosts_by_id()[row["host_id"]]
        references = _References(self.images, self.networks)
        demands = references.demands(row["name"], template)
        gives = self._repromise(row, host, demands)
        images = references.images_of(row["name"], template, demands)
        away = self._away(row)
        # What the machine goes on with stays where it is.
        stay = {_id(image) for image in images.values() if image.persistent} if away else ()
        # What comes back from its host is given to nobody before it is here, and what was never opened nobody has.
        unopened = vm_state_name(row["state"], row["lcm_state"]) == "PROLOG_FAILURE" and not self._ran(row)
        let_go = None if away or unopened else self.images.keep(vm_id, {_id(image) for image in images.values()})
        self.images.release(vm_id, written=True, back=self._back(row), stay=stay, disks=let_go)
        self._acquire(vm_id, row["name"], images)
        there, coming, gone = nics_anew(old, _request(row), template, references.network_ids(row["name"], demands))
        self.networks.let_go(vm_id, gone)
        # Its domain uses these until its node has made it anew, and another host may be at the list before. The machine
        # itself may have one of them again.
        held = self.networks.held_by(vm_id)
        self.networks.release_kept(vm_id)
        nics = self._nics(row, demands, there, coming, references)
        self.networks.keep(vm_id, held)
        self._hold_port(vm_id)
        port = self._vnc_ports([(vm_id, row["name"], demands, host)]).get(vm_id)
        body, said = self._assemble(
            vm_id,
            row["uuid"],
            row["name"],
            host,
            template,
            images,
            nics,
            port,
            references,
            owner or old.owner,
            graphics=old.graphics,
        )
        self._store(vm_id, references.as_json(template), body, demands, host)
        orders = VmOrders(hard=True, operation="recreate")
        self._decide(row, LcmState.PROLOG, row["wanted"], orders, "recreate", row["seq"] + 1, gives=gives)
        return replace(self.pool(ids=[vm_id])[0], warnings=said)

    def _repromise(self, row: sqlite3.Row, host: Host, demands: Demands) -> Held:
        """Change what the machine was promised on its host, or say that there is no room. What it is to hold no more,
        and does until its node has changed it."""
        overhead = _overhead(host, demands)
        memory, cpu = demands.memory - row["memory"], demands.cpu - row["cpu"]
        if memory + overhead > row["overhead"] or cpu > 0:
            # As if it were not there: what it has it keeps, and that may be more than is left.
            without = replace(
                host,
                memory_used=host.memory_used - row["memory"],
                overhead_used=host.overhead_used - row["overhead"],
                cpu_used=host.cpu_used - row["cpu"],
            )
            scheduler = Scheduler([without], self.said.others_memory(), ending=self._held())
            scheduler.place(row["name"], demands.cpu, demands.memory, demands.vcpu, pinned=host.name)
        if memory or cpu or overhead != row["overhead"]:
            self.hosts.promise(_id(host), memory, overhead - row["overhead"], cpu, 0)
        return Held(max(0, row["memory"] + row["overhead"] - demands.memory - overhead), max(0.0, -cpu))

    def _decide(
        self,
        row: sqlite3.Row,
        way: LcmState | None,
        wanted: str,
        orders: VmOrders,
        action: str,
        seq: int | None = None,
        task: DiskTask | None = None,
        left: Mapping[str, Any] | None = None,
        gives: Held = NOTHING,
    ) -> None:
        """left: what is to be done about its disks and NICs (devices.lasting), None for what was before. task: one more
        thing to be done with a disk, besides those that were not done yet. gives: what it is to hold no more."""
        self.networks.let_go(row["id"], nics_detached_before(row))
        state = VmState(row["state"]) if way is None else VmState.ACTIVE
        lcm = LcmState.LCM_INIT if way is None else way
        kept = dict(to_plain(orders), previous=vm_state_name(row["state"], row["lcm_state"]))
        gone = (left or {}).get("detached", ())
        tasks = tuple(each for each in self.disks.pending(row) if each.disk_id not in gone)
        # A task more comes after that was decided, and may be one of many.
        anew = orders.operation == "recreate" and task is None
        if not anew:
            # What else is wanted by now, too, is of the machine as it is to be made anew. One that is to end may live
            # on.
            recreation = _recreation(row)
            kept.update({**recreation, "hard": orders.hard} if recreation and wanted == "DONE" else recreation)
        if wanted == "DONE" or anew:
            # What they were about goes with the machine's disks.
            self.disks.abandon(tasks)
            tasks = ()
        if tasks or task is not None:
            kept["tasks"] = to_plain((*tasks, *([task] if task is not None else [])))
        if not anew:
            # Of one that is to end, too: if it lives on, it has still what it was to lose.
            kept.update(lasting(row) if left is None else left)
        kept["found"] = self.disks.found_state(row)
        kept.update(given_with(row, gives))
        self.store.db.execute(
            "UPDATE vms SET state = ?, lcm_state = ?, wanted = ?, settled = 0, generation = generation + 1, orders = ?,"
            " seq = ?, error = '' WHERE id = ?",
            (state, lcm, wanted, compact(kept), row["seq"] if seq is None else seq, row["id"]),
        )
        if wanted != "DONE":
            self._close_console(row["id"])
        host = self._host_name(row["host_id"])
        self._remember([(row["id"], host, vm_state_name(state, lcm), action, "")], self.now())

    def _close_console(self, vm_id: int) -> None:
        """One that was made before passwords were made up gets its own with whatever else is decided about it; it
        counts when the machine is started anew."""
        row = self._row(vm_id)
        body = from_plain(Vm, json.loads(row["body"]))
        if body.graphics is not None and not body.graphics.password:
            closed = consoles.closed_at_last(body, leaves_password(_request(row)))
            if closed != body:
                self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (compact(to_plain(closed)), vm_id))

    # -- remembering ------------------------------------------------------------------------------------------------
    def observe(self, observed: Sequence[Observed]) -> list[VmRecord]:
        moved: list[tuple[int, str, str]] = []
        believed: list[Observed] = []
        others: dict[str, list[ObservedVm]] = {}
        for node in observed:
            host = self.store.row("SELECT id FROM hosts WHERE name = ?", node.host)
            host_id = None if host is None else host["id"]
            stale = node.reached and self._is_stale(host_id, node)
            if node.reached and not stale:
                believed.append(node)
                others[node.host] = self._others(host_id, node)
            if host is None:
                continue
            self.said.hear(node)
            if stale:
                continue
            seen = {vm.vm_id: vm for vm in node.vms}
            for row in self.store.rows(
                "SELECT id, uuid, state, lcm_state, error FROM vms WHERE host_id = ? AND state != 6 AND settled = 1",
                host["id"],
            ):
                vm = seen.get(row["id"])
                now = vm.state if vm is not None and node.reached else "UNKNOWN"
                before = vm_state_name(row["state"], row["lcm_state"])
                if LcmState.__members__.get(before) in FAILURES and now in ("UNKNOWN", "POWEROFF"):
                    continue  # the reason of the failure says more
                why = _observed_reasons(node)[_sight(node, vm)] if now == "UNKNOWN" else ""
                # An earlier poll's reason does not outlive what it told of: the host answers again, the domain is gone.
                if now != before or (why != row["error"] and row["error"] in _observed_reasons(node).values()):
                    moved.append((row["id"], now, why))
        self._move(moved, "monitor")
        self._nodes, self._not_ours = {node.host: node for node in believed}, others
        self._given_up.hear(believed, others)
        self._reckon_with(others)
        self.networks.release_held({vm.vm_id for node in observed for vm in node.vms}, self._all_answered(observed))
        return self.pool(ids=[vm_id for vm_id, _s, _r in moved])

    def _others(self, host_id: int | None, node: Observed) -> list[ObservedVm]:
        """The machines with this catalog's mark there that the catalog does not have there."""
        ours = {row["id"] for row in self.store.rows("SELECT id FROM vms WHERE host_id = ? AND state != 6", host_id)}
        return [vm for vm in node.vms if vm.vm_id not in ours]

    def _reckon_with(self, others: Mapping[str, Sequence[ObservedVm]]) -> None:
        """What they hold of their hosts is nobody else's, whoever ends them."""
        hosts = {host.name: host for host in self.hosts.pool()}
        for name, machines in others.items():
            if name in hosts:
                overhead = hosts[name].overhead
                # Some may have been adopted since.
                strange = [vm for vm in machines if vm.memory and not self._is_on(vm.vm_id, hosts[name])]
                self.said.unknown_memory[name] = sum(vm.memory + overhead.of(vm.memory, None) for vm in strange)
        for found in self._given_up.seen:
            graphics = json.loads(self._row(found.vm_id)["body"]).get("graphics") or {}
            if found.state != "POWEROFF" and graphics.get("port"):
                self.said.taken_ports.setdefault(found.host, set()).add(graphics["port"])

    def _is_on(self, vm_id: int, host: Host) -> bool:
        row = self.store.row("SELECT 1 FROM vms WHERE id = ? AND host_id = ? AND state != 6", vm_id, host.id)
        return row is not None

    def _is_stale(self, host_id: int | None, node: Observed) -> bool:
        """Whether another run has recorded since what the node did after it was polled."""
        recorded = int(self.store.meta(f"recorded/{host_id}") or 0)
        return node.catalog == self.store.meta("catalog") and node.done_number < recorded

    def _all_answered(self, observed: Sequence[Observed]) -> bool:
        reached = {node.host for node in observed if node.reached}
        return all(host.name in reached for host in self.hosts.pool())

    def record(self, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
        if outcomes is None:
            return self._record_silence(host)
        self.store.db.execute(
            "INSERT INTO meta SELECT 'recorded/' || id, ?1 FROM hosts WHERE name = ?2 AND ?1 > 0"
            " ON CONFLICT (key) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
            (done_number, host),
        )
        touched = []
        for outcome in outcomes:
            row = self.store.row("SELECT * FROM vms WHERE id = ?", outcome.vm_id)
            if row is not None and row["state"] == VmState.DONE and outcome.is_of_given_up and outcome.error is None:
                self._given_up.ended(outcome.vm_id)
            if row is None or outcome.generation != row["generation"] or row["settled"]:
                continue  # decided anew since, or recorded already: the newer decision's own outcome counts
            if outcome.error is not None and outcome.error.get("kind") == StalePlan.__name__:
                continue  # the run whose plan is newer does it, and records it
            touched.append(outcome.vm_id)
            self.disks.record(row, outcome, way_back(away) if (away := self._away(row)) else "")
            if outcome.state == "DONE":
                self._end(row, host)
                continue
            left = lasting(row)
            # One that was to be made anew still is: its domain may be the old one, with all that this had.
            recreation = {} if outcome.error is None else _recreation(row)
            done = not recreation and (outcome.error is None if outcome.fitted is None else outcome.fitted)
            if outcome.state != "PROLOG_FAILURE" and (done or not left.get("grown")):
                # Disks come first: they are there, grown to their SIZE.
                self.images.grow(outcome.vm_id, functools.partial(_sizes, row["body"]))
            if done:
                self.networks.let_go(row["id"], nics_detached_before(row))
                if left.get("detached"):
                    self.images.release(row["id"], written=True, back=self._back(row), disks=left["detached"])
                self.networks.release_kept(row["id"])
                self.images.release_kept(row["id"])
                left = {}
            operation = json.loads(row["orders"]).get("operation")
            if done and (operation == "recreate" or self.disks.found_state(row) not in _WITH_MEMORY):
                self._drop_held_port(row["id"])
            anew = operation or self.disks.found_state(row) not in _WITH_MEMORY
            if outcome.error is None and anew:
                self._drop_former(row["id"])
            error = text_of(outcome.error)
            self._move([(outcome.vm_id, outcome.state, error)], "deploy")
            # What could not be reached is not wanted for ever: a shutdown that the guest ignored leaves it RUNNING.
            wanted = row["wanted"] if outcome.error is None else self._left_as(outcome.state, row)
            if wanted == "DONE":
                continue  # half taken away: every plan goes on with it until it is gone
            self.store.db.execute(
                "UPDATE vms SET settled = 1, wanted = ?, error = ?, orders = ? WHERE id = ?",
                (wanted, error, compact({**left, **recreation}), outcome.vm_id),
            )
        return self.pool(ids=touched, done=True)

    def _left_as(self, state: str, row: sqlite3.Row) -> str:
        """What is wanted of a machine after it failed to get where it should. One that lives on after all is wanted as
        it is, unless another has its name by now."""
        if state not in ("RUNNING", "POWEROFF", "SUSPENDED"):
            return str(row["wanted"])
        if row["wanted"] == "DONE" and self.pool(names=[row["name"]]):
            return "DONE"
        return state

    def _record_silence(self, host: str) -> list[VmRecord]:
        text = f"host {host} did not answer"
        rows = self.store.rows(
            "SELECT vms.id FROM vms JOIN hosts ON hosts.id = vms.host_id"
            " WHERE hosts.name = ? AND settled = 0 AND vms.error != ?",
            host,
            text,
        )
        for row in rows:
            self.store.db.execute("UPDATE vms SET error = ? WHERE id = ?", (text, row["id"]))
        return self.pool(ids=[row["id"] for row in rows])

    def forget(self, host: Host, gone: bool) -> None:
        """The machines of a host that is given up. gone: they run nowhere, and never will. Otherwise what others could
        not have beside them stays theirs: their addresses, and the files of images that they write to."""
        for row in self.store.rows("SELECT * FROM vms WHERE host_id = ? AND state != 6", host.id):
            shared = [] if gone or host.transfer != SHARED else self.images.written_by(row["id"])
            if not gone:
                self._given_up.give_up(row["id"], host.name)
            self._end(row, host.name, f"host {host.name} was forgotten")
            self.store.db.execute("UPDATE vms SET wanted = 'DONE' WHERE id = ?", (row["id"],))
            self.images.disable(shared)
        if gone:
            self._given_up.gone(host.name)
        self.images.forget_host(host.name)

    def _away(self, row: sqlite3.Row) -> str:
        """The host from which what the machine wrote has to come back, "" if it writes to the front-end's own files."""
        host = self._hosts_by_id().get(row["host_id"])
        return "" if host is None or host.transfer == SHARED else host.name

    def _back(self, row: sqlite3.Row) -> str:
        """The operation by which that comes back."""
        away = self._away(row)
        return way_back(away, ran=self._ran(row)) if away else ""

    def _end(self, row: sqlite3.Row, host: str, reason: str = "") -> None:
        now = self.now()
        self.disks.abandon(self.disks.pending(row))
        self.images.release(row["id"], written=True, back=self._back(row))
        self.networks.release([row["id"]])
        self.store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ?", (row["id"],))
        self.hosts.promise(row["host_id"], -row["memory"], -row["overhead"], -row["cpu"], -1)
        # Secrets do not outlive the machine: its context and passwords go with it.
        self.store.db.execute(
            "UPDATE vms SET state = ?, lcm_state = 0, settled = 1, etime = ?, error = '', orders = '{}',"
            " request = '[]', body = ? WHERE id = ?",
            (VmState.DONE, now, compact(_without_secrets(json.loads(row["body"]))), row["id"]),
        )
        self._remember([(row["id"], host, "DONE", "terminate", reason)], now)

    def _move(self, moved: Sequence[tuple[int, str, str]], action: str) -> None:
        for vm_id, name, reason in moved:
            state, lcm = _numbers(name)
            self.store.db.execute(
                "UPDATE vms SET state = ?, lcm_state = ?, error = ? WHERE id = ?", (state, lcm, reason, vm_id)
            )
            if name == "POWEROFF":
                self._drop_former(vm_id)
                self._drop_held_port(vm_id)
        hosts = {
            row["id"]: row["name"]
            for row in self._join_hosts([vm_id for vm_id, _n, _r in moved])
        }  # fmt: skip
        self._remember([(v, hosts.get(v, ""), name, action, reason) for v, name, reason in moved], self.now())

    def _drop_former(self, vm_id: int) -> None:
        """Its guest has been started with what its context says now, or is off."""
        row = self.store.row('SELECT body FROM vms WHERE id = ? AND body NOT LIKE \'%"former":""%\'', vm_id)
        body = json.loads(row["body"]) if row is not None else {}
        if body.get("former"):
            body["former"] = ""
            self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (compact(body), vm_id))

    def _join_hosts(self, ids: Sequence[int]) -> Iterable[sqlite3.Row]:
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            marks = ", ".join("?" * len(part))
            yield from self.store.db.execute(
                f"SELECT vms.id, hosts.name FROM vms JOIN hosts ON hosts.id = vms.host_id WHERE vms.id IN ({marks})",
                part,
            )

    def _remember(self, steps: Sequence[tuple[int, str, str, str, str]], now: int) -> None:
        self.store.db.executemany(
            "INSERT INTO history (vm_id, step, time, host, state, action, reason)"
            " SELECT ?1, coalesce(max(step), -1) + 1, ?2, ?3, ?4, ?5, ?6 FROM history WHERE vm_id = ?1",
            [(vm_id, now, host, state, action, reason) for vm_id, host, state, action, reason in steps],
        )

    def _host_name(self, host_id: int | None) -> str:
        row = self.store.row("SELECT name FROM hosts WHERE id = ?", host_id)
        return str(row["name"]) if row else ""


class _References:
    """Images, networks and demands that templates of one batch name, each looked up once."""

    def __init__(self, images: Images, networks: Networks) -> None:
        self._images = images
        self._networks = networks
        self._image: dict[Any, Image] = {}
        self._network: dict[Any, Network] = {}
        self._demands: dict[int, tuple[Template, Demands]] = {}
        self._values: dict[tuple[int, int], Mapping[str, str]] = {}
        self._refusals: dict[int, dict[str, NebulaError]] = {}
        self._json: dict[int, str] = {}
        self._context: dict[int, tuple[list[Network], list[Image]]] = {}

    def demands(self, name: str, template: Template) -> Demands:
        # By identity: the machines of one request share one template object, and comparing it costs more than this.
        known = self._demands.get(id(template))
        if known is None:
            known = self._demands[id(template)] = (template, demands_of(template, f"VM {name}"))
        return known[1]

    def refusals(self, name: str, template: Template, hypervisors: Iterable[str]) -> dict[str, NebulaError]:
        if id(template) not in self._refusals:
            self._refusals[id(template)] = refusals_of(template, f"VM {name}", hypervisors)
        return self._refusals[id(template)]

    def as_json(self, template: Template) -> str:
        if id(template) not in self._json:
            self._json[id(template)] = compact(template.to_attributes())
        return self._json[id(template)]

    def images_of(self, name: str, template: Template, demands: Demands) -> dict[int, Image]:
        found = {}
        for index, ref in enumerate(demands.images):
            if ref is None:
                continue
            if ref not in self._image:
                try:
                    self._image[ref] = self._images.uncounted(ref)
                except NebulaError as error:
                    error.asked = f"VM {name}, DISK {index}: {error.asked}"
                    raise
            found[index] = self._image[ref]
        return found

    def of_context(self, template: Template) -> tuple[list[Network], list[Image]]:
        """Networks and images that expressions of CONTEXT name. One that is not there expands to nothing, with a
        warning of its own; a file has to be there."""
        if id(template) not in self._context:
            networks, images = [], []
            for expression in variables.references(template):
                if expression.name == "FILE" and expression.value:
                    images.append(self._file(expression.value))
                    continue
                with contextlib.suppress(NotFound):
                    if expression.name == "NETWORK" and expression.value:
                        networks.append(self._networks.info(expression.value))
                    elif expression.name == "IMAGE" and expression.value:
                        images.append(self._images.info(expression.value))
            self._context[id(template)] = (networks, images)
        return self._context[id(template)]

    def _file(self, ref: Any) -> Image:
        """An image for $FILE in CONTEXT: without it the machine would lack a file, so it is no matter of a warning."""
        image = self._images.uncounted(ref)
        if image.type != ImageType.CONTEXT:
            raise InvalidValue(
                f"CONTEXT: $FILE of image {image.name}",
                f"it is of type {image.type.name}",
                "Name an image of type CONTEXT",
            )
        if image.state != ImageState.READY:
            raise WrongState(
                f"CONTEXT: $FILE of image {image.name}",
                f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else ""),
                "It has to be READY: see nebula_image",
            )
        return image

    def network(self, where: str, ref: Any) -> Network:
        if ref not in self._network:
            try:
                self._network[ref] = self._networks.info(ref)
            except NebulaError as error:
                error.asked = f"{where}: {error.asked}"
                raise
        return self._network[ref]

    def networks_of(self, name: str, demands: Demands) -> list[Network]:
        where = f"VM {name}, NIC"
        return [self.network(f"{where} {index}", demand.network) for index, demand in enumerate(demands.nics)]

    def network_ids(self, name: str, demands: Demands) -> list[int]:
        return [_id(network) for network in self.networks_of(name, demands)]

    def values_of(self, network_id: int, ar_id: int) -> Mapping[str, str]:
        return self.nic_values(self.network(f"network {network_id}", network_id), ar_id)

    def nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        key = (_id(network), ar_id)
        if key not in self._values:
            self._values[key] = self._networks.nic_values(network, ar_id)
        return self._values[key]


def _overhead(host: Host, demands: Demands) -> int:
    return host.overhead.of(demands.memory, demands.vcpu)


def template_uuid(template: Template) -> str:
    """OS/UUID, which fixes the machine's own."""
    return template.vector("OS").get("UUID", "").lower()


def _id(thing: Any) -> int:
    if thing.id is None:
        raise NotFound(f"{type(thing).__name__.lower()} {thing.name}", "it has no id", "It was not stored")
    return int(thing.id)


def _recreation(row: sqlite3.Row) -> dict[str, Any]:
    """The orders of a recreation that is decided, and was not recorded as done."""
    orders = json.loads(row["orders"])
    if orders.get("operation") != "recreate":
        return {}
    return {"operation": "recreate", "hard": True, "decided": orders.get("decided") or row["generation"]}


def _fetched(vm: Vm) -> dict[str, str]:
    return {file.source: file.sha256 for file in vm.context.files if file.sha256} if vm.context else {}


def _hostname(given: Mapping[str, str]) -> str:
    """What a context tells the guest to be called, "" if nothing."""
    return given.get("SET_HOSTNAME") or given.get("HOSTNAME") or ""


def _former(old: Vm, new: Vm, state: str) -> str:
    """What the guest still goes by once the machine is as `new` says, "" if it is told the same. state: in which it
    is found."""
    if state not in _WITH_MEMORY or old.context is None or new.context is None:
        return ""
    called = old.former or _hostname(old.context.variables)
    return "" if called == _hostname(new.context.variables) else called


def _of_images_had(demands: Demands, kept: Kept) -> Demands:
    """For disks that are there, the images that they are of, whatever these are called by now: another one may have the
    name."""
    had = {
        number: disk.image_id
        for number, disk in enumerate(kept.disks)
        if disk is not None and disk.image_id is not None
    }
    return replace(demands, images=tuple(had.get(number, ref) for number, ref in enumerate(demands.images)))


def _keep_sources(old: Vm, new: Vm, grown: Mapping[int, int]) -> tuple[Any, ...]:
    # A disk that exists stays as it was made, or is made larger: the image may have moved on since.
    by_id = {disk.disk_id: disk for disk in old.disks}
    return tuple(
        replace(
            disk,
            source=by_id[disk.disk_id].source,
            generation=by_id[disk.disk_id].generation,
            image_uuid=by_id[disk.disk_id].image_uuid,
            format=by_id[disk.disk_id].format,
            driver=by_id[disk.disk_id].driver,
            size=grown.get(disk.disk_id, by_id[disk.disk_id].size),
            luks_secret=by_id[disk.disk_id].luks_secret,
            snapshots=by_id[disk.disk_id].snapshots,
            inject=by_id[disk.disk_id].inject,
            trusted=by_id[disk.disk_id].trusted,
        )
        if disk.disk_id in by_id
        else disk
        for disk in new.disks
    )


def _sizes(body: str) -> dict[int, int]:
    return {disk["disk_id"]: disk["size"] for disk in json.loads(body)["disks"] if not disk["readonly"]}


def _request(row: sqlite3.Row) -> Template:
    return Template.from_attributes(json.loads(row["request"]))


def _numbers(name: str) -> tuple[VmState, LcmState]:
    if name in VmState.__members__ and name not in ("ACTIVE",):
        return VmState[name], LcmState.LCM_INIT
    return VmState.ACTIVE, LcmState[name]


def _sight(node: Observed, vm: ObservedVm | None) -> str:
    return "silent" if not node.reached else "gone" if vm is None else "stands still"


def _observed_reasons(node: Observed) -> dict[str, str]:
    """Why a machine is UNKNOWN, by what its node saw of it."""
    return {
        "silent": f"host {node.host} did not answer",
        "gone": f"its domain has vanished from host {node.host}; state: running starts it again from its disks",
        "stands still": f"its domain on host {node.host} stands still, paused or crashed, and not by its wanted state; "
        "state: running lets a paused one go on where it was, and starts a crashed one again from its disks",
    }


def _without_secrets(body: dict[str, Any]) -> dict[str, Any]:
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


def _told_addresses(variables: Mapping[str, str]) -> list[str]:
    """The addresses that a context gives to the guest's interfaces, less those that come by DHCP and the like."""
    told = []
    for name in sorted(variables):
        nic = re.match(r"(ETH\d+)_(IP6?|IP6_ULA)$", name)
        if nic and variables[name]:
            method = variables.get(f"{nic[1]}_METHOD", "")
            if nic[2] != "IP":
                # Where it is empty, guests go by the other.
                method = variables.get(f"{nic[1]}_IP6_METHOD", "") or method
            if method.strip().lower() in ("", "static"):
                told.append(variables[name])
    return told


def _record(
    row: sqlite3.Row, hosts: Mapping[int, Host], body: Mapping[str, Any], outdated: bool, doubled: str
) -> VmRecord:
    host = hosts.get(row["host_id"])
    context = body.get("context")
    given = (context or {}).get("variables") or {}
    graphics = body.get("graphics") or {}
    return VmRecord(
        id=row["id"],
        name=row["name"],
        uuid=body.get("uuid") or row["uuid"],
        state=vm_state_name(row["state"], row["lcm_state"]),
        wanted=row["wanted"],
        host=host.name if host else "",
        hypervisor=host.hypervisor if host else "",
        generation=row["generation"],
        cpu=row["cpu"],
        vcpu=body.get("vcpu"),
        memory=row["memory"],
        template=row["template"],
        pattern=row["pattern"],
        position=row["position"],
        error=row["error"],
        outdated=outdated,
        awaits=row["orders"] != "{}" and runs_with_others(row),
        recreates=bool(row["settled"]) and bool(_recreation(row)),
        doubled=doubled,
        stime=row["stime"],
        etime=row["etime"],
        hostname=_hostname(given),
        former=body.get("former", ""),
        addresses=_told_addresses(given) if context else None,
        nics=[
            {key: nic[key] for key in ("nic_id", "network", "bridge", "mac", "ip", "ip6", "ip6_ula", "target")}
            for nic in body.get("nics", ())
        ],
        disks=[
            {
                **{
                    key: disk[key]
                    for key in ("disk_id", "image", "image_id", "type", "target", "size", "save", "readonly")
                },
                # Machines of older versions have none.
                "snapshots": [dict(each) for each in disk.get("snapshots", ())],
            }
            for disk in body.get("disks", ())
        ],
        graphics={key: graphics[key] for key in ("type", "listen", "port") if key in graphics},
        request=_request(row) if row["request"] else None,
        # Machines of older versions were oneadmin's.
        owner=from_plain(Owner, body["owner"]) if body.get("owner") else Owner(),
    )
