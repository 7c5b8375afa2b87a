# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_vm takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import parse_json
from ..host.restricted_directories import RESTRICTED
from ..model import defaults
from ..model.specifications.vm import KEYS
from ..object_lists import ObjectList
from ..reconcile.vms import vm_list
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import (
        datastores,
        hosts,
        images,
        networks,
        routers,
        security_groups,
        templates,
        vm_decisions,
        vms,
    )

    # Of the engine it uses these.
    SHIPPED = (datastores, hosts, images, networks, routers, security_groups, templates, vm_decisions, vms)

VMS = ObjectList("VM", "vms", KEYS, unknown={}, is_packed=True)
ARGUMENTS = VMS.arguments(
    hosts={"type": "list", "elements": "str"},
    observed={"type": "json", "no_log": True},
    live_removal={"type": "bool", "default": False},
    end_given_up={"type": "bool", "default": False},
    destroy_limit={"type": "str", "default": defaults.DESTROY_LIMIT},
    destroy_limit_only={"type": "bool", "default": False},
    restart_batch={"type": "str", "default": defaults.RESTART_BATCH},
    restart_now={"type": "bool", "default": False},
    moves={"type": "json"},
    begin_moves={"type": "bool", "default": False},
    move_batch={"type": "str", "default": defaults.MOVE_BATCH},
    move_timeout={"type": "int", "default": defaults.MOVE_SECONDS},
    move_cold={"type": "bool", "default": False},
    meeting_places={"type": "json"},
    forks={"type": "int", "default": defaults.FORKS},
    empty_hosts={"type": "list", "elements": "str", "default": []},
    fill_hosts={"type": "list", "elements": "str", "default": []},
    adopt={"type": "dict", "default": {}},
    safe_dirs={"type": "list", "elements": "path", "default": []},
    restricted_dirs={"type": "list", "elements": "path", "default": [*RESTRICTED]},
    validate_certs={"type": "bool", "default": True},
    timeout={"type": "int", "default": defaults.DOWNLOAD_STALL_SECONDS},
    min_speed={"type": "int", "default": defaults.DOWNLOAD_MIN_KIB_PER_SECOND},
    return_plans={"type": "bool", "default": False},
    declared={"type": "json", "no_log": True},
)


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    packed = ("context", "attributes", "inject", "owner")
    params = {**params, **{key: parse_json(params[key], key) for key in packed if params[key] is not None}}
    items, refused = VMS.items(params, {key: params[key] for key in ("owner", "restart", "move", "hotplug_slots")})
    return vm_list.reconcile(params, items, refused, check_mode)
