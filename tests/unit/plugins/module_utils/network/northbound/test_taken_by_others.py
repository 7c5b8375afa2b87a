# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others have in OVN, and must not be asked for again; integration tests ask the same of a real database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from northbound_rows import as_read, foreign, row_of, uuid_of

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    FloatingAddress,
    LogicalNetworks,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import Identity
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.render import render
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.row_differences import DatabaseState
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.taken_by_others import refuse
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    GATEWAY,
    GROUP,
    ONE,
    ROUTER,
    blue,
    desired,
    nic,
    router,
    uuid,
    with_router,
)


def asked(read, wanted=desired):
    refuse(DatabaseState(CATALOG, read), render(CATALOG, wanted), wanted)


def theirs_outside(read, *, tag=17, physical="physnet", addresses=("192.0.2.30/24",), floating=("192.0.2.31",)):
    """A router of somebody else's in an external network that he calls his."""
    localnet = foreign(read, "Logical_Switch_Port", 501, name="l", type="localnet",
                       options={"network_name": physical}, tag=(tag,))  # fmt: skip
    end = foreign(read, "Logical_Switch_Port", 502, name="e", type="router", options={"router-port": "their-lrp"})
    foreign(read, "Logical_Switch", 503, name="their-outside", ports=(localnet, end))
    port = foreign(read, "Logical_Router_Port", 504, name="their-lrp", networks=addresses)
    nat = [foreign(read, "NAT", 510 + number, external_ip=text) for number, text in enumerate(floating)]
    foreign(read, "Logical_Router", 505, name="theirs", ports=(port,), nat=nat)


def test_with_nobody_else_there_is_nothing_to_refuse():
    asked({})
    asked(as_read(CATALOG, desired))


@pytest.mark.parametrize(
    ("table", "name", "found"),
    [
        ("Logical_Switch", "blue", "network blue: Logical_Switch"),
        ("Logical_Router", "edge", "router edge: Logical_Router"),
        ("Logical_Switch_Port", uuid(ONE), f"port {uuid(ONE)} "),
        ("Port_Group", f"nebula_group_{GROUP.replace('-', '_')}", f"security group {GROUP} "),
    ],
)
def test_a_name_that_somebody_else_has(table, name, found):
    read = as_read(CATALOG, LogicalNetworks())
    theirs = foreign(read, table, 500, name=name, external_ids={"neutron:id": "7"})
    with pytest.raises(ForeignObject, match=rf"{found}.*{theirs} has this name, .*external_ids: neutron:id=7"):
        asked(read)


def test_a_name_of_another_catalog():
    read = as_read(CATALOG, LogicalNetworks())
    foreign(read, "Logical_Switch", 500, name="blue", external_ids={"nebula-catalog": "other"})
    with pytest.raises(ForeignObject, match="is of catalog other"):
        asked(read)


def test_a_name_that_somebody_took_later_ends_no_run():
    read = as_read(CATALOG, desired)
    foreign(read, "Logical_Switch", 500, name="blue")
    asked(read)
    with pytest.raises(ForeignObject):
        asked(read, replace(desired, networks=(blue, replace(desired.networks[1], name="blue"), desired.networks[2])))


def test_an_address_of_somebody_elses_port_on_a_switch_of_ours():
    read = as_read(CATALOG, desired)
    theirs = foreign(read, "Logical_Switch_Port", 500, name="squatter",
                     addresses=("02:00:00:00:00:01 10.0.0.14 dynamic", "unknown"))  # fmt: skip
    row_of(read, "Logical_Switch", name="blue")["ports"][1].append(["uuid", theirs])
    asked(read)
    with pytest.raises(Conflict, match=r"NIC nic114: 10\.0\.0\.14 in network blue: Logical_Switch_Port squatter"):
        asked(read, replace(desired, ports=(*desired.ports, nic(114))))
    moved = replace(router.interfaces[0], addresses=("10.0.0.14/24",))
    with pytest.raises(Conflict, match=r"router edge: 10\.0\.0\.14"):
        asked(read, with_router(interfaces=(moved,)))


@pytest.mark.parametrize("address", ["192.0.2.30", "192.0.2.31"])
def test_an_address_outside_that_somebody_elses_router_answers_for(address):
    read = as_read(CATALOG, LogicalNetworks())
    theirs_outside(read)
    asked(read)
    with pytest.raises(Conflict, match=f"floating address: {address} in network outside"):
        asked(read, with_router(floating=(FloatingAddress(address, uuid(ONE)),)))
    with pytest.raises(Conflict, match=f"gateway: {address}"):
        asked(read, with_router(gateway=replace(router.gateway, addresses=(f"{address}/24",))))


@pytest.mark.parametrize("link", [{"tag": 18}, {"physical": "other"}])
def test_the_same_address_on_another_link_is_another(link):
    read = as_read(CATALOG, LogicalNetworks())
    theirs_outside(read, addresses=(f"{GATEWAY}/24",), floating=("192.0.2.20", "no address"), **link)
    asked(read)


def test_what_somebody_added_to_a_router_of_ours():
    read = as_read(CATALOG, desired)
    nat = foreign(read, "NAT", 500, external_ip="192.0.2.77", type="dnat_and_snat")
    row_of(read, "Logical_Router", name="edge")["nat"][1].append(["uuid", nat])
    asked(read)
    with pytest.raises(Conflict, match=rf"192\.0\.2\.77 in network outside: NAT {nat}"):
        asked(read, with_router(floating=(FloatingAddress("192.0.2.77", uuid(ONE)),)))
    assert uuid_of(Identity("Logical_Router", CATALOG, router=ROUTER)) in str(read["Logical_Router"])
    assert desired.networks[0].uuid == BLUE
