# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what it does, says and predicts."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import MIGRATIONS
from ansible_collections.nebula.provision.plugins.module_utils.model import network_checks, uplink
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import from_item
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.network import KEYS
from ansible_collections.nebula.provision.plugins.modules import nebula_network

# What a new network on a Linux bridge says unless it is told otherwise.
FILTERED = {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}

PUBLIC = {
    "name": "Public",
    "bridge": "nbr0",
    "network_address": "10.66.0.0/24",
    "gateway": "10.66.0.1",
    "dns": "10.66.0.1 9.9.9.9",
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 100}],
}
ABSENT = {"name": "Public", "state": "absent"}


@pytest.fixture
def module(tmp_path):
    def run(*networks, check=False, **single):
        params = dict.fromkeys([*KEYS, *ENGINE])
        params.update(
            engine="embedded",
            root=str(tmp_path),
            networks=list(networks) or None,
            state="present",
            undo=None,
            with_security_groups=[],
            with_routers=[],
            inner_mtus={},
        )
        params.update(single)
        return nebula_network.call.run(params, check)

    return run


@pytest.fixture
def lease(tmp_path):
    """Lease the next addresses of network 0 to machines of these ids."""

    def take(*machines):
        engine = EmbeddedEngine(str(tmp_path))
        with engine.session():
            engine.store.db.executemany(
                "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
                " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '', 0)",
                [(vm_id, f"web-{vm_id}", str(vm_id)) for vm_id in machines],
            )
            engine.networks.leases.lease([LeaseRequest(0, vm_id, 0) for vm_id in machines])
        engine.close()

    return take


def failures(result):
    return [str(item.error) for item in result.errors]


def only(result):
    assert not failures(result)
    return result.payload["networks"][0]


def test_created_again_updated_absent_and_absent_again_as_predicted(module):
    """Each step in check mode first, which has to say the same as the real run after it, and to change nothing."""
    steps = [
        (PUBLIC, True),
        (PUBLIC, False),
        ({"name": "Public"}, False),
        ({"name": "Public", "dns": ["10.66.0.2"], "nat": True, "attributes": {"color": "blue"}}, True),
        ({"name": "Public", "dns": ["10.66.0.2"], "nat": True, "attributes": {"COLOR": "blue"}}, False),
        ({"name": "Public", "attributes": {"COLOR": ""}, "dns": []}, True),
        (ABSENT, True),
        (ABSENT, False),
    ]
    for item, changes in steps:
        predicted = module(item, check=True)
        again = module(item, check=True)
        assert again.diff() == predicted.diff()
        real = module(item)
        assert (predicted.changed, real.changed) == (changes, changes), item
        for view in (*predicted.payload["networks"], *real.payload["networks"]):
            del view["id"], view["uuid"]
        assert predicted.payload["networks"] == real.payload["networks"]


def test_what_is_returned(module):
    made = only(module(PUBLIC))
    assert {key: made[key] for key in ("id", "name", "bridge", "vn_mad", "nat", "state", "size", "used")} == {
        "id": 0,
        "name": "Public",
        "bridge": "nbr0",
        "vn_mad": "bridge",
        "nat": False,
        "state": "READY",
        "size": 100,
        "used": 0,
    }
    assert made["attributes"] == {
        "NETWORK_ADDRESS": "10.66.0.0",
        "NETWORK_MASK": "255.255.255.0",
        "GATEWAY": "10.66.0.1",
        "DNS": "10.66.0.1 9.9.9.9",
        **FILTERED,
    }
    assert made["address_ranges"][0]["mac"] == "02:00:0a:42:00:0a"
    result = module(name="Public")
    assert result.payload["network"] == made
    assert result.payload["known"] == [made["uuid"]]
    json.dumps(result.payload)


def test_a_bare_host_in_check_mode(module, tmp_path):
    result = module({"name": "Private", "address_ranges": [{"type": "ETHER", "size": 5}]}, {"name": "Next"}, check=True)
    first, second = result.payload["networks"]
    assert (first["id"], first["uuid"], first["bridge"], second["bridge"]) == (None, None, "onebr0", "onebr1")
    assert list(tmp_path.iterdir()) == []


