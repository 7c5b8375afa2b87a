# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridges carry a mark that says whose they are, and become what they are to be by as few steps as possible."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.model.shared_bridge import MOST_GATEWAYS
from ansible_collections.nebula.provision.plugins.module_utils.network import bridge_sysctls, links
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link, Mark

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
NETWORK = "aaaaaaaa-0000-4000-8000-000000000001"
MARK = Mark(CATALOG, NETWORK, "10.66.0.1/24")
COMPLETE = Link("nbr0", "bridge", str(MARK), True, False, ("10.66.0.1/24",))


# -- marks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (MARK, f"nebula:{CATALOG}:{NETWORK}:10.66.0.1/24"),
        (replace(MARK, address=""), f"nebula:{CATALOG}:{NETWORK}"),
        (Mark("", "", ""), "nebula::"),
        (Mark("c", "n", port="eth1"), "nebula:c:n::eth1"),
        (Mark("c", "n", port="eth1", forced="forced"), "nebula:c:n::eth1:forced"),
        (Mark("c", "n", port="eth1", down="down"), "nebula:c:n::eth1:down"),
        (Mark("c", "n", shared="+"), "nebula:c:n:::+"),
        (Mark("c", "n", "10.0.0.1/24,10.1.0.1/24", shared="+"), "nebula:c:n:10.0.0.1/24,10.1.0.1/24::+"),
        (Mark("c", "n", "", "eth1", down="down", shared="+"), "nebula:c:n::eth1:down+"),
        (Mark("c", "n", "", "eth1", forced="forced", shared="+"), "nebula:c:n::eth1:forced+"),
        (Mark("c", "n", mtu=9000), "nebula:c:n::::9000"),
        (Mark("c", "n", "10.0.0.1/24", "eth1", "", "down", "+", 9000), "nebula:c:n:10.0.0.1/24:eth1:down+:9000"),
        (Mark("c", "n", "10.0.0.1/24"), "nebula:c:n:10.0.0.1/24"),
    ],
)
def test_a_mark_comes_back_as_it_was_written(mark: Mark, text: str) -> None:
    assert str(mark) == text
    assert Mark.read(text) == mark


@pytest.mark.parametrize(
    "alias",
    [
        *("", "uplink", "nebula", "nebula:x", "nebulae:a:b", "nebula:a:b:c:d:e", "x:nebula:a:b", "nebula:c:n::::"),
        *("nebula:c:n::::x", "nebula:c:n:::up", "nebula:c:n:::up:9000", "nebula:c:n:::::9000"),
    ],
)
def test_an_alias_of_somebody_else_is_no_mark(alias: str) -> None:
    assert Mark.read(alias) is None
    assert Link("nbr0", "bridge", alias).mark is None


@hypothesis.settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_no_alias_is_too_odd_to_be_read(alias: str) -> None:
    assert Mark.read(alias) is None or alias.startswith("nebula:")


# -- what is there ----------------------------------------------------------------------------------------------------
def entry(name: str, kind: str = "", up: bool = True, **more: Any) -> dict[str, Any]:
    """An interface as `ip -json -details address show` has it."""
    flags = ["BROADCAST", "MULTICAST", *(["UP", "LOWER_UP"] if up else [])]
    info = {"linkinfo": {"info_kind": kind, **more.pop("linkinfo", {})}} if kind else {}
    plain = {"ifname": name, "flags": flags, "mtu": 1500, "link_type": "ether", "address": "06:00:00:00:00:07"}
    return {"ifindex": 7, **plain, **info, "addr_info": [], **more}


