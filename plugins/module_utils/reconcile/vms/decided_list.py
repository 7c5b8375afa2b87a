# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides a list of machines after what nodes say, and shows what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass, replace
from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...model import image_deliveries
from ...model.dataclass_json import to_plain
from ...model.image import Image
from ...model.object_ids import id_of
from ...model.plan import GivenUp, Observed, Plan
from ...model.waiting_changes import RESTARTED
from ...sync import Item
from ..host_identity import without_second_names
from .adoptions import Adoptions
from .destroy_limit import DestroyLimit, names_of_destroyed
from .move_rounds import Moves, WantedMove
from .nodes_answers import refused_answers
from .restarts import Restarts
from .vm_list_decision import reconcile
from .vm_outcome import Difference, Outcome
from .vm_results import open_consoles, vm_view, warnings_of_given_up

# The fields of a machine by which users see whether it changed.
_SHOWN = ("state", "wanted", "host", "cpu", "vcpu", "memory", "template", "error")


@dataclass(frozen=True)
class Decided:
    """Holds what came of a list.
    moved: machines as they are after what the nodes said
    plans: by host; None if they were not asked for
    returning: whether files of images are on their way back
    heard: what the nodes answered, as far as it is believed
    moves: machines that are to move to other hosts, in the rounds that follow"""

    moved: list[VmRecord]
    outcomes: list[Outcome]
    warnings: list[str]
    given_up: list[GivenUp]
    plans: Mapping[str, Plan] | None
    returning: bool
    heard: Sequence[Observed] = ()
    moves: Sequence[WantedMove] = ()

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
            "moves": [each.view() for each in self.moves],
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
    live_removal: bool = False,
    moves: Moves | None = None,
) -> Decided:
    """Record what the nodes say, then decide the list, within a decision. formers and what follows: see reconcile().
    moves: tells which machines are to move to other hosts; None if nobody asks."""
    moving = list[WantedMove]()

    def work(there: Sequence[str] | None) -> tuple[list[Outcome], list[str]]:
        outcomes, warnings = reconcile(engine, items, there, adopting, formers, limit, foreseen, live_removal)
        if moves is not None:
            moving.extend(moves.among(there).foresee(engine, outcomes))
        return outcomes, warnings

    return replace(_decided(engine, work, observed, hosts, with_plans, end_given_up), moves=moving)


def restart(
    engine: Engine,
    items: Sequence[Mapping[str, Any]],
    observed: Sequence[Observed],
    hosts: Sequence[str] | None,
    with_plans: bool,
    end_given_up: bool,
    restarts: Restarts,
) -> Decided:
    """Record what the nodes say, then order the next restarts of machines that wait for their next start."""

    def work(there: Sequence[str] | None) -> tuple[list[Outcome], list[str]]:
        return restarts.begin(engine, items, there)

    return _decided(engine, work, observed, hosts, with_plans, end_given_up)


def move(
    engine: Engine,
    wanted: Sequence[WantedMove],
    observed: Sequence[Observed],
    hosts: Sequence[str] | None,
    with_plans: bool,
    end_given_up: bool,
    moves: Moves,
) -> Decided:
    """Record what the nodes say, then have the machines of one round move. There are plans for the hosts alone that
    take part: both of a move have to act at the same time."""
    taking_part = list[str]()

    def work(there: Sequence[str] | None) -> tuple[list[Outcome], list[str]]:
        outcomes, taking_part[:] = moves.among(there).begin(engine, wanted)
        return outcomes, []

    terms = {"places": moves.terms.places, "move_seconds": moves.terms.seconds}
    return _decided(engine, work, observed, hosts, with_plans, end_given_up, taking_part, **terms)


def _decided(
    engine: Engine,
    work: Callable[[Sequence[str] | None], tuple[list[Outcome], list[str]]],
    observed: Sequence[Observed],
    hosts: Sequence[str] | None,
    with_plans: bool,
    end_given_up: bool,
    only: Sequence[str] | None = None,
    **terms: Any,
) -> Decided:
    """Return what came of the work. only: hosts that plans are made for, once the work is done; None for all. terms: of
    these plans."""
    observed = engine.hosts.check(observed)
    observed, second = without_second_names(engine, observed)
    if second:
        # A plan under the second name would not reach the machines of the first.
        named = hosts if hosts is not None else [host.name for host in engine.hosts.pool()]
        hosts = [name for name in named if name not in second]
    moved = engine.vms.observe(observed)
    given_up = engine.vms.given_up()
    outcomes, warnings = work(hosts)
    warnings += [f"host {name}: {why}. Nothing was done under the name {name}" for name, why in second.items()]
    warnings += map(str, engine.networks.spread_out())
    warnings += warnings_of_given_up(given_up, end_given_up, hosts)
    if only is not None:
        hosts = [name for name in only if hosts is None or name in hosts]
    plans = engine.vms.plans(hosts, end_given_up, **terms) if with_plans else None
    returning = plans is not None and image_deliveries.has_images_to_fetch(engine.images.pool(), observed)
    warnings += open_consoles(engine, observed)
    warnings += refused_answers(observed).values()
    return Decided(list(moved), outcomes, warnings, list(given_up), plans, returning, observed)


