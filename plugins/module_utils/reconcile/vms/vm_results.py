# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows machines and plans, and reads polls, as modules return and take them: as plain values, with secrets in plans
alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import InvalidValue
from ...hypervisors.console_access import console_instructions
from ...model import image_deliveries
from ...model.answers import observed as heard
from ...model.dataclass_json import to_plain
from ...model.image import Image
from ...model.instantiate.graphics import wants_made_up_password
from ...model.object_ids import id_of
from ...model.plan import GivenUp, Observed, Plan
from ...sync import Item
from ..host_identity import without_second_names
from .adoptions import Adoptions
from .destroy_limit import DestroyLimit, names_of_destroyed
from .vm_list_decision import reconcile
from .vm_outcome import Difference, Outcome

SYSTEM_DATASTORE = "datastores/0"
# The fields of a machine by which users see whether it changed.
_ADDRESSES = ("ip", "ip6", "ip6_ula")
_SHOWN = ("state", "wanted", "host", "cpu", "vcpu", "memory", "template", "error")


@dataclass(frozen=True)
class Decided:
    """Holds what came of a list.
    moved: machines as they are after what the nodes said
    plans: by host; None if they were not asked for
    returning: whether files of images are on their way back
    heard: what the nodes answered, as far as it is believed"""

    moved: list[VmRecord]
    outcomes: list[Outcome]
    warnings: list[str]
    given_up: list[GivenUp]
    plans: Mapping[str, Plan] | None
    returning: bool
    heard: Sequence[Observed] = ()

    @property
    def records(self) -> list[VmRecord]:
        """Return the machines of the list in the order of their ids."""
        found = (outcome.after for outcome in self.outcomes)
        return sorted((record for record in found if record is not None), key=id_of)

    @property
    def differs(self) -> list[str]:
        return [text for outcome in self.outcomes for text in outcome.differs]

    def shown(self, root: str, check_mode: bool) -> dict[str, Any]:
        """Return what a result holds of it, without plans."""
        return {
            "vms": [vm_view(record, root, check_mode) for record in self.records],
            "differs": self.differs,
            "differences": [difference_view(each) for outcome in self.outcomes for each in outcome.differences],
            "given_up": to_plain(self.given_up),
            "destroyed": names_of_destroyed(self.outcomes),
        }


def decide(
    engine: Engine,
    items: Sequence[Mapping[str, Any]],
    observed: Sequence[Observed],
    hosts: Sequence[str] | None,
    with_plans: bool,
    end_given_up: bool,
    adopting: Adoptions | None = None,
    formers: Collection[str] = (),
    limit: DestroyLimit | None = None,
    foreseen: bool = False,
) -> Decided:
    """Record what the nodes say, then decide the list, within a decision. formers, limit, foreseen: see reconcile()."""
    observed = engine.hosts.check(observed)
    observed, second = without_second_names(engine, observed)
    if second:
        # A plan under the second name would not reach the machines of the first.
        named = hosts if hosts is not None else [host.name for host in engine.hosts.pool()]
        hosts = [name for name in named if name not in second]
    moved = engine.vms.observe(observed)
    given_up = engine.vms.given_up()
    outcomes, warnings = reconcile(engine, items, hosts, adopting, formers, limit, foreseen)
    warnings += [f"host {name}: {why}. Nothing was done under the name {name}" for name, why in second.items()]
    warnings += map(str, engine.networks.spread_out())
    warnings += warnings_of_given_up(given_up, end_given_up, hosts)
    plans = engine.vms.plans(hosts, end_given_up) if with_plans else None
    returning = plans is not None and image_deliveries.has_images_to_fetch(engine.images.pool(), observed)
    warnings += open_consoles(engine, observed)
    warnings += refused_answers(observed).values()
    return Decided(list(moved), outcomes, warnings, list(given_up), plans, returning, observed)


