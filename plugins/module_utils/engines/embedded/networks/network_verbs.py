# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about virtual networks and their address ranges."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid as uuids
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from ....errors import Conflict, InUse, InvalidValue, NotFound, Unsupported
from ....model import addresses, network_checks, security_group, shared_bridge, uplink, vlan_trunks
from ....model.lease import HeldLease
from ....model.logical_network import LogicalNetworks
from ....model.network import (
    FILTERS,
    NOT_FOR_MACHINES,
    RESERVED,
    AddressRange,
    Network,
    SplitNetwork,
    filters_on_node,
    from_item,
)
from ....model.network_drivers import BRIDGE, DRIVERS, DUMMY, INTEGRATION_BRIDGE, ON_NODES, OVN, OVSWITCH, SWITCHED
from ....model.nic_filter_rules import Guard
from ....model.object_ids import id_of
from ....model.object_names import check_name
from ....model.states import NetworkState
from ...ports import NetworksPort
from ..references import Ref, find
from ..store import Store
from . import network_hosts, network_rows, vlan_numbers
from .filtered_nics import guards, machines
from .held_leases import HeldLeases
from .leases import Leases
from .network_rows import (
    HELD_REMEDY,
    IN_RANGE,
    LEASED,
    NIC_VALUES,
    OF_MACHINES,
    as_json,
    given_up_named,
    holder_named,
    kept_holder,
    range_of,
    vm_named,
)
from .ovn_contents import Known, logical, port_hosts
from .router_leases import Reserved

CHANGEABLE = ("name", "bridge", "vn_mad", "nat", "attributes")
_SHOWN = 5


