# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_datastore takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.specifications.datastore import KEYS
from ..object_lists import ObjectList, one_by_one
from ..reconcile.datastores import apply
from ..storage.datastore_layout import prepare_root
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import datastores, hosts

    # Of the engine it uses these.
    SHIPPED = (datastores, hosts)

UNKNOWN = {"id": None, "path": "", "free": None, "total": None}
DATASTORES = ObjectList("datastore", "datastores", KEYS, UNKNOWN)
ARGUMENTS = DATASTORES.arguments(nodes={"type": "list", "elements": "str", "default": []})


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    root = params["root"]
    if not check_mode:
        prepare_root(root)
    nodes = params["nodes"]
    return DATASTORES.run(
        params, check_mode, one_by_one(lambda engine, item: apply(engine, item, root, check_mode, nodes))
    )
