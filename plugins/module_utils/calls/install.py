# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_install takes and does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE, items_of, parse_json
from ..deps import respawn_if_missing
from ..engines.registry import open_engine
from ..install import next_step, steps
from ..install.installation import Settings
from ..model.answers import installations, verified_guests
from ..model.specifications.install import KEYS
from ..reconcile.vms.nodes_answers import polls_of, refused_answers
from ..runner import closing
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import datastores, hosts, images, networks, templates, vms

    # Of the engine it uses these.
    SHIPPED = (datastores, hosts, images, networks, templates, vms)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        installs={"type": "json", "no_log": True, "required": True},
        state={"type": "str", "choices": [*steps.STATES], "default": "begun"},
        only={"type": "list", "elements": "str"},
        answers={"type": "json", "no_log": True},
        observed={"type": "list", "elements": "dict"},
        waited={"type": "list", "elements": "dict"},
        verified={"type": "list", "elements": "dict"},
        until={"type": "str", "choices": [*next_step.DUE_AFTER], "default": "verified"},
        # From the action plugin: where ISOs are on the control node, and what they are.
        _local={"type": "json"},
        **ENGINE,
    )
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    return ["pycdlib"] if params["state"] == "prepared" else []


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    if check_mode and params["state"] not in ("begun", "shown"):
        reason = f"state {params['state']} has nothing to act on in check mode"
        return Result(payload={"skipped": True, "msg": reason})
    items, refused = items_of(params, "installs", KEYS, "install")
    only = params["only"]
    if only is not None:
        items = [item for item in items if str(item["name"]) in only]
        refused = [item for item in refused if item.name in only]
    observed = polls_of(params["observed"] or [])
    ends, refused_ends = installations.read(params["waited"] or [])
    guests, refused_guests = verified_guests.read(params["verified"] or [])
    settings = Settings(
        check_mode=check_mode,
        root=params["root"],
        answers=parse_json(params["answers"] or "{}", "answers"),
        local=parse_json(params["_local"] or "{}", "_local"),
        observed=observed,
        waited=ends,
        verified=guests,
        refused={**refused_answers(observed), **refused_ends, **refused_guests},
        now=int(time.time()),
        until=params["until"],
    )
    with closing(open_engine(params, check_mode)) as engine:
        outcome = steps.run(engine, params["state"], items, settings)
        catalog = engine.catalog()
    result = outcome.result(settings, refused, complain=params["state"] != "shown")
    result.payload["catalog"] = catalog
    return result
