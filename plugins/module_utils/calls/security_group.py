# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_security_group takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.specifications.security_group import KEYS
from ..object_lists import ObjectList, one_by_one
from ..reconcile.logical_networks import UNKNOWN
from ..reconcile.security_groups import apply
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import networks, security_groups

    # Of the engine it uses these.
    SHIPPED = (networks, security_groups)

SECURITY_GROUPS = ObjectList("security group", "security_groups", KEYS, UNKNOWN)
ARGUMENTS = SECURITY_GROUPS.arguments()


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return SECURITY_GROUPS.run(params, check_mode, one_by_one(apply))
