# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_ovn takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..deps import respawn_if_missing
from ..reconcile import ovn_northbound

if TYPE_CHECKING:
    from ..engines.shipped import hosts, networks

    # Of the engine it uses these.
    SHIPPED = (hosts, networks)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        northbound={"type": "list", "elements": "str"},
        private_key={"type": "path"},
        certificate={"type": "path"},
        ca_certificate={"type": "path"},
        southbound={"type": "list", "elements": "str"},
        southbound_certificate={"type": "path"},
        southbound_ca_certificate={"type": "path"},
        inner_mtus={"type": "dict", "default": {}},
        userspace_hosts={"type": "list", "elements": "str"},
        state={"type": "str", "default": "present", "choices": ["present", "absent", "audited"]},
        **ENGINE,
    ),
    "required_together": [
        ("private_key", "certificate", "ca_certificate"),
        ("southbound_certificate", "southbound_ca_certificate"),
    ],
}


def libraries(_params: Mapping[str, Any]) -> list[str]:
    return ["ovs"]


respawn = respawn_if_missing


run = ovn_northbound.reconcile
