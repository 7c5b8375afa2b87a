# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network gives to contexts is looked up once."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.network_values import NetworkValues
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound


def test_a_network_is_looked_up_once(inside):
    values = NetworkValues(inside.networks)
    found = values.network("VM a, NIC 0", 0)
    assert values.network("elsewhere", 0) is found
    assert values.values_of(0, found.address_ranges[0].ar_id) == inside.networks.nic_values(
        found, found.address_ranges[0].ar_id
    )


def test_an_error_says_who_asked(inside):
    with pytest.raises(NotFound, match="VM a, NIC 0: network 'nosuch'"):
        NetworkValues(inside.networks).network("VM a, NIC 0", "nosuch")
