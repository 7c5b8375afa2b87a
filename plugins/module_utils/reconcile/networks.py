# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of networks wants of the catalog. Only what it sets is compared and changed; address ranges
that it does not list stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..dataclass import dataclass
from ..engines.base import Engine
from ..errors import InUse, InvalidValue, NebulaError, NotFound
from ..model import addresses, network_checks
from ..model.ids import id_of
from ..model.names import check_name, nearest
from ..model.network import NEW_AR, NOT_FOR_MACHINES, AddressRange, Network, from_item, to_item
from ..model.network_template import with_template
from ..model.node_access import ATTRIBUTE as NODE_ACCESS
from ..model.node_access import NOTHING
from ..model.reader import twice
from ..model.specifications.network import KEYS
from ..model.states import NetworkState
from ..model.template import vector_key
from ..sync import Item
from ..text.template import as_template

# Options that are attributes in OpenNebula's templates, under their own names there.
ATTRIBUTES = {name: key.attribute for name, key in KEYS.items() if key.attribute}
# Given as options of the item, never among its attributes.
OPTIONS = ("NAME", "BRIDGE", "VN_MAD", "AR", "ID", "UUID")
# OpenNebula acts on these; nothing here does yet, and silence would promise otherwise.
WITHOUT_EFFECT = (
    "PHYDEV", "MTU", "VLAN_TAGGED_ID", "AUTOMATIC_VLAN_ID", "SECURITY_GROUPS", "FILTER_MAC_SPOOFING",
    "FILTER_IP_SPOOFING",
)  # fmt: skip
KNOWN = (
    *ATTRIBUTES.values(), *WITHOUT_EFFECT, "DESCRIPTION", "LABELS", "METHOD", "IP6_METHOD", "IP6_METRIC", "ROUTES",
    "VLAN_ID", "EXTERNAL", "VROUTER_IP", "VROUTER_IP6", "VROUTER_MANAGEMENT", *network_checks.BANDWIDTH,
)  # fmt: skip


def apply_all(
    engine: Engine, items: Sequence[Mapping[str, Any]], check_mode: bool
) -> tuple[list[Item], list[dict[str, Any]], list[str]]:
    """Called within a session. An item that can't be is an Item with its error, and nothing of it is kept; the
    others go on. Returns what was done, each network as it is then (absent ones are DONE), and warnings."""
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
                raise twice(f"network {name}")
            seen.add(name)
            with engine.attempt():
                after = _apply(engine, item, before, warnings)
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


def undo_all(
    engine: Engine, entries: Sequence[Mapping[str, Any]], check_mode: bool
) -> tuple[list[Item], list[dict[str, Any]], list[str]]:
    """Called within a session, for networks that no node can have as this run has made them. Each entry has `network`,
    as it was made, and `earlier`, as it was before that, None for a new one. What another run has changed since, or
    machines lease of, stays. Returns what was done, each network as it is then, and warnings."""
    done: list[Item] = []
    views: list[dict[str, Any]] = []
    warnings: list[str] = []
    if check_mode:
        engine.declare({"networks": [entry["network"] for entry in entries]})
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
    return dataclasses.replace(network, address_ranges=ranges)


def _back(engine: Engine, current: Network, earlier: Network | None) -> Network:
    """Ranges that are added again get new numbers: nothing was leased in them."""
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


def network_view(network: Network) -> dict[str, Any]:
    """A network for results."""
    ranges = network.address_ranges
    return {**to_item(network), "size": sum(r.size for r in ranges), "used": sum(r.used for r in ranges)}


