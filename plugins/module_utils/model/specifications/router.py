# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of routers may say; made from router.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True),
    "description": Key(changes="always"),
    "interfaces": Key(
        type="list",
        elements="dict",
        changes="always",
        near=("networks", "subnets"),
        options={
            "network": Key(required=True),
            "ip": Key(near=("address",)),
        },
    ),
    "gateway": Key(
        type="dict",
        changes="always",
        near=("external", "external_gateway"),
        options={
            "network": Key(),
            "ip": Key(near=("address",)),
            "snat": Key(type="bool"),
            "next_hop": Key(near=("gateway",)),
            "hosts": Key(type="list", elements="str", near=("chassis", "nodes")),
        },
    ),
    "floating": Key(
        type="list",
        elements="dict",
        changes="always",
        near=("floating_ips", "floatingips"),
        options={
            "ip": Key(near=("address",)),
            "vm": Key(near=("machine", "to", "server")),
            "network": Key(),
            "distributed": Key(type="bool"),
        },
    ),
    "routes": Key(
        type="list",
        elements="dict",
        changes="always",
        options={
            "destination": Key(required=True),
            "next_hop": Key(required=True),
        },
    ),
    "state": Key(choices=("present", "absent"), default="present", empty=True),
}
