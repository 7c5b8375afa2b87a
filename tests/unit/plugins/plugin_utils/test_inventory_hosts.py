# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, addresses, ways and groups of the hosts that machines become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.inventory_hosts import (
    Choice,
    NoCatalog,
    address_of,
    hosts_of,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.ssh_through_node import ALWAYS, NEVER

NAT = {"name": "Public", "nat": True}
ROUTED = {"name": "routed", "nat": False, "gateway_on_bridge": False}
OWN = {"name": "own", "nat": False, "gateway_on_bridge": True}
DEFAULT = Choice()
NODE = {"ansible_host": "192.0.2.7", "ansible_user": "operator"}


def vm(name: str, number: int = 0, *networks: str, **more: Any) -> dict[str, Any]:
    nics = [{"network": each, "ip": f"10.0.{place}.2", "ip6": f"fd00::{place}"} for place, each in enumerate(networks)]
    return {"id": number, "name": name, "state": "RUNNING", "host": "node1", "template": "", "nics": nics, **more}


def hosts(*vms: Mapping[str, Any], choice: Choice = DEFAULT, taken: tuple[str, ...] = ()) -> list[Any]:
    return hosts_of({"networks": [NAT, ROUTED, OWN], "vms": vms}, choice, taken, lambda _host: NODE)


@pytest.mark.parametrize(
    ("choice", "address"),
    [
        (Choice(), ("10.0.0.2", "Public")),
        (Choice(networks=["routed"]), ("10.0.1.2", "routed")),
        (Choice(networks=["nowhere", "rout*"]), ("10.0.1.2", "routed")),
        (Choice(networks=["nowhere"]), ("10.0.0.2", "Public")),
        (Choice(families=["ip6", "ip"]), ("fd00::0", "Public")),
        # A network that is wanted counts more than a family.
        (Choice(networks=["routed"], families=["ip6"]), ("fd00::1", "routed")),
    ],
)
def test_by_which_address(choice: Choice, address: tuple[str, str]) -> None:
    assert address_of(vm("a", 0, "Public", "routed")["nics"], choice) == address


@pytest.mark.parametrize("nics", [[], [{"network": "Public", "mac": "02:00:00:00:00:01"}], [{"ip": None, "ip6": ""}]])
def test_without_an_address(nics: list[dict[str, Any]]) -> None:
    assert address_of(nics, Choice()) == ("", "")
    (host,) = hosts({**vm("a"), "nics": nics})
    assert "ansible_host" not in host.variables and "ansible_ssh_common_args" not in host.variables


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=touch /tmp/x", "10.0.0.1 -x", "web.example", "fe80::1%$(id)", "10.0.0.1\n", 7, True,
        # By these ssh reaches the control node.
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_not_given_to_ssh(text: Any) -> None:
    (host,) = hosts({**vm("a"), "nics": [{"network": "Public", "ip": text, "ip6": "fd00::5"}]})
    assert host.variables["ansible_host"] == "fd00::5"
    (host,) = hosts({**vm("a"), "nics": [{"network": "Public", "ip": text}]})
    assert "ansible_host" not in host.variables
    assert [repr(str(text)) in note and "which is none" in note for note in host.notes] == [True]


def test_networks_of_aliases_are_the_machines_too() -> None:
    alias = {"network": "Storage", "ip": "10.0.9.2", "parent_id": 0}
    (host,) = hosts({**vm("a", 0, "Public"), "nic_aliases": [alias]})
    machine = host.variables["nebula_machine"]
    assert (machine["networks"], machine["nic_aliases"]) == (["Public", "Storage"], [alias])
    assert host.variables["ansible_host"] == "10.0.0.2"


@pytest.mark.parametrize(
    ("nics", "aliases", "address"),
    [
        ([{"ip": "", "ip6": "", "ip6_ula": "fd00::5"}], [], "fd00::5"),
        # What it has besides is no worse.
        ([{"ip6_ula": "fd00::5"}, {"ip6": "2001:db8::5"}], [], "2001:db8::5"),
        ([{"ip6_ula": "fd00::5"}, {"ip": "10.0.0.5"}], [], "10.0.0.5"),
        ([{"mac": "02:00:00:00:00:01"}], [{"ip": "", "ip6": "2001:db8::9"}], "2001:db8::9"),
        ([{"mac": "02:00:00:00:00:01"}], [{"ip6_ula": "fd00::9"}], "fd00::9"),
        ([{"ip6_ula": "fd00::5"}], [{"ip": "10.0.0.9"}], "fd00::5"),
        # The guest itself does not have it.
        ([{"mac": "02:00:00:00:00:01"}], [{"ip": "203.0.113.9", "external": True}], ""),
    ],
)
def test_a_machine_is_reached_by_whichever_address_it_has(
    nics: list[dict[str, Any]], aliases: list[dict[str, Any]], address: str
) -> None:
    placed = [[{"network": "Public", **each} for each in several] for several in (nics, aliases)]
    (host,) = hosts({**vm("a"), "nics": placed[0], "nic_aliases": placed[1]})
    assert host.variables.get("ansible_host", "") == address
    assert ("[%h]:%p" in host.variables.get("ansible_ssh_common_args", "")) == bool(address)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("web-0", "web-0"), ("web.example.org", "web.example.org"), ("web_1", "web_1"), ("ünder", "ünder"),
        # Each of these is a pattern, a template, or an option of a program to somebody.
        ("a b", "one-7"), ("a,b", "one-7"), ("a:b", "one-7"), ("!a", "one-7"), ("&a", "one-7"), ("~a", "one-7"),
        ("a[0]", "one-7"), ("a*", "one-7"), ("{{ a }}", "one-7"), ("-a", "one-7"), ("", "one-7"), ("a\n", "one-7"),
        ("node1", "one-7"),
        # To a reader this is node1 as well; and these have the files with variables of node1.
        ("node1\u3164", "one-7"), ("node1.yml", "one-7"), ("node1.YAML", "one-7"), ("node1.json", "one-7"),
    ],
)  # fmt: skip
def test_names(name: str, host: str) -> None:
    (found,) = hosts(vm(name, 7), taken=("node1",))
    assert found.name == host and bool(found.notes) == (host == "one-7")
    assert found.variables["nebula_machine"]["name"] == name