class Networks(NetworksPort):
    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = Leases(store)
        self.held_leases = HeldLeases(store)
        self.moves = vlan_numbers.NumberMoves()
        self._known = Known()

    def pool(self) -> list[Network]:
        return network_rows.pool(self.store)

    def info(self, ref: Ref) -> Network:
        return network_rows.read(self.store, ref)

    def uncounted(self, ref: Ref) -> Network:
        """Return what info() does, but how much of the ranges is used may be older."""
        return network_rows.uncounted(self.store, ref)

    def allocate(self, network: Network) -> Network:
        check_name("network", network.name)
        taken = self.store.row("SELECT id FROM networks WHERE name = ?", network.name)
        if taken:
            raise Conflict(f"network {network.name}", f"network {taken['id']} has that name", "Choose another name")
        if network.vn_mad == OVN:
            network = dataclasses.replace(network, bridge=network.bridge or INTEGRATION_BRIDGE)
        if network.vn_mad == DUMMY and not network.bridge:
            raise InvalidValue(
                f"network {network.name}: VN_MAD = dummy", "there is no BRIDGE", "Name the host's bridge that it uses"
            )
        if network.vn_mad == OVSWITCH and not network.bridge:
            network = dataclasses.replace(network, bridge=self._switch_with(network))
        network_id = self.store.take_ids("networks")
        first = self.store.take_ids(f"ar/{network_id}", len(network.address_ranges))
        new = dataclasses.replace(
            network,
            id=network_id,
            uuid=str(uuids.uuid4()),
            bridge=network.bridge or f"onebr{network_id}",
            state=NetworkState.READY,
            address_ranges=tuple(
                dataclasses.replace(network_checks.normalise_range(r, network.name, _random()), ar_id=ar_id, used=0)
                for ar_id, r in enumerate(network.address_ranges, first)
            ),
        )
        new = self._complete(new)
        self._check(new)
        self._refuse_shared(new)
        self.store.db.execute(
            "INSERT INTO networks (id, name, uuid, vn_mad, bridge, nat, state, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (new.id, new.name, new.uuid, new.vn_mad, new.bridge, new.nat, int(new.state), as_json(new.attributes)),
        )
        network_rows.drop(self.store)
        for address_range in new.address_ranges:
            self._insert_range(network_id, address_range)
        Reserved(self.store).keep(new)
        return self.info(network_id) if new.attributes.get(RESERVED) else new

    def update(self, ref: Ref, **changes: Any) -> Network:
        """Set fields of the network: bridge and vn_mad only while nothing is leased."""
        network = self.info(ref)
        for field in changes:
            if field not in CHANGEABLE:
                raise InvalidValue(
                    f"network {network.name}: {field}", "it can't be set", f"Set {', '.join(CHANGEABLE)}"
                )
        new = dataclasses.replace(network, **changes)
        if new.name != network.name:
            check_name("network", new.name)
            taken = self.store.row("SELECT id FROM networks WHERE name = ?", new.name)
            if taken:
                raise Conflict(f"network {network.name}: NAME = {new.name}", f"network {taken['id']} has that name")
        Reserved(self.store).release(kept_holder(id_of(network)))
        for field in ("bridge", "vn_mad"):
            if getattr(new, field) != getattr(network, field):
                # A machine's NIC is tied to the bridge by name, in its definition.
                self._refuse_leased(
                    f"network {network.name}: {field.upper()} = {getattr(new, field)}, it is {getattr(network, field)}",
                    network,
                )
        for name in (uplink.VLAN_ID, vlan_trunks.ATTRIBUTE) if network.vn_mad == new.vn_mad == OVSWITCH else ():
            now, then = network.attributes.get(name, "(none)"), new.attributes.get(name, "(none)")
            if now != then:
                # The definitions of its machines say these of their ports.
                self._refuse_leased(f"network {network.name}: {name} = {then}, it is {now}", network)
        if new.vn_mad != network.vn_mad:
            self._refuse_routed(network, f"VN_MAD = {new.vn_mad}, it is {network.vn_mad}")
        new = self._complete(new)
        self._check(new)
        self._refuse_shared(new)
        self.store.db.execute(
            "UPDATE networks SET name = ?, bridge = ?, vn_mad = ?, nat = ?, attributes = ? WHERE id = ?",
            (new.name, new.bridge, new.vn_mad, new.nat, as_json(new.attributes), network.id),
        )
        network_rows.drop(self.store)
        Reserved(self.store).keep(new)
        return self.info(id_of(new))

    def delete(self, ref: Ref) -> Network:
        return self._delete(self.info(ref))

    def _delete(self, network: Network, declared: bool = False) -> Network:
        """Delete the network, and return it. declared: a check run takes it as deleted."""
        Reserved(self.store).release(kept_holder(id_of(network)))
        self._refuse_leased(f"network {network.name}: delete", network)
        if not declared:
            # It is not declared what the task that deletes it has made of routers and groups which name it.
            self._refuse_routed(network, "delete")
            self._refuse_ruled(network)
        self.store.db.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        network_rows.drop(self.store)
        self.store.db.execute("DELETE FROM sequences WHERE name = ?", (f"ar/{network.id}",))
        return dataclasses.replace(network, state=NetworkState.DONE)

    @contextlib.contextmanager
    def together(self, coming: Sequence[Network]) -> Iterator[Callable[[], set[str]]]:
        self.moves = moves = vlan_numbers.NumberMoves(coming, network_rows.without_ranges(self.store))
        try:
            yield lambda: moves.not_moved_yet(network_rows.without_ranges(self.store))
        finally:
            self.moves = vlan_numbers.NumberMoves()

    def declare_all(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self.together([from_item(item) for item in items]):
            for item in items:
                self.declare(item)

    def declare(self, item: Mapping[str, Any]) -> None:
        """Make of a network, in check mode, what an earlier task of this run would have made of it."""
        wanted = self._with_known_groups(from_item(item))
        row = find(self.store, "networks", wanted.name)
        current = self.info(row["id"]) if row is not None and row["name"] == wanted.name else None
        if wanted.state == NetworkState.DONE:
            if current is not None:
                self._delete(current, declared=True)
            return
        if current is None:
            self.allocate(wanted)
            return
        self.update(id_of(current), **{field: getattr(wanted, field) for field in CHANGEABLE if field != "name"})
        there = {r.ar_id: r for r in current.address_ranges}
        for address_range in wanted.address_ranges:
            if address_range.ar_id not in there:
                self.add_ar(id_of(current), address_range)
            elif address_range.size != there[address_range.ar_id].size:
                self.update_ar(id_of(current), address_range)

    def _with_known_groups(self, network: Network) -> Network:
        """Return the network without groups that only the earlier task would have made: their ids were its own."""
        text = network.attributes.get(security_group.ATTRIBUTE, "")
        known = {row["id"] for row in self.store.rows("SELECT id FROM security_groups")}
        if not _has_groups(network) or known.issuperset(security_group.read_group_ids(text, f"network {network.name}")):
            return network
        kept = [str(n) for n in security_group.read_group_ids(text, f"network {network.name}") if n in known]
        attributes = {**network.attributes, security_group.ATTRIBUTE: ",".join(kept)}
        return dataclasses.replace(network, attributes={key: value for key, value in attributes.items() if value})

    def add_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        network = self.info(ref)
        new = dataclasses.replace(
            network_checks.normalise_range(address_range, network.name, _random()),
            ar_id=self.store.take_ids(f"ar/{network.id}"),
            used=0,
        )
        network = dataclasses.replace(network, address_ranges=(*network.address_ranges, new))
        self._check(network)
        self._refuse_contradictions(network)
        self._insert_range(id_of(network), new)
        Reserved(self.store).cover(network)
        Reserved(self.store).keep(network)
        return self.info(id_of(network))

    def update_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        """Give the range of that number another size, or other attributes. Leases never move."""
        network = self.info(ref)
        current = range_of(network, address_range.ar_id)
        asked = f"network {network.name}: address range {addresses.range_text(current)}"
        new = network_checks.normalise_range(address_range, network.name, 0)
        for field in ("type", "ip", "mac", "global_prefix", "ula_prefix", "ip6"):
            # An empty field asks for no change.
            if getattr(address_range, field) and getattr(new, field) != getattr(current, field):
                raise Conflict(
                    f"{asked}: {field.upper()} = {getattr(new, field)}",
                    f"it is {getattr(current, field)}",
                    "A range never moves: add another one, and remove this one once nothing is leased in it",
                )
        new = dataclasses.replace(
            current,
            size=address_range.size,
            prefix_length=new.prefix_length or current.prefix_length,
            attributes=address_range.attributes,
        )
        Reserved(self.store).release(kept_holder(id_of(network)))
        if new.size < current.size:
            self._refuse_leased(f"{asked}: SIZE = {new.size}, it is {current.size}", network, current, new.size)
        changed = tuple(new if r.ar_id == new.ar_id else r for r in network.address_ranges)
        network = dataclasses.replace(network, address_ranges=changed)
        self._check(network)
        if new.size > current.size:
            self._refuse_contradictions(network)
        self.store.db.execute(
            f"UPDATE address_ranges SET size = ?, attributes = ? WHERE {IN_RANGE}",
            (new.size, network_rows.attributes_of(new), network.id, new.ar_id),
        )
        network_rows.drop(self.store)
        Reserved(self.store).cover(network)
        Reserved(self.store).keep(network)
        return self.info(id_of(network))

    def rm_ar(self, ref: Ref, ar_id: int) -> Network:
        network = self.info(ref)
        current = range_of(network, ar_id)
        asked = f"network {network.name}: remove address range {addresses.range_text(current)}"
        Reserved(self.store).release(kept_holder(id_of(network)))
        self._refuse_leased(asked, network, current)
        self.store.db.execute(f"DELETE FROM address_ranges WHERE {IN_RANGE}", (network.id, ar_id))
        network_rows.drop(self.store)
        left = tuple(r for r in network.address_ranges if r.ar_id != ar_id)
        Reserved(self.store).keep(dataclasses.replace(network, address_ranges=left))
        return self.info(id_of(network))

    def nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        """Return what a NIC takes from its network: its attributes, overridden by those of the range of the lease."""
        # Nodes are told anew what they filter, as it is at that time: no machine has to be given it.
        others = (*FILTERS, security_group.ATTRIBUTE) if filters_on_node(network) else ()
        hidden = (*NOT_FOR_MACHINES, *others)
        values = {key: value for key, value in network.attributes.items() if key not in hidden}
        if network.vn_mad in SWITCHED:
            # A node needs it to know how to attach the NIC.
            values["VN_MAD"] = network.vn_mad
        address_range = range_of(network, ar_id)
        if address_range.prefix_length:
            values["PREFIX_LENGTH"] = str(address_range.prefix_length)
        values.update(address_range.attributes)
        if network.vn_mad == OVSWITCH:
            # A range has no VLANs of its own: they are what keeps networks apart on one bridge.
            for name in (uplink.VLAN_ID, vlan_trunks.ATTRIBUTE):
                values.pop(name, None)
                values.update({name: network.attributes[name]} if name in network.attributes else {})
        return values

    def kept_nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        """Return what nic_values() does of a network as it is in the catalog; a session asks once."""
        known = self.store.once(NIC_VALUES, dict[tuple[int, int], Mapping[str, str]])
        key = (id_of(network), ar_id)
        if key not in known:
            known[key] = self.nic_values(network, ar_id)
        return known[key]

    def spread_out(self) -> list[SplitNetwork]:
        return [each for each in network_hosts.spread(self.store).values() if len(each.hosts) > 1]

    def held(self) -> list[HeldLease]:
        return self.held_leases.held()

    def logical(self, unused_groups: bool = False) -> LogicalNetworks:
        # With unused groups it is asked for once for each item of a list, without them once.
        return logical(self.store, unused_groups, self._known if unused_groups else None)

    def port_hosts(self) -> Mapping[str, str]:
        return port_hosts(self.store)

    def guards(self) -> Mapping[str, Sequence[Guard]]:
        return guards(self.store)

    def machines(self) -> Mapping[str, Sequence[int]]:
        return machines(self.store)

    def _insert_range(self, network_id: int, new: AddressRange) -> None:
        self.store.db.execute(
            "INSERT INTO address_ranges (network_id, ar_id, type, size, ip, mac, global_prefix, ula_prefix, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                network_id, new.ar_id, new.type, new.size, new.ip, new.mac, new.global_prefix, new.ula_prefix,
                network_rows.attributes_of(new),
            ),
        )  # fmt: skip
        network_rows.drop(self.store)

    def _complete(self, network: Network) -> Network:
        """Return the network with what it gets where nothing is given: a VLAN id, and an MTU for its machines."""
        if uplink.chooses_number(network) and uplink.number_of(network) is None:
            network = vlan_numbers.numbered(network, network_rows.without_ranges(self.store), self.moves.coming)
        return uplink.with_guest_mtu(network)

    def _check(self, network: Network) -> None:
        if network.vn_mad not in DRIVERS:
            raise Unsupported(
                f"network {network.name}: VN_MAD = {network.vn_mad}",
                "this engine has no such driver",
                f"Use one of {', '.join(DRIVERS)}",
            )
        network_checks.check(network)
        for number in security_group.read_group_ids(
            network.attributes.get(security_group.ATTRIBUTE, "") if _has_groups(network) else "",
            f"network {network.name}",
        ):
            if self.store.row("SELECT 1 FROM security_groups WHERE id = ?", number) is None:
                raise NotFound(
                    f"network {network.name}: {security_group.ATTRIBUTE} = {number}",
                    "there is no security group of that id",
                    "Name one of nebula_security_groups as security_groups",
                )

    def _refuse_shared(self, network: Network) -> None:
        """Raise Conflict if another network has on the nodes what this one would have."""
        if network.vn_mad == OVN:
            vlan_numbers.refuse_same_place(network, self.moves.left(network_rows.without_ranges(self.store)))
        if network.vn_mad not in ON_NODES:
            return
        others = [n for n in network_rows.without_ranges(self.store) if n.id != network.id and n.vn_mad in ON_NODES]
        for other in (self.moves.announced(each) for each in others):
            if other.bridge != network.bridge or network.vn_mad == other.vn_mad == OVSWITCH:
                continue
            if not shared_bridge.may_share(network, other):
                raise Conflict(
                    f"network {network.name}: BRIDGE = {network.bridge}, VN_MAD = {network.vn_mad}",
                    f"it is the bridge of network {other.name} (id {other.id}), with VN_MAD = {other.vn_mad}",
                    "Choose another bridge, as networks of driver bridge alone have one together; give one network "
                    "several address_ranges; or use the bridge as it is with vn_mad: dummy",
                )
        self._refuse_contradictions(network)
        vlan_numbers.refuse_shared(network, self.moves.left(others))

    def _refuse_contradictions(self, network: Network) -> None:
        """Raise Conflict if a network that has the same bridge asks of it what can't be together."""
        if network.vn_mad != BRIDGE:
            return
        there = [n for n in network_rows.without_ranges(self.store) if n.id != network.id and n.vn_mad == BRIDGE]
        known = [
            network_rows.read(self.store, id_of(n)) for n in there if self.moves.announced(n).bridge == network.bridge
        ]
        shared_bridge.refuse_contradictions(network, [self.moves.announced(each) for each in known])

    def _switch_with(self, network: Network) -> str:
        """Return the bridge that has the network's physical device, which can have no second one; "" if none has."""
        phydev = network.attributes.get(uplink.PHYDEV, "")
        for other in network_rows.without_ranges(self.store) if phydev else ():
            if other.vn_mad == OVSWITCH and other.attributes.get(uplink.PHYDEV) == phydev:
                return other.bridge
        return ""

    def _refuse_routed(self, network: Network, asked: str) -> None:
        """Raise InUse if a router has an interface or its gateway there."""
        for row in self.store.rows("SELECT name, body FROM routers ORDER BY id"):
            body = json.loads(row["body"])
            places = [*(body.get("interfaces") or ()), body.get("gateway") or {}]
            if any(place.get("network_id") == network.id for place in places):
                raise InUse(
                    f"network {network.name}: {asked}",
                    f"router {row['name']} has an address in it",
                    "Take it out of that router first, or remove the router",
                )

    def _refuse_ruled(self, network: Network) -> None:
        """Raise InUse if a security group lets its addresses through: without it, the rule would let nobody."""
        for row in self.store.rows("SELECT name, rules FROM security_groups ORDER BY id"):
            if any(rule.get("network_id") == network.id for rule in json.loads(row["rules"])):
                raise InUse(
                    f"network {network.name}: delete",
                    f"a rule of security group {row['name']} names it",
                    "Take that rule away first",
                )

    def _refuse_leased(
        self, asked: str, network: Network, address_range: AddressRange | None = None, first: int = 0
    ) -> None:
        """Raise InUse if anything is leased in the whole network, or in one range from an offset on."""
        where, values = "l.network_id = ?", [network.id]
        if address_range is not None:
            where, values = where + " AND l.ar_id = ? AND l.offset >= ?", [network.id, address_range.ar_id, first]
        rows = self.store.rows(
            f"SELECT l.holder, v.id, v.name, g.host, l.{OF_MACHINES} AS known FROM {LEASED}"
            f" WHERE {where} GROUP BY known, v.id, l.holder ORDER BY known, v.id LIMIT {_SHOWN + 1}",
            *values,
        )
        if rows:
            names = ", ".join(
                holder_named(self.store, row["holder"])
                if row["holder"]
                else vm_named(row["id"], row["name"])
                if row["host"] is None
                else given_up_named(row)
                for row in rows[:_SHOWN]
            )
            more = " …" if len(rows) > _SHOWN else ""
            held = f". {HELD_REMEDY}" if any(row["host"] is not None for row in rows) else ""
            remedies = []
            if any(not row["holder"] for row in rows):
                remedies.append("End these machines first")
            if any(row["holder"] for row in rows):
                remedies.append("Take the network or the address out of these routers first, or remove them")
            raise InUse(asked, f"addresses of it are leased by {names}{more}", ". ".join(remedies) + held)


def _random() -> int:
    return int.from_bytes(os.urandom(8), "big")


def _has_groups(network: Network) -> bool:
    """Return whether anything acts on its security groups: versions without them kept any text."""
    return network.vn_mad == OVN or filters_on_node(network)
