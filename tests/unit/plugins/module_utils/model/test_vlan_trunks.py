# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import vlan_trunks


@given(st.sets(st.integers(1, 4094), max_size=50))
def test_what_is_written_is_read(numbers):
    assert vlan_trunks.read(vlan_trunks.trunk_text(tuple(sorted(numbers))), "here") == tuple(sorted(numbers))


@pytest.mark.parametrize("text", ["1,10,12-14", "14 12-13 10,1", "1,10-10,12-14,13"])
def test_commas_and_blanks_are_between(text):
    assert vlan_trunks.read(text, "here") == (1, 10, 12, 13, 14)


@pytest.mark.parametrize("text", ["0", "4095", "a", "3-1", "1-", "1--2", "１"])
def test_what_is_no_vlan_is_named(text):
    with pytest.raises(InvalidValue, match="neither a VLAN id nor a range"):
        vlan_trunks.read(f"7,{text}", "network n: VLAN_TAGGED_ID =")


@pytest.mark.parametrize(
    ("network", "nic", "carried", "mode"),
    [
        ({}, {}, (0,), ""),
        ({"VLAN_ID": "10"}, {}, (10,), ""),
        ({"VLAN_ID": "10", "VLAN_TAGGED_ID": "20"}, {}, (10, 20), "native-untagged"),
        ({"VLAN_ID": "10", "VLAN_TAGGED_ID": "20"}, {"VLAN_TAGGED_ID": "30-31"}, (10, 30, 31), "native-untagged"),
        ({"VLAN_TAGGED_ID": "20"}, {}, (0, 20), ""),
        # The tag is the network's alone.
        ({"VLAN_ID": "10"}, {"VLAN_ID": "66"}, (10,), ""),
        ({"VLAN_ID": "10", "VLAN_TAGGED_ID": "10"}, {}, (10,), ""),
    ],
)
def test_the_port_of_a_nic(network, nic, carried, mode):
    port = vlan_trunks.port_of(network, nic)
    assert (port.carried, port.mode) == (carried, mode)
