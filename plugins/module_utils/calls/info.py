# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_info takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..reconcile import gather
from ..sync import Result
from ..text.packed_json import pack

if TYPE_CHECKING:
    from ..engines.shipped import (
        catalog_checks,
        datastores,
        hosts,
        images,
        networks,
        routers,
        security_groups,
        templates,
        vms,
    )

    # Of the engine it uses these.
    SHIPPED = (datastores, hosts, images, catalog_checks, networks, routers, security_groups, templates, vms)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        gather={
            "type": "list",
            "elements": "str",
            "choices": [*gather.GATHERERS, "consistency"],
            "default": ["hosts", "images", "networks", "vms"],
        },
        vms={"type": "list", "elements": "str"},
        done={"type": "bool", "default": False},
        observed={"type": "list", "elements": "dict"},
        deep={"type": "bool", "default": False},
        _packed={"type": "bool", "default": False},
        **ENGINE,
    )
}


def run(params: Mapping[str, Any], _check_mode: bool) -> Result:
    result = gather.gather(params)
    if params["_packed"]:
        result.payload = {"packed": pack(result.payload)}
    return result
