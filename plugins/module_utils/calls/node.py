# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_node takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..deps import respawn_if_missing
from ..hypervisors.registry import DRIVERS
from ..model import defaults
from ..reconcile.nodes import node_setup, transfer_user
from ..sync import Result

if TYPE_CHECKING:
    from ..hypervisors import shipped_with_plans

    # Its drivers make machines, or give a node back.
    SHIPPED = (shipped_with_plans,)

STATES = {"present": node_setup.present, "absent": node_setup.absent}
ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": [*STATES], "default": "present"},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        "accelerator": {"type": "str", "choices": ["auto", "kvm", "qemu"], "default": "auto"},
        "manage_services": {"type": "bool", "default": True},
        "catalog": {"type": "str"},
        "luks_secrets": {"type": "json", "no_log": True},
        "transfer": {"type": "str", "choices": [*transfer_user.CHOICES], "default": "shared"},
        "transfer_key": {"type": "str", "no_log": False},
        "mark": {"type": "str"},
        "datastores": {"type": "list", "elements": "raw", "default": []},
        "host": {"type": "str"},
        **ENGINE,
    }
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the libraries that a node of this hypervisor needs."""
    return [*DRIVERS[params["hypervisor"]].libraries, *node_setup.LIBRARIES]


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return STATES[params["state"]](params, check_mode)
