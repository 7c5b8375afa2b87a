# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drivers of networks by their names."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import network_drivers
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.network import KEYS


@pytest.mark.parametrize(
    ("text", "driver"), [("802.1q", "802.1Q"), (" VXLAN ", "vxlan"), ("bridge", "bridge"), ("fw", "fw"), ("", "")]
)
def test_a_driver_is_found_in_whatever_case_it_is_written(text, driver):
    assert network_drivers.driver_of(text) == driver


def test_users_may_name_each_driver():
    assert tuple(KEYS["vn_mad"].choices) == network_drivers.DRIVERS


def test_numbers_that_are_chosen_are_numbers_that_there_are():
    for driver, (first, last) in network_drivers.CHOSEN.items():
        lowest, highest = network_drivers.NUMBERS[driver]
        assert lowest <= first < last <= highest