@pytest.mark.parametrize(
    "name", ["all", "ungrouped", "localhost", "127.0.0.1", "nebula_nodes", "state_RUNNING", "template_a_b", "one-8"]
)
def test_a_name_that_means_something_else_is_the_domains(name: str) -> None:
    """A group of this name, made before or by these machines, this machine itself, another machine's domain."""
    found = hosts(vm(name, 7, template="a b"), vm("x y", 8), taken=("nebula_nodes",))
    assert [host.name for host in found] == ["one-7", "one-8"] and all(host.notes for host in found)


def test_no_host_is_lost_to_another() -> None:
    machines = [vm("one-3", 3), vm("a b", 5)]
    found = hosts_of({"catalog": "0123456789", "vms": machines}, DEFAULT, ["one-5", "one-3"], lambda _host: NODE)
    assert [host.name for host in found] == ["one-3-01234567", "one-5-01234567"]


@pytest.mark.parametrize("number", ["x/../node1", "../node1", "5.yml", "5\n", "a b", "", {"a": 1}])
def test_a_number_is_no_path_and_no_name_of_another(number: Any) -> None:
    with pytest.raises(NoCatalog, match="which is no number of a machine's own"):
        hosts({**vm("a b"), "id": number})


@pytest.mark.parametrize("catalog", ["/../node1", "", "x.yml"])
def test_a_catalogs_uuid_is_no_path_either(catalog: str) -> None:
    with pytest.raises(NoCatalog):
        hosts_of({"catalog": catalog, "vms": [vm("a b", 5)]}, DEFAULT, ["one-5"], lambda _host: NODE)


def test_no_machine_is_two() -> None:
    with pytest.raises(NoCatalog):
        hosts_of({"catalog": "0123456789", "vms": [vm("a b", 5)] * 3}, DEFAULT, [], lambda _host: NODE)


def test_a_node_that_is_not_known_is_not_jumped_over() -> None:
    (host,) = hosts_of({"networks": [NAT], "vms": [vm("a", 0, "Public")]}, DEFAULT, [], lambda _host: None)
    assert "ansible_ssh_common_args" not in host.variables


def test_two_machines_of_one_name_are_two_hosts() -> None:
    assert [host.name for host in hosts(vm("a", 1), vm("a", 2))] == ["a", "one-2"]


@pytest.mark.parametrize(
    ("network", "choice", "jumps"),
    [
        ("Public", Choice(), True), ("own", Choice(), True), ("routed", Choice(), False), ("unknown", Choice(), False),
        ("Public", Choice(jump=NEVER), False), ("routed", Choice(jump=ALWAYS), True),
        ("routed", Choice(jump_networks=["rou*"]), True),
    ],
)  # fmt: skip
def test_which_machines_are_reached_by_way_of_their_node(network: str, choice: Choice, jumps: bool) -> None:
    (host,) = hosts(vm("a", 0, network), choice=choice)
    assert ("ansible_ssh_common_args" in host.variables) == jumps


def test_a_machine_without_a_node_has_no_way_through_it() -> None:
    (host,) = hosts(vm("a", 0, "Public", host=""))
    assert "ansible_ssh_common_args" not in host.variables and "host_" not in host.groups


def test_groups() -> None:
    machine = vm("a", 0, "Public", "routed", template="web", labels=["x", "y z"], disks=[{"image": "i"}, {"image": ""}])
    (host,) = hosts(machine)
    assert host.groups == [
        "host_node1", "network_Public", "network_routed", "template_web", "state_RUNNING",
        "label_x", "label_y z", "image_i",
    ]  # fmt: skip
    (host,) = hosts(machine, choice=Choice(group_by=["state"]))
    assert host.groups == ["state_RUNNING"]


def test_the_context_is_not_shown() -> None:
    (host,) = hosts(vm("a", attributes={"CONTEXT": {"PASSWORD": "x"}, "ROLE": "db"}))
    assert host.variables["nebula_machine"]["attributes"] == {"ROLE": "db"}
