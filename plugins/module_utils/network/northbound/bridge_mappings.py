# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which hosts are connected with an external network: those that have a bridge mapping for its physical network,
as each of them has written into the southbound database. OVN gives a gateway to any other host as well, and nothing
of it goes outside. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...dataclass import replace
from ...errors import InvalidValue
from ...model.logical_network import LogicalNetwork, LogicalNetworks, Router
from ...model.object_names import nearest_word
from .row_differences import Change

TABLE = "Chassis"
# All of its columns: earlier versions of OVN have no other_config.
COLUMNS: tuple[str, ...] = ()
_KEY = "ovn-bridge-mappings"
_REMEDY = "Give {} a bridge for it in nebula_ovn_bridge_mappings and run role nebula.provision.ovn"

# By the names of hosts the physical networks that each is connected with.
Mappings = Mapping[str, frozenset[str]]


def read_mappings(rows: Sequence[Mapping[str, Any]]) -> Mappings:
    """Return the physical networks of each host. A host without a row is not known. rows: of TABLE."""
    found = {}
    for row in rows:
        texts = [dict(row[column][1]).get(_KEY) for column in ("other_config", "external_ids") if column in row]
        text = next((each for each in texts if each), "")
        found[str(row["name"])] = frozenset(each.partition(":")[0].strip() for each in str(text).split(",") if each)
    return found


def with_able_hosts(desired: LogicalNetworks, hosts: Mappings) -> LogicalNetworks:
    """Return the same networks, with each gateway on those of its hosts that can carry it, or may for all that is
    known. Where none can, it stays as it is."""
    networks = {network.uuid: network for network in desired.networks}
    return replace(desired, routers=tuple(_on_able_hosts(router, networks, hosts) for router in desired.routers))


def _on_able_hosts(router: Router, networks: Mapping[str, LogicalNetwork], hosts: Mappings) -> Router:
    gateway = router.gateway
    if gateway is None or gateway.network not in networks:
        return router
    physical = networks[gateway.network].physical_network
    able = tuple(each for each in gateway.chassis if _may_carry(each.name, physical, hosts))
    return router if not able or able == gateway.chassis else replace(router, gateway=replace(gateway, chassis=able))


def _may_carry(host: str, physical: str, hosts: Mappings) -> bool:
    return host not in hosts or physical in hosts[host]


def warnings(desired: LogicalNetworks, hosts: Mappings, places: Mapping[str, str]) -> list[str]:
    """Return warnings of what reaches nobody outside.
    desired: as the catalog has it
    places: by the ports' UUIDs, where their machines are"""
    networks = {network.uuid: network for network in desired.networks if network.physical_network}
    nowhere = _unconnected(networks.values(), hosts)
    found = [str(_unmapped(network, hosts)) for network in nowhere.values()]
    known = {uuid: network for uuid, network in networks.items() if network.physical_network not in nowhere}
    for router in desired.routers:
        found += _of_router(router, known, hosts)
    return [*found, *_of_machines(desired, known, hosts, places)]


def unconnected_networks(
    desired: LogicalNetworks, hosts: Mappings, members: Collection[str], changes: Iterable[Change]
) -> list[InvalidValue]:
    """Return an error for each network that OVN was just told to connect with a physical network which no host is
    connected with. members: the catalog's hosts; before all of them are known, no network is called wrong."""
    if not members or not hosts.keys() >= set(members):
        return []
    altered = {change.owner.uuid for change in changes if change.owner.kind == "network" and _connects(change)}
    nowhere = _unconnected((network for network in desired.networks if network.uuid in altered), hosts)
    return [_unmapped(network, hosts) for network in nowhere.values()]


def _connects(change: Change) -> bool:
    """Return whether the change gives a network another physical network."""
    before, after = _physical(change.before), _physical(change.after)
    return bool(after) and after != before


def _physical(rows: Mapping[str, Any] | None) -> str:
    columns = (dict(row).get("options") or {} for row in (rows or {}).values() if isinstance(row, Mapping))
    return next((str(options["network_name"]) for options in columns if "network_name" in options), "")


def _unconnected(networks: Iterable[LogicalNetwork], hosts: Mappings) -> Mapping[str, LogicalNetwork]:
    """Return the networks that no host is connected with, one for each physical network."""
    return {
        network.physical_network: network
        for network in networks
        if network.physical_network and hosts and not any(network.physical_network in each for each in hosts.values())
    }


def _unmapped(network: LogicalNetwork, hosts: Mappings) -> InvalidValue:
    physical = network.physical_network
    near = nearest_word(physical, sorted({each for names in hosts.values() for each in names}))
    return InvalidValue(
        f"network {network.name}: physical_network {physical}",
        f"none of the hosts in OVN has a bridge mapping for it ({', '.join(sorted(hosts))}), so nothing of it goes "
        "outside",
        _REMEDY.format("a node") + (f", or did you mean {near}?" if near else ""),
    )


def _of_router(router: Router, networks: Mapping[str, LogicalNetwork], hosts: Mappings) -> Iterator[str]:
    gateway = router.gateway
    if gateway is None or gateway.network not in networks:
        return
    physical = networks[gateway.network].physical_network
    unable = [each.name for each in gateway.chassis if not _may_carry(each.name, physical, hosts)]
    if unable and (gateway.named or len(unable) == len(gateway.chassis)):
        rest = "the others carry it" if len(unable) < len(gateway.chassis) else "nothing of it goes outside"
        yield (
            f"router {router.name}: gateway on {', '.join(unable)}: no bridge mapping for physical_network {physical} "
            f"of network {networks[gateway.network].name} is there, so that {rest}. {_REMEDY.format('each of them')}, "
            "or name other hosts (gateway: hosts)"
        )


def _of_machines(
    desired: LogicalNetworks, networks: Mapping[str, LogicalNetwork], hosts: Mappings, places: Mapping[str, str]
) -> Iterator[str]:
    """Yield warnings of machines whose own host sends and takes their packets: in it, or by a floating address."""
    spread = {
        (floating.port, router.gateway.network): f"floating address {floating.external_ip}"
        for router in desired.routers
        if router.gateway
        for floating in router.floating
        if floating.distributed
    }
    own = {(port.uuid, port.network): "NIC" for port in desired.ports}
    names = {port.uuid: port.name or port.uuid for port in desired.ports}
    for (port, uuid), what in {**own, **spread}.items():
        host = places.get(port, "")
        if uuid in networks and host and not _may_carry(host, networks[uuid].physical_network, hosts):
            network = networks[uuid]
            yield (
                f"{what} of {names.get(port, port)} in network {network.name}: host {host} has no bridge mapping for "
                f"physical_network {network.physical_network}, so that nothing of it goes outside. "
                f"{_REMEDY.format(host)}"
            )


def physical_networks(desired: LogicalNetworks) -> Collection[str]:
    """Return the physical networks that hosts are asked for."""
    return {network.physical_network for network in desired.networks} - {""}
