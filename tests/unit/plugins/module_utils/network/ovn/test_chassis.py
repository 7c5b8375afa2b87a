# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which chassis keeps a host out of the southbound database, and which of them may go."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import chassis as registration
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.certificates import Files
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places


def database(**chassis):
    """Rows of chassis by their names, with their addresses."""
    return {
        "Chassis": [{"_uuid": ["uuid", f"c-{name}"], "name": name} for name in chassis],
        "Chassis_Private": [{"_uuid": ["uuid", f"p-{name}"], "name": name} for name in chassis],
        "Encap": [{"chassis_name": name, "ip": address} for name, address in chassis.items()],
    }


def test_a_former_name_makes_room():
    rows = database(old="192.0.2.11", node2="192.0.2.12")
    former, kept = registration.sort_rows(rows, ["new", "node2"], {"new": "192.0.2.11"})
    assert [(each.name, each.host, each.rows) for each in former] == [
        ("old", "new", {"Chassis": "c-old", "Chassis_Private": "p-old"})
    ]
    assert kept == []


@pytest.mark.parametrize(
    ("rows", "unregistered", "why"),
    [
        ({"node2": "192.0.2.11"}, {"new": "192.0.2.11"}, "the inventory has a host of that name"),
        ({"old": "192.0.2.11", "new": "192.0.2.13"}, {"new": "192.0.2.11"}, "is there with another address"),
        ({"old": "192.0.2.11"}, {"new": "192.0.2.11", "node2": "192.0.2.11"}, "several hosts say"),
    ],
)
def test_others_stay(rows, unregistered, why):
    former, kept = registration.sort_rows(database(**rows), ["new", "node2"], unregistered)
    assert former == []
    assert kept and all(why in each.why for each in kept)


@pytest.mark.parametrize("address", ["", "192.0.2.99"])
def test_an_address_that_nobody_has_removes_nothing(address):
    assert registration.sort_rows(database(old="192.0.2.11"), ["new"], {"new": address}) == ([], [])


@pytest.mark.parametrize("alive", [True, False])
def test_one_that_is_alive_stays(monkeypatch, alive):
    rows = database(old="192.0.2.11")
    monkeypatch.setattr(registration, "ALIVE_SECONDS", 0.2)
    written = []
    monkeypatch.setattr(registration.ovsdb_client, "transact", lambda *given: written.append(given[2][0]["op"]))

    def select(_socket, _name, tables, columns=None):
        if tables == ["NB_Global"]:
            return {"NB_Global": [{"nb_cfg": 7}]}
        if columns:
            return {"Chassis_Private": [{"name": "old", "nb_cfg": 7 if alive else 6}]}
        return rows

    monkeypatch.setattr(registration.ovsdb_client, "select", select)
    former, kept = registration.sort_out(Places(), ["new"], {"new": "192.0.2.11"}, act=True)
    assert ([each.name for each in former], [each.why for each in kept]) == (
        ([], ["it is alive: its ovn-controller answers"]) if alive else (["old"], [])
    )
    assert written == ["mutate"]
    assert registration.sort_out(Places(), ["new"], {"new": "192.0.2.11"}, act=False)[0]
    assert written == ["mutate"]


def test_the_database_is_asked_who_has_the_address(monkeypatch):
    asked = []

    def run(argv, **_options):
        asked.append(argv)
        return SimpleNamespace(stdout=json.dumps([{"rows": [{"chassis_name": "old"}]}]))

    monkeypatch.setattr(registration, "run", run)
    tls = Files("/k", "/c", "/a")
    assert registration.chassis_at("ssl:192.0.2.1:6642", tls, "geneve", "192.0.2.11") == "old"
    assert "--private-key=/k" in asked[0] and '["ip", "==", "192.0.2.11"]' in asked[0][-1]
    monkeypatch.setattr(registration, "run", lambda *_argv, **_options: SimpleNamespace(stdout='[{"rows": []}]'))
    assert registration.chassis_at("tcp:192.0.2.1:6642", None, "geneve", "192.0.2.11") == ""


def test_of_a_host_that_was_forgotten_its_own_chassis_goes_unless_it_is_alive(monkeypatch):
    rows = database(node1="192.0.2.11", node2="192.0.2.12")
    monkeypatch.setattr(registration, "_read", lambda _places: rows)
    for alive in (set(), {"node2"}):
        monkeypatch.setattr(registration, "_find_alive", lambda _places, _names, alive=alive: alive)
        former, kept = registration.sort_out(Places(), ["node1", "node2"], {}, True, ["node2", "nobody"])
        assert [(each.name, each.rows) for each in former] == (
            [] if alive else [("node2", {"Chassis": "c-node2", "Chassis_Private": "p-node2"})]
        )
        assert [each.why for each in kept] == (["it is alive: its ovn-controller answers"] if alive else [])


def test_chassis_of_no_host_of_the_inventory(monkeypatch):
    monkeypatch.setattr(registration, "_read", lambda _places: database(node1="192.0.2.11", old="192.0.2.12"))
    found = registration.chassis_without_host(Places(), ["node1", "node3"])
    assert [(each.name, each.address) for each in found] == [("old", "192.0.2.12")]
