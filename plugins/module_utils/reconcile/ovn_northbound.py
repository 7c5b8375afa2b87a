# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings OVN's northbound database to what the catalog says, and compares the two."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.registry import engine_of, open_engine
from ..errors import NebulaError, NetworkDatabaseError, TimedOut
from ..model import ovn_mtu
from ..model.audit_finding import Finding
from ..model.dataclass_json import to_plain
from ..model.logical_network import LogicalNetworks
from ..network.northbound import apply as northbound
from ..network.northbound import bridge_mappings, route_checks, southbound_audit
from ..network.northbound.apply import advertisement_warnings, apply, audit, switches
from ..network.northbound.ovsdb_connection import Database, Tls
from ..network.northbound.row_differences import Change
from ..runner import closing
from ..sync import Item, Result

SOCKET = "unix:/run/ovn/ovnnb_db.sock"
SOUTHBOUND_SOCKET = "unix:/run/ovn/ovnsb_db.sock"
# A run goes on without it.
SOUTHBOUND_SECONDS = 10.0


def reconcile(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring the northbound database to what the catalog says; with state audited, return what differs."""
    left = ovn_mtu.read(params["inner_mtus"])
    catalog, desired = "", LogicalNetworks()
    hosts: Mapping[str, str] = {}
    members: Sequence[str] = ()
    if engine_of(params).begun(params):
        with closing(open_engine(params, check_mode, create=False)) as engine, engine.session():
            catalog = engine.catalog()
            if params["state"] != "absent":
                desired = engine.networks.logical()
            if params["state"] == "audited" or bridge_mappings.physical_networks(desired):
                hosts = engine.networks.port_hosts()
                members = [each.name for each in engine.hosts.pool()]
    counts = {"networks": len(desired.networks), "ports": len(desired.ports), "routers": len(desired.routers)}
    if not catalog:
        return Result([], payload=counts)
    remotes = params["northbound"] or [SOCKET]
    if check_mode and not params["northbound"] and not os.path.exists(SOCKET.partition(":")[2]):
        # OVN would be installed first.
        return Result([Item("OVN", None, counts)] if any(counts.values()) else [], payload=counts)
    tls = None
    if params["private_key"]:
        tls = Tls(params["private_key"], params["certificate"], params["ca_certificate"])
    known, unsure = _mappings(params, desired)
    asked, desired = desired, bridge_mappings.with_able_hosts(desired, known)
    try:
        with Database(remotes, tls) as database:
            if params["state"] == "audited":
                found = [_finding(each) for each in audit(database, catalog, desired)]
                found += _altered(params, switches(database, catalog), desired, hosts)
                return Result([], payload={**counts, "consistency": found})
            outcome = apply(database, catalog, desired, act=not check_mode)
            lost, more = ([], []) if check_mode else _lost_routes(params, database, desired, outcome.changes)
            if not check_mode and bridge_mappings.unconnected_networks(asked, known, members, outcome.changes):
                # A mapping of this run may only just have come there.
                database.settle()
                known, unsure = _mappings(params, desired)
                lost = [*lost, *bridge_mappings.unconnected_networks(asked, known, members, outcome.changes)]
    except NetworkDatabaseError as error:
        if not params["northbound"]:
            error.remedy += ". Role nebula.provision.ovn sets it up (nebula_ovn: true)"
        raise
    warnings = [
        *advertisement_warnings(desired, params["userspace_hosts"]),
        *_too_large(desired, left),
        *route_checks.warnings(desired),
        *outcome.warnings,
    ]
    if outcome.renewed:
        warnings.append(
            "OVN's rule against answers of DHCP servers that machines send is as an earlier release has made it, and "
            "is made anew: they are dropped from whatever port they come"
        )
    errors = {str(each) for each in lost}
    known_before = [each for each in bridge_mappings.warnings(asked, known, hosts) if each not in errors]
    warnings += [*known_before, *unsure, *more]
    items = [*(_item(change) for change in outcome.changes), *(Item(each.asked, error=each) for each in lost)]
    return Result(items, payload=counts, warnings=warnings, renews=bool(outcome.renewed))


def _lost_routes(
    params: Mapping[str, Any], database: Database, desired: LogicalNetworks, changes: Sequence[Change]
) -> tuple[Sequence[NebulaError], list[str]]:
    """Return errors of routes that ovn-northd was just told of and did not carry out, and warnings.

    Where nobody names the southbound database, there are none."""
    routers = route_checks.routers_with_changed_routes(desired, changes)
    southbound = _southbound(params) if routers else None
    if southbound is None:
        return [], []
    try:
        database.settle()
    except TimedOut as error:
        return [error], []
    try:
        with southbound:
            flows = southbound.select({route_checks.TABLE: route_checks.COLUMNS}, route_checks.WHERE)[
                route_checks.TABLE
            ]
    except (NetworkDatabaseError, TimedOut) as error:
        return [], [f"Whether OVN carries out the routes of routers was not looked at: {error}"]
    return route_checks.routes_without_flows(routers, flows), []


def _mappings(params: Mapping[str, Any], desired: LogicalNetworks) -> tuple[bridge_mappings.Mappings, list[str]]:
    """Return which host is connected with which physical network, and warnings.

    Where nobody names the southbound database, nothing of it is known."""
    southbound = _southbound(params) if bridge_mappings.physical_networks(desired) else None
    if southbound is None:
        return {}, []
    try:
        with southbound:
            return bridge_mappings.read_mappings(
                southbound.select({bridge_mappings.TABLE: bridge_mappings.COLUMNS})[bridge_mappings.TABLE]
            ), []
    except (NetworkDatabaseError, TimedOut) as error:
        return {}, [f"Which hosts can carry the gateways of routers was not looked at: {error}"]


def _southbound(params: Mapping[str, Any]) -> Database | None:
    remotes = params["southbound"] or ([] if params["northbound"] else [SOUTHBOUND_SOCKET])
    if not remotes or (remotes == [SOUTHBOUND_SOCKET] and not os.path.exists(SOUTHBOUND_SOCKET.partition(":")[2])):
        return None
    tls = None
    if params["private_key"] and params["southbound_certificate"]:
        tls = Tls(params["private_key"], params["southbound_certificate"], params["southbound_ca_certificate"])
    return Database(remotes, tls, SOUTHBOUND_SECONDS, southbound_audit.DATABASE)


def _altered(
    params: Mapping[str, Any], networks: Mapping[str, str], desired: LogicalNetworks, hosts: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return findings of what hosts have written into the southbound database; none where nobody names it."""
    southbound = _southbound(params)
    if southbound is None:
        return []
    try:
        with southbound as database:
            found = southbound_audit.find_wrong_rows(southbound_audit.read(database), desired, hosts, networks)
    except (NetworkDatabaseError, TimedOut) as error:
        return [_plain(Finding("ovn-differs", "", error.asked, error.found, error.remedy))]
    return [_plain(Finding("ovn-differs", each.host, each.asked, each.found, each.remedy)) for each in found]


def _too_large(desired: LogicalNetworks, left: Mapping[str, int]) -> list[str]:
    """Return warnings of networks that were there before it was known that the tunnels do not carry their packets."""
    inside = [network for network in desired.networks if not network.physical_network]
    found = (ovn_mtu.problem_of_mtu(network.name, network.mtu, left) for network in inside)
    return [str(problem) for problem in found if problem is not None]


def _finding(each: northbound.Finding) -> dict[str, str]:
    """Return a finding in the form in which nebula_info shows those of an audit."""
    return _plain(Finding("ovn-differs", "", each.asked.partition(": ")[2] or each.asked, each.found, each.remedy))


def _plain(finding: Finding) -> dict[str, str]:
    return {**to_plain(finding), "sentence": str(finding)}


def _item(change: Change) -> Item:
    return Item(str(change), change.before, change.after, changed=True)