def test_the_others_go_on_when_one_cannot_be(module):
    wrong = {**PUBLIC, "name": "Wrong", "bridge": "nbr1", "address_ranges": [{"ip": "10.66.0.1", "size": 5}]}
    twice = [{**PUBLIC, "name": "Twice", "bridge": "nbr2"}, {"name": "Twice", "state": "absent"}]
    result = module(wrong, PUBLIC, *twice, {"name": "../x"}, {"name": "Dummy", "vn_mad": "dummy"})
    assert [n["name"] for n in result.payload["networks"]] == ["Public"]
    said = failures(result)
    assert len(said) == 5
    assert [text for text in said if "network Twice: the list has it twice" in text] == said[:2]
    assert "network Wrong" in said[2] and "holds the gateway 10.66.0.1" in said[2]
    assert "../x" in said[3]
    assert "network Dummy" in said[4]
    assert result.changed
    assert only(module(name="Public"))["nat"] is False


def test_nothing_of_a_refused_change_is_kept(module, lease):
    """The bridge and the DNS come first; the range that can't shrink takes them back."""
    before = only(module(PUBLIC))
    lease(0, 1)
    changed = {"dns": "9.9.9.9", "nat": True, "address_ranges": [{"ip": "10.66.0.10", "size": 1}]}
    result = module({"name": "Public", **changed})
    assert "SIZE = 1, it is 100: addresses of it are leased by VM web-1 (id 1)" in failures(result)[0]
    assert not result.changed
    assert only(module(name="Public")) == {
        **before,
        "used": 2,
        "address_ranges": [{**before["address_ranges"][0], "used": 2}],
    }
    assert "VM web-0 (id 0), VM web-1 (id 1)" in failures(module(ABSENT))[0]


def sizes(network):
    return [(r["ar_id"], r["type"], r["ip"], r["size"]) for r in network["address_ranges"]]


def test_ranges_grow_are_added_and_removed(module, lease):
    module(PUBLIC)
    lease(0)

    def ranges(*entries):
        return module({"name": "Public", "address_ranges": list(entries)})

    more = [{"ip": "10.66.0.10", "size": 120}, {"ip": "10.66.0.200", "size": 10}, {"type": "ETHER", "size": 5}]
    expected = [(0, "IP4", "10.66.0.10", 120), (1, "IP4", "10.66.0.200", 10), (2, "ETHER", "", 5)]
    for changes in (True, False):
        result = ranges(*more)
        assert (result.changed, sizes(only(result))) == (changes, expected)
    # One that is not listed stays; by its number alone; without a size.
    assert sizes(only(ranges({"ar_id": 2, "size": 7})))[2] == (2, "ETHER", "", 7)
    assert not ranges({"ip": "10.66.0.200"}, {"ar_id": 0}).changed
    # Exchanged in one run: what goes makes room for what comes.
    swapped = ranges({"ip": "10.66.0.190", "size": 30}, {"ip": "10.66.0.200", "state": "absent"})
    assert sizes(only(swapped)) == [expected[0], (2, "ETHER", "", 7), (3, "IP4", "10.66.0.190", 30)]
    assert not ranges({"ip": "10.66.0.200", "state": "absent"}).changed
    assert "leased by VM web-0" in failures(ranges({"ar_id": 0, "state": "absent"}))[0]
    assert "never moves" in failures(ranges({"ar_id": 0, "ip": "10.66.0.11", "size": 5}))[0]
    assert "no range of that number" in failures(ranges({"ar_id": 9, "size": 5}))[0]
    assert "shares addresses" in failures(ranges({"ip": "10.66.0.100", "size": 5}))[0]


def test_a_network_moves_to_other_addresses_in_one_run(module):
    module(PUBLIC)
    old, new = {"ip": "10.66.0.10", "state": "absent"}, {"ip": "10.67.0.10", "size": 5}
    moved = {"network_address": "10.67.0.0/16", "gateway": "10.67.0.1", "address_ranges": [new, old]}
    assert sizes(only(module({"name": "Public", **moved}))) == [(1, "IP4", "10.67.0.10", 5)]