def vm_items(outcomes: Sequence[Outcome], moved: Iterable[VmRecord] = ()) -> list[Item]:
    """Return what a run did to each machine, for changed and diff."""
    items = [Item(outcome.name, *_sides(outcome), outcome.error, changed=_is_changed(outcome)) for outcome in outcomes]
    known = {item.name for item in items}
    items.extend(Item(r.name, {"state": ""}, _shown(r)) for r in moved if r.name not in known)
    return items


def _is_changed(outcome: Outcome) -> bool:
    if outcome.before != outcome.after or outcome.moves is not None:
        return True
    return any(each.when == RESTARTED for each in outcome.parts)


def _sides(outcome: Outcome) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    before, after = _shown(outcome.before), _shown(outcome.after)
    if after is not None and outcome.saves:
        after["saved_as"] = [_saved(number, image) for number, image in sorted(outcome.saves.items())]
    if outcome.before is None or outcome.after is None or before is None or after is None:
        return before, after
    if outcome.before.name != outcome.after.name:
        before["name"], after["name"] = outcome.before.name, outcome.after.name
    if outcome.parts:
        before["changed"] = _by_part((each.part, each.found) for each in outcome.parts)
        after["changed"] = _by_part(
            (each.part, ", ".join(filter(None, (each.wanted, each.when)))) for each in outcome.parts
        )
    elif outcome.changes:
        before["changed"] = {change.attribute: change.old for change in outcome.changes}
        # Two secrets are shown alike.
        after["changed"] = {
            change.attribute: change.new if change.new != change.old else f"{change.new}, another"
            for change in outcome.changes
        }
    if outcome.moves is not None:
        target, way, size = (outcome.moves[key] for key in ("target", "way", "size"))
        after["host"] = f"{target or 'another'}, {way}, with at most {size} MiB copied"
    if outcome.differences:
        # What is left as it is, with what it waits for; what is changed of the same attribute has lines of its own.
        for side in (before, after):
            side.setdefault("changed", {})
        for each in outcome.differences:
            before["changed"].setdefault(each.attribute, each.found)
            after["changed"].setdefault(each.attribute, f"{each.wanted}, not until {each.until}")
    elif before == after and outcome.before != outcome.after:
        # A reboot ends in the state in which it began.
        before["generation"], after["generation"] = outcome.before.generation, outcome.after.generation
    return before, after


def _by_part(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the texts by part. Of one device some may come at once, and some later; two that come may be called the
    same."""
    found: dict[str, str] = {}
    for part, text in texts:
        found[part] = f"{found[part]}; {text}" if part in found else text
    return found


def _shown(record: VmRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    shown = {key: getattr(record, key) for key in _SHOWN}
    shown["nics"] = [{key: nic[key] for key in ("network", "ip", "mac")} for nic in record.nics]
    if record.nic_aliases:
        shown["nic_aliases"] = [{key: each[key] for key in ("parent", "network", "ip")} for each in record.nic_aliases]
    shown.update({key: getattr(record, key) for key in ("moving", "away") if getattr(record, key)})
    shown["disks"] = [{key: disk[key] for key in ("disk_id", "image", "target", "size")} for disk in record.disks]
    return shown


def _saved(number: int, image: Image) -> dict[str, Any]:
    """Return what is known of the new image of a disk before the disk is saved."""
    shown = {"image": image.name, "type": image.type.name, "format": image.format, "size": image.size}
    return {"disk_id": number, **shown, "description": image.description}


def difference_view(difference: Difference) -> dict[str, Any]:
    """Return a difference as results show it."""
    keys = ("name", "id", "host", "attribute", "found", "wanted", "remedy", "sentence")
    return {key: getattr(difference, key) for key in keys}


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
