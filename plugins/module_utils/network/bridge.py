# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what a node needs for networks that have a bridge on each node: the bridge, what joins it with the bridges of
other nodes, the gateway's address on it, what keeps its machines from the node, NAT."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from ..dataclass import dataclass, replace
from ..errors import Conflict, InUse, MissingDependency, NebulaError, NotFound
from ..model import guest_mtu, network_checks
from ..model.network import Network
from ..model.network_drivers import BRIDGE, OVN, OVSWITCH, WITH_BRIDGE
from ..model.states import NetworkState
from ..model.uplink import ETHERNET_MTU, PHYDEV, Uplink, large_mtu_of
from ..model.uplink import uplink as uplink_of
from . import (
    bridge_sysctls,
    host_address_move,
    host_firewall,
    host_firewall_rules,
    host_firewall_tables,
    host_routes,
    links,
    multicast_limit,
    nat,
    uplinks,
)
from .desired_bridge import Wanted, check_uuid, merge_by_bridge
from .links import Done
from .openvswitch_bridges import SwitchNode

# What there is of a network's rules.
_PRESENT, _OTHERS, _ABSENT = "present", "others than are wanted", "absent"


@dataclass(frozen=True)
class _Step:
    """Holds what was decided about one bridge.
    networks, wanted: the networks that have it, and what each of them wants
    link: the bridge as it is, None if there is none
    former: bridges of other names that these networks had
    wrong: settings of the bridge that are to be changed
    done: what is to be shown of the bridge
    move: how the host's own addresses come to the bridge
    narrow: machines' interfaces that get the bridge's MTU"""

    networks: Sequence[Network]
    wanted: Sequence[Wanted]
    mark: links.Mark
    link: links.Link | None
    former: Sequence[links.Link]
    table: nat.Table
    wrong: Mapping[str, str]
    done: list[Done]
    move: host_address_move.Move | None = None
    narrow: Sequence[str] = ()

    @property
    def bridge(self) -> str:
        return self.wanted[0].bridge

    @property
    def uplink(self) -> Uplink | None:
        return self.wanted[0].uplink


