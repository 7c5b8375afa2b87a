# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that lead nowhere, in both families. test_routers.py in reconcile/ has them as users meet them."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.router_routes import useless_routes

OWN = [ip_interface(text) for text in ("10.0.0.1/24", "192.0.2.10/31", "2001:db8:1::1/64")]


@pytest.mark.parametrize(
    ("destination", "hop", "hops", "why"),
    [
        ("10.9.0.0/16", "10.0.0.9", ["192.0.2.11"], ""),
        ("10.9.0.0/16", "2001:db8:1::9", [], "of IPv4 and the next hop of IPv6"),
        ("2001:db8:9::/48", "2001:db8:1::9", [], ""),
        ("2001:db8:9::/48", "2001:db8:1::1", [], "of the router itself"),
        ("2001:db8:1::/64", "2001:db8:1::9", [], "the router is in that network itself"),
        ("::/0", "2001:db8:1::9", ["192.0.2.11"], ""),
        ("::/0", "2001:db8:1::9", ["2001:db8:1::8"], "its gateway has the default route by 2001:db8:1::8"),
        ("0.0.0.0/0", "10.0.0.9", ["2001:db8:1::8"], ""),
        # Both addresses of a /31 are of hosts.
        ("10.9.0.0/16", "192.0.2.11", [], ""),
        ("10.9.0.0/16", "10.0.0.0", [], "the address of a whole network"),
        ("10.9.0.0/16", "198.51.100.1", ["192.0.2.11"], "the router is in no network that has the next hop"),
        ("10.9.0.0/16", "0.0.0.0", [], "the router is in no network that has the next hop"),
        ("10.9.0.0/16", "10.9.0.1", [], "the router is in no network that has the next hop"),
        ("2001:db8:9::/48", "fe80::1", [], "the router is in no network that has the next hop"),
        ("224.0.0.0/4", "10.0.0.9", [], "OVN sends what is for such addresses by no route"),
        ("ff00::/8", "2001:db8:1::9", [], "OVN sends what is for such addresses by no route"),
        ("127.0.0.0/8", "10.0.0.9", [], "OVN sends what is for such addresses by no route"),
        ("10.0.0.1/32", "192.0.2.11", [], "the destination is an address of the router itself"),
        ("203.0.113.5/32", "10.0.0.9", [], "the destination is an address of the router itself"),
        ("10.0.0.7/32", "192.0.2.11", [], ""),
        ("10.0.0.0/25", "192.0.2.11", [], ""),
    ],
)
def test_routes(destination: str, hop: str, hops: list[str], why: str) -> None:
    found = useless_routes([(destination, hop)], OWN, {"203.0.113.5"}, hops)
    assert [why in each.found for each in found] == [True] * bool(why)
    for each in found:
        assert str(each.error("edge")).startswith(f"router edge: route to {destination} by {hop}: ")


@pytest.mark.parametrize(("hop", "own"), [("192.0.2.10", True), ("203.0.113.5", True), ("192.0.2.11", False)])
def test_a_gateway_that_sends_everything_to_its_router(hop: str, own: bool) -> None:
    found = useless_routes([], OWN, {"203.0.113.5"}, [hop])
    assert [(each.destination, each.next_hop) for each in found] == [("0.0.0.0/0", hop)] * own
    assert all("the next hop is an address of the router itself" in each.found for each in found)
