# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_vm_record takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE, parse_json
from ..engines.registry import open_engine
from ..reconcile.vms.nodes_answers import polls_of
from ..reconcile.vms.recorded_answers import record
from ..runner import closing
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import images, vms

    # Of the engine it uses these.
    SHIPPED = (images, vms)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        outcomes={"type": "json", "no_log": True},
        observed={"type": "list", "elements": "dict"},
        ids={"type": "list", "elements": "int"},
        **ENGINE,
    )
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    answers = parse_json(params["outcomes"], "outcomes") if params["outcomes"] else {}
    with closing(open_engine(params, check_mode)) as engine:
        return record(engine, params["root"], params["ids"] or [], polls_of(params["observed"] or []), answers)
