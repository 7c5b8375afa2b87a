# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_host takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..hypervisors.console_access import CONSOLES
from ..model.specifications.host import KEYS
from ..object_lists import ObjectList
from ..reconcile.hosts import apply_all, freed_addresses
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import hosts, vms

    # Of the engine it uses these.
    SHIPPED = (hosts, vms)

HOSTS = ObjectList("host", "hosts", KEYS, unknown={"id": None})
ARGUMENTS = HOSTS.arguments(nodes={"type": "list", "elements": "str", "default": []})
# The drivers' names. The drivers themselves stay where they are: a front-end has no use for them.
ARGUMENTS["argument_spec"]["hypervisor"]["choices"] = sorted(CONSOLES)


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    result = HOSTS.run(params, check_mode, lambda engine, items: apply_all(engine, items, params["nodes"]))
    result.payload["freed"] = freed_addresses(result.items)
    return result
