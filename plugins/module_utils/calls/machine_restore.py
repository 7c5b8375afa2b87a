# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_machine_restore takes and does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..deps import respawn_if_missing
from ..errors import NebulaError
from ..hypervisors.registry import DRIVERS
from ..model import defaults
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import datastores, hosts, images, networks, security_groups, templates, vms
    from ..hypervisors import shipped_with_plans

    # Of the engine it uses these; its drivers look at machines whose disks are restored.
    SHIPPED = (datastores, hosts, images, networks, security_groups, templates, vms, shipped_with_plans)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["listed", "planned", "imported", "present"], "default": "present"},
        "name": {"type": "str"},
        "backup": {"type": "str", "default": "latest"},
        "directory": {"type": "path", "default": defaults.MACHINE_BACKUPS},
        "backups_datastore": {"type": "str"},
        "at": {"type": "str", "choices": ["frontend", "node"], "default": "frontend"},
        "disks": {"type": "list", "elements": "int"},
        "image": {"type": "str"},
        "image_type": {"type": "str", "choices": ["OS", "DATABLOCK"]},
        "persistent": {"type": "bool", "default": False},
        "datastore": {"type": "str"},
        "new_name": {"type": "str"},
        "new_host": {"type": "str"},
        "new_state": {"type": "str", "choices": ["running", "poweroff"], "default": "running"},
        "networks": {"type": "dict"},
        "security_groups": {"type": "dict"},
        "key": {"type": "str", "no_log": True},
        "secrets": {"type": "json", "no_log": True},
        "item": {"type": "json", "no_log": True},
        "frontend": {"type": "str", "default": ""},
        "frontend_acts": {"type": "bool", "default": False},
        "forks": {"type": "int", "default": defaults.FORKS},
        "meeting_places": {"type": "json"},
        "images": {"type": "json"},
        "request": {"type": "json", "no_log": True},
        "luks_secrets": {"type": "json", "no_log": True},
        "safe_dirs": {"type": "list", "elements": "path", "default": []},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        **ENGINE,
    },
    "required_if": [
        ("state", "present", ["request"]),
        ("state", "imported", ["images"]),
        ("state", "planned", ["name"]),
    ],
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the libraries that this call needs."""
    if params["state"] != "present" or _is_of_other_host(params):
        return []
    return list(DRIVERS[params["hypervisor"]].libraries)


def _is_of_other_host(params: Mapping[str, Any]) -> bool:
    from ..reconcile.nodes import node_restores

    try:
        return node_restores.is_of_other_host(node_restores.request_of(params))
    except NebulaError:
        # What is wrong with the option is told when it is read again.
        return False


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    # Imported where it is used: the front-end decides, and hosts act.
    if params["state"] == "present":
        from ..reconcile.nodes import node_restores

        return node_restores.restore(params, check_mode)
    from ..reconcile import machine_restores

    if params["state"] == "imported":
        return machine_restores.imported(params, lambda items, use: _store(params, items, use, check_mode), check_mode)
    return {"listed": machine_restores.listed, "planned": machine_restores.planned}[params["state"]](params)


def _store(
    params: Mapping[str, Any], items: Sequence[Mapping[str, Any]], use: Mapping[str, str], check_mode: bool
) -> Result:
    """Store images as module nebula_image does. use: by image, the upload that stands for its path."""
    from . import image

    given = {
        **{name: option.get("default") for name, option in image.ARGUMENTS["argument_spec"].items()},
        **{name: params[name] for name in ("root", "engine")},
        "images": json.dumps(items),
        "_upload": json.dumps({"use": use}),
        "safe_dirs": [*params["safe_dirs"], params["directory"]],
    }
    return image.run(given, check_mode)
