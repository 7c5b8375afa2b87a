# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a catalog wants, as rows: what leads where."""

from __future__ import annotations

from collections import Counter

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import LogicalNetworks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import (
    CHILDREN,
    ROOTS,
    TABLES,
    WEAK,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.render import render
from ansible_collections.nebula.provision.tests.integration.northbound_world import CATALOG, desired


def test_nothing_wants_nothing():
    assert render(CATALOG, LogicalNetworks()) == {}


def test_each_row_has_columns_of_its_table_and_hangs_on_one_other():
    rows = render(CATALOG, desired)
    parents = Counter(
        member for row, columns in rows.items() for column in columns if (row.table, column) in CHILDREN
        for member in columns[column]
    )  # fmt: skip
    for row, columns in rows.items():
        assert columns.keys() - {"external_ids"} <= TABLES[row.table].keys(), row
        assert columns["external_ids"].items() >= row.marks.items()
        # One that hangs on nothing vanishes without a word.
        assert parents[row] == (0 if row.table in ROOTS else 1), row
        for column, value in columns.items():
            if (row.table, column) in CHILDREN | WEAK:
                assert value <= rows.keys()


def test_how_many_of_each_there_are():
    counts = Counter(row.table for row in render(CATALOG, desired))
    assert counts == {
        "Logical_Switch": 3,
        "Logical_Switch_Port": 5 + 1 + 2,
        "DHCP_Options": 2,
        "DNS": 2,
        "Logical_Router": 1,
        "Logical_Router_Port": 2,
        "Gateway_Chassis": 1,
        "NAT": 2,
        "Logical_Router_Static_Route": 1,
        "Logical_Router_Policy": 1,
        "Port_Group": 2 + 1,
        "Address_Set": 2,
        "ACL": 3 + 1 + 5 + 4 + 4,
    }


def test_the_order_of_what_is_wanted_does_not_matter():
    turned = LogicalNetworks(*(tuple(reversed(each)) for each in
                               (desired.networks, desired.ports, desired.groups, desired.routers)))  # fmt: skip
    assert render(CATALOG, turned) == render(CATALOG, desired)
