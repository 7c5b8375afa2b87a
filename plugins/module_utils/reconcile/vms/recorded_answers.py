# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in the catalog what nodes have answered to their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import ForeignObject, InvalidValue
from ...model import image_deliveries
from ...model.answers import outcomes as carried_out
from ...model.move import HAS_STAYED
from ...model.object_ids import id_of
from ...model.plan import Observed, VmOutcome
from ...printable import printable
from ...sync import Item, Result
from .nodes_answers import refused_answers
from .vm_results import vm_view


def record(
    engine: Engine, root: str, ids: Sequence[int], observed: Sequence[Observed], answers: Mapping[str, Any]
) -> Result:
    """Record what nodes have answered, and return how the machines are then.
    ids: machines that are shown, beside those that changed.
    observed: what polls have found.
    answers: by host, the results of its plan."""
    moved: dict[int, VmRecord] = {}
    notes: dict[int, tuple[str, ...]] = {}
    stayed_off: set[int] = set()
    with engine.session():
        before = {id_of(each): each for each in engine.vms.pool(ids=ids)}
        refused = refused_answers(observed)
        for each in engine.vms.observe(observed):
            moved[id_of(each)] = each
        for host, answer in answers.items():
            try:
                outcomes = carried_out.read(host, answer or {})
                records = engine.vms.record(host, outcomes, carried_out.done_number(host, answer))
                notes.update({each.vm_id: each.notes for each in outcomes or () if each.notes})
                stayed_off.update(each.vm_id for each in outcomes or () if _stayed_off(each))
            except (InvalidValue, ForeignObject) as error:
                refused[host] = str(error)
                records = engine.vms.record(host, None)
            for each in records:
                moved[id_of(each)] = each
        shown = {id_of(each): each for each in engine.vms.pool(ids=ids)}
        returning = image_deliveries.has_images_to_fetch(engine.images.pool())
    shown.update(moved)
    items = [_item(before.get(vm_id), each) for vm_id, each in moved.items()]
    payload = {
        "vms": [vm_view(shown[vm_id], root) for vm_id in sorted(shown) if shown[vm_id].state != "DONE"],
        "returning": returning,
        "refused_answers": refused,
        "failed_vms": [_failed(each) for each in shown.values() if each.error],
        "stopping_vms": [
            _failed(each)
            for vm_id, each in shown.items()
            if each.error and not (vm_id in stayed_off and _is_switched_off(each))
        ],
        "unfinished_vms": [
            printable(f"VM {each.name} (id {vm_id}): {note}")
            for vm_id, each in shown.items()
            for note in notes.get(vm_id, ())
        ],
    }
    return Result(items, payload, [*refused.values()])


def _failed(record: VmRecord) -> str:
    return printable(f"VM {record.name} (id {record.id}) is {record.state}: {record.error}")


def _stayed_off(outcome: VmOutcome) -> bool:
    """Return whether a machine did not move by what its host says, and is off there."""
    return outcome.moved == HAS_STAYED and outcome.state == "POWEROFF"


def _is_switched_off(record: VmRecord) -> bool:
    """Return whether a machine that is off where it was to move from is so by itself: nothing keeps others from moving.
    One that was powered off for its move is to be started again, which is another decision."""
    return record.settled and (record.state, record.wanted) == ("POWEROFF", "RUNNING")


def _item(before: VmRecord | None, after: VmRecord) -> Item:
    was = {"state": before.state if before else ""}
    now = {"state": after.state, "error": after.error}
    if before is not None and before.host != after.host:
        was["host"], now["host"] = before.host, after.host
    return Item(after.name, was, now, changed=True)