def vm_view(record: VmRecord, root: str, unsure: bool = False) -> dict[str, Any]:
    """Return a machine as results show it. unsure: check mode, where ids of new machines mean nothing."""
    vm_id = None if unsure and record.generation == 1 and record.state == "PROLOG" else record.id
    first: Mapping[str, Any] = record.nics[0] if record.nics else {}
    directory = f"{root}/{SYSTEM_DATASTORE}/{vm_id}" if vm_id is not None else ""
    domain = f"one-{vm_id}" if vm_id is not None else ""
    return {
        "id": vm_id,
        "name": record.name,
        "uuid": record.uuid if vm_id is not None else "",
        "state": record.state,
        "wanted": record.wanted,
        "host": record.host,
        "hypervisor": record.hypervisor,
        "cpu": record.cpu,
        "vcpu": record.vcpu,
        "memory": record.memory,
        "template": record.template,
        "hostname": record.hostname,
        "former_hostname": record.former,
        "addresses": None if record.addresses is None else list(record.addresses),
        "ip": first.get("ip") or first.get("ip6") or "",
        "ips": [nic[key] for nic in (*record.nics, *record.nic_aliases) for key in _ADDRESSES if nic.get(key)],
        "mac": first.get("mac", ""),
        "nics": [dict(nic) for nic in record.nics],
        "nic_aliases": [dict(alias) for alias in record.nic_aliases],
        "disks": [dict(disk) for disk in record.disks],
        "graphics": dict(record.graphics),
        "directory": directory,
        "console": f"{directory}/console.log" if directory else "",
        "domain": domain,
        "access": console_instructions(record.hypervisor, domain, record.graphics),
        "error": record.error,
        "stime": record.stime,
    }


def open_consoles(engine: Engine, observed: Iterable[Observed]) -> list[str]:
    """Return a warning that names the machines whose graphics are to have a password, and run without a password."""
    uuids = {seen.uuid for node in observed for seen in node.vms if seen.open_console}
    # All machines are read only if needed, since it takes long.
    records = engine.vms.pool() if uuids else []
    names = [r.name for r in records if r.uuid in uuids and r.request is not None and wants_made_up_password(r.request)]
    if not names:
        return []
    text = (
        f"Virtual machines whose graphics have no password before they are started anew: {', '.join(names)}. Until "
        "then every user of their hosts can use them: power them off and on (state: poweroff, then running)"
    )
    return [text]


def vm_items(outcomes: Sequence[Outcome], moved: Iterable[VmRecord] = ()) -> list[Item]:
    """Return what a run did to each machine, for changed and diff."""
    items = [
        Item(outcome.name, *_sides(outcome), outcome.error, changed=outcome.before != outcome.after)
        for outcome in outcomes
    ]
    known = {item.name for item in items}
    items.extend(Item(r.name, {"state": ""}, _shown(r)) for r in moved if r.name not in known)
    return items


def _sides(outcome: Outcome) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    before, after = _shown(outcome.before), _shown(outcome.after)
    if after is not None and outcome.saves:
        after["saved_as"] = [_saved(number, image) for number, image in sorted(outcome.saves.items())]
    if outcome.before is None or outcome.after is None or before is None or after is None:
        return before, after
    if outcome.before.name != outcome.after.name:
        before["name"], after["name"] = outcome.before.name, outcome.after.name
    if outcome.changes:
        before["changed"] = {change.attribute: change.old for change in outcome.changes}
        # Two secrets are shown alike.
        after["changed"] = {
            change.attribute: change.new if change.new != change.old else f"{change.new}, another"
            for change in outcome.changes
        }
    elif before == after and outcome.before != outcome.after:
        # A reboot ends in the state in which it began.
        before["generation"], after["generation"] = outcome.before.generation, outcome.after.generation
    return before, after


