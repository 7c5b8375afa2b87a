# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins a bridge of this node with the bridges of other nodes: by a physical device that is its port, or by a VLAN or
VXLAN device of ours on one. Devices of ours carry the mark of their network; what carries no mark is never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..dataclass import replace
from ..errors import Conflict, ForeignObject, InUse, NotFound
from ..model.network_drivers import VLAN, VXLAN
from ..model.uplink import VXLAN_PORT, VXLAN_TTL, Uplink
from . import host_address_move
from .links import VLAN_KIND, VXLAN_KIND, Link, Mark, bridges_of_catalog, devices_of_catalog

_KINDS = {VLAN: VLAN_KIND, VXLAN: VXLAN_KIND}
# Of devices that are made here, as the kernel calls them.
KINDS = tuple(_KINDS.values())
# No address of the node's on it: what a router of the network says there is of no account.
SETTINGS = {"ipv6/disable_ipv6": "1"}


def no_longer_wanted(
    wanted: Mapping[str, Uplink | None],
    catalog: str,
    links: Mapping[str, Link],
    known: Collection[str] | None,
    staying: Collection[tuple[str, str]] = (),
) -> set[str]:
    """Return the devices and ports that networks of this catalog have, and are to have no more.
    wanted: by UUID what joins a network's bridges
    known: UUIDs of all networks that there are; None if that is not known
    staying: bridges, each with the port that one of its networks is to have there"""

    def stays(network: str, name: str) -> bool:
        if network in wanted:
            uplink = wanted[network]
            return uplink is not None and uplink.device == name
        return known is None or network in known

    found = {
        n for n, link in devices_of_catalog(links, catalog).items() if link.mark and not stays(link.mark.network, n)
    }
    for link in bridges_of_catalog(links, catalog).values():
        mark = link.mark
        if mark is None or mark.port not in link.ports or (link.name, mark.port) in staying:
            continue
        if not stays(mark.network, mark.port):
            found.add(mark.port)
    return found


def release_lines(names: Iterable[str], links: Mapping[str, Link]) -> list[str]:
    """Return the lines that take these from their former networks, so that others can have them."""
    made = [f"link delete dev {name}" for name in names if links[name].kind in KINDS and links[name].mark is not None]
    return made + [f"link set dev {name} nomaster" for name in names if f"link delete dev {name}" not in made]


def after_release(names: Collection[str], links: Mapping[str, Link]) -> dict[str, Link]:
    """Return the links as freeing() leaves them."""
    gone = {line.rpartition(" ")[2] for line in release_lines(names, links) if "delete" in line}
    return {n: replace(link, bridge="") if n in names else link for n, link in links.items() if n not in gone}


def refuse(network: str, uplink: Uplink, bridge: str, mark: Mark, links: Mapping[str, Link]) -> None:
    """Raise an error if this host can't have the uplink, before anything of the network is made. links: without what
    other networks are to have no more."""
    asked = f"network {network}: {uplink}"
    phydev = links.get(uplink.phydev)
    if phydev is None:
        raise NotFound(
            asked,
            f"there is no interface {uplink.phydev} on this host",
            "Give phydev as `ip link` shows it on the nodes; it has to be the same name on all of them",
        )
    over = links.get(phydev.bridge)
    if over is not None and over.kind != "bridge":
        raise InUse(
            asked,
            f"on this host {phydev.name} is a part of {over.name} ({over.kind or 'an interface'})",
            f"Give phydev: {over.name}; what is sent by a part alone is lost, or comes back by another",
        )
    if uplink.kind == VLAN and phydev.name == "lo":
        raise Conflict(asked, "lo is the loopback interface, which has no VLANs", "Give an interface to other nodes")
    if not uplink.made:
        _refuse_port(asked, uplink, phydev, bridge)
        if moves_addresses(uplink, links):
            host_address_move.refuse(asked, phydev, links)
    else:
        _refuse_device(asked, uplink, mark, links.get(uplink.device))
    if uplink.kind == VXLAN and not phydev.addresses:
        raise Conflict(
            asked,
            f"{uplink.phydev} has no IPv4 address on this host, from which the tunnel's packets could be sent",
            "Give it one by the means of the host's distribution, or use vn_mad 802.1Q, which needs none",
        )
    room = phydev.mtu - uplink.cost
    if uplink.needed > room:
        leaves = f", which leaves {room} for what is in the tunnel" if uplink.cost else ""
        raise Conflict(
            f"{asked}: frames of {uplink.needed} bytes",
            f"the MTU of {uplink.phydev} is {phydev.mtu} on this host{leaves}: larger ones would be lost",
            f"Set it to {uplink.needed + uplink.cost} there and on all that is between the nodes, or give the network "
            f"guest_mtu {room}, and no larger mtu",
        )


