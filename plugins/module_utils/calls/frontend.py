# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_frontend takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE
from ..reconcile import frontends
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import catalog_checks, hosts, images, vms

    # Of the engine it uses these.
    SHIPPED = (hosts, images, catalog_checks, vms)

STATES = {"present": frontends.present, "repaired": frontends.repair, "absent": frontends.absent}
ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": [*STATES], "default": "present"},
        "local": {"type": "bool", "default": False},
        "allow_ephemeral": {"type": "bool", "default": False},
        "transfer_key": {"type": "bool", "default": False},
        "nodes": {"type": "list", "elements": "str", "default": []},
        **ENGINE,
    }
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return STATES[params["state"]](params, check_mode)