def test_attributes_of_a_range_go_to_its_leases(module, tmp_path):
    own = {"gateway": "10.66.0.2", "dns": ["9.9.9.9", "10.66.0.2"]}
    module({**PUBLIC, "address_ranges": [{**PUBLIC["address_ranges"][0], "attributes": own}]})
    engine = EmbeddedEngine(str(tmp_path))
    network = engine.networks.info("Public")
    values = engine.networks.nic_values(network, 0)
    engine.close()
    assert (values["GATEWAY"], values["DNS"], values["NETWORK_MASK"]) == (
        "10.66.0.2",
        "9.9.9.9 10.66.0.2",
        "255.255.255.0",
    )


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"name": "Public", "netwrok_mask": "24"}, ["network Public", "'netwrok_mask'", "'network_mask'"]),
        (
            {"name": "P", "address_ranges": [{"ip": "10.0.0.1", "siz": 5}]},
            ["network P: address_ranges", "'siz'", "'size'"],
        ),
        ({"name": "P", "vn_mad": "fw"}, ["network P", "vn_mad", "bridge, dummy", "vxlan"]),
        ({"name": "P", "guest_mtu": "big"}, ["network P: guest_mtu 'big'", "whole number"]),
        (
            {"name": "P", "address_ranges": [{"ip": "10.0.0.1", "size": "many"}]},
            ["network P: address_ranges[0]: size 'many'", "whole number"],
        ),
        ({"name": "P", "nat": "perhaps"}, ["network P: nat 'perhaps'", "true or false"]),
        ({"name": "P", "dns": [{"a": 1}]}, ["network P: dns", "it is a dict"]),
        ({"name": "P", "attributes": ["A"]}, ["network P: attributes", "it is a list"]),
        ({"name": "P", "attributes": {"A B": 1}}, ["network P: attribute name 'A B'", "A_B"]),
        ({"name": "P", "network_address": "127.0.0.0/8"}, ["network P: NETWORK_ADDRESS = 127.0.0.0/8", "no machines"]),
        ({"name": "P", "bridge": "lo"}, ["network P: BRIDGE = 'lo'", "Choose another"]),
        (
            {"name": "P", "network_address": "10.70.0.0/24", "gateway": "10.70.0.255"},
            ["network P: GATEWAY = 10.70.0.255", "10.70.0.0/24"],
        ),
        ({"name": "P", "address_ranges": {"ip": "10.0.0.1"}}, ["network P: address_ranges", "list"]),
    ],
)
def test_unknown_keys_and_wrong_types(module, tmp_path, item, parts):
    result = module(PUBLIC, item) if item["name"] == "P" else module(item)
    for part in parts:
        assert part in str(result.errors[0].error)
    assert [view["name"] for view in result.payload["networks"]] == ["Public"] * (item["name"] == "P")


