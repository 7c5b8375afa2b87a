# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_ovn_central takes and does."""

from __future__ import annotations

from typing import Any

from ..arguments import ENGINE
from ..network.ovn import central, cluster, paths
from ..reconcile import ovn_central

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        name={"type": "str", "required": True},
        catalog={"type": "str", "required": True},
        address={"type": "str"},
        ports={
            "type": "dict",
            "options": {which: {"type": "int", "default": port} for which, port in central.PORTS.items()},
            "apply_defaults": True,
        },
        cluster={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str"},
                "databases": {"type": "dict"},
                "rank": {"type": "int"},
            },
        },
        cluster_ports={
            "type": "dict",
            "options": {which: {"type": "int", "default": port} for which, port in cluster.PORTS.items()},
            "apply_defaults": True,
        },
        requests={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "kind": {"type": "str", "required": True, "choices": list(ovn_central.KINDS)},
                "request": {"type": "str", "required": True},
                "installed": {"type": "dict"},
            },
        },
        hosts={"type": "list", "elements": "str", "default": []},
        unregistered={"type": "dict", "default": {}},
        forgotten={"type": "list", "elements": "str", "default": []},
        certificate_days={"type": "int", "default": 365},
        certificates={"type": "dict", "default": {}},
        directories={"type": "dict", "options": {key: {"type": "path"} for key in paths.KEYS}},
        state={"type": "str", "default": "present", "choices": [*ovn_central.STATES]},
        **ENGINE,
    )
}
run = ovn_central.reconcile