def test_interfaces_as_ip_shows_them(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # This machine may have a bridge of that name.
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path)
    addresses = [
        {"family": "inet", "local": "10.66.0.1", "prefixlen": 24, "scope": "global", "label": "nbr0"},
        {"family": "inet", "local": "10.66.9.1", "prefixlen": 32, "scope": "global", "label": "nbr0"},
        {"family": "inet6", "local": "fe80::1445:8eff:fea1:97e", "prefixlen": 64, "scope": "link"},
    ]
    quiet = {"info_data": {"forward_delay": 0, "hello_time": 200, "stp_state": 0}}
    listed = [
        entry("lo", address="00:00:00:00:00:00"),
        entry("nbr0", "bridge", ifalias=str(MARK), addr_info=addresses, linkinfo=quiet),
        entry("one-7-1", "tun", master="nbr0"),
        entry("one-7-0", "tun", master="nbr0", up=False),
        {},
        entry("eth1.100", "vlan", link="eth1", mtu=1500, linkinfo={"info_data": {"protocol": "802.1Q", "id": 100}}),
        entry(
            "eth1.7", "vxlan", master="nbr0", linkinfo={"info_data": {"id": 7, "group": "239.0.0.7", "link": "eth1"}}
        ),
    ]
    programs.answer("ip", "-json -details address show", json.dumps(listed))
    conf = tmp_path / "ipv4" / "conf" / "nbr0"
    conf.mkdir(parents=True)
    (conf / "arp_ignore").write_text("1\n")
    assert links.observe()["nbr0"].settings == {"ipv4/arp_ignore": "1"}
    found = links.observe(with_settings=False)
    assert list(found) == ["lo", "nbr0", "one-7-1", "one-7-0", "eth1.100", "eth1.7"]
    having = {"addresses": ("10.66.0.1/24", "10.66.9.1/32"), "ports": ("eth1.7", "one-7-0", "one-7-1"), "mtu": 1500}
    assert found["nbr0"] == Link("nbr0", "bridge", str(MARK), True, mac="06:00:00:00:00:07", **having)
    assert found["nbr0"].mark == MARK
    assert found["lo"] == Link("lo", up=True, mac="00:00:00:00:00:00", mtu=1500)
    assert (found["one-7-0"].up, found["one-7-1"].up, found["one-7-1"].bridge) == (False, True, "nbr0")
    vlan, vxlan = found["eth1.100"], found["eth1.7"]
    assert (vlan.parent, vlan.number, vlan.group, vlan.mtu) == ("eth1", 100, "", 1500)
    assert (vxlan.parent, vxlan.number, vxlan.group, vxlan.bridge) == ("eth1", 7, "239.0.0.7", "nbr0")


def test_the_networks_of_a_catalog_whose_bridge_is_here(programs: Programs) -> None:
    other = Mark("aaaaaaaa-0000-4000-8000-00000000000c", NETWORK)
    listed = [
        entry("nbr0", "bridge", ifalias=str(MARK)),
        entry("nbr1", "bridge", ifalias=str(other)),
        entry("nbr2", "bridge"),
        entry("eth0", ifalias=str(replace(MARK, network="eth"))),
    ]
    programs.answer("ip", "-json -details address show", json.dumps(listed))
    assert links.networks_here(CATALOG) == (NETWORK,)
    assert links.networks_here("another") == ()


def test_an_interface_is_there_or_not() -> None:
    assert links.is_there("lo")
    assert not links.is_there("no-such-interface")


def test_without_an_answer_nobody_knows_which_bridges_are_here(programs: Programs) -> None:
    programs.answer("ip", "", "no", code=1)
    assert links.networks_here(CATALOG) is None


def test_a_bridge_has_the_settings_of_the_kernel_and_the_addresses_that_somebody_gave_it(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nbr0", "eth0"):
        place = tmp_path / "ipv6" / "conf" / name
        place.mkdir(parents=True)
        (place / "accept_ra").write_text("1\n")
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path)
    addresses = [
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
        {"family": "inet6", "local": "2001:db8::7", "prefixlen": 64, "scope": "global", "dynamic": True},
        {"family": "inet6", "local": "fd00::1", "prefixlen": 64, "scope": "global"},
    ]
    listed = [entry("nbr0", "bridge", addr_info=addresses), entry("eth0")]
    programs.answer("ip", "-json -details address show", json.dumps(listed))
    found = links.observe()
    assert (found["nbr0"].settings, found["nbr0"].addresses6) == ({"ipv6/accept_ra": "1"}, ("fd00::1/64",))
    assert found["eth0"].settings == {}