class Node:
    """Makes networks on this host, or in this network namespace.
    act: False in check mode, where the same is decided and nothing done. A program may be missing then: what needs
    it is taken as absent, and would be made.
    ignore_drops: whether a firewall that drops what a network needs is a warning instead of an error."""

    def __init__(self, catalog: str, act: bool, ignore_drops: bool = False) -> None:
        check_uuid("catalog", catalog)
        self.ignore_drops = ignore_drops
        self.catalog = catalog
        self.act = act
        self.links: dict[str, links.Link] = {}
        self._routes: list[host_routes.Route] | None = None
        self.warnings: list[str] = []
        # Bridges to which addresses of the host have been moved, and which somebody has to keep by another connection.
        self.moved: list[str] = []
        self._firewall: list[host_firewall_rules.Table] | None = None
        self._sees_bridged: Collection[int] = ()
        self._observed: nat.Table | None = None
        # What there was before anything was decided; what of it goes from one network to another, and is not decided
        # yet; all of that.
        self._here: dict[str, links.Link] = {}
        self._passed_on: set[str] = set()
        self._all_passed_on: list[str] = []
        # The networks that have a bridge here, or will have; and of those of this run, by their UUIDs, the bridges that
        # they are to have, "" for none.
        self._with_bridge: set[str] = set()
        self._places: dict[str, str] = {}
        self.switch = SwitchNode(catalog, act)
        self._look()

    def _look(self) -> None:
        self._observed = None
        self._routes = None
        with self._warn_if_missing():
            self.links = links.observe()
        self._here, self._passed_on, self._all_passed_on = dict(self.links), set(), []

    @property
    def routes(self) -> list[host_routes.Route]:
        """Return the routes of this host and of what was decided. They are read once: not every network needs them."""
        if self._routes is None:
            self._routes = []
            with self._warn_if_missing():
                self._routes = host_routes.observe()
        return self._routes

    @contextlib.contextmanager
    def _warn_if_missing(self) -> Iterator[None]:
        try:
            yield
        except MissingDependency as error:
            if self.act:
                raise
            self.warnings.append(f"{error.asked}: {error.found}; it would have to be installed first")

    def _table(self, needed_by: str = "") -> nat.Table:
        """Return our table of nftables; where nftables is not installed, there is none. needed_by: the network that
        can't be without its rules."""
        if self._observed is not None:
            return self._observed
        with self._warn_if_missing() if needed_by else contextlib.suppress(MissingDependency):
            try:
                self._observed = nat.observe(self.catalog)
                return self._observed
            except MissingDependency as error:
                error.remedy += (
                    f" (role nebula.provision.node does): network {needed_by} needs it to keep its machines from this "
                    "host. A network on a bridge of the host's own (vn_mad: dummy) does without"
                )
                raise
        return nat.Table(self.catalog)

    def ensure(self, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Bring the node to what these networks say; those that are DONE are removed. known: UUIDs of all networks of
        the catalog; bridges that we made for others are left over, and are removed, too."""
        networks = _with_bridge_sharers(networks)
        # In check mode a network that would be made has no UUID yet.
        self._places = {n.uuid or n.name: n.bridge if _has_bridge(n) else "" for n in networks}
        done, made, switched, leaving = [], [], [], []
        for network in networks:
            if network.state.name == "DONE":
                uuids = [network.uuid] if network.uuid else []
                if self._leaves_to_others(network.uuid):
                    leaving += uuids
                else:
                    done += self._remove_of(uuids)
            elif network.vn_mad in WITH_BRIDGE:
                # What it had with another driver.
                done += self._remove_switched([network.uuid])
                made.append(network)
            elif network.vn_mad == OVSWITCH:
                switched.append(network)
            elif network.vn_mad == OVN:
                done += self._without_ovn(network)
            elif network.bridge not in self.links:
                self.warnings.append(
                    f"network {network.name}: there is no bridge {network.bridge} on this host; with vn_mad "
                    f"{network.vn_mad} this collection does not make it, and no machine can start on it before"
                )
            else:
                self.warnings += bridge_sysctls.doubts(
                    network.name, network.bridge, self.links[network.bridge].settings
                )
                self.warnings += self._too_narrow(network)
                if self.links[network.bridge].kind == "bridge":
                    six = any(network_checks.prefixes6(r) for r in network.address_ranges)
                    kinds = host_firewall.bridged_packets(network.bridge, None, six, self.links[network.bridge].ports)
                    self._warn_of_drops(network.name, self._drops(nat.Table(self.catalog), kinds))
        done += self._make(made, known)
        # A bridge that others have, too, is theirs by now.
        done += self._remove_of(leaving)
        done += self._make_switched(switched, known)
        if known is not None:
            # In check mode a network that would be created has no UUID yet, and its bridge is here by forecast only.
            done += self._remove_left_over([*known, *(network.uuid for network in networks)])
        return done

    def remove(self, networks: Sequence[Network] | None) -> list[Done]:
        """Take away what these networks have here, or everything that carries this catalog's mark."""
        if networks is not None and any(network.beside for network in networks):
            return self.ensure([replace(network, state=NetworkState.DONE) for network in networks], None)
        uuids = self._present() if networks is None else [network.uuid for network in networks if network.uuid]
        had = bool(self.switch.uuids())
        return self._remove_of(uuids) + ([] if had else self.switch.remove_database())

    def left(self) -> bool:
        """Return whether anything of this catalog is here, or in check mode would be."""
        ours = links.bridges_of_catalog(self.links, self.catalog) or links.devices_of_catalog(self.links, self.catalog)
        return bool(ours) or bool(self.switch.uuids()) or (self.act and bool(self._present()))

    def are_interfaces_gone(self, interfaces: Iterable[str]) -> bool:
        """Return whether none of these machines' interfaces is here, or in check mode would be."""
        return not self.act or not any(name in self.links for name in interfaces)

    def _too_narrow(self, network: Network) -> list[str]:
        """Return a warning for a bridge of the host's own that loses what the network's machines may send."""
        wanted, link = large_mtu_of(network), self.links[network.bridge]
        ports = [self.links[port] for port in link.ports if not links.MACHINES.match(port)]
        narrow = [each for each in (link, *ports) if each.mtu < wanted]
        if not narrow:
            return []
        names = ", ".join(f"{each.name} ({each.mtu})" for each in narrow)
        doubt = (
            f"network {network.name}: its machines are told an MTU of {wanted}, and bridge {network.bridge} is this "
            f"host's own and is left as it is: larger frames than the MTU of {names} are lost. Give guest_mtu "
            f"{min(each.mtu for each in narrow)} or less, or have the host give these interfaces {wanted}"
        )
        return [doubt]

    def _widen_mtu(self, networks: Sequence[Network]) -> list[Done]:
        """Have bridges of Open vSwitch carry what their networks' machines may send: NICs of Xen's machines take their
        MTU. It is never lowered, as other networks may need it."""
        done = []
        for network in networks:
            wanted, link = large_mtu_of(network), self.links.get(network.bridge)
            if link is None and not self.act and wanted:
                # Open vSwitch gives a new bridge what its ports have.
                port = self.links.get(network.attributes.get(PHYDEV, ""))
                link = links.Link(network.bridge, mtu=port.mtu if port is not None else ETHERNET_MTU)
            if link is None or link.mtu >= wanted:
                continue
            before, after = ({"bridge": network.bridge, "mtu": mtu} for mtu in (link.mtu, wanted))
            done.append(Done(network.name, network.bridge, before, after))
            try:
                if self.act:
                    self.switch.widen(network.bridge, wanted)
                self.links[network.bridge] = replace(link, mtu=wanted)
            except NebulaError as error:
                done[-1].after, done[-1].error = before, error
        return done

    def _without_ovn(self, network: Network) -> list[Done]:
        """Make nothing for a network of OVN, but return an error where the host has no bridge of OVN."""
        if network.bridge in self.links or not self.act:
            return self._widen_mtu([network])
        error = NotFound(
            f"network {network.name}: bridge {network.bridge}",
            "there is none on this host, which is no host of OVN",
            "Set nebula_ovn: true, and run role nebula.provision.ovn on it",
        )
        return [Done(network.name, network.bridge, error=error)]

    def _make_switched(self, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Make networks of Open vSwitch. What they had with another driver is removed first."""
        if not networks:
            return []
        former = set(self._present_linked())
        done = self._remove_linked([network.uuid for network in networks if network.uuid in former])
        done += self.switch.ensure(networks, known, self.links)
        self.warnings += self.switch.warnings
        self._look()
        return done + self._widen_mtu([n for n in networks if not any(d.network == n.name and d.error for d in done)])

    def _remove_switched(self, uuids: Sequence[str]) -> list[Done]:
        if not any(map(self.switch.has, uuids)):
            return []
        done = self.switch.remove(uuids, self.links)
        if self.act:
            self._look()
        else:
            for each in done:
                if each.after is None:
                    self.links.pop(each.bridge, None)
                    for port in (each.before or {}).get("uplink", {}):
                        self.links[port] = replace(self.links.get(port, links.Link(port)), bridge="")
        return done

    def _make(self, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Make these networks' bridges. All is decided first, for each network on what those before it will have made,
        and then done at once. If that fails, the bridges are made one by one, so that the error names the right
        network."""
        here = self._begin(networks, known)
        decided = [each for group in _by_bridge(networks) for each in self._attempt(group, known)]
        steps = [each for each in decided if isinstance(each, _Step)]
        if not self.act or not steps:
            return [done for each in decided for done in ([each] if isinstance(each, Done) else each.done)]
        try:
            # Of what there is then, the interfaces are known as they were decided.
            self._act(steps, here)
        except NebulaError:
            self._look()
            return [
                done
                for each in decided
                for done in ([each] if isinstance(each, Done) else self._make_alone(each, networks, known))
            ]
        return [done for each in decided for done in ([each] if isinstance(each, Done) else each.done)]

    def _begin(self, networks: Sequence[Network], known: Sequence[str] | None) -> dict[str, links.Link]:
        """Note what is here, and what of it goes from one network to another. Return what is here."""
        self._here = dict(self.links)
        wanted = {}
        for network in networks:
            with contextlib.suppress(NebulaError):
                wanted[network.uuid] = uplink_of(network)
        devices = {uplink.device for uplink in wanted.values() if uplink is not None}
        staying = {
            (network.bridge, uplink.device)
            for network in networks
            for uplink in [wanted.get(network.uuid)]
            if uplink is not None
        }
        self._passed_on = devices & uplinks.no_longer_wanted(wanted, self.catalog, self.links, known, staying)
        self._all_passed_on = sorted(self._passed_on)
        self._with_bridge = {_network_of(link) for link in links.bridges_of_catalog(self.links, self.catalog).values()}
        return self._here

    def _make_alone(self, step: _Step, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Make one bridge, of which a part may have been made already."""
        here = self._begin(networks, known)
        again = self._attempt(step.networks, known)
        steps = [each for each in again if isinstance(each, _Step)]
        if len(steps) < len(again):
            return [each for each in again if isinstance(each, Done)]
        try:
            self._act(steps, here)
        except NebulaError as error:
            self._look()
            before = {each.network: each.before for each in step.done}
            if step.link is None:
                self._take_back(step.wanted)
            return [
                Done(network.name, network.bridge, before[network.name], self._shown(network), error)
                for network in step.networks
            ]
        self._look()
        return step.done

    def _attempt(self, group: Sequence[Network], known: Sequence[str] | None) -> list[_Step | Done]:
        """Decide about the networks of one bridge. A network that can't be made is left out, unless the bridge is its
        own already: then none of them is changed."""
        failed: list[_Step | Done] = []
        left = list(group)
        while left:
            error: NebulaError
            unfit: Network | None = None
            try:
                return [*failed, self._decide(left, known)]
            except _NetworkRefused as found:
                error, unfit = found.error, found.network
            except NebulaError as found:
                error = found
            if unfit is not None and len(left) > 1 and not self._is_here(unfit):
                failed.append(self._failed(unfit, error))
                left.remove(unfit)
                continue
            about = unfit or left[0]
            return [*failed, *(self._failed(n, error if n is about else _refused_with(n, about, error)) for n in left)]
        return failed

    def _failed(self, network: Network, error: NebulaError) -> Done:
        before = self._shown(network)
        return Done(network.name, network.bridge, before, before, error)

    def _is_here(self, network: Network | Wanted) -> bool:
        """Return whether the bridge that is here was made for this network, or for it as well."""
        link = self.links.get(network.bridge)
        mark = link.mark if link is not None else None
        if mark is None or mark.catalog != self.catalog:
            return False
        return mark.network == network.uuid or self._table().bridges.get(network.uuid) == network.bridge

    def _leaves_to_others(self, uuid: str) -> bool:
        ours = links.bridges_of_catalog(self.links, self.catalog).values()
        return bool(uuid) and any(_network_of(link) == uuid and self._is_others(link, uuid) for link in ours)

    def _is_others(self, link: links.Link, uuid: str) -> bool:
        """Return whether other networks are to have the bridge, or have it and are not part of this run."""
        if any(bridge == link.name for other, bridge in self._places.items() if other != uuid):
            return True
        if not self._places or link.mark is None or not link.mark.shared:
            return False
        there = self._table().bridges.items()
        return any(bridge == link.name and other != uuid and other not in self._places for other, bridge in there)

    def _freed_links(self) -> dict[str, links.Link]:
        """Return the interfaces without those that another network still has, but is about to lose."""
        # Once for each network: of hundreds of interfaces no copy is made for nothing.
        return uplinks.after_release(self._passed_on, self.links) if self._passed_on else self.links

    def _shown(self, network: Network) -> dict[str, Any] | None:
        link = self.links.get(network.bridge)
        if link is None:
            return None
        if link.mark is None or not link.mark.shared:
            return self._view(link)
        return _of_member(self._view(link), link, network.uuid, "") if self._is_here(network) else None

    def _view(
        self,
        link: links.Link,
        rules: str = _ABSENT,
        masquerades: bool = False,
        differing: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        link = self._here.get(link.name, link)
        return _view(link, uplinks.view(link, self._here), rules, masquerades, differing)

    def _decide(self, networks: Sequence[Network], known: Sequence[str] | None) -> _Step:
        """Decide what is to be done for a bridge, which all these networks have."""
        wanted = merge_by_bridge([_wanted_of(network) for network in networks])
        first, link = wanted[0], self.links.get(wanted[0].bridge)
        uplink = first.uplink
        moving = uplink is not None and uplinks.moves_addresses(uplink, self._freed_links())
        has_addresses = moving or (link is not None and link.mark is not None and bool(link.mark.forced))
        if has_addresses:
            wanted = [each.with_addresses_of_host() for each in wanted]
        was_down = uplinks.was_down(uplink, self.catalog, self._here, self._freed_links())
        forced = links.FORCED if has_addresses else ""
        down = links.DOWN if was_down and not has_addresses else ""
        addresses = tuple(dict.fromkeys(each.address for each in wanted if each.address))
        owner, shared = self._owner(wanted, link), links.SHARED if len(wanted) > 1 else ""
        mark = links.Mark(
            self.catalog, owner, ",".join(addresses), first.port, forced, down, shared, _own_mtu(first, link)
        )
        if link is not None:
            links.refuse_foreign(first.name, first.bridge, link, mark, self._may_take_over(link, wanted, known))
        former = [f for each in wanted for f in self._former(each)]
        _refuse_other_place(first, [*former, *([link] if link is not None else [])])
        if uplink is not None:
            free = (
                {**self._freed_links(), **uplinks.after_detaching(former, self.links)}
                if former
                else self._freed_links()
            )
            asker = max(networks, key=_needed)
            with _refusals_of(asker):
                uplinks.refuse(asker.name, uplink, first.bridge, mark, free)
            self.warnings += [
                doubt
                for each in networks
                for doubt in uplinks.doubts(each.name, uplink, guest_mtu.largest_advertised_mtu(each), free)
            ]
        table = self._table(needed_by=first.name)
        for network, each in zip(networks, wanted):
            with _refusals_of(network):
                self._refuse(each, link, former, table, new=len(wanted) > 1 and not self._is_here(network))
        mtu = links.mtu_after(mark, link or links.Link(first.bridge, mtu=ETHERNET_MTU))
        narrow = self._narrow(first)
        expected = links.Link(first.bridge, "bridge", str(mark), up=True, addresses=addresses, mtu=mtu)
        wrong = {}
        if has_addresses and uplink is not None:
            there = self._freed_links()[uplink.phydev] if moving or link is None else link
            expected = replace(expected, addresses=there.addresses, addresses6=there.addresses6, ports=(uplink.phydev,))
        elif link is not None:
            wrong = bridge_sysctls.differing(link.settings, first.carries_gateway)
        if link is not None and link.addresses6 and "ipv6/disable_ipv6" in wrong:
            self.warnings.append(
                f"network {first.name}: bridge {first.bridge} had {', '.join(link.addresses6)}, which this "
                "collection did not give it; it has no IPv6 any more, as this host is no member of the network by IPv6"
            )
        joined = uplinks.desired_view(uplink, self._freed_links())
        done = [Done(first.name, f.name, self._view(f)) for f in former]
        for network, each in zip(networks, wanted):
            before = self._before(network, each, link, table, wrong) if link is not None else None
            after = _view(expected, joined, _PRESENT, each.rules.whole is not None, wrong)
            if link is not None and before is not None and (narrow or link.mtu != mtu):
                before = {**before, "mtu": {first.bridge: link.mtu, **narrow}}
                after = {**after, "mtu": {first.bridge: mtu, **dict.fromkeys(narrow, first.mtu)}}
            if shared:
                after = _of_member(after, expected, each.uuid, each.address)
            done.append(Done(each.name, each.bridge, before, after))
        move = None
        if moving and uplink is not None:
            move = host_address_move.Move(self._freed_links()[uplink.phydev], first.bridge, link)
        self._expect(expected, former, uplink)
        return _Step(networks, wanted, mark, link, tuple(former), table, wrong, done, move, tuple(narrow))

    def _narrow(self, wanted: Wanted) -> dict[str, int]:
        """Return the machines' interfaces on the bridge that would lose what the network's machines may send, with
        their MTU: they came before the network said so, or their hypervisor takes no MTU."""
        link = self.links.get(wanted.bridge)
        ports = [self.links[name] for name in (link.ports if link is not None else ()) if links.MACHINES.match(name)]
        return {port.name: port.mtu for port in ports if port.mtu < wanted.mtu}

    def _owner(self, wanted: Sequence[Wanted], link: links.Link | None) -> str:
        """Return the network that the bridge's mark names: the network that it names already, or else the first."""
        uuids = [each.uuid for each in wanted]
        there = _network_of(link) if link is not None else ""
        return there if there in uuids else uuids[0]

    def _may_take_over(self, link: links.Link, wanted: Sequence[Wanted], known: Sequence[str] | None) -> bool:
        """Return whether these networks may have a bridge that was made for another network, which is gone, or gets
        another bridge, or had the bridge together with one of them."""
        there = _network_of(link)
        if there in [each.uuid for each in wanted]:
            return True
        forgotten = known is not None and link.mark is not None and there not in known
        if forgotten or self._places.get(there, link.name) != link.name:
            return True
        return any(self._table().bridges.get(each.uuid) == link.name for each in wanted if each.uuid)

    def _refuse(
        self, wanted: Wanted, link: links.Link | None, former: Sequence[links.Link], table: nat.Table, new: bool
    ) -> None:
        """Raise an error where the network's addresses overlap with the host's, or a firewall drops its packets.
        new: whether others have the bridge, and this network did not."""
        # A network that is joined with others' outside may well be one that the host is in by another interface.
        lacks = link is None or new or (wanted.address and wanted.address not in link.addresses)
        if wanted.uplink is None and lacks:
            own = {wanted.bridge, *(f.name for f in former), table.bridges.get(wanted.uuid, wanted.bridge)}
            host_routes.refuse_overlap(wanted.name, wanted.spans, own, self.routes)
        self._refuse_drops(wanted, table, link is not None and not new)

    def _before(
        self, network: Network, wanted: Wanted, link: links.Link, table: nat.Table, wrong: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Return what there is of the network here, None if others alone have the bridge."""
        was_shared = link.mark is not None and bool(link.mark.shared)
        if (was_shared or wanted.beside) and not self._is_here(network):
            return None
        view = self._view(link, *_of_table(table, wanted), {n: link.settings[n] for n in wrong})
        return _of_member(view, link, wanted.uuid, wanted.address) if was_shared else view

    def _act(self, steps: Sequence[_Step], here: Mapping[str, links.Link]) -> None:
        """Carry the steps out: what may come in by a bridge is decided before it is up, and frames from elsewhere come
        in last. here: the interfaces as they are."""
        wanted = {step.uplink.device for step in steps if step.uplink is not None}
        passed_on = [name for name in self._all_passed_on if name in wanted]
        making: list[str] = uplinks.release_lines(passed_on, here)
        here = uplinks.after_release(passed_on, here)
        devices = []
        for step in steps:
            for f in step.former:
                own = f.mark is not None and f.mark.port == step.wanted[0].port
                making += [*([] if own else uplinks.detach_lines(f, here)), *links.delete_steps(f.name)]
            making += uplinks.removal_lines(step.uplink, step.link, step.mark, here)
            for each in step.wanted:
                if each.uuid != step.mark.network:
                    making += uplinks.removal_lines(step.uplink, None, links.Mark(self.catalog, each.uuid), here)
            making += links.bridge_making_lines(step.bridge, step.mark) if step.link is None else []
            device = uplinks.device_making_lines(step.uplink, step.mark, here) if step.uplink is not None else []
            devices += [step.uplink.device] if step.uplink is not None and device else []
            making += device
        moving = [step.move for step in steps if step.move is not None]
        armed: list[host_address_move.Move] = []
        try:
            for move in moving:
                move.arm(steps[0].table)
                armed.append(move)
            self._carry_out(steps, making, devices, here)
            for move in moving:
                move.carry_out()
        except BaseException:
            for move in armed:
                move.undo()
            raise
        self.moved += [move.bridge for move in moving]

    def _carry_out(
        self, steps: Sequence[_Step], making: Sequence[str], devices: Sequence[str], here: Mapping[str, links.Link]
    ) -> None:
        multicast_limit.ensure_limit(making, here)
        links.run_batch(making)
        for step in steps:
            if step.link is None and not step.mark.forced:
                bridge_sysctls.write_new(step.bridge, bridge_sysctls.desired(step.wanted[0].carries_gateway))
            else:
                bridge_sysctls.write(step.bridge, step.wrong)
        for name in devices:
            bridge_sysctls.write_new(name, uplinks.SETTINGS)
        rules = [each.rules for step in steps for each in step.wanted if not step.table.has(each.rules)]
        nat.ensure(rules, steps[0].table)
        self._observed = None
        lines = []
        for step in steps:
            lines += [f"link set dev {name} mtu {step.wanted[0].mtu}" for name in step.narrow]
            lines += links.bridge_changing_lines(step.bridge, step.mark, step.link)
            if step.uplink is not None and step.move is None:
                lines += uplinks.attach_lines(step.uplink, step.bridge, here)
        links.run_batch(lines)

    def _take_back(self, wanted: Sequence[Wanted]) -> None:
        """Remove what there is of networks that could not be made, so that no half of them is taken for the whole."""
        self._look()
        self._places = {}
        with contextlib.suppress(NebulaError):
            self._remove_of([each.uuid for each in wanted])

    def _former(self, wanted: Wanted) -> list[links.Link]:
        """Return the bridges that this network had under other names."""
        if wanted.uuid not in self._with_bridge:
            return []
        # Of hundreds of bridges, each would be asked for its mark as often: its text is looked at first.
        ours = links.bridges_of_catalog(
            {n: f for n, f in self.links.items() if wanted.uuid in f.alias}, self.catalog
        ).values()
        former = [f for f in ours if wanted.uuid and _network_of(f) == wanted.uuid and f.name != wanted.bridge]
        former = [f for f in former if not self._is_others(f, wanted.uuid)]
        for link in former:
            asked = f"network {wanted.name}: bridge {wanted.bridge} instead of {link.name}"
            _refuse_ports(asked, link, uplinks.ports(link, self.links))
        return former

    def _expect(self, expected: links.Link, former: Sequence[links.Link], uplink: Uplink | None) -> None:
        """Note what the networks after this one will find."""
        self.links[expected.name] = expected
        self._with_bridge.add(_network_of(expected))
        if uplink is not None:
            self.links[uplink.device] = uplinks.expected_device(uplink, expected, self._freed_links())
            if uplink.device in self._passed_on:
                self._passed_on.remove(uplink.device)
                for name, link in self.links.items():
                    if name != expected.name and uplink.device in link.ports:
                        left = tuple(port for port in link.ports if port != uplink.device)
                        self.links[name] = replace(link, ports=left)
        for link in former:
            del self.links[link.name]
        addresses = [ip_network(address, strict=False) for address in expected.addresses if address]
        if addresses:
            self.routes.extend(host_routes.Route(each, expected.name) for each in addresses)

    def _refuse_drops(self, wanted: Wanted, table: nat.Table, there: bool) -> None:
        """Refuse to make a network that would reach nothing, because a firewall of the host drops its packets. there:
        its bridge is there, so that what earlier versions did not look for is a warning."""
        whole = wanted.rules.whole
        link = self.links.get(wanted.bridge)
        own = (wanted.uplink.device,) if wanted.uplink is not None else ()
        ports = list(dict.fromkeys((*own, *(link.ports if link is not None else ()))))
        kinds = host_firewall.bridged_packets(wanted.bridge, whole, wanted.six, ports)
        if whole is not None:
            kinds = (
                host_firewall.routed_packets(wanted.bridge, whole, host_routes.default_route_device(self.routes), ports)
                + kinds
            )
        found = self._drops(table, kinds)
        if found and self.ignore_drops:
            asked, explanation, _remedy = host_firewall.explain(wanted.name, found)
            self.warnings.append(f"{asked}: {explanation}; ignored, as nebula_ignore_forward_drop says")
        elif (there and not any(drop.was_looked_for for drop in found)) or not any(drop.is_all for drop in found):
            self._warn_of_drops(wanted.name, found)
        else:
            host_firewall.refuse(wanted.name, found)

    def _drops(self, table: nat.Table, kinds: Sequence[host_firewall_rules.Packets]) -> list[host_firewall.Drop]:
        if self._firewall is None:
            self._firewall = []
            self._sees_bridged = host_firewall.sees_bridged()
            with contextlib.suppress(MissingDependency):
                # Hosts route no IPv6 of machines: rules for it matter where they see what is bridged.
                self._firewall = host_firewall_tables.observe(table.name, {4, *self._sees_bridged})
        return host_firewall.find_drops(self._firewall, kinds, self._sees_bridged)

    def _warn_of_drops(self, network: str, found: Sequence[host_firewall.Drop]) -> None:
        if found:
            asked, explanation, remedy = host_firewall.explain(network, found)
            self.warnings.append(f"{asked}: {explanation}. {remedy.partition(' To go on without:')[0]}")

    def _present(self) -> list[str]:
        """Return the UUIDs of the networks of this catalog that have anything on this host."""
        return list(dict.fromkeys([*self._present_linked(), *self.switch.uuids()]))

    def _present_linked(self) -> list[str]:
        """Return the UUIDs of networks that have anything here outside Open vSwitch."""
        ours = {
            **links.bridges_of_catalog(self.links, self.catalog),
            **links.devices_of_catalog(self.links, self.catalog),
        }
        table = self._table()
        return list(dict.fromkeys([*map(_network_of, ours.values()), *table.networks]))

    def _remove_left_over(self, known: Sequence[str]) -> list[Done]:
        done = []
        for item in self._remove_of([uuid for uuid in self._present() if uuid not in known]):
            if item.error is None:
                done.append(item)
            else:
                self.warnings.append(f"left over from a network that the catalog no longer has: {item.error}")
        return done

    def _remove_of(self, uuids: Sequence[str]) -> list[Done]:
        return self._remove_linked(uuids) + self._remove_switched(uuids)

    def _remove_linked(self, uuids: Sequence[str]) -> list[Done]:
        """Remove the rules and bridges of these networks; a bridge with ports is an error, and keeps its rules."""
        done: list[Done] = []
        kept: dict[str, NebulaError] = {}
        owners = {_network_of(link) for link in links.bridges_of_catalog(self.links, self.catalog).values()}
        for uuid in sorted(uuids, key=lambda each: each not in owners):
            table = self._table()
            rules, masquerades = _PRESENT if table.of(uuid) else _ABSENT, uuid in table.masquerading
            bridges = [b for b in links.bridges_of_catalog(self.links, self.catalog).values() if _network_of(b) == uuid]
            bridges = [b for b in bridges if not self._is_others(b, uuid)]
            devices = uplinks.devices(uuid, self.catalog, self.links)
            items = [
                Done(f"network {uuid}", link.name, _view(link, uplinks.view(link, self.links), rules, masquerades))
                for link in bridges
            ]
            if (rules == _PRESENT or devices) and not items:
                left = {"devices": devices} if devices else {}
                items = [Done(f"network {uuid}", "", {"rules": rules, "nat": masquerades, **left})]
            done += items
            try:
                if table.bridges.get(uuid, "") in kept:
                    raise kept[table.bridges[uuid]]
                for link in bridges:
                    joined = uplinks.ports(link, self.links)
                    _refuse_ports(f"remove bridge {link.name}", link, joined, forecast=not self.act)
                if self.act:
                    # What comes in from elsewhere goes first, and what keeps it from the node last.
                    steps = [f"link delete dev {name}" for name in devices]
                    for link in bridges:
                        if link.mark is not None and link.mark.forced and link.mark.port in link.ports:
                            host_address_move.move_back(link, link.mark.port)
                        else:
                            steps += uplinks.detach_lines(link, self.links)
                    links.run_batch(steps + [step for link in bridges for step in links.delete_steps(link.name)])
                    if rules == _PRESENT:
                        nat.remove([uuid], table)
                        self._observed = None
                for name in (*devices, *(link.name for link in bridges)):
                    del self.links[name]
                self.links.update(uplinks.after_detaching(bridges, self.links))
            except NebulaError as error:
                kept.update({link.name: error for link in bridges})
                for item in items:
                    item.after, item.error = item.before, error
        return done


class _NetworkRefused(Exception):
    """Says that one of the networks of a bridge can't be on this host."""

    def __init__(self, network: Network, error: NebulaError) -> None:
        super().__init__(str(error))
        self.network, self.error = network, error


@contextlib.contextmanager
def _refusals_of(network: Network) -> Iterator[None]:
    try:
        yield
    except NebulaError as error:
        raise _NetworkRefused(network, error) from error


def _wanted_of(network: Network) -> Wanted:
    with _refusals_of(network):
        return Wanted.of(network)


def _needed(network: Network) -> int:
    """Return the MTU that the network's frames need of what joins its bridges."""
    uplink = uplink_of(network)
    return uplink.needed if uplink is not None else 0


def _refused_with(network: Network, other: Network, error: NebulaError) -> NebulaError:
    """Return why nothing is done for a network that shares its bridge with a network that can't be made."""
    found = f"network {other.name}, which has it, too, can't be as it says: {error.asked}: {error.found}"
    return Conflict(f"network {network.name}: bridge {network.bridge}", found, error.remedy)


def _has_bridge(network: Network) -> bool:
    return network.vn_mad in WITH_BRIDGE and network.state != NetworkState.DONE


def _with_bridge_sharers(networks: Sequence[Network]) -> list[Network]:
    """Return these networks, and after them the others that have their bridges."""
    found = {network.name: network for network in networks}
    for network in networks:
        for other in network.beside:
            found.setdefault(other.name, other)
    return list(found.values())


def _by_bridge(networks: Sequence[Network]) -> list[list[Network]]:
    found: dict[str, list[Network]] = {}
    for network in networks:
        # None but those of driver bridge have one together.
        place = network.bridge if network.vn_mad == BRIDGE else f"{network.name} {network.bridge}"
        found.setdefault(place, []).append(network)
    return list(found.values())


def _own_mtu(wanted: Wanted, link: links.Link | None) -> int:
    """Return the MTU to set on the bridge, 0 for none. With a VLAN or VXLAN device it has that device's by itself."""
    if not wanted.mtu or (wanted.uplink is not None and wanted.uplink.made):
        return 0
    there = link is not None and link.mtu >= wanted.mtu and not (link.mark is not None and link.mark.mtu)
    return 0 if there else wanted.mtu


def _of_member(view: dict[str, Any], link: links.Link, uuid: str, address: str) -> dict[str, Any]:
    """Return what is shown of a bridge that several networks have, for one of them."""
    own = address if address in link.addresses else ""
    return {**view, "network": uuid, "address": own, "owner": _network_of(link)}


def _of_table(table: nat.Table, wanted: Wanted) -> tuple[str, bool]:
    """Return what there is of the network's rules, and whether it has NAT."""
    there = _PRESENT if table.has(wanted.rules) else _OTHERS if table.of(wanted.uuid) else _ABSENT
    return there, wanted.uuid in table.masquerading and table.forwarding == "1"


def _view(
    link: links.Link,
    joined: Mapping[str, Any],
    rules: str = _ABSENT,
    masquerades: bool = False,
    differing: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what is shown of a bridge.
    joined: what joins it with bridges of other nodes
    differing: those of the kernel's settings that have to be changed, as they are or are to be"""
    mark = link.mark
    address = mark.address if mark and mark.address in link.addresses else ""
    shown = {bridge_sysctls.key(link.name, name): value for name, value in (differing or {}).items()}
    moved = sorted((*link.addresses, *link.addresses6)) if mark and mark.forced else []
    return {
        "bridge": link.name,
        "network": _network_of(link),
        "up": link.up,
        "stp": link.stp,
        "address": address,
        "rules": rules,
        "nat": masquerades,
        **({"uplink": joined} if joined else {}),
        **({"addresses_of_host": moved} if moved else {}),
        **({"settings": shown} if shown else {}),
    }


def _refuse_other_place(wanted: Wanted, there: Sequence[links.Link]) -> None:
    """Raise InUse where the host's own addresses would leave a bridge without their interface, or by a detour."""
    for link in there:
        if link.mark is None or not link.mark.forced:
            continue
        if wanted.uplink is None or not wanted.uplink.forced or (wanted.port, wanted.bridge) != (
            link.mark.port, link.name,
        ):  # fmt: skip
            raise InUse(
                f"network {wanted.name}: {wanted.uplink or 'no phydev'}, bridge {wanted.bridge}",
                f"on this host {link.name} has the host's own addresses, which came with {link.mark.port}",
                "Remove the network, which gives them back, and make it anew",
            )


def _network_of(link: links.Link) -> str:
    return link.mark.network if link.mark else ""


def _refuse_ports(asked: str, link: links.Link, joined: Sequence[str], forecast: bool = False) -> None:
    """Raise InUse for a bridge with ports.
    joined: the ports by which it is joined with other nodes
    forecast: in check mode, machines that an earlier task would have ended are still there"""
    ports = [port for port in link.ports if port not in joined and not (forecast and links.MACHINES.match(port))]
    if ports:
        raise InUse(asked, f"attached to {link.name} are {', '.join(ports)}", "End the machines that use it first")