def _described(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The item, with what its template says."""
    if item.get("template") is None:
        return item
    what = f"network {item['name']}" if item.get("name") else "network"
    return with_template(item, as_template(item["template"], what))


def _apply(engine: Engine, item: Mapping[str, Any], current: Network | None, warnings: list[str]) -> Network:
    if item.get("state") != "absent":
        return _present(engine, item, current, warnings)
    if current is None:
        return Network(id=None, name=str(item["name"]), state=NetworkState.DONE)
    return engine.networks.delete(id_of(current))


def _present(engine: Engine, item: Mapping[str, Any], current: Network | None, warnings: list[str]) -> Network:
    name = str(item["name"])
    wanted = {field: item[field] for field in ("bridge", "vn_mad", "nat") if item.get(field) is not None}
    attributes = _attributes(item, warnings)
    ranges = [_Range.of(name, entry) for entry in item.get("address_ranges") or ()]
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
    warnings.extend(_doubts(network))
    return network


def _update(
    engine: Engine, network: Network, wanted: Mapping[str, Any], attributes: Mapping[str, str], ranges: Sequence[_Range]
) -> Network:
    """What makes room comes first and what needs it last, so that ranges may be exchanged in one run."""
    ref = id_of(network)
    pairs = _matched(network, ranges)
    for entry, there in pairs:
        if entry.absent and there is not None:
            network = engine.networks.rm_ar(ref, there.ar_id)
        elif there is not None and entry.over(there).size < there.size:
            network = engine.networks.update_ar(ref, entry.over(there))
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
    """The attributes. One by which machines begin to reach a node says what they reach there: nothing, unless it is
    told otherwise."""
    attributes = dict(network.attributes)
    if network_checks.carries_gateway(network) and not (before is not None and network_checks.carries_gateway(before)):
        attributes.setdefault(NODE_ACCESS, NOTHING)
    return attributes


@dataclass
class _Range:
    """An entry of address_ranges. wanted: what it sets, with size 0 for none. It means the existing range of its
    number, or of its type and first address."""

    wanted: AddressRange
    absent: bool
    where: str

    @classmethod
    def of(cls, network: str, entry: Mapping[str, Any]) -> _Range:
        identity: dict[str, Any] = {key: entry.get(key) or "" for key in ("ip", "mac", "global_prefix", "ula_prefix")}
        by_number = entry.get("ar_id") is not None and not any(identity.values())
        wanted = AddressRange(
            ar_id=NEW_AR if entry.get("ar_id") is None else entry["ar_id"],
            type=str(entry.get("type") or ("" if by_number else "IP4")).upper(),
            size=int(entry.get("size") or 0),
            attributes=network_checks.normalised_attributes(
                network, _plain(entry.get("attributes") or {}, f"network {network}: address range")
            ),
            **identity,
        )
        where = f"network {network}: address range {addresses.shown(wanted)}"
        for attribute in NOT_FOR_MACHINES:
            if attribute in wanted.attributes:
                raise InvalidValue(
                    f"{where}: {attribute}", "it is of the whole network", "Set it there, not on an address range"
                )
        if wanted.type:
            # Where no size is set, as in a range that is to go, one stands in for it.
            checked = network_checks.normalised(dataclasses.replace(wanted, size=wanted.size or 1), network, 0)
            wanted = dataclasses.replace(checked, size=wanted.size, mac=checked.mac if wanted.mac else "")
        return cls(wanted, entry.get("state") == "absent", where)

    @property
    def precision(self) -> tuple[bool, int]:
        """How much it says of which range it means."""
        given = (self.wanted.ip, self.wanted.mac, self.wanted.global_prefix, self.wanted.ula_prefix)
        return self.wanted.ar_id != NEW_AR, sum(map(bool, given))

    def fits(self, there: AddressRange) -> bool:
        if self.wanted.ar_id != NEW_AR:
            return self.wanted.ar_id == there.ar_id
        fields = ("type", "ip", "mac", "global_prefix", "ula_prefix")
        return all(getattr(self.wanted, f) in ("", getattr(there, f)) for f in fields)

    def over(self, there: AddressRange) -> AddressRange:
        """The existing range with what the entry sets."""
        given = {f: getattr(self.wanted, f) for f in ("type", "ip", "mac", "global_prefix", "ula_prefix")}
        attributes = {k: v for k, v in {**there.attributes, **self.wanted.attributes}.items() if v}
        given = {field: value for field, value in given.items() if value}
        return dataclasses.replace(there, size=self.wanted.size or there.size, attributes=attributes, **given)


def _matched(network: Network, ranges: Sequence[_Range]) -> list[tuple[_Range, AddressRange | None]]:
    """Each entry with the range of the network that it means; None: there is none yet (or no more). Those that say most
    of theirs choose first: others would take it for their own."""
    left = list(network.address_ranges)
    pairs: dict[int, tuple[_Range, AddressRange | None]] = {}
    for number, entry in sorted(enumerate(ranges), key=lambda pair: pair[1].precision, reverse=True):
        there = next((r for r in left if entry.fits(r)), None)
        if there is not None:
            left.remove(there)
        elif entry.wanted.ar_id != NEW_AR and not entry.absent:
            known = ", ".join(addresses.shown(r) for r in network.address_ranges) or "none"
            raise NotFound(
                entry.where, "there is no range of that number", f"Leave ar_id out for a new one. There are: {known}"
            )
        pairs[number] = (entry, there)
    return [pairs[number] for number in range(len(ranges))]


def _attributes(item: Mapping[str, Any], warnings: list[str]) -> dict[str, str]:
    """The attributes that an item sets, by options or by name; "" for those that are to go."""
    name = str(item["name"])
    result = _plain(item.get("attributes") or {}, f"network {name}")
    for key in result:
        if key in OPTIONS:
            raise InvalidValue(
                f"network {name}: attribute {key}", "it is not set that way", "Use the option of that name"
            )
        if key in WITHOUT_EFFECT:
            warnings.append(f"network {name}: attribute {key} is kept, but nothing acts on it yet")
        elif key not in KNOWN:
            near = nearest(key, KNOWN)
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
    return network_checks.normalised_attributes(name, result)


def _plain(values: Mapping[str, Any], where: str) -> dict[str, str]:
    return {vector_key(key, where): _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    """A YAML value as an attribute's text; a list is one value, with blanks between."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, (list, tuple)):
        return " ".join(_text(part) for part in value)
    return " ".join(str(value).split()) if not isinstance(value, str) else value.strip()


def _doubts(network: Network) -> list[str]:
    """What may be meant, but seldom is."""
    found = []
    whole, gateway = network_checks.cidr(network), network.attributes.get("GATEWAY", "")
    if whole is not None and gateway and not network_checks.within(gateway, whole):
        found.append(
            f"network {network.name}: GATEWAY {gateway} is not in {whole}: guests need a route to it of their own"
        )
    if network_checks.carries_gateway(network) and NODE_ACCESS not in network.attributes:
        found.append(
            f"network {network.name}: its machines reach every service of their nodes, as it is older than the option "
            "node_access: say there what they are to reach (node_access: [] for nothing, [tcp/22] for ssh, all as "
            "it is)"
        )
    return found