def test_types_of_the_list_are_those_of_the_options(module):
    item = {**PUBLIC, "nat": "yes", "guest_mtu": "1400", "metric": 0, "search_domain": ["example.org", "lab"]}
    made = only(module({**item, "address_ranges": [{"ip": "10.66.0.10", "size": "100"}]}))
    assert made["nat"] is True
    wanted = {"GUEST_MTU": "1400", "METRIC": "0", "SEARCH_DOMAIN": "example.org lab"}
    assert {key: made["attributes"][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("attributes", "part"),
    [({"GATWAY": "10.66.0.1"}, "did you mean GATEWAY?"), ({"VLAN_IDSS": "2-3"}, "did you mean VLAN_IDS?")],
)
def test_attributes_that_look_like_something_else_warn(module, attributes, part):
    result = module({**PUBLIC, "attributes": attributes})
    assert part in "".join(result.warnings)
    assert set(attributes) <= set(only(result)["attributes"])


def test_own_attributes_are_kept_in_silence(module):
    result = module({**PUBLIC, "attributes": {"color": "blue", "Floor": 3, "VLAN_ID": 42}})
    assert result.warnings == []
    kept = {"COLOR": "blue", "FLOOR": "3", "VLAN_ID": "42"}
    assert kept.items() <= only(result)["attributes"].items()


def test_a_gateway_elsewhere_warns(module):
    assert "GATEWAY 10.67.0.1 is not in 10.66.0.0/24" in module({**PUBLIC, "gateway": "10.67.0.1"}).warnings[0]


def test_options_and_attributes_that_disagree(module):
    assert "Give one of the two" in failures(module({**PUBLIC, "attributes": {"gateway": "10.66.0.2"}}))[0]
    assert "attribute BRIDGE" in failures(module({**PUBLIC, "attributes": {"bridge": "x"}}))[0]
    assert only(module({**PUBLIC, "attributes": {"gateway": "10.66.0.1"}}))["id"] == 0


# --- what no node can have --------------------------------------------------------------------------------------------


def refused(result):
    return [
        {"network": view, "earlier": result.payload["earlier"][view["name"]]} for view in result.payload["networks"]
    ]


def undone(module, result):
    real = module(undo=refused(result))
    assert not failures(real)
    return real


def test_a_new_network_that_no_node_can_have_is_not_kept(module):
    result = undone(module, module({**PUBLIC, "name": "Bad"}))
    assert result.changed
    assert result.payload["networks"][0]["state"] == "DONE"
    assert result.payload["known"] == []
    assert result.warnings == [
        "network Bad: no node of this run can have it as the list says: it is not kept in the catalog"
    ]


def test_a_change_that_no_node_can_have_is_taken_back(module, lease):
    ranges = [{"ip": "10.66.0.10", "size": 100}, {"ip": "10.66.0.200", "size": 5}, {"ip": "10.66.0.240", "size": 5}]
    before = only(module({**PUBLIC, "address_ranges": ranges, "attributes": {"COLOR": "blue"}}))
    changed = module(
        {
            "name": "Public",
            "nat": True,
            "bridge": "nbr7",
            "dns": "9.9.9.9",
            "attributes": {"COLOR": "", "FLOOR": "3"},
            "address_ranges": [
                {"ip": "10.66.0.10", "size": 150},
                {"ip": "10.66.0.200", "size": 2},
                {"ip": "10.66.0.240", "state": "absent"},
                {"ip": "10.66.0.250", "size": 2},
            ],
        }
    )
    assert changed.payload["earlier"] == {"Public": before}
    result = undone(module, changed)
    assert "it is in the catalog as it was before" in result.warnings[0]
    after = only(module(name="Public"))
    # Nothing was leased in the one that went and came again.
    assert after["address_ranges"].pop()["ip"] == before["address_ranges"].pop()["ip"] == "10.66.0.240"
    assert after == before
    assert after["attributes"]["COLOR"] == "blue"


def test_what_was_not_changed_is_not_taken_back(module):
    module(PUBLIC)
    assert module(PUBLIC).payload["earlier"] == {}


def test_what_machines_lease_of_stays(module, lease):
    made = module(PUBLIC)
    lease(0)
    result = module(undo=refused(made))
    assert "it stays so in the catalog: network Public: delete" in result.warnings[0]
    assert "leased by VM web-0 (id 0)" in result.warnings[0]
    assert not result.changed
    assert only(module(name="Public"))["used"] == 1


def test_what_another_run_changed_meanwhile_stays(module):
    made = module(PUBLIC)
    module({"name": "Public", "dns": "9.9.9.9"})
    result = module(undo=refused(made))
    assert "another run has changed it meanwhile" in result.warnings[0]
    assert not result.changed


def test_in_check_mode_it_is_foreseen(module):
    made = module(PUBLIC, check=True)
    result = module(undo=refused(made), check=True)
    assert result.changed
    assert [view["state"] for view in result.payload["networks"]] == ["DONE"]
    before = only(module(PUBLIC))
    changed = module({"name": "Public", "dns": "9.9.9.9"}, check=True)
    result = module(undo=refused(changed), check=True)
    assert only(result) == before
    assert only(module(name="Public")) == before


# --- networks as OpenNebula's documents write them -------------------------------------------------------------------

PUBLIC_NET = """NAME = "Public"
TYPE = FIXED
BRIDGE = vbr1
BROADCAST=10.66.0.255
NETMASK=255.255.255.0
NETWORK=10.66.0.0
GATEWAY=10.66.0.1
PEERDNS=yes
DNS=10.66.0.2
LEASES = [IP=10.66.0.10]
LEASES = [IP=10.66.0.11]
LEASES = [IP=10.66.0.20, MAC=02:00:00:00:00:14]
"""
RED_NET = "NAME = Red\nTYPE = RANGED\nNETWORK_SIZE = C\nNETWORK_ADDRESS = 192.168.9.0\nGATEWAY = 192.168.9.1\n"


@pytest.mark.parametrize("text", [PUBLIC_NET, RED_NET])
def test_a_template_again_and_absent_as_predicted(module, text):
    steps = [
        ({}, True),
        ({}, False),
        ({"attributes": {"COLOR": "blue"}}, True),
        ({}, False),
        ({"state": "absent"}, True),
    ]
    for more, changes in steps:
        item = {"template": text, **more}
        predicted, real = module(item, check=True), module(item)
        assert not failures(real)
        assert (predicted.changed, real.changed) == (changes, changes), more
    assert not module({"template": text, "state": "absent"}).changed


def test_what_a_template_of_fixed_leases_makes(module):
    made = only(module({"template": PUBLIC_NET}))
    assert (made["name"], made["bridge"], made["vn_mad"], made["size"]) == ("Public", "vbr1", "dummy", 3)
    assert sizes(made) == [(0, "IP4", "10.66.0.10", 1), (1, "IP4", "10.66.0.11", 1), (2, "IP4", "10.66.0.20", 1)]
    assert [r["mac"] for r in made["address_ranges"]] == ["02:00:0a:42:00:0a", "02:00:0a:42:00:0b", "02:00:00:00:00:14"]
    assert made["attributes"] == {
        "BROADCAST": "10.66.0.255",
        "NETWORK_MASK": "255.255.255.0",
        "NETWORK_ADDRESS": "10.66.0.0",
        "GATEWAY": "10.66.0.1",
        "PEERDNS": "yes",
        "DNS": "10.66.0.2",
        **FILTERED,
    }
    more = only(module({"template": PUBLIC_NET + "LEASES = [IP=10.66.0.12]"}))
    assert sizes(more)[3] == (3, "IP4", "10.66.0.12", 1)


def test_what_a_ranged_template_makes(module):
    made = only(module(template=RED_NET))
    assert (made["name"], made["bridge"], sizes(made)) == ("Red", "onebr0", [(0, "IP4", "192.168.9.2", 253)])
    assert made["attributes"]["NETWORK_MASK"] == "255.255.255.0"
    mapping = {"type": "RANGED", "network_size": "C", "network_address": "192.168.9.0", "gateway": "192.168.9.1"}
    assert not module(name="Red", template=mapping).changed
    assert not module(template=json.dumps({**mapping, "NAME": "Red"})).changed


def test_templates_that_cannot_be_keep_nobody_from_the_others(module):
    result = module(
        {"template": "NAME = A\nTYPE = FIXED"},
        {"name": "B", "template": "NAME = C"},
        {"name": "D", "template": "LEASES = [ IP = 10.0.0.5\n MAC = 02:00:00:00:00:05 ]"},
        {"template": 5},
        {"name": "E", "template": "NETWORK_ADDRESS = 10.0.0.0/24", "network_address": "10.1.0.0/24"},
        {"template": RED_NET},
    )
    said = failures(result)
    assert "network A: TYPE = FIXED" in said[0]
    assert "it has no LEASES" in said[0]
    assert "NAME = 'C'" in said[1]
    assert "network D: line 1, column 25: no comma after the value of IP" in said[2]
    assert "it is a int" in said[3]
    assert "Give one of the two" in said[4]
    assert [network["name"] for network in result.payload["networks"]] == ["Red"]


MASK = "255.255.255.0"
# --- networks of earlier versions, and other drivers ------------------------------------------------------------------
IDLE = {"PHYDEV": "eth0", "MTU": "1400", "VLAN_ID": "7", "SECURITY_GROUPS": "web", "DHCP": "yes"}


@pytest.fixture
def old(tmp_path):
    """A catalog of before leases had holders, with these networks, their attributes, and leases of each kind."""

    def make(*networks):
        with contextlib.closing(sqlite3.connect(tmp_path / "nebula.db", isolation_level=None)) as db:
            before = next(number for number, step in enumerate(MIGRATIONS) if "leases ADD COLUMN holder" in step)
            for step in MIGRATIONS[:before]:
                db.executescript(step)
            db.execute(f"PRAGMA user_version = {before}")
            db.execute("INSERT INTO sequences VALUES ('networks', 9)")
            db.executemany(
                "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
                " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '{}', 0)",
                [(i, f"vm-{i}", str(i)) for i in range(2)],
            )
            for number, (name, driver, nat, attributes) in enumerate(networks):
                values = {"NETWORK_ADDRESS": f"10.{number}.0.0", "NETWORK_MASK": "255.255.255.0", **attributes}
                db.execute(
                    "INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
                    (number, name, f"0000000{number}-0000-4000-8000-000000000000", driver, f"nbr{number}", nat,
                     json.dumps(values, sort_keys=True)),
                )  # fmt: skip
                db.execute(
                    "INSERT INTO address_ranges (network_id, ar_id, type, size, ip, mac, used, first_free)"
                    " VALUES (?, 0, 'IP4', 9, ?, ?, 3, 3)",
                    (number, f"10.{number}.0.10", f"02:00:0a:0{number}:00:0a"),
                )
                db.executemany(
                    "INSERT INTO leases VALUES (?, 0, ?, ?, ?)",
                    [(number, 0, 0, 0), (number, 1, 1, None), (number, 2, None, 77)],
                )

    return make


@pytest.mark.parametrize(("driver", "nat"), [("bridge", False), ("bridge", True), ("dummy", False)])
def test_what_an_earlier_version_did_not_act_on_nothing_acts_on(module, old, driver, nat):
    """The node may be reached by that interface."""
    gateway = {"GATEWAY": "10.0.0.1", "NODE_ACCESS": "NOTHING"} if nat else {}
    old(("Old", driver, nat, {**IDLE, **gateway}), ("Plain", driver, False, {"DESCRIPTION": "No PHYDEV: here"}))
    again = {
        "name": "Old", "vn_mad": driver, "bridge": "nbr0", "nat": nat, "network_address": "10.0.0.0/24",
        "attributes": {**IDLE, **gateway}, "address_ranges": [{"ip": "10.0.0.10", "size": 9}],
    }  # fmt: skip
    again["attributes"].pop("NODE_ACCESS", None)
    for check in (True, False):
        result = module(again, {"name": "Plain"}, check=check)
        assert not result.errors, result.errors[0].error
        assert not result.changed
    view, plain = (from_item(item) for item in result.payload["networks"])
    assert uplink.uplink(view) is None
    assert not uplink.joins_nodes(view)
    network_checks.check(view)
    assert uplink.PHYDEV not in plain.attributes
    assert plain.attributes == {"DESCRIPTION": "No PHYDEV: here", "NETWORK_ADDRESS": "10.1.0.0", "NETWORK_MASK": MASK}
    assert [r.used for r in view.address_ranges] == [3]
    if driver == "bridge":
        assert "with phydev: eth0, the option, eth0 becomes a port of its bridge" in " ".join(result.warnings)


@pytest.mark.parametrize(
    "asked", [{"phydev": "eth0"}, {"attributes": {"PHYDEV": "eth9"}}, {"attributes": {"PHYDEV_UNUSED": ""}}]
)
def test_and_it_acts_once_it_is_asked_for_anew(module, old, asked):
    old(("Old", "bridge", False, {"PHYDEV": "eth0"}))
    first, second = module({"name": "Old", **asked}), module({"name": "Old", **asked})
    assert (first.changed, second.changed) == (True, False)
    made = uplink.uplink(from_item(first.payload["networks"][0]))
    assert made is not None
    assert made.phydev in ("eth0", "eth9")
    assert "PHYDEV_UNUSED" not in first.payload["networks"][0]["attributes"]


def test_with_nat_it_can_not_be(module, old):
    old(("Old", "bridge", True, {"PHYDEV": "eth0", "GATEWAY": "10.0.0.1", "NODE_ACCESS": "NOTHING"}))
    result = module({"name": "Old", "phydev": "eth0"})
    assert "its bridges are joined by eth0, and each of them would have the gateway's address" in str(
        result.errors[0].error
    )


@pytest.mark.parametrize("attributes", [{"SECURITY_GROUPS": "0"}, {"DHCP": "no"}, {"FILTER_MAC_SPOOFING": False}])
def test_what_asks_for_nothing_is_every_drivers(module, attributes):
    """Templates of a real oned say these of every network."""
    result = module({"name": "Net", "network_address": "10.0.0.0/24", "attributes": attributes})
    assert not result.errors, result.errors[0].error
    assert not [warning for warning in result.warnings if "act" in warning]


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        ({"vn_mad": "vxlan", "phydev": "eth1", "vlan_id": 70000}, {"vn_mad": "802.1Q"}, {"VLAN_ID": "2"}),
        ({"vn_mad": "vxlan", "phydev": "eth1"}, {"vn_mad": "bridge"}, {}),
        ({"vn_mad": "vxlan", "phydev": "eth1"}, {"vn_mad": "ovn", "phydev": ""}, {"GUEST_MTU": "1442"}),
        ({"vn_mad": "ovn"}, {"vn_mad": "bridge"}, {}),
        ({"vn_mad": "vxlan", "phydev": "eth1", "guest_mtu": 1300}, {"vn_mad": "bridge"}, {"GUEST_MTU": "1300"}),
        (
            {"vn_mad": "802.1Q", "phydev": "eth1"},
            {"vn_mad": "vxlan", "vlan_id": 8},
            {"VLAN_ID": "8", "GUEST_MTU": "1450"},
        ),
    ],
)
def test_another_driver_does_not_take_over_what_was_chosen_for_the_former(module, first, then, left):
    assert not module({"name": "Net", **first}).errors
    predicted, result = module({"name": "Net", **then}, check=True), module({"name": "Net", **then})
    assert not result.errors, result.errors[0].error
    found = result.payload["networks"][0]["attributes"]
    assert {key: found[key] for key in ("VLAN_ID", "GUEST_MTU") if key in found} == left
    assert predicted.payload["networks"] == result.payload["networks"]
    assert not module({"name": "Net", **then}).changed


