# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets up the central side of OVN: both databases with their servers, and northd; who may connect to them, and how."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...errors import CommandFailed, Conflict, ForeignObject, InUse, InvalidValue, TimedOut
from ...host.command import run
from ...host.files import remove_file
from ..northbound.ovsdb_tables import wait_unchanged
from . import certificates, cluster, cluster_port_filter, daemons, ovsdb_client, tls_probe
from .certificates import REQUEST
from .cluster import CLUSTERED, Cluster, Copy, Status
from .daemons import Daemons
from .ovsdb_client import MARK, Row
from .paths import Change, Places

NAMES = cluster.NAMES
GLOBAL = {"northbound": "NB_Global", "southbound": "SB_Global"}
PORTS = {"northbound": 6641, "southbound": 6642}
# What a host may write: its own rows, by its certificate's name.
ROLE = "ovn-controller"
_OBJECTS = ("Logical_Switch", "Logical_Router", "Port_Group", "Address_Set", "Load_Balancer")
SECONDS = 20.0
# What a member that was down waits for the others, which may be down, too: the next one to be started is a majority.
SOON = 5.0


@dataclass(frozen=True)
class Wanted:
    """Says what a central host is to have.
    address: by which the others reach this host
    ports: TCP, by the databases' names
    cluster: None where this is the only central host
    renewed: whether its certificates are new"""

    catalog: str
    address: str
    ports: Mapping[str, int]
    files: Mapping[str, certificates.Files]
    cluster: Cluster | None = None
    renewed: bool = False

    def target(self, which: str) -> str:
        addresses = self.cluster.addresses if self.cluster else [self.address]
        everywhere = "[::]" if ":" in "".join(addresses) else "0.0.0.0"
        return f"pssl:{self.ports[which]}:{everywhere}"

    def connection(self, which: str) -> str:
        """Return where clients find a database: for a cluster all members, of which a client chooses one."""
        addresses = self.cluster.addresses if self.cluster else [self.address]
        return ",".join(cluster.connection(address, self.ports[which]) for address in addresses)

    def options(self) -> dict[str, list[str]]:
        found = {which: cluster.server_options(which, self.files[which]) for which in NAMES}
        return {**found, "northd": cluster.northd_options(self.connection("northbound"), self.files["northbound"])}


@dataclass
class CentralState:
    """Holds what there is of a central side on this host.
    rows: by database and table, none without a database
    drop_ins: what its units have of us, None where daemons are not started by units
    copies, status, started, guard: of a member of a cluster its files, what its servers say, with what its daemons
    were started, and what nftables has for it"""

    running: bool = False
    starts: bool = False
    rows: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    started: dict[str, dict[str, str]] = field(default_factory=dict)
    guard: list[str] | None = None
    drop_ins: dict[str, str] | None = None

    @property
    def member(self) -> bool:
        return any(copy.kind == CLUSTERED for copy in self.copies.values())

    @property
    def led(self) -> bool:
        """Return whether both databases can be written."""
        return all(self.status.get(which, Status()).led for which in NAMES)

    @property
    def state(self) -> str:
        """Return the state in a word or two, for a table."""
        if not self.running:
            return "not running"
        return "no leader" if self.member and not self.led else "running"

    @property
    def mark(self) -> str:
        rows = self.rows.get("northbound", {}).get("NB_Global", [])
        return ovsdb_client.mark_of(rows[0]) if rows else ""

    def shown(self, catalog: str) -> dict[str, Any] | None:
        """Return what of it is this catalog's; None if nothing is."""
        # A copy that is still to be filled has no mark.
        if self.mark != catalog and not (self.member and not self.rows.get("northbound", {}).get("NB_Global")):
            return None
        view: dict[str, Any] = {"running": self.running, "starts_with_host": self.starts}
        for which, tables in self.rows.items():
            connections = {
                str(row["target"]): str(row.get("role", ""))
                for row in tables["Connection"]
                if ovsdb_client.mark_of(row)
            }
            ssl = [ovsdb_client.tls_of(row) for row in tables["SSL"]]
            view[which] = {"connections": connections, "tls": ssl[0] if ssl else {}}
            if self.member:
                view[which] = {
                    "connections": connections,
                    "tls": self.started.get(which, {}),
                    "member": self.copies[which].address,
                }
        if self.member:
            view["northd"] = self.started.get("northd", {})
            view["guard"] = self.guard or []
        if self.member or self.drop_ins is not None:
            view["units"] = self.drop_ins or {}
        return view


