# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of hosts wants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..engines.base import Engine
from ..errors import ForeignObject, InvalidValue, NebulaError, NotFound
from ..model import hypervisor_rules, isolated_processors
from ..model.answers import answer_bounds, host_hardware
from ..model.dataclass_json import to_plain
from ..model.host import Host, HostHardware, Overhead
from ..model.item_reader import check_choice, check_keys, read_item
from ..model.object_names import check_name
from ..model.specification import Key
from ..model.specifications.host import KEYS
from ..model.states import HostState
from ..model.template import vector_key
from ..sync import Item, differences
from .host_identity import Identities

# Of hypervisors the drivers know which there are.
_AS_GIVEN = ("name", "hypervisor", "overhead", "hardware")
_REMOVAL = dict.fromkeys(("absent", "lost"), ("name", "state", "gone"))
# MiB, far beyond any machine's; all of it can be added up.
_MOST_OVERHEAD = 1 << 20
_OVERHEAD = {each.name: Key(type="float", least=0, most=_MOST_OVERHEAD) for each in fields(Overhead)}
_SETTABLE = [name for name, key in KEYS.items() if key.changes]
_STATES = {"present": HostState.MONITORED, "enabled": HostState.MONITORED, "disabled": HostState.DISABLED}


def apply_all(
    engine: Engine, items: Sequence[Mapping[str, Any]], nodes: Collection[str]
) -> tuple[list[Item], list[str]]:
    """Apply the items in a session, and return what was done, and warnings. nodes: all names of the inventory."""
    identities = Identities(engine, items, nodes)
    done = [apply(engine, item, identities) for item in items]
    identities.clones()
    return done, identities.warnings


def freed_addresses(items: Sequence[Item]) -> list[str]:
    """Return the addresses that lost hosts kept from other machines until they were reported gone."""
    return [address for item in items for address in (item.before or {}).get("freed", ())]


def apply(engine: Engine, item: Mapping[str, Any], identities: Identities | None = None) -> Item:
    """Carry the item out. identities: those of the whole list."""
    name = str(item.get("name") or "")
    try:
        check_name("host", item.get("name"))
        # Most of it is what the host says of itself.
        answer_bounds.check_size(item, f"host {name}", finite=False)
        with engine.attempt():
            return _apply(engine, name, item, identities or Identities(engine, [item]))
    except NebulaError as error:
        return Item(name or "?", error=error, changed=False)


def _apply(engine: Engine, name: str, item: Mapping[str, Any], identities: Identities) -> Item:
    item = read_item(item, KEYS, f"host {name}", _AS_GIVEN, _REMOVAL)
    state = item["state"] or "present"
    found: Host | None
    try:
        found = engine.hosts.info(name)
    except NotFound:
        found = None
    before = host_view(found) if found else None
    gone = item["gone"]
    if gone and state != "lost":
        raise InvalidValue(f"host {name}: gone", f"its state is to be {state}", "It goes with state: lost only")
    if state == "lost":
        if found is not None:
            engine.hosts.forget(name, gone)
        elif gone:
            freed = engine.hosts.gone(name)
            # The host itself went before.
            before = {"name": name, "freed": freed} if freed else None
        return Item(name, before, None)
    if state == "absent":
        if found is not None:
            engine.hosts.delete(name)
        return Item(name, before, None)
    if item.get("catalog") and item["catalog"] != engine.catalog():
        raise ForeignObject(
            f"host {name}",
            f"it carries the marks of catalog {item['catalog']}, and this is catalog {engine.catalog()}",
            "Restore that catalog's nebula.db on the front-end, or take the other catalog's machines off this host "
            "(playbook nebula.provision.teardown with its own inventory)",
        )
    desired = {key: _checked(name, key, item[key]) for key in _SETTABLE if item.get(key) is not None}
    known = identities.known(name, found, item)
    if known.was is not found:
        before = host_view(known.was) if known.was else None
    found = known.host
    if found is None:
        made = engine.hosts.allocate(Host(id=None, name=name, state=_STATES[state], **desired))
        identities.keep(name, item)
        return Item(name, None, host_view(made))
    # What an administrator disabled stays so until one says otherwise; role node only says "present".
    wanted_state = found.state if state == "present" and found.state == HostState.DISABLED else _STATES[state]
    if name in identities.doubled:
        wanted_state = HostState.DISABLED
    changes = differences({key: getattr(found, key) for key in desired}, desired)
    if found.state != wanted_state:
        changes["state"] = wanted_state
    after = host_view(engine.hosts.update(name, **changes) if changes else found)
    if before is not None and found.hardware == HostHardware():
        # A catalog of an earlier release did not know it: nothing about the host has changed.
        before["hardware"] = after["hardware"]
    if before is not None and _is_of_only_node(before["hardware"], after["hardware"]):
        # An earlier release asked the node itself.
        before["hardware"] = after["hardware"]
    identities.keep(name, item)
    return Item(name, before, after)


def _is_of_only_node(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether both differ in the memory of the host's only node alone: it is the host's own, which is compared
    as such."""
    if len(before["nodes"]) != 1 or len(after["nodes"]) != 1:
        return False
    return {**before, "nodes": [{**before["nodes"][0], "memory": after["nodes"][0]["memory"]}]} == dict(after)


def _checked(name: str, key: str, value: Any) -> Any:
    """Return the value of a key that an update sets, as the catalog keeps it."""
    where = f"host {name}"
    if key == "hypervisor":
        return check_choice(value, sorted({each.name for each in hypervisor_rules.RULES.values()}), where, key)
    if key == "overhead":
        check_keys(value, _OVERHEAD, f"{where}: overhead")
        read = read_item(value, _OVERHEAD, f"{where}: overhead")
        return Overhead(**{part: number for part, number in read.items() if number is not None})
    if key == "hardware":
        return host_hardware.read_hardware(value, f"{where}: hardware")
    if key == "attributes":
        found = {vector_key(k, where): str(v) for k, v in value.items()}
        isolated_processors.read(found.get(isolated_processors.ATTRIBUTE, ""), f"{where}: attributes")
        return found
    if key.endswith("_overcommit") and value <= 0:
        raise InvalidValue(f"{where}: {key} {value:g}", "it would leave nothing to promise", "1 promises all once")
    return value


def host_view(host: Host) -> dict[str, Any]:
    return {
        "id": host.id,
        "name": host.name,
        "hypervisor": host.hypervisor,
        "state": host.state.name,
        "memory": host.memory,
        "memory_used": host.memory_used,
        "overhead_used": host.overhead_used,
        "overhead": to_plain(host.overhead),
        "hardware": to_plain(host.hardware),
        "reserved_memory": host.reserved_memory,
        "memory_overcommit": host.memory_overcommit,
        "cpu": host.cpu,
        "cpu_used": host.cpu_used,
        "cpu_overcommit": host.cpu_overcommit,
        "vms": host.vms,
        "transfer": host.transfer,
        "attributes": dict(host.attributes),
    }
