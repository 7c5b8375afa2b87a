# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of hosts wants of the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..engines.base import Engine
from ..errors import ForeignObject, InvalidValue, NebulaError, NotFound
from ..model.flags import flag
from ..model.host import Host, Overhead
from ..model.names import check_name
from ..model.plain import to_plain
from ..model.reader import chosen
from ..model.specifications.host import KEYS
from ..model.states import HostState
from ..model.template import vector_key
from ..model.transfer import METHODS
from ..sync import Item, differences

_SETTABLE = [name for name, key in KEYS.items() if key.changes]
_STATES = {"present": HostState.MONITORED, "enabled": HostState.MONITORED, "disabled": HostState.DISABLED}


def apply(engine: Engine, item: Mapping[str, Any]) -> Item:
    name = str(item.get("name") or "")
    try:
        check_name("host", item.get("name"))
        with engine.attempt():
            return _apply(engine, name, item)
    except NebulaError as error:
        return Item(name or "?", error=error, changed=False)


def _apply(engine: Engine, name: str, item: Mapping[str, Any]) -> Item:
    state = item.get("state") or "present"
    chosen(state, KEYS["state"].choices, f"host {name}", "state")
    found: Host | None
    try:
        found = engine.hosts.info(name)
    except NotFound:
        found = None
    before = host_view(found) if found else None
    gone = item.get("gone") is not None and flag(item["gone"], f"host {name}: gone")
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
    if found is None:
        made = engine.hosts.allocate(Host(id=None, name=name, state=_STATES[state], **desired))
        return Item(name, None, host_view(made))
    # What an administrator disabled stays so until one says otherwise; role node only says "present".
    wanted_state = found.state if state == "present" and found.state == HostState.DISABLED else _STATES[state]
    changes = differences({key: getattr(found, key) for key in desired}, desired)
    if found.state != wanted_state:
        changes["state"] = wanted_state
    return Item(name, before, host_view(engine.hosts.update(name, **changes) if changes else found))


def _checked(name: str, key: str, value: Any) -> Any:
    if key == "hypervisor":
        return str(value)
    if key == "transfer":
        if value not in METHODS:
            raise InvalidValue(f"host {name}: transfer {value!r}", "there is none", f"Known are {', '.join(METHODS)}")
        return str(value)
    if key == "overhead":
        return _overhead(name, value)
    if key == "attributes":
        if not isinstance(value, Mapping):
            raise InvalidValue(f"host {name}: attributes", f"it is a {type(value).__name__}", "Give a dict")
        return {vector_key(k, f"host {name}"): str(v) for k, v in value.items()}
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if key.endswith("_overcommit") and number == 0:
        raise InvalidValue(f"host {name}: {key} {value!r}", "it would leave nothing to promise", "1 promises all once")
    if number < 0 or not math.isfinite(number) or isinstance(value, bool):
        raise InvalidValue(f"host {name}: {key} {value!r}", "it is not a number, or below zero", "Give a number")
    return int(number) if key in ("memory", "reserved_memory") else number


def _overhead(name: str, value: Any) -> Overhead:
    known = {field.name for field in fields(Overhead)}
    if not isinstance(value, Mapping) or set(value) - known:
        raise InvalidValue(f"host {name}: overhead {value!r}", "it can't be read", "Give what nebula_node returned")
    return Overhead(**{key: float(_checked(name, f"overhead {key}", value[key])) for key in value})


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
        "reserved_memory": host.reserved_memory,
        "memory_overcommit": host.memory_overcommit,
        "cpu": host.cpu,
        "cpu_used": host.cpu_used,
        "cpu_overcommit": host.cpu_overcommit,
        "vms": host.vms,
        "transfer": host.transfer,
        "attributes": dict(host.attributes),
    }
