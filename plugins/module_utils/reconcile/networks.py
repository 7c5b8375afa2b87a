# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of networks wants. Only what the item sets is compared and changed;
address ranges that it does not list stay."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Callable, TypeVar

from ..dataclass import dataclass
from ..engines.base import Engine
from ..errors import InUse, InvalidValue, NebulaError, NotFound
from ..model import addresses, ethertypes, guest_mtu, network_checks, ovn_mtu, uplink, vlan_trunks
from ..model.item_reader import duplicate_error
from ..model.network import (
    FILTERS,
    FILTERS_ON_NODE,
    NEW_AR,
    NOT_FOR_MACHINES,
    PHYDEV_UNUSED,
    AddressRange,
    Network,
    filters_on_node,
    from_item,
)
from ..model.network_drivers import BRIDGE, DEFAULT, ON_LINUX_BRIDGE, ON_NODES, OVN, OVSWITCH, VLAN
from ..model.network_template import with_template
from ..model.node_access import ATTRIBUTE as NODE_ACCESS
from ..model.node_access import NOTHING
from ..model.object_ids import id_of
from ..model.object_names import check_name, nearest_word
from ..model.security_group import ATTRIBUTE as SECURITY_GROUPS
from ..model.security_group import DEFAULT_ID
from ..model.specifications.network import KEYS
from ..model.states import NetworkState
from ..model.template import vector_key
from ..sync import Item
from ..text.template_syntax import as_template
from .logical_networks import apply_checked_for_ovn
from .network_views import network_view

# Options that are attributes in OpenNebula's templates, under their own names there.
ATTRIBUTES = {name: key.attribute for name, key in KEYS.items() if key.attribute}
# Given as options of the item, never among its attributes.
OPTIONS = ("NAME", "BRIDGE", "VN_MAD", "AR", "ID", "UUID")
# Those that only OVN acts on, and those that nodes act on as well where machines are on Linux bridges. Networks that
# have them, and nothing acts on them, keep them, with a warning.
# With the value by which nothing is asked for, as OpenNebula's own templates often say.
OF_FILTERS = {SECURITY_GROUPS: str(DEFAULT_ID), **dict.fromkeys(FILTERS, "NO")}
OF_OVN = {**OF_FILTERS, "DHCP": "NO", "PHYSICAL_NETWORK": ""}
# The same of Open vSwitch.
OF_SWITCHES = {vlan_trunks.ATTRIBUTE: ""}
KNOWN = (
    *ATTRIBUTES.values(), *OF_OVN, *OF_SWITCHES, PHYDEV_UNUSED, FILTERS_ON_NODE, ethertypes.UNTOLD, "DESCRIPTION",
    "LABELS", "METHOD",
    "IP6_METHOD", "IP6_METRIC", "ROUTES", "AUTOMATIC_VLAN_ID", "EXTERNAL", "VROUTER_IP", "VROUTER_IP6",
    "VROUTER_MANAGEMENT", *network_checks.BANDWIDTH,
)  # fmt: skip


# In a template's AR these are no attributes but what it says of itself.
_KNOWN_OF_RANGES = (
    *KNOWN, "TYPE", "SIZE", "IP", "IP6", "MAC", "GLOBAL_PREFIX", "ULA_PREFIX", "PREFIX_LENGTH", "IP6_PREFIX_LENGTH",
    "IP6_GATEWAY", "IP6_GLOBAL", "IP6_ULA",
)  # fmt: skip


T = TypeVar("T")
# What was done, each network as it is then, and warnings.
Work = tuple[list[Item], list[dict[str, Any]], list[str]]
# By which an entry of address_ranges means a range that is there.
_FIRST = ("ip", "mac", "global_prefix", "ula_prefix", "ip6")