def _shown(record: VmRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    shown = {key: getattr(record, key) for key in _SHOWN}
    shown["nics"] = [{key: nic[key] for key in ("network", "ip", "mac")} for nic in record.nics]
    if record.nic_aliases:
        shown["nic_aliases"] = [{key: each[key] for key in ("parent", "network", "ip")} for each in record.nic_aliases]
    shown["disks"] = [{key: disk[key] for key in ("disk_id", "image", "target", "size")} for disk in record.disks]
    return shown


def _saved(number: int, image: Image) -> dict[str, Any]:
    """Return what is known of the new image of a disk before the disk is saved."""
    shown = {"image": image.name, "type": image.type.name, "format": image.format, "size": image.size}
    return {"disk_id": number, **shown, "description": image.description}


def names_in_pools(engine: Engine, listed: Sequence[VmRecord] | None) -> dict[str, list[str]]:
    """Return the names of what the catalog has. listed: machines that the list of a run names; None if no list is
    known, and so neither which machines are in no list."""
    ids = {record.id for record in listed or ()}
    # Of ten thousand machines the records take a second to read; their names do not.
    machines = engine.vms.names() if listed is not None else {}
    return {
        "unlisted_vms": sorted(name for vm_id, name in machines.items() if vm_id not in ids),
        "images": sorted(image.name for image in engine.images.pool()),
        "networks": sorted(network.name for network in engine.networks.pool()),
        "templates": sorted(stored.name for stored in engine.templates.pool()),
    }


def difference_view(difference: Difference) -> dict[str, Any]:
    """Return a difference as results show it."""
    keys = ("name", "id", "host", "attribute", "found", "wanted", "remedy", "sentence")
    return {key: getattr(difference, key) for key in keys}


def warnings_of_given_up(found: Iterable[GivenUp], ending: bool, hosts: Collection[str] | None) -> list[str]:
    """Return a warning for each machine that was given up with its host and is there again. ending: the machines are
    powered off, on the hosts of this run."""
    warnings = []
    for machine in found:
        what = f"Host {machine.host} has VM {machine.name} (id {machine.vm_id}), {machine.state}, which was given up"
        addresses = ", ".join(machine.addresses)
        held = f" Nobody else gets {addresses}." if machine.addresses and not machine.doubles else ""
        twice = f" {', '.join(machine.doubles)} has an address of it ({addresses}) too." if machine.doubles else ""
        if ending and (hosts is None or machine.host in hosts):
            warnings.append(f"{what}: it is powered off, and its disks stay.{twice}")
            continue
        remedy = "nebula_end_given_up: true (end_given_up of nebula_vm) powers it off and leaves its disks"
        warnings.append(f"{what}: it is left as it is.{held}{twice} {remedy}")
    return warnings


def as_plans(plans: Mapping[str, Plan]) -> dict[str, str]:
    return {host: json.dumps(to_plain(plan), separators=(",", ":")) for host, plan in plans.items()}


def polls_of(answers: Iterable[Mapping[str, Any]]) -> list[Observed]:
    """Return the answers of nodes, each under the name by which it was asked (key `host`); also read bare results of
    polls. A node without an answer counts as not reached if its name is told. So does a node whose answer is
    refused, and no other host is affected."""
    found: dict[str, Observed] = {}
    for answer in answers:
        # All but the name by which a host was asked is its answer.
        bare = isinstance(answer, Mapping) and "host" not in answer
        observed = answer.get("observed", answer) if bare and isinstance(answer, Mapping) else answer
        if not isinstance(observed, Mapping):
            raise InvalidValue(
                "what a node observed", f"it is a {type(observed).__name__}", "Give the registered results of polls"
            )
        name = observed.get("host")
        if not name:
            continue
        if not isinstance(name, str):
            found_out = f"its host is a {type(name).__name__}"
            raise InvalidValue("what a node observed", found_out, "Give the registered results of polls")
        try:
            node = heard.read(name, observed)
        except InvalidValue as error:
            node = heard.as_unreached(name, error)
        if name in found:
            problem = InvalidValue(f"host {name}", "two answers are said to be its own", "Ask each host once")
            node = heard.as_unreached(name, problem)
        found[name] = node
    return [*found.values()]


def refused_answers(observed: Iterable[Observed]) -> dict[str, str]:
    """Return by host name why its answer was refused."""
    return {node.host: why for node in observed if (why := heard.why_refused(node))}
