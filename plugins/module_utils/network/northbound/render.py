# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the rows that the northbound database is to have for what a catalog wants. Pure."""

from __future__ import annotations

from typing import Any

from ...model.logical_network import LogicalNetworks
from . import logical_routers, logical_switches, port_groups
from .desired_rows import Rows
from .ovsdb_tables import Identity


def render(catalog: str, desired: LogicalNetworks) -> dict[Identity, dict[str, Any]]:
    """Return the columns of each row, by the row's identity. What is desired has passed checks.refuse()."""
    rows = Rows(catalog)
    logical_switches.render(rows, desired)
    port_groups.render(rows, desired)
    logical_routers.render(rows, desired)
    return rows.wanted