def apply_all(
    engine: Engine, items: Sequence[Mapping[str, Any]], check_mode: bool, left: Mapping[str, int] | None = None
) -> Work:
    """Carry the items out within a session. Return what was done, each network as it is then (absent ones are DONE),
    and warnings. An item that can't be carried out is an Item with its error, and nothing of it is kept; the others
    go on. left: what OVN's tunnels leave on each host, as far as that is known."""
    current = {network.name: network for network in engine.networks.pool()}
    return _together(engine, _coming(items, current), partial(_apply_each, engine, items, check_mode, left or {}))


def _together(engine: Engine, coming: Sequence[Network], work: Callable[[], T]) -> T:
    """Do the work, in which networks may take each other's places. Do it again without the networks that were to leave
    a place and could not."""
    while True:
        with engine.networks.together(coming) as unmoved, contextlib.suppress(_Unmoved), engine.attempt():
            found = work()
            names = unmoved()
            if not names:
                return found
            coming = [network for network in coming if network.name not in names]
            raise _Unmoved


def _coming(items: Sequence[Mapping[str, Any]], current: Mapping[str, Network]) -> list[Network]:
    """Return the networks of the list, as far as it says where on nodes they are to be. What is wrong with an item is
    found when it is applied."""
    found = []
    for given in items:
        with contextlib.suppress(NebulaError):
            item = _described(given)
            before = current.get(str(item.get("name")))
            network = before or Network(None, str(item.get("name")))
            if item.get("state") == "absent":
                found.append(dataclasses.replace(network, state=NetworkState.DONE))
                continue
            attributes = dict(network.attributes)
            driver = item.get("vn_mad") or network.vn_mad
            if driver != network.vn_mad:
                attributes.pop(uplink.VLAN_ID, None)
            if item.get("phydev") is not None:
                attributes[PHYDEV_UNUSED] = ""
            attributes.update(_attributes(item, []))
            found.append(
                dataclasses.replace(
                    network,
                    vn_mad=driver,
                    bridge=item.get("bridge") or network.bridge,
                    nat=bool(network.nat if item.get("nat") is None else item["nat"]),
                    attributes=attributes,
                )
            )
    return found


def _apply_each(engine: Engine, items: Sequence[Mapping[str, Any]], check_mode: bool, left: Mapping[str, int]) -> Work:
    done: list[Item] = []
    views: list[dict[str, Any]] = []
    warnings: list[str] = []
    current = {network.name: network for network in engine.networks.pool()}
    seen: set[str] = set()
    for given in items:
        try:
            item = _described(given)
        except NebulaError as error:
            done.append(Item(str(given.get("name") or "?"), error=error, changed=False))
            continue
        name = item["name"] if isinstance(item.get("name"), str) else ""
        before = current.get(name)
        shown = None if before is None else network_view(before)
        try:
            check_name("network", item.get("name"))
            if name in seen:
                raise duplicate_error(f"network {name}")
            seen.add(name)
            after = apply_checked_for_ovn(
                engine, partial(_apply, engine, item, before, warnings, left), partial(_is_of_ovn, before)
            )
        except NebulaError as error:
            done.append(Item(name or "?", shown, shown, error))
            continue
        view = network_view(after)
        if check_mode and before is None:
            # The ids of what would be created mean nothing.
            view.update(id=None, uuid=None)
        done.append(Item(name, shown, None if after.state == NetworkState.DONE else view))
        views.append(view)
    return done, views, warnings


class _Unmoved(Exception):
    """Says that networks were to leave their places and have not, so that others may have these places too."""


def _is_of_ovn(before: Network | None, after: Network) -> bool:
    return after != before and OVN in (after.vn_mad, before.vn_mad if before is not None else "")


def undo_all(engine: Engine, entries: Sequence[Mapping[str, Any]], check_mode: bool) -> Work:
    """Take back within a session what this run has made of networks that no node can have so. Return what was done,
    each network as it is then, and warnings. What another run has changed since, or machines lease, stays.
    entries: each has `network`, as it was made, and `earlier`, as it was before, None for a new network"""
    if check_mode:
        engine.declare({"networks": [entry["network"] for entry in entries]})
    coming = [from_item(entry["earlier"] or {**entry["network"], "state": "DONE"}) for entry in entries]
    return _together(engine, coming, partial(_undo_each, engine, entries, check_mode))


