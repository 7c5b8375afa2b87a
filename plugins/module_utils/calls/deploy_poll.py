# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_deploy takes, and how it polls; a look takes this, without what carries plans out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, PROGRESS
from ..deps import respawn_if_missing
from ..host.restricted_directories import RESTRICTED
from ..hypervisors.registry import DRIVERS
from ..model import defaults
from ..reconcile.nodes.node_polls import driver_if_there, poll_node
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["polled", "applied", "audited", "compared"], "default": "polled"},
        "plan": {"type": "json", "no_log": True},
        "host": {"type": "str", "required": True},
        "catalog": {"type": "str"},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        "detach_timeout": {"type": "int", "default": defaults.DETACH_SECONDS},
        "threads": {"type": "int", "default": 0},
        "safe_dirs": {"type": "list", "elements": "path", "default": []},
        "restricted_dirs": {"type": "list", "elements": "path", "default": [*RESTRICTED]},
        **ENGINE,
        **PROGRESS,
    },
    "required_if": [("state", "applied", ["plan"]), ("state", "compared", ["plan"])],
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the libraries that this call needs."""
    builds = params["state"] in ("applied", "compared")
    return [*DRIVERS[params["hypervisor"]].libraries, *(["pycdlib"] if builds else [])]


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    with driver_if_there(params["hypervisor"], check_mode) as driver:
        return poll_node(params, driver, check_mode)
