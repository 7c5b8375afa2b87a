# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_transfer takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..engines.registry import open_engine
from ..reconcile import transfers
from ..reconcile.vms.nodes_answers import polls_of
from ..runner import closing
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import images

    # Of the engine it uses these.
    SHIPPED = (images,)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        state={"type": "str", "choices": ["sent", "fetched"], "required": True},
        transfers={"type": "dict"},
        observed={"type": "list", "elements": "dict"},
        hosts={"type": "dict", "required": True},
        **ENGINE,
    ),
    "required_if": [("state", "sent", ["transfers"]), ("state", "fetched", ["observed"])],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    if params["state"] == "sent":
        return transfers.send(params["root"], params["transfers"], params["hosts"], check_mode)
    with closing(open_engine(params, check_mode)) as engine:
        observed = polls_of(params["observed"])
        return transfers.fetch(engine, params["root"], observed, params["hosts"], check_mode)