def _undo_each(engine: Engine, entries: Sequence[Mapping[str, Any]], check_mode: bool) -> Work:
    done: list[Item] = []
    views: list[dict[str, Any]] = []
    warnings: list[str] = []
    for entry in entries:
        made = from_item(entry["network"])
        earlier = None if entry.get("earlier") is None else from_item(entry["earlier"])
        current = next((network for network in engine.networks.pool() if network.name == made.name), None)
        if current is None:
            continue
        shown = network_view(current)
        found = "no node of this run can have it as the list says"
        try:
            if not check_mode and _unleased(current) != _unleased(made):
                raise InUse(f"network {made.name}", "another run has changed it meanwhile")
            with engine.attempt():
                after = _back(engine, current, earlier)
            became = "is not kept in the catalog" if earlier is None else "is in the catalog as it was before"
            warnings.append(f"network {made.name}: {found}: it {became}")
        except NebulaError as error:
            after = current
            warnings.append(f"network {made.name}: {found}, and it stays so in the catalog: {error}")
        view = network_view(after)
        done.append(Item(made.name, shown, None if after.state == NetworkState.DONE else view))
        views.append(view)
    return done, views, warnings


def _unleased(network: Network) -> Network:
    ranges = tuple(dataclasses.replace(r, used=0) for r in network.address_ranges)
    return dataclasses.replace(network, address_ranges=ranges, beside=())


def _back(engine: Engine, current: Network, earlier: Network | None) -> Network:
    """Make the network what it was. Ranges that are added again get new numbers: nothing was leased in them."""
    ref = id_of(current)
    if earlier is None:
        return engine.networks.delete(ref)
    before = {r.ar_id: dataclasses.replace(r, used=0) for r in earlier.address_ranges}
    now = {r.ar_id: dataclasses.replace(r, used=0) for r in current.address_ranges}
    for ar_id, there in now.items():
        if ar_id not in before:
            engine.networks.rm_ar(ref, ar_id)
        elif there != before[ar_id] and before[ar_id].size <= there.size:
            engine.networks.update_ar(ref, before[ar_id])
    changes = {
        field: getattr(earlier, field)
        for field in ("bridge", "vn_mad", "nat", "attributes")
        if getattr(earlier, field) != getattr(current, field)
    }
    if changes:
        engine.networks.update(ref, **changes)
    for ar_id, wanted in before.items():
        if ar_id not in now:
            engine.networks.add_ar(ref, wanted)
        elif wanted.size > now[ar_id].size:
            engine.networks.update_ar(ref, wanted)
    return engine.networks.info(ref)


