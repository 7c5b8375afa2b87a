# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are there against rows that are wanted."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from northbound_rows import as_read, foreign, row_of, uuid_of

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import LogicalNetworks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import Identity, Owner
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.render import render
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.row_differences import (
    DatabaseState,
    compare,
)
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    FLOATING,
    GROUP,
    NICS,
    ONE,
    OTHER_CATALOG,
    RED,
    ROUTER,
    TWO,
    blue,
    desired,
    group,
    nic,
    uuid,
)

SWITCH = Identity("Logical_Switch", CATALOG, network=BLUE)
PORT = Identity("Logical_Switch_Port", CATALOG, port=uuid(ONE))


def plan(read, wanted=desired, catalog=CATALOG):
    return compare(DatabaseState(catalog, read), render(catalog, wanted))


def of_kind(made, operation, table=None):
    return [each for each in made.operations if each["op"] == operation and table in (None, each["table"])]


def without_waits(made):
    return [each for each in made.operations if each["op"] != "wait" and each["table"] != "NB_Global"]


def test_what_is_as_it_is_wanted_needs_nothing():
    made = plan(as_read(CATALOG, desired))
    assert (made.operations, made.changes) == ([], [])


def test_in_an_empty_database_all_is_inserted_and_refers_to_what_is_inserted():
    made = plan({})
    inserts = [each for each in of_kind(made, "insert") if each["table"] != "NB_Global"]
    assert len(inserts) == len(made.operations) - 1 == len(render(CATALOG, desired))
    names = [each["uuid-name"] for each in inserts]
    assert len(set(names)) == len(names)
    text = str(inserts)
    assert text.count("named-uuid") == sum(text.count(f"['named-uuid', '{name}']") for name in names)
    assert {change.owner.kind for change in made.changes} == {
        "catalog", "network", "port", "router", "security group"
    }  # fmt: skip
    assert all(change.before is None for change in made.changes)
    assert made.operations[-1] == {
        "op": "insert",
        "table": "NB_Global",
        "row": {"external_ids": ["map", [[f"nebula-generation-{CATALOG}", "1"]]]},
    }


def test_a_value_that_differs_is_written_if_it_is_still_what_was_read():
    read = as_read(CATALOG, desired)
    row = row_of(read, "Logical_Switch_Port", name=uuid(ONE))
    right, row["addresses"] = row["addresses"], "02:00:00:00:00:01 10.9.9.9"
    made = plan(read)
    uuid_there = row["_uuid"]
    where = [["_uuid", "==", uuid_there]]
    assert without_waits(made) == [
        {"op": "update", "table": "Logical_Switch_Port", "where": where, "row": {"addresses": right}}
    ]
    (wait,) = [each for each in of_kind(made, "wait") if each["table"] == "Logical_Switch_Port"]
    assert wait == {
        "op": "wait",
        "table": "Logical_Switch_Port",
        "where": where,
        "columns": ["external_ids", "addresses"],
        "until": "==",
        "rows": [{"external_ids": row["external_ids"], "addresses": ["set", ["02:00:00:00:00:01 10.9.9.9"]]}],
        "timeout": 0,
    }
    (change,) = made.changes
    assert (change.owner, change.name) == (Owner("port", uuid(ONE)), "nic111")
    assert change.before == {"Logical_Switch_Port": {"addresses": ["02:00:00:00:00:01 10.9.9.9"]}}
    assert change.after == {"Logical_Switch_Port": {"addresses": right[1]}}
    # All waits come first.
    kinds = [each["op"] for each in made.operations]
    assert kinds == sorted(kinds, key=lambda kind: kind != "wait")


def test_runs_of_one_catalog_follow_each_other():
    read = as_read(CATALOG, desired, generation="41")
    made = plan(read, replace(desired, ports=desired.ports[1:], routers=()))
    key = f"nebula-generation-{CATALOG}"
    (wait,) = [each for each in of_kind(made, "wait") if each["table"] == "NB_Global"]
    assert wait["where"] == [["external_ids", "includes", ["map", [[key, "41"]]]]]
    assert (wait["until"], wait["rows"]) == ("!=", [])
    (step,) = of_kind(made, "mutate", "NB_Global")
    assert step["mutations"] == [
        ["external_ids", "delete", ["set", [key]]],
        ["external_ids", "insert", ["map", [[key, "42"]]]],
    ]
    # With others' keys there, and none of ours yet.
    read["NB_Global"][0]["external_ids"] = ["map", [["theirs", "1"]]]
    (wait,) = [each for each in of_kind(plan(read, LogicalNetworks()), "wait") if each["table"] == "NB_Global"]
    assert wait["rows"] == [{"external_ids": ["map", [["theirs", "1"]]]}]


