# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_machine_backup takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE, PROGRESS
from ..deps import respawn_if_missing
from ..hypervisors.registry import DRIVERS
from ..model import defaults
from ..reconcile.nodes import node_backups
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import datastores, hosts, images, vms
    from ..hypervisors import shipped_with_plans

    # Of the engine it uses these where it chooses; its drivers read machines where it backs them up.
    SHIPPED = (datastores, hosts, images, vms, shipped_with_plans)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {
            "type": "str",
            "choices": ["present", "chosen", "verified", "pruned"],
            "default": "present",
        },
        "purpose": {"type": "str", "choices": ["present", "verified"], "default": "present"},
        "vms": {"type": "raw"},
        "owner": {"type": "str"},
        "of_hosts": {"type": "list", "elements": "str", "default": []},
        "observed": {"type": "json", "no_log": True},
        "hosts": {"type": "list", "elements": "str"},
        "frontend": {"type": "str", "default": ""},
        "frontend_acts": {"type": "bool", "default": False},
        "forks": {"type": "int", "default": defaults.FORKS},
        "meeting_places": {"type": "json"},
        "directory": {"type": "path", "default": defaults.MACHINE_BACKUPS},
        "at": {"type": "str", "choices": ["frontend", "node"], "default": "frontend"},
        "datastore": {"type": "str"},
        "full": {"type": "bool", "default": False},
        "consistency": {"type": "str", "choices": ["auto", "agent", "crash"], "default": "auto"},
        "compress": {"type": "bool", "default": True},
        "encrypted": {"type": "bool", "default": False},
        "key": {"type": "str", "no_log": True},
        "rate": {"type": "int", "default": 0},
        "at_once": {"type": "int", "default": defaults.BACKUPS_AT_ONCE},
        "stand_still": {"type": "bool", "default": False},
        "requests": {"type": "json", "no_log": True},
        "keep": {"type": "dict"},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        **ENGINE,
        **PROGRESS,
    },
    "required_if": [("state", state, ["requests"]) for state in ("present", "verified", "pruned")],
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the libraries that this call needs."""
    if params["state"] != "present" or not node_backups.reads_machines(params):
        return []
    return list(DRIVERS[params["hypervisor"]].libraries)


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    # Imported where it is used: the front-end chooses, and hosts read and write.
    if params["state"] == "chosen":
        from ..reconcile.backup_choice import choose

        return choose(params, check_mode)
    states = {"present": node_backups.back_up, "verified": node_backups.verify, "pruned": node_backups.prune}
    return states[params["state"]](params, check_mode)