def doubts(network: str, uplink: Uplink, stated: int, links: Mapping[str, Link]) -> list[str]:
    """Return a warning where machines of an address range are told more than this host's uplink carries; nothing is
    refused. stated: the largest MTU of all, in bytes. links: as for refuse()."""
    room = links[uplink.phydev].mtu - uplink.cost
    if stated <= room:
        return []
    doubt = (
        f"network {network}: machines of an address range are told an MTU of {stated}, and {uplink.phydev} here "
        f"leaves {room}: larger packets are lost between hosts. Give the range guest_mtu {room} or less, or set the "
        f"MTU of {uplink.phydev} to {stated + uplink.cost} here and on all that is between the nodes"
    )
    return [doubt]


def _refuse_port(asked: str, uplink: Uplink, phydev: Link, bridge: str) -> None:
    if phydev.bridge == bridge:
        return
    if phydev.kind == "bridge" or phydev.name == "lo":
        kind = "a bridge" if phydev.kind == "bridge" else "the loopback interface"
        raise Conflict(
            asked,
            f"{phydev.name} is {kind}, which no bridge has as its port",
            "Give an interface; or use that bridge as it is with vn_mad: dummy",
        )
    if phydev.bridge:
        raise InUse(
            asked,
            f"on this host it is a port of {phydev.bridge} already",
            f"Use {phydev.bridge} as it is with vn_mad: dummy, or another interface, or take it out there",
        )
    addresses = _addresses(phydev)
    if addresses and not uplink.forced:
        raise InUse(
            asked,
            f"on this host {phydev.name} has the addresses {', '.join(addresses)}: as the port of a bridge it would "
            "carry nothing to this host any more, also no ssh connection",
            "Use vn_mad 802.1Q or vxlan, which leave the interface as it is, or an interface without addresses; or "
            "make the bridge by the means of the host's distribution, with the addresses on it, and use vn_mad: dummy; "
            "phydev_forced: true moves the addresses to the bridge",
        )


def _addresses(phydev: Link) -> list[str]:
    return [*phydev.addresses, *phydev.addresses6, *phydev.dynamic6]


def moves_addresses(uplink: Uplink, links: Mapping[str, Link]) -> bool:
    """Return whether the physical device has addresses of the host that are to move to the bridge with it."""
    phydev = links.get(uplink.phydev)
    return uplink.forced and phydev is not None and not phydev.bridge and bool(_addresses(phydev))


def _refuse_device(asked: str, uplink: Uplink, mark: Mark, there: Link | None) -> None:
    if there is None:
        return
    if there.mark is None or there.mark.catalog != mark.catalog:
        whose = f"carries the mark of catalog {there.mark.catalog}" if there.mark else "was not made by this collection"
        raise ForeignObject(
            asked,
            f"there is an interface {uplink.device} on this host, which {whose}",
            f"Give another vlan_id, or, if it can go: ip link delete {uplink.device}",
        )
    if there.mark.network != mark.network:
        raise ForeignObject(
            asked,
            f"{uplink.device} on this host was made for another network, {there.mark.network}, of this catalog",
            "Run again with all networks, so that what is left over is removed, or give another vlan_id",
        )