def test_with_the_last_row_the_number_of_runs_goes_as_well():
    made = plan(as_read(CATALOG, desired), LogicalNetworks())
    (step,) = of_kind(made, "mutate", "NB_Global")
    assert [mutation[1] for mutation in step["mutations"]] == ["delete"]


def test_members_come_and_go_and_those_of_others_stay():
    read = as_read(CATALOG, desired)
    theirs = foreign(read, "Logical_Switch_Port", 500, name="theirs")
    row_of(read, "Logical_Switch", name="blue")["ports"][1].append(["uuid", theirs])
    wanted = replace(desired, ports=(*desired.ports[1:], nic(114)), routers=())
    made = plan(read, wanted)
    (mutate,) = [
        each for each in of_kind(made, "mutate", "Logical_Switch")
        if each["where"] == [["_uuid", "==", ["uuid", uuid_of(SWITCH)]]]
    ]  # fmt: skip
    by_column = {(column, mutator): rows for column, mutator, rows in mutate["mutations"]}
    assert ["uuid", uuid_of(PORT)] in by_column["ports", "delete"][1]
    assert ["uuid", theirs] not in by_column["ports", "delete"][1]
    assert [kind for kind, _name in by_column["ports", "insert"][1]] == ["named-uuid"]
    # Nothing depends on which ports others have there meanwhile.
    (wait,) = [each for each in of_kind(made, "wait", "Logical_Switch") if each["where"] == mutate["where"]]
    assert wait["columns"] == ["external_ids"]
    assert theirs not in str([each for each in made.operations if each["op"] != "wait"])


def test_rows_that_hang_on_others_go_with_their_place_there():
    made = plan(as_read(CATALOG, desired), replace(desired, routers=()))
    assert [each["table"] for each in of_kind(made, "delete")] == ["Logical_Router"]
    assert {str(change) for change in made.changes} == {"router edge"}
    (change,) = made.changes
    assert change.after is None
    assert "NAT snat" in change.before
    assert change.before[f"NAT floating {FLOATING}"]["logical_ip"] == "10.0.0.11"


def test_an_owner_that_stays_says_what_it_lost():
    fewer = replace(desired, groups=(replace(group, rules=group.rules[1:]),))
    (change,) = plan(as_read(CATALOG, desired), fewer).changes
    assert change.after == {}
    assert [row["match"] for row in change.before.values()] == [
        f"outport == @nebula_group_{GROUP.replace('-', '_')} && tcp && (tcp.dst == 22 || (80 <= tcp.dst <= 90))"
    ]


def test_membership_in_a_group_is_the_groups_change():
    more = replace(desired, ports=(replace(desired.ports[0], security_groups=(GROUP,)), *desired.ports[1:]))
    (change,) = plan(as_read(CATALOG, desired), more).changes
    assert str(change) == "security group web"
    assert (change.before, change.after) == ({"Port_Group": {"ports": []}}, {"Port_Group": {"ports": [uuid(ONE)]}})


def test_keys_that_others_set_stay_and_ours_go():
    read = as_read(CATALOG, desired)
    row = row_of(read, "Logical_Switch_Port", name=uuid(ONE))
    row["options"] = ["map", [["requested-chassis", "node7"], ["router-port", "left over"]]]
    row["external_ids"][1].append(["owner", "somebody"])
    (update,) = of_kind(plan(read), "update")
    assert update["row"] == {"options": ["map", [["hostname", '"host111"'], ["requested-chassis", "node7"]]]}
    dhcp = row_of(read, "DHCP_Options", external_ids=read["DHCP_Options"][0]["external_ids"])
    dhcp["options"][1].append(["ntp_server", "10.0.0.9"])
    # A map that is ours as a whole.
    assert "ntp_server" not in str(of_kind(plan(read), "update", "DHCP_Options"))


def test_where_a_port_is_while_its_machine_moves_is_ours_for_as_long():
    moves = replace(desired, ports=(replace(desired.ports[0], between=("node1", "node2")), *desired.ports[1:]))
    (update,) = of_kind(plan(as_read(CATALOG, desired), moves), "update")
    options = dict(update["row"]["options"][1])
    assert (options["requested-chassis"], options["activation-strategy"]) == ("node1,node2", "rarp")
    assert ["nebula-moving", "node1,node2"] in update["row"]["external_ids"][1]
    there = as_read(CATALOG, moves)
    assert plan(there, moves).operations == []
    # It has moved, or stayed.
    (update,) = of_kind(plan(there), "update")
    assert update["row"]["options"] == ["map", [["hostname", '"host111"']]]
    assert "nebula-moving" not in str(update["row"]["external_ids"])
    # What somebody else has set of these is left alone.
    row = row_of(there, "Logical_Switch_Port", name=uuid(ONE))
    row["external_ids"][1].remove(["nebula-moving", "node1,node2"])
    assert plan(there).operations == []