@pytest.mark.parametrize(
    ("data", "stp"),
    [
        ({"stp_state": 0, "forward_delay": 0}, False),
        ({"stp_state": 1, "forward_delay": 0}, True),
        ({"stp_state": 0, "forward_delay": 1500}, True),
        ({}, False),
    ],
)
def test_a_bridge_that_waits_before_it_forwards_counts_as_one_with_a_spanning_tree(
    programs: Programs, data: dict[str, int], stp: bool
) -> None:
    listed = [entry("nbr0", "bridge", linkinfo={"info_data": data})]
    programs.answer("ip", "-json -details address show", json.dumps(listed))
    assert links.observe()["nbr0"].stp is stp


def test_a_namespace_without_interfaces_prints_nothing(programs: Programs) -> None:
    programs.answer("ip", "-json -details address show")
    assert links.observe() == {}


# -- what is somebody else's ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("link", "found", "remedy"),
    [
        (Link("nbr0"), "there is an interface of that name", "vn_mad: dummy"),
        (Link("nbr0", "bridge"), "there is a bridge interface of that name", "vn_mad: dummy"),
        (Link("nbr0", "dummy", str(MARK)), "there is a dummy interface of that name", "Choose another bridge"),
        (
            replace(COMPLETE, alias=str(replace(MARK, catalog="other"))),
            f"it carries the mark of catalog other, and this is catalog {CATALOG}",
            "ip link delete nbr0",
        ),
        (
            replace(COMPLETE, alias=str(replace(MARK, network="other"))),
            "it was made for another network, other, of this catalog",
            "Choose another bridge",
        ),
    ],
)
def test_a_bridge_of_somebody_else_is_refused(link: Link, found: str, remedy: str) -> None:
    with pytest.raises(ForeignObject) as caught:
        links.refuse_foreign("Public", "nbr0", link, MARK, forgotten=False)
    assert caught.value.asked == "network Public: bridge nbr0"
    assert caught.value.found.startswith(found)
    assert remedy in caught.value.remedy


def test_where_no_catalog_is_there_yet_the_error_says_so() -> None:
    with pytest.raises(ForeignObject, match=r"this is catalog \(none yet\)"):
        links.refuse_foreign("Public", "nbr0", COMPLETE, Mark("", ""), forgotten=False)


def test_our_own_bridge_is_taken_and_one_of_a_forgotten_network_may_be() -> None:
    links.refuse_foreign("Public", "nbr0", COMPLETE, MARK, forgotten=False)
    links.refuse_foreign("Public", "nbr0", COMPLETE, replace(MARK, network="new"), forgotten=True)
    # Whatever this catalog has forgotten, another one's bridge stays another one's.
    with pytest.raises(ForeignObject):
        links.refuse_foreign("Public", "nbr0", COMPLETE, replace(MARK, catalog="other"), forgotten=True)


def test_only_bridges_with_the_mark_of_the_catalog_are_ours() -> None:
    present = {
        "nbr0": COMPLETE,
        "nbr1": replace(COMPLETE, name="nbr1", alias=str(replace(MARK, catalog="other"))),
        "br0": Link("br0", "bridge"),
        "eth0": Link("eth0", "", str(MARK)),
    }
    assert list(links.bridges_of_catalog(present, CATALOG)) == ["nbr0"]


# -- steps ------------------------------------------------------------------------------------------------------------
def test_the_steps_that_make_a_bridge() -> None:
    assert links.bridge_making_lines("nbr0", MARK, "06:11:22:33:44:55") == [
        "link add name nbr0 address 06:11:22:33:44:55 type bridge stp_state 0 forward_delay 0",
        f"link set dev nbr0 alias {MARK}",
    ]
    # What comes in by it is settled in between.
    assert links.bridge_changing_lines("nbr0", MARK, None) == [
        "address add 10.66.0.1/24 broadcast + dev nbr0",
        "link set dev nbr0 up",
    ]