@pytest.mark.parametrize("name", ["a b", "a,b", "a:b", "it's", 'the "one"', "a\\b"])
def test_a_name_that_no_bridge_mapping_can_have_is_refused(module, name):
    for check in (True, False):
        result = module({"name": "Out", "vn_mad": "ovn", "physical_network": name}, check=check)
        assert "not a name that a bridge mapping can have" in str(result.errors[0].error)


def test_addresses_are_reserved_and_let_go(module):
    kept = {**PUBLIC, "reserved": ["10.66.0.12", "10.66.0.20-10.66.0.22"]}
    first = module(kept)
    assert not first.errors, first.errors
    assert first.payload["networks"][0]["attributes"]["RESERVED"] == "10.66.0.12 10.66.0.20-10.66.0.22"
    assert first.payload["networks"][0]["used"] == 4 and not module(kept).changed
    assert module({**PUBLIC, "reserved": []}).payload["networks"][0]["used"] == 0
    for given, words in (("10.66.0.9-10.66.0.8", "not a span"), ("10.0.0.0-10.255.0.0", "4096"), ("x", "'x'")):
        (item,) = module({**PUBLIC, "reserved": [given]}).errors
        assert words in str(item.error), str(item.error)


# --- Open vSwitch -----------------------------------------------------------------------------------------------------


