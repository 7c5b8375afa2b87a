# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What members of a cluster are, and what is refused; tests/integration/test_ovn_cluster.py has real ones."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, Conflict, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import cluster
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.certificates import Files
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.cluster import CLUSTERED, STANDALONE, Copy

STATUS = """f01e
Name: OVN_Northbound
Cluster ID: a426 (a426fb0b-7d11-43a9-a6d1-55d7d5b63cc2)
Server ID: f01e (f01e0a0a-4326-4827-a5dc-440725ad4fb2)
Address: ssl:192.0.2.1:6643
Status: cluster member
Role: leader
Term: 1
Leader: self
Vote: self

Connections: <-0433 ->0433
Servers:
    0929 (0929 at ssl:192.0.2.3:6643) next_index=7 match_index=5 last msg 3047 ms ago
    f01e (f01e at ssl:192.0.2.1:6643) (self) next_index=2 match_index=6
    57a3 (57a3 at ssl:192.0.2.1:6643) next_index=7 match_index=6 last msg 1 ms ago
    0433 (0433 at ssl:[2001:db8::9]:6643)
"""
FILES = {which: Files("/k", "/c", "/a") for which in cluster.NAMES}


def group(name="a", files=FILES, **addresses):
    members = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3", **addresses}
    given = [{"name": each, "address": address, "databases": None} for each, address in members.items() if address]
    return cluster.read(name, given, cluster.PORTS, files)


def with_copies(name, copies):
    given = [
        {"name": each, "address": f"192.0.2.{number}", "databases": dict.fromkeys(cluster.NAMES, vars(copies[each]))}
        for number, each in enumerate(copies, 1)
    ]
    return cluster.read(name, given, cluster.PORTS, FILES)


def test_what_a_server_says_of_its_cluster():
    found = cluster.read_status(STATUS)
    assert found.led
    assert [server for server, _address in found.servers] == ["0929", "57a3", "0433"]
    # What it was before it lost its databases, and a member that is no more; not itself, and no other member.
    assert cluster.former_servers(found, group("a"), "northbound") == ["57a3", "0433"]
    assert not cluster.read_status(STATUS.replace("Leader: self", "Leader: unknown")).led
    assert not cluster.read_status(STATUS.replace("cluster member", "joining cluster")).led
    assert cluster.read_status("") == cluster.Status(False, "no answer", ())
    assert "follows no leader (no answer)" in str(cluster.no_leader_error("northbound", cluster.read_status("")))


def test_members_are_three_with_addresses_of_their_own():
    assert cluster.read("a", [], cluster.PORTS, FILES) is None
    assert group("b").others("northbound") == ["ssl:192.0.2.1:6643", "ssl:192.0.2.3:6643"]
    assert group(a="192.0.2.10").addresses == ["192.0.2.2", "192.0.2.3", "192.0.2.10"]
    assert group(a="2001:db8::1").local("southbound") == "ssl:[2001:db8::1]:6644"
    with pytest.raises(InvalidValue, match="these are 2 hosts"):
        group(c="")
    with pytest.raises(InvalidValue, match="these are 3 hosts for d"):
        group("d")
    with pytest.raises(InvalidValue, match="address 'host' of b"):
        group(b="host")
    with pytest.raises(Conflict, match="nebula_ovn_address"):
        group(b="192.0.2.1")
    with pytest.raises(InvalidValue, match="nebula_root"):
        group(files={"northbound": Files("/a place/k", "/c", "/a")})


def test_nothing_is_lost_by_becoming_a_cluster():
    mine, none = Copy(STANDALONE), Copy()
    member = Copy(CLUSTERED, "c1", "ssl:192.0.2.1:6643")
    found = {"northbound": mine}
    cluster.refuse(found, with_copies("a", {"a": mine, "b": none, "c": none}), True)
    # As the package has made it.
    cluster.refuse(found, with_copies("b", {"a": mine, "b": mine, "c": none}), False)
    with pytest.raises(Conflict, match="both have databases of this catalog"):
        cluster.refuse(found, with_copies("b", {"a": mine, "b": mine, "c": none}), True)
    with pytest.raises(Conflict, match="members of different clusters"):
        other = Copy(CLUSTERED, "c2", "ssl:192.0.2.2:6643")
        cluster.refuse(found, with_copies("a", {"a": member, "b": other, "c": none}), True)
    with pytest.raises(Conflict, match=r"the cluster knows this member as ssl:192\.0\.2\.1:6643"):
        cluster.refuse({"northbound": member}, with_copies("b", {"a": none, "b": member, "c": none}), True)
    with pytest.raises(Conflict, match="this host is a member of its cluster"):
        cluster.refuse({"northbound": member}, None, True)
    cluster.refuse(found, None, True)
    assert with_copies("b", {"a": member, "b": none, "c": none}).known("northbound") == "c1"


def test_a_file_says_of_which_kind_it_is(tmp_path, programs):
    path = tmp_path / "db"
    assert cluster.read_copy(str(path)) == Copy()
    path.write_text('OVSDB JSON 5 abc\n{"cksum":""}\n')
    assert cluster.read_copy(str(path)) == Copy(STANDALONE)
    programs.script("ovsdb-tool", "echo the-cluster")
    path.write_text('OVSDB CLUSTER 5 abc\n{"local_address":"ssl:192.0.2.1:6643"}\n')
    assert cluster.read_copy(str(path)) == Copy(CLUSTERED, "the-cluster", "ssl:192.0.2.1:6643")
    programs.script("ovsdb-tool", "exit 2")
    assert cluster.read_copy(str(path)).cluster == ""
    path.write_text("OVSDB CLUSTER 5 abc\n{")
    with pytest.raises(CommandFailed, match="read database"):
        cluster.read_copy(str(path))
