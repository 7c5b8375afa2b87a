# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import KINDS, Wanted
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.network.address_probe import Target
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.verify_guests import (
    Machine,
    machines_of,
    sources,
)

RECORD = {
    "id": 0,
    "name": "web-0",
    "console": "/var/lib/nebula/datastores/0/0/console.log",
    "hostname": "web-0",
    "addresses": ["10.66.0.10"],
    "state": "RUNNING",
}


def machines(*items: Any, **options: Any) -> list[Wanted]:
    return [machine.wanted for machine in machines_of(json.dumps(items), **options)]


def whole(item: Any, **options: Any) -> Machine:
    (found,) = machines_of(json.dumps([item]), **options)
    return found


def test_a_record_is_a_machine() -> None:
    assert machines(RECORD) == [Wanted(0, "web-0", RECORD["console"], "web-0", ("10.66.0.10",))]  # type: ignore[arg-type]


def test_one_that_was_renamed_goes_by_either_name() -> None:
    (wanted,) = machines(dict(RECORD, former_hostname="old"))
    assert wanted.is_called("web-0") and wanted.is_called("OLD.example.org") and not wanted.is_called("other")


def test_there_is_nothing_to_hear_from_a_machine_without_context() -> None:
    silent = dict(RECORD, addresses=None, hostname="")
    assert machines(silent) == []
    assert machines(silent, pattern="login:")[0].pattern == "login:"
    assert machines(silent, patterns={"web-0": "up"})[0].pattern == "up"
    assert machines(silent, patterns={"web-1": "up"}) == []
    assert machines(dict(RECORD, addresses=[])) != []


def test_a_predicted_machine_is_left_out() -> None:
    assert machines(dict(RECORD, id=None, console=""), RECORD, pattern="x") == machines(RECORD, pattern="x")


def test_a_pattern_of_its_own_goes_first() -> None:
    found = machines(RECORD, dict(RECORD, id=1, name="db"), pattern="all", patterns={"db": "own"})
    assert [machine.pattern for machine in found] == ["all", "own"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}", "it is a dict"),
        ("nonsense", "not JSON"),
        ('["web-0"]', "it is a str"),
        ('[{"console": "/x", "name": "web"}]', "id or name"),
        ('[{"console": "/x", "id": "0", "name": "web"}]', "id or name"),
        ('[{"console": "/x", "id": 0, "name": "web", "addresses": "10.0.0.1"}]', "not a list"),
    ],
)
def test_what_can_not_be_meant_is_refused(text: str, found: str) -> None:
    with pytest.raises(InvalidValue, match=found):
        machines_of(text)


def test_a_pattern_is_text() -> None:
    with pytest.raises(InvalidValue, match="VM web: it is a int"):
        machines_of('[{"console": "/x", "id": 0, "name": "web"}]', patterns={"web": 5})


# -- who else can tell ------------------------------------------------------------------------------------------------
NIC = {"nic_id": 0, "bridge": "onebr0", "mac": "02:00:0A:42:00:0A", "ip": "10.66.0.10", "ip6": "", "ip6_ula": ""}


def test_the_addresses_that_a_guest_is_told_of_are_asked_for() -> None:
    second = {
        "bridge": "onebr1",
        "mac": "02:00:0a:43:00:0a",
        "ip": "10.67.0.10",
        "ip6": "2001:db8::10",
        "ip6_ula": "fd00::10",
    }
    item = dict(RECORD, addresses=["10.66.0.10", "2001:0db8:0::10", "fd00::10"], nics=[NIC, second])
    assert whole(item).targets == (
        Target(0, "onebr0", "02:00:0a:42:00:0a", ip_address("10.66.0.10")),
        Target(0, "onebr1", "02:00:0a:43:00:0a", ip_address("2001:db8::10")),
        Target(0, "onebr1", "02:00:0a:43:00:0a", ip_address("fd00::10")),
    )


def test_the_addresses_of_aliases_are_asked_for_where_their_nic_is() -> None:
    further = [
        {"parent_id": 0, "mac": "02:00:0a:42:00:0b", "ip": "10.66.0.11", "ip6": "", "ip6_ula": ""},
        # Neither is the guest told of it, nor is there such a NIC.
        {"parent_id": 0, "ip": "10.66.0.12"},
        {"parent_id": 7, "ip": "10.66.0.11"},
        5,
    ]
    item = dict(RECORD, addresses=["10.66.0.10", "10.66.0.11"], nics=[NIC], nic_aliases=further)
    assert whole(item).targets == (
        Target(0, "onebr0", "02:00:0a:42:00:0a", ip_address("10.66.0.10")),
        Target(0, "onebr0", "02:00:0a:42:00:0a", ip_address("10.66.0.11")),
    )
    assert len(whole(dict(item, nic_aliases="x")).targets) == 1


@pytest.mark.parametrize(
    "nics", [None, 5, ["x"], [{}], [dict(NIC, bridge="")], [dict(NIC, mac="")], [dict(NIC, ip="x")]]
)
def test_what_is_on_no_bridge_is_not_asked_for(nics: Any) -> None:
    assert whole(dict(RECORD, nics=nics)).targets == ()


def test_agents_are_asked_of_machines_that_are_this_nodes(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    root.mkdir()
    item = dict(RECORD, console=f"{root}/datastores/0/0/console.log", hypervisor="kvm", uuid="u")
    assert whole(item).mark is None, "there is no node"
    node_file.update(str(root), lambda before: before)
    node_file.accept(str(root), "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 1)
    assert whole(item).mark == Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 0, "u")
    for other in ({"hypervisor": "none"}, {"id": 5}, {"console": "/x/console.log"}):
        assert whole({**item, **other}).mark is None
    (root / "nebula.node").write_text("nonsense")
    assert whole(item).mark is None


def test_only_what_counts_is_asked(tmp_path: Path) -> None:
    item = dict(RECORD, nics=[NIC])
    for options, count in (({}, 1), ({"by": ["address"]}, 1), ({"by": ["console"]}, 0), ({"pattern": "x"}, 0)):
        found = [whole(item, **options)]
        with sources(found, lambda _name: pytest.fail("connected")) as others:
            assert [source.kind for source in others] == ["agent", "address"]
            told = "no address that could be asked for on a bridge of this node"
            assert [source.found(0) != told for source in others if source.kind == "address"] == [bool(count)]


def test_nothing_that_counts_is_refused() -> None:
    assert whole(RECORD).wanted.by == KINDS
    with pytest.raises(InvalidValue, match=r"the list is empty\. Name at least one of console, login, agent, address"):
        machines_of("[]", by=[])