def _described(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the item, with what its template says."""
    if item.get("template") is None:
        return item
    what = f"network {item['name']}" if item.get("name") else "network"
    return with_template(item, as_template(item["template"], what))


def _apply(
    engine: Engine, item: Mapping[str, Any], current: Network | None, warnings: list[str], left: Mapping[str, int]
) -> Network:
    if item.get("state") != "absent":
        network = _present(engine, item, current, warnings, left)
        _refuse_mtu(network, current, left)
        warnings.extend(_mtu_before(network, current))
        return network
    if current is None:
        return Network(id=None, name=str(item["name"]), state=NetworkState.DONE)
    return engine.networks.delete(id_of(current))


def _refuse_mtu(network: Network, current: Network | None, left: Mapping[str, int]) -> None:
    """Raise InvalidValue if machines of the network are to send from now on what OVN's tunnels do not carry. An MTU
    that the network had before stays; module nebula_ovn warns of it."""
    wanted = ovn_mtu.requested_mtu(network)
    problem = ovn_mtu.problem_of_mtu(network.name, wanted, left)
    if problem is not None and (current is None or wanted != ovn_mtu.requested_mtu(current)):
        raise problem


def _mtu_before(network: Network, current: Network | None) -> list[str]:
    """Return warnings about the MTU that the network's machines are told, and about a wrong one that the catalog has
    already. Raise InvalidValue if it is new."""
    found = guest_mtu.problems(network)
    had = {} if current is None else guest_mtu.problems(current)
    for problem in found:
        if problem not in had:
            raise found[problem]
    return [*map(str, found.values()), *guest_mtu.warn_of_unadvertised_mtu(network)]


def _present(
    engine: Engine, item: Mapping[str, Any], current: Network | None, warnings: list[str], left: Mapping[str, int]
) -> Network:
    name = str(item["name"])
    wanted = {field: item[field] for field in ("bridge", "vn_mad", "nat") if item.get(field) is not None}
    attributes = _attributes(_with_group_ids(engine, item), warnings)
    driver = wanted.get("vn_mad") or (current.vn_mad if current else DEFAULT)
    attributes = _acted_on(name, driver, _filtered(driver, attributes, current), current)
    if current is not None and current.attributes.get(ethertypes.UNTOLD):
        attributes[ethertypes.UNTOLD] = ""
        warnings.extend(_no_longer_passing(dataclasses.replace(current, vn_mad=driver), attributes))
    if item.get("phydev") is not None:
        # The option says by itself what earlier versions did not act on.
        attributes.setdefault(PHYDEV_UNUSED, "")
    if driver == OVN and not attributes.get(uplink.GUEST_MTU):
        attributes.update(_fitting_mtu(attributes, current, left))
    ranges = [_Range.of(name, entry) for entry in item.get("address_ranges") or ()]
    warnings.extend(doubt for each in ranges for doubt in _slips(each))
    if current is None:
        new = Network(
            id=None,
            name=name,
            address_ranges=tuple(r.wanted for r in ranges if not r.absent),
            attributes={key: value for key, value in attributes.items() if value},
            **wanted,
        )
        network = engine.networks.allocate(dataclasses.replace(new, attributes=_with_access(new, None)))
    else:
        network = _update(engine, current, wanted, attributes, ranges)
    warnings.extend([*_doubts(network), *_not_apart(engine, network)])
    return network


def _not_apart(engine: Engine, network: Network) -> list[str]:
    """Return a warning if a VLAN is asked for to keep networks apart that share one plain bridge."""
    vlan = network.attributes.get(uplink.VLAN_ID, "")
    if not vlan or network.vn_mad != BRIDGE:
        return []
    others = [
        each.name
        for each in engine.networks.pool()
        if (each.bridge, each.vn_mad) == (network.bridge, BRIDGE)
        and each.id != network.id
        and each.attributes.get(uplink.VLAN_ID, "") != vlan
    ]
    doubt = (
        f"network {network.name}: VLAN_ID = {vlan} is kept, but its driver {BRIDGE} does not act on it: its machines "
        f"are on one wire with those of {', '.join(others)}, which have bridge {network.bridge} too. Use vn_mad: {VLAN}"
    )
    return [doubt] if others else []


def _no_longer_passing(network: Network, attributes: Mapping[str, str]) -> list[str]:
    """Return what is said once of a network that was filtered before all Ethernet types that it does not name were
    dropped. attributes: what its item sets."""
    values = {**network.attributes, **attributes}
    if values.get(ethertypes.ATTRIBUTE) or network.vn_mad not in (*ON_LINUX_BRIDGE, OVN):
        return []
    # OVN filters unless it is told not to.
    unsaid = "YES" if network.vn_mad == OVN else "NO"
    held = any((values.get(name) or unsaid) != "NO" for name in FILTERS)
    if not held and values.get(SECURITY_GROUPS, str(DEFAULT_ID)) == str(DEFAULT_ID):
        return []
    bridged = network.vn_mad != OVN
    return [
        f"network {network.name}: from now on its machines send and get ARP, IPv4 and IPv6 alone. Other frames, which "
        "earlier versions let pass, no longer do: PPPoE, EAPOL, LLDP, MPLS, MACsec"
        + (", VLAN tags, and IEEE 802.3 frames with LLC or SNAP" if bridged else "")
        + ". To keep some of them, name these: ethertypes: [pppoe, eapol, lldp, mpls, macsec"
        + (", vlan, qinq, llc]" if bridged else "]")
        + ". This is said once"
    ]


def _fitting_mtu(attributes: Mapping[str, str], current: Network | None, left: Mapping[str, int]) -> dict[str, str]:
    """Return GUEST_MTU for a network of OVN whose item sets none, if the tunnels leave less than such a network gets
    by default. A network that belongs to OVN already keeps its own, unless the item removes it."""
    if current is not None and current.vn_mad == OVN and uplink.GUEST_MTU not in attributes:
        return {}
    chosen = ovn_mtu.default_guest_mtu({**(current.attributes if current is not None else {}), **attributes}, left)
    return {uplink.GUEST_MTU: chosen} if chosen else {}


def _with_group_ids(engine: Engine, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the item with ids for the names of security groups; the catalog keeps ids, as OpenNebula does."""
    groups = item.get("security_groups")
    if groups is None:
        return item
    ids = [str(id_of(engine.security_groups.info(str(group)))) for group in groups]
    return {**item, "security_groups": ",".join(dict.fromkeys(ids))}


def _filtered(driver: str, attributes: Mapping[str, str], current: Network | None) -> dict[str, str]:
    """Return the attributes of a network, with filters against spoofing if it is a new network on a Linux bridge,
    unless the item says otherwise. A network that is older than filters on nodes gets filters when its item asks
    for one that it does not have."""
    found = dict(attributes)
    if driver not in ON_LINUX_BRIDGE or (current is not None and filters_on_node(current)):
        return found
    if current is None or current.vn_mad not in ON_LINUX_BRIDGE:
        before = dict(current.attributes) if current is not None else {}
        found[FILTERS_ON_NODE] = "YES"
        mac = found.get(FILTERS[0]) or before.get(FILTERS[0]) or "YES"
        found.update({FILTERS[0]: mac, FILTERS[1]: found.get(FILTERS[1]) or before.get(FILTERS[1]) or mac})
        return found
    asked = {key: found[key] for key, neutral in OF_FILTERS.items() if found.get(key, neutral) != neutral}
    if any(value and value != current.attributes.get(key) for key, value in asked.items()):
        found[FILTERS_ON_NODE] = "YES"
    return found


def _acted_on(name: str, driver: str, attributes: Mapping[str, str], current: Network | None) -> dict[str, str]:
    """Return the attributes without new ones that only another driver would act on. What a network has already it
    keeps, in its own form. Raise InvalidValue for a value that is new."""
    found = dict(attributes)
    there = current.attributes if current is not None else {}
    begun = found.get(FILTERS_ON_NODE) or (driver in ON_LINUX_BRIDGE and there.get(FILTERS_ON_NODE))
    for attribute, neutral in _unused(driver).items():
        if begun and attribute in OF_FILTERS:
            continue
        value, kept = found.get(attribute, ""), there.get(attribute, "")
        if not value or value in (kept, neutral):
            continue
        if value != network_checks.normalise_attributes(name, {attribute: kept})[attribute]:
            raise InvalidValue(
                f"network {name}: {attribute} = {value}",
                f"its driver is {driver}, and nothing would act on it",
                "Use vn_mad: ovswitch, whose ports carry several VLANs, or leave it out"
                if attribute in OF_SWITCHES
                else "Leave it out: nothing is filtered there, and all of them pass"
                if attribute == ethertypes.ATTRIBUTE
                else "Use vn_mad: ovn, or leave it out",
            )
        found[attribute] = kept
    return found


def _unused(driver: str) -> dict[str, str]:
    """Return the attributes that the driver does not act on and another does, with the values that ask for nothing."""
    return {**(OF_OVN if driver != OVN else {}), **(OF_SWITCHES if driver != OVSWITCH else {ethertypes.ATTRIBUTE: ""})}


def _of_driver(network: Network, driver: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return "" for each attribute that goes with the network's former driver, and that the item does not set. A
    number that was chosen for one driver means nothing to another."""
    gone = [PHYDEV_UNUSED, uplink.VLAN_ID, vlan_trunks.ATTRIBUTE]
    former = {key: value for key, value in network.attributes.items() if key != uplink.GUEST_MTU}
    completed = uplink.with_guest_mtu(dataclasses.replace(network, attributes=former)).attributes
    if completed.get(uplink.GUEST_MTU) == network.attributes.get(uplink.GUEST_MTU):
        gone.append(uplink.GUEST_MTU)
    return {key: "" for key in gone if network.vn_mad != driver and key not in attributes}


def _update(
    engine: Engine, network: Network, wanted: Mapping[str, Any], attributes: Mapping[str, str], ranges: Sequence[_Range]
) -> Network:
    """Change the network. What makes room comes first, what needs room last: ranges may be exchanged in one run."""
    ref = id_of(network)
    pairs = _matched(network, ranges)
    for entry, there in pairs:
        if entry.absent and there is not None:
            network = engine.networks.rm_ar(ref, there.ar_id)
        elif there is not None and entry.over(there).size < there.size:
            network = engine.networks.update_ar(ref, entry.over(there))
    if attributes.get(uplink.PHYDEV, network.attributes.get(uplink.PHYDEV)) != network.attributes.get(uplink.PHYDEV):
        attributes = {PHYDEV_UNUSED: "", **attributes}
    attributes = {**attributes, **_of_driver(network, wanted.get("vn_mad", network.vn_mad), attributes)}
    merged = {key: value for key, value in {**network.attributes, **attributes}.items() if value}
    changes = {field: value for field, value in wanted.items() if getattr(network, field) != value}
    merged = _with_access(dataclasses.replace(network, attributes=merged, **changes), network)
    if merged != network.attributes:
        changes["attributes"] = merged
    if changes:
        network = engine.networks.update(ref, **changes)
    for entry, there in pairs:
        if entry.absent:
            continue
        if there is None:
            network = engine.networks.add_ar(ref, entry.wanted)
        elif entry.over(there).size >= there.size and entry.over(there) != there:
            network = engine.networks.update_ar(ref, entry.over(there))
    return network


def _with_access(network: Network, before: Network | None) -> dict[str, str]:
    """Return the network's attributes. If its bridge begins to carry the gateway, machines begin to reach their node:
    then NODE_ACCESS is set to nothing, unless it is set already."""
    attributes = dict(network.attributes)
    if network_checks.carries_gateway(network) and not (before is not None and network_checks.carries_gateway(before)):
        attributes.setdefault(NODE_ACCESS, NOTHING)
    return attributes


@dataclass
class _Range:
    """Describes an entry of address_ranges. It means the existing range of its number, or of its type and first
    address. wanted: what it sets, with size 0 for none."""

    wanted: AddressRange
    absent: bool
    where: str

    @classmethod
    def of(cls, network: str, entry: Mapping[str, Any]) -> _Range:
        if entry.get("end"):
            entry = _with_size(network, entry)
        identity: dict[str, Any] = {key: entry.get(key) or "" for key in _FIRST}
        by_number = entry.get("ar_id") is not None and not any(identity.values())
        wanted = AddressRange(
            ar_id=NEW_AR if entry.get("ar_id") is None else entry["ar_id"],
            type=str(entry.get("type") or ("" if by_number else "IP4")).upper(),
            size=int(entry.get("size") or 0),
            prefix_length=int(entry.get("prefix_length") or 0),
            attributes=network_checks.normalise_attributes(
                network, _plain(entry.get("attributes") or {}, f"network {network}: address range")
            ),
            **identity,
        )
        where = f"network {network}: address range {addresses.range_text(wanted)}"
        for attribute in (*NOT_FOR_MACHINES, *uplink.OF_NETWORK, *OF_OVN):
            if attribute in wanted.attributes:
                raise InvalidValue(
                    f"{where}: {attribute}", "it is of the whole network", "Set it there, not on an address range"
                )
        if wanted.type:
            # Where no size is set, as in a range that is to go, one stands in for it.
            # So does the shortest length where no other is, in one that is recognised by its first address.
            length = wanted.prefix_length or (1 if wanted.ip6 else 0)
            checked = network_checks.normalise_range(
                dataclasses.replace(wanted, size=wanted.size or 1, prefix_length=length), network, 0
            )
            wanted = dataclasses.replace(
                checked, size=wanted.size, prefix_length=wanted.prefix_length, mac=checked.mac if wanted.mac else ""
            )
        return cls(wanted, entry.get("state") == "absent", where)

    @property
    def precision(self) -> tuple[bool, int]:
        """Return how exactly the entry says which range it means."""
        given = [getattr(self.wanted, field) for field in _FIRST]
        return self.wanted.ar_id != NEW_AR, sum(map(bool, given))

    def fits(self, there: AddressRange) -> bool:
        if self.wanted.ar_id != NEW_AR:
            return self.wanted.ar_id == there.ar_id
        return all(getattr(self.wanted, f) in ("", getattr(there, f)) for f in ("type", *_FIRST))

    def over(self, there: AddressRange) -> AddressRange:
        """Return the existing range with what the entry sets."""
        given = {f: getattr(self.wanted, f) for f in ("type", *_FIRST, "prefix_length")}
        attributes = {k: v for k, v in {**there.attributes, **self.wanted.attributes}.items() if v}
        given = {field: value for field, value in given.items() if value}
        return dataclasses.replace(there, size=self.wanted.size or there.size, attributes=attributes, **given)


def _with_size(network: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry with the size that follows from its last address."""
    end = str(entry["end"])
    start = "ip6" if ":" in end else "ip"
    first = str(entry.get(start) or "")
    where = f"network {network}: address range {first or '?'}"
    asked = f"{where}: end {end}"
    if not first:
        raise InvalidValue(asked, f"there is no {start}, with which it would begin", "Give both")
    if start == "ip6":
        size = int(addresses.ip6_address(end, f"{where}: end")) - int(addresses.ip6_address(first, where)) + 1
    else:
        size = addresses.ip_number(end, f"{where}: end") - addresses.ip_number(first, where) + 1
    if size < 1:
        raise InvalidValue(asked, f"it is before {first}", "Give the last address")
    if entry.get("size") is not None and int(entry["size"]) != size:
        raise InvalidValue(asked, f"size says {entry['size']}, and these are {size} addresses", "Give one of the two")
    return {**entry, "size": size}


def _matched(network: Network, ranges: Sequence[_Range]) -> list[tuple[_Range, AddressRange | None]]:
    """Return each entry with the range of the network that it means, None if there is none (any more). The most exact
    entries choose first: others would take their ranges."""
    left = list(network.address_ranges)
    pairs: dict[int, tuple[_Range, AddressRange | None]] = {}
    for number, entry in sorted(enumerate(ranges), key=lambda pair: pair[1].precision, reverse=True):
        there = next((r for r in left if entry.fits(r)), None)
        if there is not None:
            left.remove(there)
        elif entry.wanted.ar_id != NEW_AR and not entry.absent:
            known = ", ".join(addresses.range_text(r) for r in network.address_ranges) or "none"
            raise NotFound(
                entry.where, "there is no range of that number", f"Leave ar_id out for a new one. There are: {known}"
            )
        pairs[number] = (entry, there)
    return [pairs[number] for number in range(len(ranges))]


def _slips(entry: _Range) -> list[str]:
    """Return a warning for each attribute of an address range that is likely a slip for another attribute."""
    found = []
    for key in entry.wanted.attributes:
        near = "" if key in _KNOWN_OF_RANGES else nearest_word(key, _KNOWN_OF_RANGES)
        if near:
            found.append(f"{entry.where}: attribute {key} is kept as your own; did you mean {near}?")
    return found


def _attributes(item: Mapping[str, Any], warnings: list[str]) -> dict[str, str]:
    """Return the attributes that an item sets, by options or by name; "" for attributes that are to go."""
    name = str(item["name"])
    result = _plain(item.get("attributes") or {}, f"network {name}")
    for key in result:
        if key in OPTIONS:
            raise InvalidValue(
                f"network {name}: attribute {key}", "it is not set that way", "Use the option of that name"
            )
        if key not in KNOWN:
            near = nearest_word(key, KNOWN)
            if near:
                warnings.append(f"network {name}: attribute {key} is kept as your own; did you mean {near}?")
    for option, attribute in ATTRIBUTES.items():
        if item.get(option) is None:
            continue
        value = _text(item[option])
        if result.get(attribute, value) != value:
            raise InvalidValue(
                f"network {name}: {option} = {value!r}",
                f"attributes say {attribute} = {result[attribute]!r}",
                "Give one of the two",
            )
        result[attribute] = value
    return network_checks.normalise_attributes(name, result)


def _plain(values: Mapping[str, Any], where: str) -> dict[str, str]:
    return {vector_key(key, where): _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    """Return a YAML value as an attribute's text; a list is one value, with blanks between."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, (list, tuple)):
        return " ".join(_text(part) for part in value)
    return " ".join(str(value).split()) if not isinstance(value, str) else value.strip()


def _doubts(network: Network) -> list[str]:
    """Return warnings of what may be meant, but seldom is."""
    found = []
    whole, gateway = network_checks.network_cidr(network), network.attributes.get("GATEWAY", "")
    if whole is not None and gateway and not network_checks.is_within(gateway, whole):
        found.append(
            f"network {network.name}: GATEWAY {gateway} is not in {whole}: guests need a route to it of their own"
        )
    found += [
        f"network {network.name}: attribute {attribute} is kept, but its driver {network.vn_mad} does not act on it"
        for attribute, neutral in _unused(network.vn_mad).items()
        if network.attributes.get(attribute, neutral) != neutral
        if attribute not in OF_FILTERS or not filters_on_node(network)
    ]
    unsaid = [name.lower() for name in FILTERS if not network.attributes.get(name)]
    if unsaid and network.vn_mad in ON_LINUX_BRIDGE and not filters_on_node(network):
        found.append(
            f"network {network.name}: its machines may send with addresses of others, as it is older than filters on "
            f"nodes: set {' and '.join(unsaid)} to true, or to false to have it stay so"
        )
    phydev = network.attributes.get(uplink.PHYDEV)
    if phydev and network.vn_mad in ON_NODES and not uplink.joins_nodes(network):
        found.append(
            f"network {network.name}: attribute {uplink.PHYDEV} = {phydev} is kept, but nothing acts on it, as the "
            f"network is older than that: with phydev: {phydev}, the option, {phydev} becomes a port of its bridge on "
            "each node"
        )
    if network_checks.carries_gateway(network) and NODE_ACCESS not in network.attributes:
        found.append(
            f"network {network.name}: its machines reach every service of their nodes, as it is older than the option "
            "node_access: say there what they are to reach (node_access: [] for nothing, [tcp/22] for ssh, all as "
            "it is)"
        )
    return found