def test_a_new_bridge_has_an_address_of_its_own_that_no_vendor_gives() -> None:
    made = [links.bridge_making_lines("nbr0", MARK)[0] for _ in range(2)]
    macs = [re.search(r"address (06(?::[0-9a-f]{2}){5}) type", step) for step in made]
    assert all(macs) and made[0] != made[1]


def test_a_bridge_that_is_as_it_should_be_needs_nothing() -> None:
    assert links.bridge_changing_lines("nbr0", MARK, COMPLETE) == []
    with_more = replace(COMPLETE, addresses=("192.168.9.1/24", "10.66.0.1/24"), ports=("one-1-0",))
    assert links.bridge_changing_lines("nbr0", MARK, with_more) == []


@pytest.mark.parametrize(
    ("link", "steps"),
    [
        (replace(COMPLETE, up=False), ["link set dev nbr0 up"]),
        (replace(COMPLETE, addresses=()), ["address add 10.66.0.1/24 broadcast + dev nbr0"]),
        (replace(COMPLETE, alias=""), [f"link set dev nbr0 alias {MARK}"]),
        (
            replace(COMPLETE, stp=True),
            ["link set dev nbr0 type bridge stp_state 0", "link set dev nbr0 type bridge forward_delay 0"],
        ),
    ],
)
def test_only_what_is_wrong_is_mended(link: Link, steps: list[str]) -> None:
    assert links.bridge_changing_lines("nbr0", MARK, link) == steps


def test_a_former_address_of_ours_goes_and_those_of_others_stay() -> None:
    former = replace(MARK, address="10.65.0.1/24")
    link = replace(COMPLETE, alias=str(former), addresses=("10.65.0.1/24", "192.168.9.1/24"))
    assert links.bridge_changing_lines("nbr0", MARK, link) == [
        "address delete 10.65.0.1/24 dev nbr0",
        f"link set dev nbr0 alias {MARK}",
        "address add 10.66.0.1/24 broadcast + dev nbr0",
    ]
    # Somebody took it away already.
    link = replace(link, addresses=("10.66.0.1/24",))
    assert links.bridge_changing_lines("nbr0", MARK, link) == [f"link set dev nbr0 alias {MARK}"]


def test_a_bridge_whose_network_lost_its_gateway_loses_the_address() -> None:
    bare = replace(MARK, address="")
    assert links.bridge_changing_lines("nbr0", bare, COMPLETE) == [
        "address delete 10.66.0.1/24 dev nbr0",
        f"link set dev nbr0 alias {bare}",
    ]


def test_steps_are_carried_out_by_one_process(programs: Programs) -> None:
    programs.answer("ip", "-batch -")
    steps = [*links.bridge_making_lines("nbr0", MARK, "06:11:22:33:44:55"), *links.delete_steps("nbr9")]
    links.run_batch(steps)
    assert programs.calls("ip") == ["-batch -"]
    assert programs.read("ip") == steps
    assert steps[-1] == "link delete dev nbr9 type bridge"


def test_where_there_is_nothing_to_do_no_process_is_started(programs: Programs) -> None:
    links.run_batch([])
    programs.answer("ip", "-batch -", err="RTNETLINK answers: File exists\nCommand failed -:1\n", code=1)
    with pytest.raises(CommandFailed, match="File exists"):
        links.run_batch(["link add name nbr0 type bridge"])


def test_the_longest_mark_has_room_in_an_alias() -> None:
    """The kernel cuts aliases to 255 bytes."""
    addresses = ",".join(f"100.100.10{n}.100/24" for n in range(MOST_GATEWAYS))
    uuid = "aaaaaaaa-0000-4000-8000-000000000001"
    assert len(str(Mark(uuid, uuid, addresses, "a" * 15, forced="forced", shared="+"))) < 256
