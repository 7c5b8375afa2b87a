# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_host takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..engines.registry import open_engine
from ..hypervisors.access import CONSOLES
from ..model.specification import argument_spec
from ..model.specifications.host import KEYS
from ..reconcile.host_identity import Identities
from ..reconcile.hosts import apply
from ..runner import closing
from ..sync import Result, doubts_of_names

_SPEC = dict(
    argument_spec(KEYS),
    hosts={"type": "list", "elements": "raw"},
    nodes={"type": "list", "elements": "str", "default": []},
    **ENGINE,
)
# The drivers' names. The drivers themselves stay where they are: a front-end has no use for them.
_SPEC["hypervisor"]["choices"] = sorted(CONSOLES)
ARGUMENTS: dict[str, Any] = {
    "argument_spec": _SPEC,
    "required_one_of": [("name", "hosts")],
    "mutually_exclusive": [("name", "hosts")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    items, refused = items_of(params, "hosts", KEYS, "host", once=True)
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            identities = Identities(engine, items, params["nodes"])
            result = Result([*refused, *(apply(engine, item, identities) for item in items)])
            identities.clones()
            result.warnings = identities.warnings + doubts_of_names("host", result.items)
            if check_mode:
                # In check mode the id is rolled back, so it is not reported.
                for item in result.items:
                    if item.before is None and item.after is not None:
                        item.after = {**item.after, "id": None}
                    elif item.before and item.after and item.before["name"] != item.after["name"]:
                        # Later tasks of the run take it as renamed.
                        item.after = {**item.after, "renamed_from": item.before["name"]}
        views = [item.after for item in result.items if item.after is not None]
        freed = [address for item in result.items for address in (item.before or {}).get("freed", ())]
        result.payload = {"hosts": views, "freed": freed, "catalog": engine.catalog()}
    if params["hosts"] is None and views:
        result.payload["host"] = views[0]
    return result
