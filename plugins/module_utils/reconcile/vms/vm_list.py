# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to a list of machines, and gives what module nebula_vm returns of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...arguments import items_of, parse_json
from ...context.context_downloads import download_context_file
from ...dataclass import replace
from ...engines.base import Engine
from ...engines.registry import open_engine
from ...errors import InvalidValue
from ...model import image_deliveries
from ...model.meeting import read_places
from ...model.specifications.template import KEYS as TEMPLATE_KEYS
from ...object_lists import doubts_of_names
from ...runner import answer_of, closing
from ...sync import Item, Result
from .. import templates
from .adoptions import Adoptions, ids_of
from .decided_list import Decided, decide, move, names_in_pools, restart, vm_items
from .destroy_limit import DestroyLimit, limit_of, machines_text, names_of_destroyed, names_text
from .move_rounds import Maintenance, Moves, Terms, read_moves
from .nodes_answers import polls_of, refused_answers
from .renames import former_names
from .restarts import Restarts, batch_of
from .vm_results import as_plans


def reconcile(
    params: Mapping[str, Any], items: Sequence[Mapping[str, Any]], refused: Sequence[Item], check_mode: bool
) -> Result:
    """Bring the catalog to the list, and return what was done, and the plans of nodes where they are asked for.
    items, refused: the items of the list, and those that are none."""
    # In check mode the module may be asked for the plans to compare.
    adopting = Adoptions(ids_of(params["adopt"]), foreseen=check_mode)
    # The names of unreadable items count as well.
    renamed = former_names(parse_json(params["vms"], "vms")) if refused else ()
    limit, restarts = limit_of(params["destroy_limit"]), Restarts(batch_of(params["restart_batch"]))
    moves = _moves_of(params, check_mode)
    to_move = read_moves(parse_json(params["moves"], "moves")) if params["moves"] is not None else None
    if params["destroy_limit_only"]:
        return _within_limit(params, items, renamed, limit)
    with closing(open_engine(params, check_mode)) as engine:
        observed = polls_of(parse_json(params["observed"], "observed") if params["observed"] else [])
        asked = (params["hosts"], params["return_plans"], params["end_given_up"])

        def work() -> Decided:
            if check_mode and params["declared"]:
                _declare(engine, params["declared"])
            if to_move is not None:
                return move(engine, to_move, observed, *asked, moves)
            if params["restart_now"]:
                return restart(engine, items, observed, *asked, restarts)
            removal = params["live_removal"]
            return decide(engine, items, observed, *asked, adopting, renamed, limit, live_removal=removal, moves=moves)

        decided, planned = _without_plans(engine.decide(work, download_context_file))
        is_round = params["restart_now"] or to_move is not None
        if not is_round:
            restarts.foretell(decided.outcomes, params["hosts"], check_mode)
        result = _result_of(params, engine, decided, planned, refused, check_mode)
        result.payload["restart_rounds"] = restarts.rounds(engine, items, decided.outcomes, params["hosts"])
        result.payload["move_rounds"] = moves.rounds(decided.moves)
        if params["begin_moves"] and not check_mode and decided.moves and _is_at_rest(result):
            wanted = decided.moves
            first, planned = _without_plans(
                engine.decide(lambda: move(engine, wanted, observed, *asked, moves), download_context_file)
            )
            begun = _result_of(params, engine, first, planned)
            result.payload["first_round"] = {**answer_of(begun, diff=True), "warnings": begun.warnings}
            result.items += [Item(item.name, changed=True) for item in begun.items if item.is_changed]
    if params["vms"] is None and len(decided.records) == 1:
        result.payload["vm"] = result.payload["vms"][0]
    return result


def _without_plans(decided: Decided) -> tuple[Decided, dict[str, Any]]:
    """Return a decision without its plans, and what is told of these, if they were asked for."""
    if decided.plans is None:
        return decided, {}
    # As text they take a part of the memory that what follows needs.
    return replace(decided, plans=None), {
        "transfers": image_deliveries.images_to_send(decided.plans, decided.heard),
        "plans": as_plans(decided.plans),
        "returning": decided.returning,
    }


def _result_of(
    params: Mapping[str, Any],
    engine: Engine,
    decided: Decided,
    planned: Mapping[str, Any],
    refused: Sequence[Item] = (),
    check_mode: bool = False,
) -> Result:
    """Return what is told of a decision, without the rounds that follow it."""
    done = vm_items(decided.outcomes, decided.moved)
    warnings = [*decided.warnings, *decided.differs, *doubts_of_names("VM", done)]
    result = Result([*refused, *done], warnings=warnings)
    lost = names_of_destroyed(decided.outcomes)
    if check_mode and lost:
        result.warnings.append(f"The disks of {machines_text(lost)} would be destroyed: {names_text(lost)}")
    result.payload = {
        **decided.shown(params["root"], check_mode),
        "changed_vms": [item.name for item in result.items if item.is_changed and item.error is None],
        "catalog": engine.catalog(),
        "restart_rounds": 0,
        "move_rounds": 0,
        "refused_answers": refused_answers(decided.heard),
        "pools": names_in_pools(engine, None if result.errors else decided.records),
        **planned,
    }
    return result


def _is_at_rest(result: Result) -> bool:
    """Return whether nothing is to be done by the plans of a list, and nothing to be reported as an error, before
    machines move."""
    quiet = not any(view["error"] or view["state"] == "DONE" for view in result.payload["vms"])
    waits = result.payload["returning"] or result.payload["refused_answers"]
    return result.payload.get("plans") == {} and not waits and quiet and not result.errors


def _moves_of(params: Mapping[str, Any], check_mode: bool) -> Moves:
    """Return how machines may move in this run."""
    places = read_places(parse_json(params["meeting_places"], "meeting_places") if params["meeting_places"] else {})
    batch = batch_of(params["move_batch"], "move_batch")
    seconds = params["move_timeout"]
    if seconds < 1:
        raise InvalidValue(
            f"nebula_move_timeout {seconds} (move_timeout of nebula_vm)", "it is no time", "Give seconds"
        )
    terms = Terms(batch, params["forks"], params["hosts"], places, seconds)
    maintenance = Maintenance(params["empty_hosts"], params["fill_hosts"], params["move_cold"])
    return Moves(terms, maintenance, check_mode)


def _within_limit(
    params: Mapping[str, Any], items: Sequence[Mapping[str, Any]], renamed: Collection[str], limit: DestroyLimit
) -> Result:
    """Raise TooManyDestroyed if the list goes beyond the limit; nothing else is found out, and nothing changed."""
    with closing(open_engine(params, check_mode=True)) as engine, engine.session():
        if params["declared"]:
            _declare(engine, params["declared"])
        decide(engine, items, [], params["hosts"], False, False, None, renamed, limit, foreseen=True)
    return Result()


def _declare(engine: Engine, text: str) -> None:
    """Take as given what earlier tasks of this run would have made. Results lack the secrets of templates; so their
    list is taken once more as nebula_template does, and what that refuses is not there for a machine."""
    declared = parse_json(text, "declared")
    given = declared.get("templates") or []
    shown = [each for each in given if isinstance(each, Mapping) and "attributes" in each]
    engine.declare({**declared, "templates": shown})
    unread = [each for each in given if each not in shown]
    items, _refused = items_of({"templates": unread}, "templates", TEMPLATE_KEYS, "template", once=True)
    templates.apply_all(engine, items)
