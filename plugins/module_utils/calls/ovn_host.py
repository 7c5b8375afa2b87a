# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_ovn_host takes and does."""

from __future__ import annotations

from typing import Any

from ..arguments import ENGINE
from ..network.ovn import openvswitch_settings, paths
from ..reconcile import ovn_host

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        name={"type": "str", "required": True},
        catalog={"type": "str", "required": True},
        southbound={"type": "str"},
        certificates={"type": "dict", "default": {}},
        private_key={"type": "path"},
        certificate={"type": "path"},
        ca_certificate={"type": "path"},
        encap_type={"type": "str", "default": "geneve", "choices": list(openvswitch_settings.OVERHEAD)},
        encap_ip={"type": "str"},
        datapath={"type": "str", "default": "system", "choices": ["system", "netdev"]},
        bridge_mappings={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "bridge": {"type": "str", "required": True},
                "network": {"type": "str"},
                "interface": {"type": "str"},
                "address": {"type": "str"},
            },
        },
        mtu={"type": "int", "default": 1442},
        restart={"type": "bool", "default": False},
        directories={"type": "dict", "options": {key: {"type": "path"} for key in paths.KEYS}},
        state={"type": "str", "default": "present", "choices": [*ovn_host.STATES]},
        **ENGINE,
    ),
    "required_if": [("state", "present", ("southbound",)), ("state", "audited", ("southbound",))],
    "required_together": [("private_key", "certificate", "ca_certificate")],
}
run = ovn_host.reconcile
