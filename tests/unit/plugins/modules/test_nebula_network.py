# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what it does, says and predicts."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.network import KEYS
from ansible_collections.nebula.provision.plugins.modules import nebula_network

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
            engine="embedded", root=str(tmp_path), networks=list(networks) or None, state="present", undo=None
        )
        params.update(single)
        return nebula_network.run(params, check)

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
        ({"name": "P", "vn_mad": "vxlan"}, ["network P", "vn_mad", "bridge, dummy", "vxlan"]),
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
    [
        ({"GATWAY": "10.66.0.1"}, "did you mean GATEWAY?"),
        ({"FILTER_IP_SPOOFING": True}, "FILTER_IP_SPOOFING is kept, but nothing acts on it yet"),
    ],
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
    assert sizes(made) == [
        (0, "IP4", "10.66.0.10", 1),
        (1, "IP4", "10.66.0.11", 1),
        (2, "IP4", "10.66.0.20", 1),
    ]
    assert [r["mac"] for r in made["address_ranges"]] == ["02:00:0a:42:00:0a", "02:00:0a:42:00:0b", "02:00:00:00:00:14"]
    assert made["attributes"] == {
        "BROADCAST": "10.66.0.255",
        "NETWORK_MASK": "255.255.255.0",
        "NETWORK_ADDRESS": "10.66.0.0",
        "GATEWAY": "10.66.0.1",
        "PEERDNS": "yes",
        "DNS": "10.66.0.2",
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
