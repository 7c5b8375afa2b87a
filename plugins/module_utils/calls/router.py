# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_router takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.specifications.router import KEYS
from ..object_lists import ObjectList, one_by_one
from ..reconcile.logical_networks import UNKNOWN
from ..reconcile.routers import apply
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import hosts, networks, routers

    # Of the engine it uses these.
    SHIPPED = (hosts, networks, routers)

ROUTERS = ObjectList("router", "routers", KEYS, UNKNOWN)
ARGUMENTS = ROUTERS.arguments()


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return ROUTERS.run(params, check_mode, one_by_one(apply))