def switched(name, **values):
    return {"name": name, "vn_mad": "ovswitch", "bridge": "ovsbr0", **values}


def test_networks_of_open_vswitch_share_a_bridge_by_their_vlans(module):
    items = [
        switched("One", vlan_id=10),
        switched("Two", vlan_ids="10-12"),
        switched("Plain", attributes={"AUTOMATIC_VLAN_ID": "NO"}),
    ]
    predicted, made = module(*items, check=True), module(*items)
    assert (
        not made.errors and predicted.payload["networks"][0]["attributes"] == made.payload["networks"][0]["attributes"]
    )
    found = {view["name"]: (view["bridge"], view["attributes"].get("VLAN_ID")) for view in made.payload["networks"]}
    assert found == {"One": ("ovsbr0", "10"), "Two": ("ovsbr0", "11"), "Plain": ("ovsbr0", None)}
    assert not module(*items).changed
    assert "VLAN_ID = 11: network Two (id 1) has the same" in failures(module(switched("Three", vlan_id=11)))[0]
    assert "no VLAN_ID: network Plain (id 2) has the same" in failures(module(switched("Three")))[0]
    # OpenNebula's word for a number that is chosen.
    (four,) = module(switched("Four", attributes={"AUTOMATIC_VLAN_ID": "YES"})).payload["networks"]
    assert four["attributes"]["VLAN_ID"] not in ("10", "11")
    message = failures(module(switched("Five", vlan_id=30, phydev="eth1")))[0]
    assert "BRIDGE = ovsbr0, PHYDEV = eth1: it is the bridge of network" in message and "PHYDEV = (none)" in message
    assert "it is the bridge of network One" in failures(module({"name": "Linux", "bridge": "ovsbr0"}))[0]