def is_made(uplink: Uplink, links: Mapping[str, Link]) -> bool:
    """Return whether the device is there as it is to be, apart from where it is attached."""
    there = links.get(uplink.device)
    if not uplink.made:
        return there is not None
    return there is not None and (there.kind, there.parent, there.number, there.group) == (
        _KINDS[uplink.kind],
        uplink.phydev,
        uplink.number,
        uplink.group,
    )


def device_making_lines(uplink: Uplink, mark: Mark, links: Mapping[str, Link]) -> list[str]:
    """Return the lines for `ip -batch` that make the device, marked and down; none if it is there."""
    if is_made(uplink, links):
        return []
    steps = [f"link delete dev {uplink.device}"] if uplink.device in links else []
    return [*steps, *device_lines(_device(uplink, mark))]


def _device(uplink: Uplink, mark: Mark | None) -> Link:
    name, kind = uplink.device, _KINDS[uplink.kind]
    alias = str(Mark(mark.catalog, mark.network)) if mark is not None else ""
    return Link(name, kind, alias, mtu=uplink.mtu, parent=uplink.phydev, number=uplink.number, group=uplink.group)


def device_lines(device: Link) -> list[str]:
    """Return the lines for `ip -batch` that make a device like this. device: one of ours."""
    mtu = f" mtu {device.mtu}" if device.mtu else ""
    if device.kind == VLAN_KIND:
        made = f"link add link {device.parent} name {device.name}{mtu} type vlan id {device.number}"
    else:
        place = f"id {device.number} group {device.group} dev {device.parent}"
        made = f"link add name {device.name}{mtu} type vxlan {place} ttl {VXLAN_TTL} dstport {VXLAN_PORT}"
    return [made, f"link set dev {device.name} alias {device.alias}"]


def at_boot(device: Link, bridge: str) -> list[str]:
    """Return the lines that make it a port of the bridge when the host boots, whatever it is then."""
    lines = [f"link set dev {device.name} master {bridge}", f"link set dev {device.parent or device.name} up"]
    return [*lines, f"link set dev {device.name} up"] if device.parent else lines


def attach_lines(uplink: Uplink, bridge: str, links: Mapping[str, Link]) -> list[str]:
    """Return the lines that make it a port of the bridge, and let frames pass; none if it is so."""
    there = links.get(uplink.device) if is_made(uplink, links) else None
    phydev = links.get(uplink.phydev)
    steps = []
    mtu = _mtu(uplink, links)
    if there is not None and uplink.made and there.mtu != mtu:
        steps += [f"link set dev {uplink.device} mtu {mtu}"]
    if there is None or there.bridge != bridge:
        steps += [f"link set dev {uplink.device} master {bridge}"]
    if phydev is None or not phydev.up:
        steps += [f"link set dev {uplink.phydev} up"]
    # In one line, kernels before 6.0 would set it up first.
    if uplink.made and (there is None or not there.up):
        steps += [f"link set dev {uplink.device} up"]
    return steps


def expected_device(uplink: Uplink, bridge: Link, links: Mapping[str, Link]) -> Link:
    """Return the device as it is going to be."""
    there = links.get(uplink.device, Link(uplink.device))
    if not uplink.made:
        return replace(there, up=True, bridge=bridge.name)
    return replace(_device(uplink, bridge.mark), up=True, mtu=_mtu(uplink, links), bridge=bridge.name)


def removal_lines(uplink: Uplink | None, bridge: Link | None, mark: Mark, links: Mapping[str, Link]) -> list[str]:
    """Return the lines that end what joined the bridge before and is to do so no more."""
    wanted = uplink.device if uplink is not None else ""
    steps = detach_lines(bridge, links) if bridge is not None and bridge.mark and bridge.mark.port != wanted else []
    # Of hundreds of devices, each would be asked for its mark as often: its text is looked at first.
    own = {name: link for name, link in links.items() if mark.network and mark.network in link.alias}
    for name, link in devices_of_catalog(own, mark.catalog).items():
        if link.mark is not None and link.mark.network == mark.network and name != wanted:
            steps += [f"link delete dev {name}"]
    return steps


