# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses VLAN ids and VXLAN network identifiers: it knows which network has which, and which one is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ....dataclass import replace
from ....errors import Conflict, InvalidValue
from ....model.network import Network
from ....model.network_drivers import BRIDGE, OVN, OVSWITCH, VXLAN
from ....model.object_ids import id_of
from ....model.shared_bridge import ASKED
from ....model.states import NetworkState
from ....model.uplink import PHYDEV, VLAN_ID, choice_of, joins_nodes, number_of, uplink


class NumberMoves:
    """Knows where the networks of one list are to be before the first of them is changed. So they exchange numbers in
    one run, and no number is chosen that another of them names.
    coming: these networks as they are to be; DONE for those that go.
    current: all networks."""

    def __init__(self, coming: Sequence[Network] = (), current: Iterable[Network] = ()) -> None:
        self.coming = [network for network in coming if _place(network)]
        self._announced = {network.name: network for network in coming}
        places = {network.name: _place(network) for network in coming}
        self._leaving = {
            id_of(network): place
            for network in current
            if (place := _place(network)) and places.get(network.name, place) != place
        }

    def left(self, others: Iterable[Network]) -> list[Network]:
        """Return the networks that stand in the way of others: all but those that are still where they are to leave."""
        return [other for other in others if not self._is_still_there(other)]

    def not_moved_yet(self, current: Iterable[Network]) -> set[str]:
        """Return the names of the networks that were to leave and have not, and of those that ask something else of a
        bridge which they share than was announced."""
        current = tuple(current)
        shared = Counter(network.bridge for network in current if network.vn_mad == BRIDGE)
        still_there = {network.name for network in current if self._is_still_there(network)}
        return still_there | {n.name for n in current if shared[n.bridge] > 1 and self.announced(n) != n}

    def announced(self, network: Network) -> Network:
        """Return the network with what it is going to ask of its bridge, so that networks that share a bridge may
        change that together. A network that is going to be on no bridge stays as it is."""
        coming = self._announced.get(network.name)
        if coming is None:
            return network
        if coming.state == NetworkState.DONE or coming.vn_mad != BRIDGE:
            return network
        attributes = {key: value for key, value in network.attributes.items() if key not in ASKED}
        attributes.update({key: value for key, value in coming.attributes.items() if key in ASKED and value})
        return replace(
            network, bridge=coming.bridge or network.bridge, vn_mad=BRIDGE, nat=coming.nat, attributes=attributes
        )

    def _is_still_there(self, network: Network) -> bool:
        return network.id in self._leaving and _place(network) == self._leaving[network.id]


def _place(network: Network) -> tuple[str, ...]:
    """Return what a network takes from others; () if it takes nothing, or says what can't be."""
    attributes = network.attributes
    if network.state == NetworkState.DONE:
        return ()
    if network.vn_mad == OVN:
        physical = attributes.get("PHYSICAL_NETWORK", "")
        return (OVN, physical, attributes.get(VLAN_ID, "")) if physical else ()
    try:
        number = number_of(network)
    except InvalidValue:
        return ()
    if not joins_nodes(network) or (number is None and network.vn_mad != BRIDGE):
        return ()
    return network.vn_mad, attributes[PHYDEV], str(number or "")


def numbered(network: Network, others: Iterable[Network], coming: Iterable[Network] = ()) -> Network:
    """Return the network with a free number. As in OpenNebula, the first number that is tried follows from the
    network's id, so that the number of a network that has just gone is not the first to be used again. Raise Conflict
    if none is free, and InvalidValue. coming: other networks that are to have a number."""
    first, last = choice_of(network)
    taken = {number_of(other) for other in others if other.id != network.id and _share(other, network)}
    taken.update(number_of(other) for other in coming if other.name != network.name and _share(other, network))
    size = last - first + 1
    start = id_of(network) % size
    # If more numbers are tried than are taken, one of them is free.
    for step in range(min(size, len(taken) + 1)):
        number = first + (start + step) % size
        if number not in taken:
            return replace(network, attributes={**network.attributes, VLAN_ID: str(number)})
    raise Conflict(
        f"network {network.name}: a number of {first}-{last} for {network.vn_mad}",
        f"other networks have all {size} of them",
        "Give a larger range as vlan_ids, or remove networks",
    )