def test_a_network_of_open_vswitch_gets_the_bridge_that_has_its_physical_device(module):
    one, two = ({"name": name, "vn_mad": "ovswitch", "phydev": "eth1", "vlan_ids": "5-9"} for name in ("One", "Two"))
    views = module(one, two).payload["networks"]
    assert [view["bridge"] for view in views] == ["onebr0", "onebr0"]
    assert not module(one, two).changed
    message = failures(module({**two, "name": "Three", "bridge": "other"}))[0]
    assert "device eth1 on the nodes" in message and "give bridge: onebr0" in message
    message = failures(module({"name": "Four", "phydev": "eth1"}))[0]
    assert "device eth1 on the nodes" in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vlan_id": 4095}, "not a number that ovswitch has"),
        ({"vlan_tagged_id": "10,x"}, "x is neither a VLAN id nor a range of them"),
        ({"vlan_tagged_id": "20-10"}, "20-10 is neither"),
        ({"vlan_tagged_id": "0-5"}, "0-5 is neither"),
        ({"nat": True, "network_address": "10.0.0.0/24", "gateway": "10.0.0.1"}, "no node is a member"),
        ({"dhcp": True}, "its driver is ovswitch, and nothing would act on it"),
    ],
)
def test_what_open_vswitch_can_not_have_is_refused(module, values, words):
    for check in (True, False):
        result = module(switched("Net", **values), check=check)
        assert words in failures(result)[0]
        assert not result.payload["networks"]