def test_the_version_of_ovn_is_known_where_northd_has_written_it():
    read = as_read(CATALOG, desired, generation="41")
    assert DatabaseState(CATALOG, read).version == ""
    read["NB_Global"][0]["options"] = ["map", [["northd_internal_version", "23.03.1-20.27.0-70.6"]]]
    assert DatabaseState(CATALOG, read).version == "23.03.1-20.27.0-70.6"


def test_a_name_that_users_see_changes_by_itself():
    named = replace(desired, ports=(replace(desired.ports[0], name="renamed"), *desired.ports[1:]))
    (change,) = plan(as_read(CATALOG, desired), named).changes
    assert change.name == "renamed"
    assert change.before["Logical_Switch_Port"]["external_ids"]["nebula-name"] == "nic111"


def test_a_port_moves_to_another_network_as_the_same_row():
    moved = replace(nic(ONE), network=RED, addresses4=("10.0.0.50",), addresses6=())
    wanted = replace(desired, ports=(moved, *desired.ports[1:]), routers=())
    read = as_read(CATALOG, replace(desired, routers=()))
    made = plan(read, wanted)
    assert not of_kind(made, "insert")
    assert sorted(
        (mutation[0], mutation[1])
        for each in of_kind(made, "mutate", "Logical_Switch")
        for mutation in each["mutations"]
        if ["uuid", uuid_of(PORT)] in mutation[2][1]
    ) == [("ports", "delete"), ("ports", "insert")]


def test_a_row_of_ours_is_taken_out_of_what_others_have():
    read = as_read(CATALOG, desired)
    theirs = foreign(read, "Logical_Switch", 600, name="theirs", ports=(uuid_of(PORT),))
    made = plan(read)
    (mutate,) = [each for each in without_waits(made) if each["op"] == "mutate"]
    assert mutate["where"] == [["_uuid", "==", ["uuid", theirs]]]
    assert mutate["mutations"] == [["ports", "delete", ["set", [["uuid", uuid_of(PORT)]]]]]
    gone = plan(read, replace(desired, ports=desired.ports[1:], routers=()))
    assert any(each.get("where") == mutate["where"] for each in of_kind(gone, "mutate"))


def test_of_two_that_are_alike_one_goes():
    read = as_read(CATALOG, desired)
    twin = copy.deepcopy(row_of(read, "Logical_Switch", name="red"))
    twin["_uuid"] = ["uuid", "ffffffff-0000-4000-8000-000000000000"]
    twin["ports"] = twin["acls"] = twin["dns_records"] = ["set", []]
    read["Logical_Switch"].append(twin)
    (delete,) = without_waits(plan(read))
    assert delete == {"op": "delete", "table": "Logical_Switch", "where": [["_uuid", "==", twin["_uuid"]]]}


@pytest.mark.parametrize(
    ("table", "column", "name"), [("Logical_Switch", "ports", "blue"), ("Logical_Router", "nat", "edge")]
)
def test_what_would_end_rows_of_others_is_refused(table, column, name):
    read = as_read(CATALOG, desired)
    member = "Logical_Switch_Port" if column == "ports" else "NAT"
    theirs = foreign(read, member, 500, **({"name": "theirs"} if column == "ports" else {}))
    row_of(read, table, name=name)[column][1].append(["uuid", theirs])
    with pytest.raises(ForeignObject, match=f"remove {table} {name} .* its {column} have some that are not of catalog"):
        plan(read, LogicalNetworks())
    # As long as it stays, it may have them.
    assert not plan(read).operations


def test_another_catalogs_rows_are_others():
    read = as_read(OTHER_CATALOG, desired)
    assert not plan(read, LogicalNetworks()).operations
    assert len(of_kind(plan(read), "insert")) == len(render(CATALOG, desired))


def test_found_knows_whose_is_what():
    read = as_read(CATALOG, desired)
    theirs = foreign(read, "Logical_Switch", 600, name="theirs")
    found = DatabaseState(CATALOG, read)
    assert [uuid for uuid, _columns in found.foreign("Logical_Switch")] == [theirs]
    assert found.label(theirs) == "Logical_Switch theirs"
    assert found.label("nothing") == "row nothing"
    assert len(found.ours) == len(render(CATALOG, desired))
    assert (blue.uuid, ROUTER, TWO in NICS) == (BLUE, uuid(7), True)
