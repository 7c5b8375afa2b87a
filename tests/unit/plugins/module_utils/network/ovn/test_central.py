# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to the central databases; tests/integration/test_ovn.py has the real ones."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import central
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.central import Central, CentralState, Wanted
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.certificates import Files
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.cluster import PORTS, Cluster, Copy, Member
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
TLS = Files("/k", "/c", "/a")
MARK = ["map", [["nebula-catalog", CATALOG]]]
NOTHING = ["map", []]


def wanted(address="192.0.2.1"):
    return Wanted(CATALOG, address, central.PORTS, {"northbound": TLS, "southbound": TLS})


def rows(which, mark=NOTHING, ssl=(), connections=()):
    whole = {"_uuid": ["uuid", "g"], "external_ids": mark, "connections": ["set", []], "ssl": ["set", []]}
    return {central.GLOBAL[which]: [whole], "SSL": list(ssl), "Connection": list(connections)}


def connection(target, mark=MARK, role=""):
    return {"_uuid": ["uuid", target], "target": target, "external_ids": mark, "role": role}


def side(tmp_path):
    return Central(Places(ovn_run=str(tmp_path), ovn_database=str(tmp_path)), CATALOG, act=True)


def test_a_new_database_gets_all_of_it_unless_somebody_was_faster(tmp_path):
    operations = side(tmp_path)._operations("southbound", wanted(), rows("southbound"))
    assert [operation["op"] for operation in operations] == ["wait", "insert", "insert", "update"]
    assert operations[0]["rows"] == [{"ssl": ["set", []], "connections": ["set", []]}]
    assert operations[2]["row"]["role"] == "ovn-controller"
    assert operations[2]["row"]["target"] == "pssl:6642:0.0.0.0"


def test_connections_of_others_stay_and_outdated_ones_of_ours_go(tmp_path):
    found = rows("northbound", MARK, connections=[connection("pssl:1"), connection("ptcp:2", NOTHING)])
    update = side(tmp_path)._operations("northbound", wanted(), found)[-1]
    assert update["row"]["connections"] == ["set", [["uuid", "ptcp:2"], ["named-uuid", "connection"]]]


def test_nothing_is_said_where_all_is_as_it_should_be(tmp_path):
    ssl = {"_uuid": ["uuid", "s"], "private_key": "/k", "certificate": "/c", "ca_cert": "/a", "external_ids": MARK}
    found = rows("northbound", MARK, [ssl], [connection("pssl:6641:0.0.0.0")])
    assert side(tmp_path)._operations("northbound", wanted(), found) == []
    operations = side(tmp_path)._operations("northbound", wanted("2001:db8::1"), found)
    assert operations[1]["row"]["target"] == "pssl:6641:[::]"


def test_whose_databases_they_are(tmp_path):
    side(tmp_path).refuse_foreign(CentralState())
    side(tmp_path).refuse_foreign(CentralState(rows={"northbound": rows("northbound", MARK)}))
    side(tmp_path).refuse_foreign(CentralState(rows={"northbound": rows("northbound")}))
    with pytest.raises(ForeignObject, match=OTHER):
        mark = ["map", [["nebula-catalog", OTHER]]]
        side(tmp_path).refuse_foreign(CentralState(rows={"northbound": rows("northbound", mark)}))
    with pytest.raises(ForeignObject, match="connection ptcp:2"):
        found = rows("northbound", connections=[connection("ptcp:2", NOTHING)])
        side(tmp_path).refuse_foreign(CentralState(rows={"northbound": found}))


def test_how_others_connect():
    assert central.connections(wanted()) == {"northbound": "ssl:192.0.2.1:6641", "southbound": "ssl:192.0.2.1:6642"}
    assert central.connections(wanted("2001:db8::1"))["southbound"] == "ssl:[2001:db8::1]:6642"


def of_three():
    members = tuple(Member(str(n), f"192.0.2.{n}", dict.fromkeys(central.NAMES, Copy())) for n in (3, 1, 2))
    tls = {"northbound": TLS, "southbound": TLS}
    return Wanted(CATALOG, "", central.PORTS, tls, Cluster("1", members, PORTS, tls))


def test_a_cluster_is_reached_at_all_members_in_an_order_that_does_not_change():
    three = "ssl:192.0.2.1:6642,ssl:192.0.2.2:6642,ssl:192.0.2.3:6642"
    assert central.connections(of_three())["southbound"] == three
    assert of_three().target("northbound") == "pssl:6641:0.0.0.0"
    assert (
        "--ovn-northd-nb-db=ssl:192.0.2.1:6641,ssl:192.0.2.2:6641,ssl:192.0.2.3:6641" in of_three().options()["northd"]
    )


def test_members_have_their_files_in_no_row_that_all_of_them_would_take(tmp_path):
    operations = side(tmp_path)._operations("southbound", of_three(), rows("southbound"))
    assert [(operation["op"], operation["table"]) for operation in operations] == [
        ("wait", "SB_Global"),
        ("insert", "Connection"),
        ("update", "SB_Global"),
    ]
    assert operations[1]["row"]["role"] == "ovn-controller"


def test_ports_of_a_cluster_are_others_than_those_of_clients():
    central.check_ports(central.PORTS, PORTS)
    with pytest.raises(InvalidValue, match="two of them are the same"):
        central.check_ports(central.PORTS, {"northbound": 6642, "southbound": 6644})


@pytest.mark.parametrize("ports", [{"northbound": 1, "southbound": 1}, {"northbound": 0, "southbound": 70000}])
def test_ports_that_can_not_be_are_refused(ports):
    with pytest.raises(InvalidValue, match="port"):
        central.check_ports(ports)


def test_units_of_a_single_host_are_compared_where_there_are_units(tmp_path, monkeypatch):
    ssl = {"_uuid": ["uuid", "s"], "private_key": "/k", "certificate": "/c", "ca_cert": "/a", "external_ids": MARK}
    connections = {
        "northbound": [connection("pssl:6641:0.0.0.0")],
        "southbound": [connection("pssl:6642:0.0.0.0", role="ovn-controller")],
    }
    there = {which: rows(which, MARK, [ssl], connections[which]) for which in central.NAMES}
    found = CentralState(running=True, starts=True, rows=there)
    assert found.shown(CATALOG) == side(tmp_path)._expected(wanted())
    monkeypatch.setattr(central.Daemons, "by_units", True)
    assert found.shown(CATALOG) != side(tmp_path)._expected(wanted())
    # As an earlier version of the collection has left it.
    found.drop_ins = {}
    assert found.shown(CATALOG) != side(tmp_path)._expected(wanted())
    found.drop_ins = central.daemons.northd_drop_in(CATALOG)
    assert found.shown(CATALOG) == side(tmp_path)._expected(wanted())