def detach_lines(bridge: Link, links: Mapping[str, Link]) -> list[str]:
    """Return the lines that take the host's interface from the bridge, and set it down if it was down before. links:
    where another network has the interface by now, it is no port of this bridge."""
    mark = bridge.mark
    if mark is None or not mark.port or mark.port not in bridge.ports:
        return []
    there = links.get(mark.port)
    down = bool(mark.down) and there is not None and there.bridge == bridge.name
    lines = [f"link set dev {mark.port} nomaster"]
    return [*lines, f"link set dev {mark.port} down"] if down else lines


def after_detaching(bridges: Iterable[Link], links: Mapping[str, Link]) -> dict[str, Link]:
    """Return the host's interfaces once their bridges are gone."""
    found = {}
    for bridge in bridges:
        there = links.get(bridge.mark.port) if bridge.mark is not None else None
        if there is not None and bridge.mark is not None and there.bridge == bridge.name:
            found[there.name] = replace(there, bridge="", up=there.up and not bridge.mark.down)
    return found


def was_down(uplink: Uplink | None, catalog: str, links: Mapping[str, Link], free: Mapping[str, Link]) -> bool:
    """Return whether the host's interface that is to be a port was down before any network had it. free: the
    interfaces without those that another network still has, but is about to lose."""
    if uplink is None or uplink.made:
        return False
    for bridge in bridges_of_catalog(links, catalog).values():
        if bridge.mark is not None and bridge.mark.port == uplink.device:
            return bool(bridge.mark.down)
    phydev = free.get(uplink.phydev)
    return phydev is not None and not phydev.up and not phydev.bridge


def devices(network: str, catalog: str, links: Mapping[str, Link]) -> list[str]:
    found = devices_of_catalog(links, catalog).items()
    return [name for name, link in found if link.mark is not None and link.mark.network == network]


def ports(bridge: Link, links: Mapping[str, Link]) -> list[str]:
    """Return those of the bridge's ports by which it is joined with bridges of other nodes."""
    mark = bridge.mark
    return [] if mark is None else [p for p in bridge.ports if p == mark.port or _made_for(links.get(p), mark)]


def _made_for(link: Link | None, mark: Mark) -> bool:
    of = link.mark if link is not None and link.kind in KINDS else None
    return of is not None and (of.catalog, of.network) == (mark.catalog, mark.network)


def describe(device: Link) -> str:
    """Return what a device of ours is, as a network shows its uplink."""
    kind = next(name for name, kind in _KINDS.items() if kind == device.kind)
    return str(Uplink(kind, device.parent, device.name, device.number))


def view(bridge: Link, links: Mapping[str, Link]) -> dict[str, Any]:
    """Return what joins the bridge now, for diffs; {} if nothing does."""
    found: dict[str, Any] = {}
    for name in ports(bridge, links):
        link = links[name]
        found[name] = {"up": link.up}
        if link.number:
            found[name].update(phydev=link.parent, vlan_id=link.number, mtu=link.mtu)
    return found


def desired_view(uplink: Uplink | None, links: Mapping[str, Link]) -> dict[str, Any]:
    """Return what view() is to show."""
    if uplink is None:
        return {}
    shown: dict[str, Any] = {"up": True}
    if uplink.made:
        shown.update(phydev=uplink.phydev, vlan_id=uplink.number, mtu=_mtu(uplink, links))
    return {uplink.device: shown}


def _mtu(uplink: Uplink, links: Mapping[str, Link]) -> int:
    """Return what the device's MTU is to be. An MTU that nobody gave stays, as long as it is enough."""
    there = links.get(uplink.device) if is_made(uplink, links) else None
    phydev = links.get(uplink.phydev)
    room = (phydev.mtu if phydev is not None else 0) - uplink.cost
    if uplink.mtu:
        return uplink.mtu
    return there.mtu if there is not None and there.mtu >= uplink.needed else room
