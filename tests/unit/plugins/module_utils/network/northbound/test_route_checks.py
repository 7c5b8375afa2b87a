# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes against what ovn-northd makes of them. tests/integration/test_northbound.py asks a real one."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    Gateway,
    Interface,
    LogicalNetworks,
    Route,
    Router,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import route_checks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import Owner
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.row_differences import Change

EDGE = Router(
    "r1",
    "edge",
    (Interface("n1", ("10.0.0.1/24",)),),
    Gateway("n3", ("192.0.2.10/24",), (Chassis("node2", 10),), "192.0.2.1"),
    routes=(Route("10.9.0.0/16", "10.0.0.200"), Route("2001:db8::/32", "10.0.0.200")),
)
OTHER = Router("r2", "rim", (Interface("n2", ("10.1.0.1/24",)),))
DESIRED = LogicalNetworks(routers=(EDGE, OTHER))


def flow(destination: str, hop: str, port: str = "lrp-r1-n1") -> dict[str, str]:
    return {"match": f"reg7 == 0 && ip4.dst == {destination}", "actions": f'reg0 = {hop}; outport = "{port}"; next;'}


def test_routers_that_were_told_of() -> None:
    def change(kind: str, uuid: str, after: object = ()) -> Change:
        return Change(Owner(kind, uuid), "x", None, None if after is None else {"Logical_Router": {}})

    assert route_checks.routers_with_changed_routes(DESIRED, [change("router", "r1"), change("router", "r2")]) == [EDGE]
    assert (
        route_checks.routers_with_changed_routes(DESIRED, [change("network", "r1"), change("router", "r1", None)]) == []
    )


def test_a_route_without_a_flow_is_an_error_unless_it_is_known_why() -> None:
    both = [flow("10.9.0.0/16", "10.0.0.200"), flow("0.0.0.0/0", "192.0.2.1", "lrp-r1-n3")]
    assert route_checks.routes_without_flows([EDGE], both) == []
    for missing, hop in (("10.9.0.0/16", "10.0.0.200"), ("0.0.0.0/0", "192.0.2.1")):
        left = [each for each in both if missing not in each["match"]]
        for others in (flow(missing, hop, "lrp-r2-n2"), flow(missing, "10.0.0.201"), flow("10.90.0.0/16", hop)):
            (error,) = route_checks.routes_without_flows([EDGE], [*left, others])
            assert f"router edge: route to {missing} by {hop}" in str(error) and "made no flow of it" in str(error)
    # What has no flow of it at all tells nothing.
    assert route_checks.routes_without_flows([EDGE], [flow("10.9.0.0/16", "10.0.0.200", "lrp-r2-n2")]) == []


def test_routes_of_before_are_warnings() -> None:
    (warning,) = route_checks.warnings(DESIRED)
    assert "router edge: route to 2001:db8::/32 by 10.0.0.200" in warning