class Central:
    def __init__(self, places: Places, catalog: str, act: bool, root: str = "") -> None:
        self.places, self.catalog, self.act, self.root = places, catalog, act, root
        self.daemons = Daemons(places)

    def observe(self) -> CentralState:
        found = CentralState(running=self.daemons.running("central"))
        found.copies = {which: cluster.read_copy(self.places.database(which)) for which in NAMES}
        for which, name in NAMES.items():
            tables = (GLOBAL[which], "SSL", "Connection")
            if self._answers(which, found):
                found.rows[which] = ovsdb_client.select(self.places.socket(which), name, tables)
            elif os.path.exists(self.places.database(which)):
                found.rows[which] = self._select_file(which, tables)
        if found.member:
            found.started = {name: cluster.options_of(self.daemons.pid(name)) for name in (*NAMES, "northd")}
            found.guard = cluster_port_filter.observe()
        if self.daemons.by_units:
            found.drop_ins = daemons.read_central_drop_ins(self.catalog)
        if found.running and daemons.is_installed("central"):
            found.starts = self.daemons.starts_with_host("central")
        return found

    def _answers(self, which: str, found: CentralState) -> bool:
        """Return whether a server can be asked. A server without a leader refuses."""
        if not self.daemons.has_central_servers():
            return False
        if found.copies[which].kind != CLUSTERED:
            return True
        found.status[which] = cluster.status(self.places, which)
        return found.status[which].led

    def refuse_foreign(self, found: CentralState) -> None:
        """Raise ForeignObject if somebody else or another catalog uses the databases."""
        if found.mark == self.catalog or not found.rows:
            return
        place = self.places.ovn_database
        asked = f"OVN central in {place}"
        if found.mark:
            raise ForeignObject(
                asked,
                f"its northbound database carries the mark of catalog {found.mark}, and this is catalog {self.catalog}",
                "Take it back by that catalog's inventory, or name it with nebula_ovn_remote",
            )
        others = [
            f"{which} database: connection {row['target']}"
            for which, tables in found.rows.items()
            for row in tables.get("Connection", [])
        ]
        others += [f"{which} database: TLS" for which, tables in found.rows.items() if tables.get("SSL")]
        others += self._objects()
        if others:
            raise ForeignObject(
                asked,
                f"it was set up by somebody else ({', '.join(others[:5])})",
                "Name it with nebula_ovn_remote to use it, or choose another host for group nebula_ovn_central",
            )

    def _objects(self, foreign_only: bool = False) -> list[str]:
        """Return switches, routers and the like, of anybody or of others than this catalog."""
        found = CentralState(copies={"northbound": cluster.read_copy(self.places.database("northbound"))})
        if self._answers("northbound", found):
            rows = ovsdb_client.select(
                self.places.socket("northbound"), NAMES["northbound"], _OBJECTS, ("name", "external_ids")
            )
        elif os.path.exists(self.places.database("northbound")):
            rows = self._select_file("northbound", _OBJECTS, ("name", "external_ids"))
        else:
            return []
        return [
            f"{table} {row['name']}"
            for table, those in rows.items()
            for row in those
            if not (foreign_only and ovsdb_client.mark_of(row) == self.catalog)
        ]

    def _select_file(
        self, which: str, tables: Sequence[str], columns: Sequence[str] | None = None
    ) -> dict[str, list[Row]]:
        path = self.places.database(which)
        copy = cluster.read_copy(path)
        if copy.kind != CLUSTERED:
            return ovsdb_client.select_file(path, NAMES[which], tables, columns)
        if not copy.cluster:
            # It has joined nothing yet, and is empty.
            return {table: [] for table in tables}
        with cluster.temporary() as directory:
            return ovsdb_client.select_file(cluster.as_standalone(path, directory), NAMES[which], tables, columns)

    def ensure(self, wanted: Wanted) -> Change:
        found = self.observe()
        self.refuse_foreign(found)
        cluster.refuse(found.copies, wanted.cluster, found.mark == self.catalog)
        if wanted.cluster is not None:
            return self._ensure_member(wanted, wanted.cluster, found)
        before = found.shown(self.catalog)
        after = self._expected(wanted)
        self._refuse_taken_ports(wanted, found)
        if before == after:
            self._refuse_unserved(wanted, wanted.renewed)
            return Change("central", before, after)
        if self.act:
            self._require_files(wanted)
            daemons.keep_drop_ins(after.get("units", {}))
            if not found.running or not found.starts:
                self.daemons.start("central")
            log = f"the logs in {self.places.ovn_log}"
            daemons.wait_until(
                self._ready, "OVN's databases", "they do not answer, or have no row of their own", log, SECONDS
            )
            self._change_rows(wanted)
            self._refuse_unserved(wanted, True)
        return Change("central", before, after)

    def _require_files(self, wanted: Wanted) -> None:
        daemons.require_installed("central")
        for which, tls in wanted.files.items():
            certificates.check_readable(f"TLS of OVN's {which} database", tls)

    def _refuse_unserved(self, wanted: Wanted, changed: bool) -> None:
        """Raise CommandFailed if a database of this host gives no answer by TLS. changed: whether something was done
        just now, which the servers take up within moments."""
        for which, port in wanted.ports.items():
            address = "::1" if "[" in wanted.target(which) else "127.0.0.1"
            tls, limit = wanted.files[which], time.monotonic() + (SECONDS if changed and self.act else 0)
            found = tls_probe.problem(port, tls, address)
            while found and time.monotonic() < limit:
                time.sleep(0.1)
                found = tls_probe.problem(port, tls, address)
            if found:
                raise CommandFailed(
                    f"OVN's {which} database at port {port} by TLS",
                    f"it listens, and gives no answer: {found}",
                    f"Compare {tls.certificate} with {tls.private_key}. Without both of them and {REQUEST} beside "
                    "them, the role makes new ones",
                )

    def _wait_for_ports(self, wanted: Wanted) -> None:
        for which, port in wanted.ports.items():
            log = os.path.join(self.places.ovn_log, f"ovsdb-server-{'nb' if which == 'northbound' else 'sb'}.log")
            asked = f"OVN's {which} database at port {port}"
            daemons.wait_until(lambda port=port: daemons.listens(port), asked, "it does not listen", log, SECONDS)  # type: ignore[misc]

    def _ensure_member(self, wanted: Wanted, group: Cluster, found: CentralState) -> Change:
        cluster_port_filter.refuse_foreign(self.catalog, cluster_port_filter.observe())
        before = found.shown(self.catalog)
        after = self._expected(wanted)
        self._refuse_taken_ports(wanted, found)
        gone = self._former_members(group, found)
        if gone:
            after["given_up"] = gone
        if not self.act or (before == after and not wanted.renewed):
            if before == after and found.led:
                self._refuse_unserved(wanted, False)
            return Change("central", before, after)
        self._require_files(wanted)
        options = wanted.options()
        cluster_port_filter.keep(self.root, self.catalog, group.addresses, list(group.ports.values()))
        daemons.keep_drop_ins(after["units"])
        new = [which for which in NAMES if found.copies[which].kind != CLUSTERED]
        if new or any(found.started.get(which) not in ({}, after[which]["tls"]) for which in NAMES):
            self.daemons.halt_central()
        for which in new:
            (cluster.begin if group.begins else cluster.join)(self.places.database(which), which, group)
        self.daemons.start_servers([word for which in NAMES for word in options[which]])
        if self._wait_for_leader(bool(new)):
            self._write(wanted)
            self._refuse_unserved(wanted, True)
            self._remove_former_members(group)
        now = cluster.options_of(self.daemons.pid("northd"))
        if now != after["northd"] or wanted.renewed:
            self.daemons.start_northd(options["northd"])
        return Change("central", before, after)

    def _former_members(self, group: Cluster, found: CentralState) -> list[str]:
        return [
            f"{which} {server}"
            for which, status in found.status.items()
            for server in cluster.former_servers(status, group, which)
        ]

    def _wait_for_leader(self, needed: bool) -> bool:
        """Return whether there is a leader. needed: this member has just begun or joined: there has to be one."""

        def led() -> bool:
            return all(cluster.status(self.places, which).led for which in NAMES)

        with contextlib.suppress(TimedOut):
            daemons.wait_until(
                led, "OVN's databases", "they follow no leader", self.places.ovn_log, SECONDS if needed else SOON
            )
            return True
        if needed:
            for which in NAMES:
                found = cluster.status(self.places, which)
                if not found.led:
                    raise cluster.no_leader_error(which, found)
        return False

    def _write(self, wanted: Wanted) -> None:
        for which in NAMES:
            # Elsewhere the package's script or northd makes the row that everything hangs on.
            program = "ovn-nbctl" if which == "northbound" else "ovn-sbctl"
            socket = f"--db=unix:{self.places.socket(which)}"
            run([program, "--no-leader-only", f"--timeout={SECONDS:.0f}", socket, "init"], timeout=2 * SECONDS)
        self._change_rows(wanted)

    def _change_rows(self, wanted: Wanted) -> None:
        found = self.observe()
        self.refuse_foreign(found)
        for which, name in NAMES.items():
            operations = self._operations(which, wanted, found.rows[which])
            if operations:
                ovsdb_client.transact(self.places.socket(which), name, operations)
        self._wait_for_ports(wanted)

    def _remove_former_members(self, group: Cluster) -> None:
        for which in NAMES:
            for server in cluster.former_servers(cluster.status(self.places, which), group, which):
                cluster.kick(self.places, which, server)

    def _ready(self) -> bool:
        """Return whether both servers answer and have their first row, which under systemd northd makes."""
        try:
            found = self.observe()
        except CommandFailed:
            return False
        return all(found.rows.get(which, {}).get(table) for which, table in GLOBAL.items())

    def _expected(self, wanted: Wanted) -> dict[str, Any]:
        view: dict[str, Any] = {"running": True, "starts_with_host": True}
        for which in NAMES:
            role = ROLE if which == "southbound" else ""
            view[which] = {"connections": {wanted.target(which): role}, "tls": wanted.files[which].as_dict()}
        if wanted.cluster is not None:
            group = wanted.cluster
            for which in NAMES:
                view[which]["member"] = group.local(which)
            tls = wanted.files["northbound"].as_dict()
            view["northd"] = {"northbound": wanted.connection("northbound"), **tls}
            view["guard"] = cluster_port_filter.expected(self.catalog, group.addresses, list(group.ports.values()))
            view["units"] = {}
            if self.daemons.by_units:
                view["units"] = daemons.central_drop_ins(
                    self.catalog, wanted.options(), cluster_port_filter.path(self.root)
                )
        elif self.daemons.by_units:
            view["units"] = daemons.northd_drop_in(self.catalog)
        return view

    def _refuse_taken_ports(self, wanted: Wanted, found: CentralState) -> None:
        for which, port in wanted.ports.items():
            rows = found.rows.get(which, {}).get("Connection", [])
            ours = any(str(row["target"]).split(":")[:2] == ["pssl", str(port)] for row in rows)
            # Of what the whole side is made of, another daemon may be gone.
            if not (ours and self.daemons.has_server(which)) and daemons.listens(port):
                raise Conflict(
                    f"OVN's {which} database at port {port}",
                    "another program listens at this port",
                    "End it (ss -ltnp shows it), or choose another port with nebula_ovn_ports",
                )
        for which, port in wanted.cluster.ports.items() if wanted.cluster else ():
            serves = found.copies[which].kind == CLUSTERED and self.daemons.pid(which) != 0
            if not serves and daemons.listens(port):
                raise Conflict(
                    f"OVN's {which} database at port {port} of its cluster",
                    "another program listens at this port",
                    "End it (ss -ltnp shows it), or choose another port with nebula_ovn_cluster_ports",
                )

    def _operations(self, which: str, wanted: Wanted, rows: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
        """Return what makes the database as it is to be, in one transaction that fails if somebody was faster."""
        table = GLOBAL[which]
        mark = ovsdb_client.map_value({MARK: self.catalog})
        row = rows[table][0]
        operations: list[dict[str, Any]] = []
        changes: dict[str, Any] = {}
        tls = wanted.files[which].as_dict()
        columns = {**_ssl_columns(tls), "external_ids": mark}
        if wanted.cluster is not None:
            # Its servers are started with theirs: what is in the database would be the same on all members.
            pass
        elif not rows["SSL"]:
            operations.append({"op": "insert", "table": "SSL", "row": columns, "uuid-name": "ssl"})
            changes["ssl"] = ["named-uuid", "ssl"]
        elif ovsdb_client.tls_of(rows["SSL"][0]) != tls:
            operations.append(_update("SSL", rows["SSL"][0], columns))
        role = ROLE if which == "southbound" else ""
        target = wanted.target(which)
        mine = [each for each in rows["Connection"] if ovsdb_client.mark_of(each) == self.catalog]
        keep = [each for each in mine if each["target"] == target and each.get("role", "") == role]
        outdated = [ovsdb_client.uuid_of(each) for each in mine if each not in keep]
        others = [ovsdb_client.uuid_of(each) for each in rows["Connection"] if each not in mine]
        if not keep or outdated:
            kept = [["uuid", uuid] for uuid in [*others, *map(ovsdb_client.uuid_of, keep)]]
            if not keep:
                new = {"target": target, "external_ids": mark, **({"role": role} if role else {})}
                operations.append({"op": "insert", "table": "Connection", "row": new, "uuid-name": "connection"})
                kept.append(["named-uuid", "connection"])
            changes["connections"] = ["set", kept]
        if which == "northbound" and ovsdb_client.mark_of(row) != self.catalog:
            ids = {**ovsdb_client.as_map(row["external_ids"]), MARK: self.catalog}
            changes["external_ids"] = ovsdb_client.map_value(ids)
        if changes:
            operations.insert(0, wait_unchanged(table, row["_uuid"], {column: row[column] for column in changes}))
            operations.append(_update(table, row, changes))
        return operations

    def remove(self) -> Change | None:
        """End the daemons and remove the databases, if they are this catalog's and nobody else has anything in them."""
        found = self.observe()
        before = found.shown(self.catalog)
        if before is None:
            return self._remove_rest()
        others = self._objects(foreign_only=True)
        if others:
            raise InUse(
                f"remove OVN's databases in {self.places.ovn_database}",
                f"they hold what others made: {', '.join(others[:5])}",
                "Remove that with ovn-nbctl, or keep OVN",
            )
        if self.act:
            if daemons.is_installed("central"):
                self.daemons.stop("central")
            self._remove_rest()
            for which in NAMES:
                path = self.places.database(which)
                remove_file(path)
                remove_file(os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.~lock~"))
        return Change("central", before, None)

    def _remove_rest(self) -> Change | None:
        """Remove what a central host has besides its databases, which may be gone already."""
        drop_ins = daemons.read_central_drop_ins(self.catalog) if self.daemons.by_units else {}
        rules = cluster_port_filter.comments_of_catalog(self.catalog, cluster_port_filter.observe())
        if not drop_ins and not rules and not os.path.lexists(cluster_port_filter.path(self.root)):
            return None
        if self.act:
            daemons.remove_drop_ins(daemons.read_central_drop_ins(self.catalog))
            cluster_port_filter.remove(self.root, self.catalog)
        return Change("central", {"guard": rules, "units": drop_ins}, None)


def connections(wanted: Wanted) -> dict[str, str]:
    return {which: wanted.connection(which) for which in NAMES}


def check_ports(ports: Mapping[str, int], cluster_ports: Mapping[str, int] | None = None) -> None:
    both = [*ports.values(), *(cluster_ports or {}).values()]
    if len(set(both)) != len(both):
        shown = dict(ports) if cluster_ports is None else f"{dict(ports)}, of the cluster {dict(cluster_ports)}"
        raise InvalidValue(f"ports {shown}", "two of them are the same", "Give each one of its own")
    for which, port in (*ports.items(), *(cluster_ports or {}).items()):
        if not 1 <= port <= 65535:
            raise InvalidValue(f"ports: {which} = {port}", "it is no TCP port", "Give one from 1 to 65535")


def _ssl_columns(tls: Mapping[str, str]) -> dict[str, Any]:
    return {
        "private_key": tls["private_key"],
        "certificate": tls["certificate"],
        "ca_cert": tls["ca_certificate"],
        # A peer's own word would be taken for its authority's, once.
        "bootstrap_ca_cert": False,
    }


def _update(table: str, row: Row, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": [["_uuid", "==", row["_uuid"]]], "row": dict(columns)}
