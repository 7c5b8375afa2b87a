# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_vm takes and does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..arguments import ENGINE, items_of, parse_json
from ..engines.base import Engine
from ..engines.registry import open_engine
from ..host.restricted import RESTRICTED
from ..model import defaults, deliveries
from ..model.specification import argument_spec
from ..model.specifications.template import KEYS as TEMPLATE_KEYS
from ..model.specifications.vm import KEYS
from ..reconcile import templates
from ..reconcile.vms.adoptions import Adoptions, ids_of
from ..reconcile.vms.destroying import DestroyLimit, counted, destroyed, limit_of, listed
from ..reconcile.vms.renames import formers
from ..reconcile.vms.view import (
    Decided,
    as_plans,
    decide,
    names_in_pools,
    observed_of,
    refused_answers,
    vm_items,
)
from ..runner import closing
from ..sync import Result, doubts_of_names

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        argument_spec(KEYS),
        vms={"type": "json", "no_log": True},
        hosts={"type": "list", "elements": "str"},
        observed={"type": "list", "elements": "dict"},
        end_given_up={"type": "bool", "default": False},
        destroy_limit={"type": "str", "default": defaults.DESTROY_LIMIT},
        destroy_limit_only={"type": "bool", "default": False},
        adopt={"type": "dict", "default": {}},
        safe_dirs={"type": "list", "elements": "path", "default": []},
        restricted_dirs={"type": "list", "elements": "path", "default": [*RESTRICTED]},
        validate_certs={"type": "bool", "default": True},
        timeout={"type": "int", "default": defaults.DOWNLOAD_STALL_SECONDS},
        min_speed={"type": "int", "default": defaults.DOWNLOAD_MIN_KIB_PER_SECOND},
        return_plans={"type": "bool", "default": False},
        declared={"type": "json", "no_log": True},
        **ENGINE,
    ),
    "required_one_of": [("name", "vms")],
    "mutually_exclusive": [("name", "vms")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    packed = ("context", "attributes", "inject", "owner")
    params = {**params, **{key: parse_json(params[key], key) for key in packed if params[key] is not None}}
    # In check mode the module may be asked for the plans to compare.
    adopting = Adoptions(ids_of(params["adopt"]), foreseen=check_mode)
    items, refused = items_of(params, "vms", KEYS, "VM", {"owner": params["owner"]}, once=True)
    # The names of unreadable items count as well.
    renamed = formers(parse_json(params["vms"], "vms")) if refused else ()
    limit = limit_of(params["destroy_limit"])
    if params["destroy_limit_only"]:
        return _within_limit(params, items, renamed, limit)
    with closing(open_engine(params, check_mode)) as engine:
        observed = observed_of(params["observed"] or [])

        def work() -> Decided:
            if check_mode and params["declared"]:
                _declare(engine, params["declared"])
            asked = (params["hosts"], params["return_plans"], params["end_given_up"])
            return decide(engine, items, observed, *asked, adopting, renamed, limit)

        decided = engine.decide(work)
        done = vm_items(decided.outcomes, decided.moved)
        warnings = [*decided.warnings, *decided.differs, *doubts_of_names("VM", done)]
        result = Result([*refused, *done], warnings=warnings)
        lost = destroyed(decided.outcomes)
        if check_mode and lost:
            result.warnings.append(f"The disks of {counted(lost)} would be destroyed: {listed(lost)}")
        result.payload = {
            **decided.shown(params["root"], check_mode),
            "changed_vms": [item.name for item in result.items if item.is_changed and item.error is None],
            "catalog": engine.catalog(),
            "refused_answers": refused_answers(decided.heard),
            "pools": names_in_pools(engine, None if result.errors else decided.records),
        }
    if decided.plans is not None:
        result.payload["plans"] = as_plans(decided.plans)
        result.payload["transfers"] = deliveries.lacking(decided.plans, decided.heard)
        result.payload["returning"] = decided.returning
    if params["vms"] is None and len(decided.records) == 1:
        result.payload["vm"] = result.payload["vms"][0]
    return result


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
