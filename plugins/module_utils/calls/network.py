# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_network takes and does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..arguments import ENGINE, items_of
from ..engines.base import Engine
from ..engines.registry import open_engine
from ..errors import InvalidValue
from ..model.reader import typed
from ..model.specification import argument_spec
from ..model.specifications.network import KEYS
from ..reconcile.networks import apply_all, undo_all
from ..runner import closing
from ..sync import Item, Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        argument_spec(KEYS),
        networks={"type": "list", "elements": "raw"},
        undo={"type": "list", "elements": "dict"},
        **ENGINE,
    ),
    "required_one_of": [("name", "template", "networks", "undo")],
    "mutually_exclusive": [("name", "networks", "undo"), ("template", "networks", "undo")],
}


# What is read of a network that is to go.
REMOVAL = {"absent": ("name", "template", "state")}


def checked(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the list with the types that the same options have outside it."""
    # The items are unchecked here: a name that YAML read as a number is refused later, with the errors of the others.
    return typed(item, KEYS, f"network {item.get('name') or '?'}", as_given=("name", "template"), removal=REMOVAL)


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    if params["undo"] is not None:
        return answered(params, check_mode, lambda engine: undo_all(engine, params["undo"], check_mode))
    given_items, refused = items_of(params, "networks", KEYS, "network", once=True)
    items = []
    for item in given_items:
        try:
            items.append(item if params["networks"] is None else checked(item))
        except InvalidValue as error:
            refused.append(Item(str(item.get("name") or "?"), error=error, changed=False))
    result = answered(params, check_mode, lambda engine: apply_all(engine, items, check_mode), refused)
    if params["networks"] is None and result.payload["networks"]:
        result.payload["network"] = result.payload["networks"][0]
    return result


def answered(
    params: Mapping[str, Any],
    check_mode: bool,
    work: Callable[[Engine], tuple[list[Item], list[dict[str, Any]], list[str]]],
    refused: Sequence[Item] = (),
) -> Result:
    """Return the result of this work: what it did, each network as it is then, and warnings."""
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            done, views, warnings = work(engine)
            known = [network.uuid for network in engine.networks.pool()]
            # The time is read within the transaction: of two runs, the one with the newer data has the later time.
            as_of = time.time()
        payload = {"networks": views, "known": known, "as_of": as_of, "catalog": engine.catalog()}
    there = [item for item in done if item.error is None and item.after is not None]
    payload["earlier"] = {item.name: item.before for item in there if item.is_changed}
    return Result(items=[*refused, *done], payload=payload, warnings=warnings)
