# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the rows that the northbound database is to have for what a catalog wants. Pure."""

from __future__ import annotations

from typing import Any

from ...model.logical_network import LogicalNetworks
from . import groups, routers, switches
from .rows import Rows
from .tables import Identity


def rendered(catalog: str, desired: LogicalNetworks) -> dict[Identity, dict[str, Any]]:
    """Return the columns of each row, by the row's identity. What is desired has passed checks.refuse()."""
    rows = Rows(catalog)
    switches.render(rows, desired)
    groups.render(rows, desired)
    routers.render(rows, desired)
    return rows.wanted
