# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of networks as objects, and how messages name who has a lease."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks import network_rows
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.networks.conftest import ip4


def test_a_network_is_read_with_its_ranges_by_name_and_by_id(catalog):
    made = catalog.public(ip4(attributes={"Ü": "ö"}), ip4("10.66.0.50"))
    assert network_rows.read(catalog.store, "Public") == network_rows.read(catalog.store, made.id) == made
    assert network_rows.pool(catalog.store) == [made]


def test_a_range_of_another_number_is_named_with_those_that_there_are(catalog):
    made = catalog.public()
    assert network_rows.range_of(made, 0) == made.address_ranges[0]
    with pytest.raises(NotFound, match=r"address range 3.*none of that number.*0 \[10.66.0.10-10.66.0.14\]"):
        network_rows.range_of(made, 3)


@pytest.mark.parametrize(
    ("vm_id", "name", "text"),
    [(0, "web", "VM web (id 0)"), (7, None, "VM 7"), (None, None, "a machine that the catalog does not know")],
)
def test_a_machine_is_named_by_what_is_known_of_it(vm_id, name, text):
    assert network_rows.vm_named(vm_id, name) == text
