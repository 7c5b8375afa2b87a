# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of networks, as it is when nobody says anything."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.addresses import LINK_LOCAL
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    BARRED,
    LogicalNetwork,
    LogicalPort,
    Router,
    SecurityRule,
)


def test_nobody_reaches_metadata_of_clouds_unless_a_network_says_so():
    assert (str(LINK_LOCAL),) == BARRED
    assert LogicalNetwork("u", "n").barred == Router("u", "r").barred == BARRED
    assert LogicalNetwork("u", "n", barred=()).barred == ()


def test_machines_are_held_to_their_addresses_unless_it_is_off():
    port = LogicalPort("u", "n", "02:00:00:00:00:01")
    assert (port.filter_mac, port.filter_ip, port.security_groups) == (True, True, ())


def test_a_port_has_the_addresses_of_its_aliases_last():
    port = LogicalPort("u", "n", "m", ("10.0.0.5",), ("fd00::5",), further=("10.0.0.7",))
    assert port.addresses == ("10.0.0.5", "fd00::5", "10.0.0.7")


def test_a_rule_lets_everything_through_that_it_does_not_narrow():
    assert SecurityRule("inbound") == SecurityRule("inbound", "ALL", (), "", 1, "", None)


def test_what_is_wanted_can_not_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LogicalNetwork("u", "n").name = "other"