def _share(one: Network, other: Network) -> bool:
    """Return whether the same number in both would be one network: the kernel has each VNI once, for all devices."""
    if one.vn_mad != other.vn_mad:
        return False
    if one.vn_mad == OVSWITCH:
        return one.bridge == other.bridge
    return one.vn_mad == VXLAN or one.attributes.get(PHYDEV) == other.attributes.get(PHYDEV)


def refuse_shared(network: Network, others: Iterable[Network]) -> None:
    """Raise Conflict if another network has the same number, or the same device, on a node."""
    others = tuple(others)
    _refuse_on_switch(network, others)
    own = uplink(network)
    for other in others if own is not None else ():
        their = uplink(other)
        if own is None or their is None:
            continue
        shares = network.vn_mad in (BRIDGE, OVSWITCH) and network.vn_mad == other.vn_mad
        if shares and network.bridge == other.bridge:
            continue
        owner = f"network {other.name} (id {other.id}) has it"
        if _share(network, other) and own.number and own.number == their.number:
            why = (
                "Nodes have each VNI once" if own.kind == VXLAN else "Machines of both networks would reach each other"
            )
            remedy = f"Give another vlan_id, or none: then a free one is chosen. {why}"
            raise Conflict(f"network {network.name}: {VLAN_ID} = {own.number} on {own.phydev}", owner, remedy)
        if own.device == their.device:
            if own.kind == OVSWITCH:
                remedy = (
                    f"A device is a port of one bridge: give bridge: {other.bridge}, which several networks may have"
                )
            elif own.kind == BRIDGE:
                remedy = (
                    f"A device is a port of one bridge: use vn_mad 802.1Q for several networks on it, or give bridge: "
                    f"{other.bridge}, which several networks may have"
                )
            else:
                remedy = "Give another vlan_id"
            raise Conflict(f"network {network.name}: device {own.device} on the nodes", owner, remedy)


def _refuse_on_switch(network: Network, others: Iterable[Network]) -> None:
    """Raise Conflict if another network on the same bridge of Open vSwitch has another device, or the same VLAN: such
    networks are told apart by their VLANs alone."""
    if network.vn_mad != OVSWITCH:
        return
    for other in others:
        if other.vn_mad != OVSWITCH or other.bridge != network.bridge:
            continue
        asked = f"network {network.name}: BRIDGE = {network.bridge}"
        there = f"network {other.name} (id {other.id})"
        ports = [each.attributes.get(PHYDEV, "") for each in (network, other)]
        if ports[0] != ports[1]:
            raise Conflict(
                f"{asked}, {PHYDEV} = {ports[0] or '(none)'}",
                f"it is the bridge of {there} too, which has {PHYDEV} = {ports[1] or '(none)'}",
                "Give both the same phydev, or choose another bridge",
            )
        number = number_of(network)
        if number == number_of(other):
            tag = f"{VLAN_ID} = {number}" if number else f"no {VLAN_ID}"
            raise Conflict(
                f"{asked}, {tag}",
                f"{there} has the same: machines of both networks would reach each other",
                "Give another vlan_id, or vlan_ids: then a free one is chosen; or choose another bridge",
            )


def refuse_same_place(network: Network, others: Iterable[Network]) -> None:
    """Raise Conflict if another network of OVN is the same outside: the same physical network, and the same tag."""
    physical, vlan = network.attributes.get("PHYSICAL_NETWORK", ""), network.attributes.get(VLAN_ID, "")
    for other in others if physical else ():
        there = other.attributes
        if other.id != network.id and (there.get("PHYSICAL_NETWORK"), there.get(VLAN_ID, "")) == (physical, vlan):
            tag = f"VLAN {vlan}" if vlan else "no VLAN"
            raise Conflict(
                f"network {network.name}: physical_network {physical}, {tag}",
                f"network {other.name} (id {other.id}) has it",
                "Give another vlan_id, or use that network; it may have several address ranges",
            )
