# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_deploy takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..sync import Result
from . import deploy_poll
from .deploy_poll import ARGUMENTS, libraries, respawn

if TYPE_CHECKING:
    from ..hypervisors import shipped_with_plans

    # Its drivers make machines.
    SHIPPED = (shipped_with_plans,)

__all__ = ("ARGUMENTS", "libraries", "respawn", "run")


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    # Imported where it is used: most calls only poll.
    if params["state"] == "applied":
        from ..reconcile.nodes.node_plans import apply_plan

        return apply_plan(params, check_mode)
    if params["state"] in ("audited", "compared"):
        from ..reconcile.nodes import node_contents

        return {"audited": node_contents.audit_node, "compared": node_contents.compare_node}[params["state"]](
            params, check_mode
        )
    return deploy_poll.run(params, check_mode)