@pytest.mark.parametrize("driver", ["bridge", "802.1Q", "vxlan", "ovn"])
def test_a_trunk_is_refused_where_nothing_acts_on_it(module, driver):
    item = {"name": "Net", "vn_mad": driver, **({} if driver in ("bridge", "ovn") else {"phydev": "eth1"})}
    message = failures(module({**item, "vlan_tagged_id": "10,20"}))[0]
    assert f"VLAN_TAGGED_ID = 10,20: its driver is {driver}" in message and "vn_mad: ovswitch" in message


def test_a_trunk_of_an_older_catalog_stays_with_a_warning(module, tmp_path):
    assert not module({"name": "Old"}).errors
    engine = EmbeddedEngine(str(tmp_path))
    with engine.session():
        engine.networks.update("Old", attributes={"VLAN_TAGGED_ID": "2,3"})
    engine.close()
    result = module({"name": "Old", "attributes": {"VLAN_TAGGED_ID": "2,3"}})
    assert not result.changed and not result.errors
    assert "attribute VLAN_TAGGED_ID is kept, but its driver bridge does not act on it" in "".join(result.warnings)


def test_the_vlan_of_a_network_with_machines_stays(module, lease):
    item = switched("Net", vlan_id=10, address_ranges=[{"ip": "10.66.0.10", "size": 5}])
    assert not module(item).errors
    assert module({**item, "vlan_id": 11, "vlan_tagged_id": "20"}).changed
    lease(7)
    for change in ({"vlan_id": 12}, {"vlan_tagged_id": "20,21"}):
        assert "it is" in failures(module({**item, "vlan_id": 11, "vlan_tagged_id": "20", **change}))[0]
    assert not module({**item, "vlan_id": 11, "vlan_tagged_id": "20"}).changed


def test_a_network_comes_with_the_others_of_its_bridge(module):
    """So that a run of one of them tells nodes of all."""
    first, second = ({"name": name, "bridge": "br0"} for name in ("Public", "Private"))
    (alone,) = module(first).payload["networks"]
    assert "beside" not in alone
    (made,) = module(second).payload["networks"]
    assert [each["name"] for each in made["beside"]] == ["Public"]
    again = module(second)
    assert not any(item.is_changed for item in again.items)
    (foreseen,) = module(dict(second, bridge="br1"), check=True).payload["networks"]
    (moved,) = module(dict(second, bridge="br1")).payload["networks"]
    assert foreseen == moved and [each["name"] for each in moved["beside"]] == ["Public"]
    (gone,) = module({"name": "Public", "state": "absent"}).payload["networks"]
    assert (gone["state"], "beside" in gone) == ("DONE", False)
