# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_network takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.specifications.network import KEYS
from ..object_lists import ObjectList
from ..reconcile import network_lists
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import hosts, networks, routers, security_groups

    # Of the engine it uses these.
    SHIPPED = (hosts, networks, routers, security_groups)

NETWORKS = ObjectList("network", "networks", KEYS, unknown={})
ARGUMENTS = {
    **NETWORKS.arguments(
        undo={"type": "list", "elements": "dict"},
        with_security_groups={"type": "list", "elements": "raw", "default": []},
        with_routers={"type": "list", "elements": "raw", "default": []},
        inner_mtus={"type": "dict", "default": {}},
    ),
    "required_one_of": [("name", "template", "networks", "undo")],
    "mutually_exclusive": [("name", "networks", "undo"), ("template", "networks", "undo")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    if params["undo"] is not None:
        return network_lists.undo(params, check_mode)
    items, refused = NETWORKS.items(params)
    return network_lists.reconcile(params, items, refused, check_mode)
