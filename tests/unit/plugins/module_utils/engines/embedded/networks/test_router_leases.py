# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that no machine gets: leased by name or the lowest free ones, kept, and given back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks.router_leases import Reserved
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, NoLease


@pytest.fixture
def reserved(catalog):
    catalog.public()
    return Reserved(catalog.store)


def test_the_lowest_free_one_or_the_one_that_is_named(catalog, reserved):
    assert reserved.have("router/1", [(0, ""), (0, "10.66.0.12"), (0, "10.66.0.99")], "router r") == [
        "10.66.0.10", "10.66.0.12", "10.66.0.99",
    ]  # fmt: skip
    assert catalog.used() == [2]
    # Again, with what it has by now: nothing moves.
    assert reserved.have("router/1", [(0, "10.66.0.10"), (0, "10.66.0.12")], "router r") == ["10.66.0.10", "10.66.0.12"]
    assert catalog.used() == [2]
    assert catalog.lease(catalog.networks.info(0), 1, 2, 3) == ["10.66.0.11", "10.66.0.13", "10.66.0.14"]
    reserved.release("router/1")
    assert catalog.lease(catalog.networks.info(0), 4) == ["10.66.0.10"]


def test_what_somebody_has_is_refused_with_the_name(catalog, reserved):
    catalog.lease(catalog.networks.info(0), (1, "10.66.0.11"))
    with pytest.raises(NoLease, match=r"VM vm-1 \(id 1\) has it"):
        reserved.have("router/1", [(0, "10.66.0.11")], "router r")
    reserved.have("router/7", [(0, "10.66.0.12")], "router r")
    with pytest.raises(NoLease, match="router/7 has it"):
        reserved.have("router/1", [(0, "10.66.0.12")], "router r")
    with pytest.raises(NoLease, match="router/7 has it"):
        catalog.lease(catalog.networks.info(0), (2, "10.66.0.12"))
    with pytest.raises(InUse, match="leased by"):
        catalog.networks.delete(0)


def test_a_network_that_is_full_has_none(catalog, reserved):
    catalog.lease(catalog.networks.info(0), 1, 2, 3, 4, 5)
    with pytest.raises(NoLease, match="none of its address ranges has a free one"):
        reserved.have("router/1", [(0, "")], "router r")
    with pytest.raises(NoLease, match="0 free of 5"):
        catalog.lease(catalog.networks.info(0), 6)


def test_nobody_takes_them_for_leases_that_are_left_over(catalog, reserved):
    reserved.have("router/1", [(0, "")], "router r")
    assert catalog.networks.held() == []
    catalog.networks.held_leases.release_held((), complete=True)
    assert catalog.used() == [1]


def keeping(catalog, addresses):
    network = catalog.public()
    return catalog.networks.update(network.id, attributes={**network.attributes, "RESERVED": addresses})


def test_what_the_network_keeps_is_nobodys(catalog):
    network = keeping(catalog, "10.66.0.10-10.66.0.11 10.66.0.13")
    assert catalog.used() == [3]
    assert catalog.lease(network, 1) == ["10.66.0.12"]
    with pytest.raises(NoLease, match=r"the network itself \(reserved\) has it"):
        catalog.lease(network, (2, "10.66.0.13"))
    with pytest.raises(NoLease, match=r"RESERVED: 10.66.0.12 in network Public: VM vm-1 \(id 1\) has it"):
        catalog.networks.update(network.id, attributes={**network.attributes, "RESERVED": "10.66.0.12"})


def test_what_is_kept_no_more_may_be_leased_and_a_range_may_go_or_shrink_with_it(catalog):
    network = keeping(catalog, "10.66.0.10-10.66.0.14")
    changed = catalog.networks.update(network.id, attributes={**network.attributes, "RESERVED": "10.66.0.14"})
    assert changed.address_ranges[0].used == 1
    shrunk = catalog.networks.update_ar(network.id, replace(changed.address_ranges[0], size=2))
    assert shrunk.address_ranges[0].used == 0
    grown = catalog.networks.update_ar(network.id, replace(shrunk.address_ranges[0], size=5))
    assert grown.address_ranges[0].used == 1
    # Neither a new bridge nor the end of the network is kept from anybody by addresses that nobody has.
    catalog.networks.update(network.id, bridge="other")
    assert catalog.networks.rm_ar(network.id, 0).address_ranges == ()
    catalog.networks.delete(network.id)
    assert catalog.store.row("SELECT 1 FROM leases") is None
