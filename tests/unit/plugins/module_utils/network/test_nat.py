# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog's table of nftables gets and loses the rules of its networks, and IPv4 forwarding goes with those of the
networks with NAT."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ForeignObject,
    MissingDependency,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import node_access
from ansible_collections.nebula.provision.plugins.module_utils.network import nat

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
NAME = "nebula_5d2c7a0e"
PUBLIC = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
EVERYTHING = node_access.NodeAccess(everything=True)
NAT = nat.Rules(PUBLIC, "nbr0", "10.66.0.1", IPv4Network("10.66.0.0/24"), EVERYTHING)
PLAIN = nat.Rules(OTHER, "nbr1")
LIST = f"-j list table inet {NAME}"


@pytest.fixture(autouse=True)
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's switch is a file of the test's own."""
    path = tmp_path / "ip_forward"
    path.write_text("0\n", encoding="ascii")
    monkeypatch.setattr(nat, "FORWARDING", path)
    return path


def rule(chain: str, handle: int, comment: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"family": "inet", "table": NAME, "chain": chain, "handle": handle}
    return {"rule": {**entry, **({"comment": comment} if comment else {}), "expr": [{"drop": None}]}}


def listed(*entries: dict[str, Any], found: str = "0") -> str:
    """What nft shows of the catalog's table. found: what its mark says that forwarding was, "" without one."""
    own = {"family": "inet", "table": NAME}
    whole: list[dict[str, Any]] = [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": NAME, "handle": 3}},
        {"chain": {**own, "name": "nebula", "handle": 1}},
        {"chain": {**own, "name": "forward", "handle": 2, "type": "filter", "hook": "forward", "policy": "accept"}},
    ]
    if found:
        whole.append(rule("nebula", 4, f"nebula:{CATALOG}:ip_forward={found}"))
    return json.dumps({"nftables": [*whole, *entries]})


def whole_of(rules: nat.Rules, first: int) -> list[dict[str, Any]]:
    return [rule(chain, first + n, rules.comment) for n, (chain, _text) in enumerate(rules.rules)]


# -- what is rendered -------------------------------------------------------------------------------------------------
KEPT = [(chain, "ether daddr 01:80:c2:00:00:00-01:80:c2:00:00:0f drop") for chain in ("input", "forward")]


def test_the_rules_of_a_network_with_nat() -> None:
    assert NAT.rules == [
        *KEPT,
        ("input", 'iifname "nbr0" ip daddr 169.254.0.0/16 drop'),
        ("input", 'iifname "nbr0" icmp type redirect drop'),
        ("forward", 'iifname "nbr0" oifname != "nbr0" ip daddr 169.254.0.0/16 drop'),
        ("forward", 'iifname "nbr0" oifname != "nbr0" ip saddr != 10.66.0.0/24 drop'),
        ("forward", 'oifname "nbr0" iifname != "nbr0" ct state != { established, related } drop'),
        (
            "postrouting",
            (
                "ip saddr 10.66.0.0/24 ip daddr != { 10.66.0.0/24, 224.0.0.0/4, 255.255.255.255 } "
                'oifname != "nbr0" masquerade'
            ),
        ),
    ]


def test_between_a_bridge_without_an_address_and_the_node_nothing_passes() -> None:
    assert PLAIN.rules == [
        *KEPT,
        ("input", 'iifname "nbr1" drop'),
        ("forward", 'iifname "nbr1" oifname != "nbr1" drop'),
        ("forward", 'oifname "nbr1" iifname != "nbr1" drop'),
    ]


NEW = "ct state != { established, related }"
HERE, THERE = f'iifname "nbr0" {NEW}', f'iifname "nbr0" oifname != "nbr0" {NEW} ct status dnat'


@pytest.mark.parametrize(
    ("access", "rules"),
    [
        (
            "none",
            [
                ("input", f"{HERE} icmp type != echo-request drop"),
                ("input", f"{HERE} icmp type echo-request ip daddr != 10.66.0.1 drop"),
                ("input", f"{HERE} meta l4proto tcp drop"),
                ("forward", f"{THERE} meta l4proto tcp drop"),
                ("input", f"{HERE} meta l4proto udp drop"),
                ("forward", f"{THERE} meta l4proto udp drop"),
            ],
        ),
        (
            "icmp tcp/22 tcp/8000-8010",
            [
                ("input", f"{HERE} tcp dport != {{ 22, 8000-8010 }} drop"),
                (
                    "forward",
                    f"{THERE} meta l4proto tcp ct original proto-dst != 22 ct original proto-dst != 8000-8010 drop",
                ),
                ("input", f"{HERE} meta l4proto udp drop"),
                ("forward", f"{THERE} meta l4proto udp drop"),
            ],
        ),
    ],
)
def test_what_machines_may_not_reach_of_the_node(access: str, rules: list[tuple[str, str]]) -> None:
    wanted = replace(NAT, whole=None, access=node_access.read(access, "x"))
    assert wanted.rules[5:] == [
        ("input", f"{HERE} meta nfproto != ipv4 drop"),
        ("input", f"{HERE} meta l4proto != {{ icmp, tcp, udp }} drop"),
        ("forward", f"{THERE} meta l4proto != {{ tcp, udp }} drop"),
        *rules,
    ]
    assert wanted.rules[:5] == NAT.rules[:5]


def test_rules_never_accept() -> None:
    none = replace(NAT, access=node_access.NodeAccess())
    for rules in (NAT.rules, none.rules, PLAIN.rules):
        assert not any(re.search(r"\baccept\b", text) for _chain, text in rules)


def test_a_comment_says_whose_rules_they_are_and_changes_with_what_they_say() -> None:
    assert re.fullmatch(rf"nebula:{PUBLIC}:[0-9a-f]{{12}}", NAT.comment)
    assert NAT.comment == nat.Rules(PUBLIC, "nbr0", "10.66.0.1", IPv4Network("10.66.0.0/24"), EVERYTHING).comment
    others = [
        replace(NAT, bridge="nbr1"),
        replace(NAT, whole=IPv4Network("10.66.0.0/25")),
        replace(NAT, access=node_access.NodeAccess()),
        replace(NAT, access=node_access.NodeAccess(tcp=((22, 22),))),
    ]
    assert len({rules.comment for rules in (NAT, *others)}) == 5


def test_a_table_is_called_after_its_catalog() -> None:
    assert nat.table_name(CATALOG) == NAME
    assert nat.Table(CATALOG).name == NAME


@pytest.mark.parametrize("before", ["0", "1"])
def test_a_table_without_networks_ends_with_its_mark(before: str) -> None:
    lines = nat.frame(CATALOG, before)
    assert lines[0] == f"add table inet {NAME}"
    assert lines[-1] == f'add rule inet {NAME} nebula counter comment "nebula:{CATALOG}:ip_forward={before}"'
    # Where nothing of ours drops, everything is as it was without the table.
    assert [line for line in lines if "hook" in line] == [
        f"add chain inet {NAME} input {{ type filter hook input priority filter; policy accept; }}",
        f"add chain inet {NAME} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"add chain inet {NAME} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
    ]


# -- what is observed -------------------------------------------------------------------------------------------------
def test_a_table_that_is_not_there(programs: Programs, forwarding: Path) -> None:
    said = f"Error: No such file or directory\nlist table inet {NAME}\n                ^^^^^^^^\n"
    programs.answer("nft", LIST, err=said, code=1)
    forwarding.write_text("1\n", encoding="ascii")
    assert nat.observe(CATALOG) == nat.Table(CATALOG, forwarding="1")


def test_a_table_with_rules_of_two_networks(programs: Programs) -> None:
    other = replace(NAT, network=OTHER, bridge="nbr1", whole=IPv4Network("10.67.0.0/16"))
    somebody_elses = [rule("forward", 30), rule("forward", 31, "kept by hand")]
    programs.answer("nft", LIST, listed(*whole_of(NAT, 10), *whole_of(other, 20), *somebody_elses, found="1"))
    table = nat.observe(CATALOG)
    assert (table.exists, table.found, table.mark_handle, table.forwarding) == (True, "1", 4, "0")
    assert table.networks == [PUBLIC, OTHER]
    chains = [chain for chain, _rule in NAT.rules]
    assert table.of(PUBLIC) == {NAT.comment: list(zip(chains, range(10, 20)))}
    assert table.of(OTHER) == {other.comment: list(zip(chains, range(20, 30)))}
    assert table.masquerading == {PUBLIC, OTHER}
    assert table.of("aaaaaaaa-0000-4000-8000-00000000000") == {}


@pytest.mark.parametrize(
    "shown", [listed(found=""), listed(rule("nebula", 4, f"nebula:{OTHER}:ip_forward=0"), found="")]
)
def test_a_table_of_somebody_else_is_refused(programs: Programs, shown: str) -> None:
    programs.answer("nft", LIST, shown)
    with pytest.raises(ForeignObject) as caught:
        nat.observe(CATALOG)
    assert caught.value.asked == f"nftables: table inet {NAME}"
    assert caught.value.found == "there is a table of that name without this catalog's mark"
    assert f"nft delete table inet {NAME}" in caught.value.remedy


def test_what_nft_can_not_do_is_an_error(programs: Programs) -> None:
    programs.answer("nft", LIST, err="Error: cache initialization failed: Operation not permitted\n", code=1)
    with pytest.raises(CommandFailed, match="Operation not permitted"):
        nat.observe(CATALOG)


def test_without_nft_the_package_is_named(programs: Programs) -> None:
    with pytest.raises(MissingDependency, match="nftables"):
        nat.observe(CATALOG)


# -- whether something has to be done ---------------------------------------------------------------------------------
COMPLETE = {
    NAT.comment: [
        *(("postrouting", 12), ("forward", 10), ("forward", 11)),
        *(("forward", 15), ("input", 13), ("input", 14), ("input", 16), ("forward", 17)),
    ]
}
OF_PLAIN = {PLAIN.comment: [(chain, 30 + n) for n, (chain, _rule) in enumerate(PLAIN.rules)]}


def test_a_network_is_done_when_all_its_rules_are_there_and_the_node_forwards() -> None:
    assert nat.Table(CATALOG, True, "0", 4, "1", COMPLETE).has(NAT)


@pytest.mark.parametrize("forwarding", ["0", "1"])
def test_without_nat_it_does_not_matter_whether_the_node_forwards(forwarding: str) -> None:
    assert nat.Table(CATALOG, True, "0", 4, forwarding, OF_PLAIN).has(PLAIN)


@pytest.mark.parametrize(
    ("forwarding_now", "rules"),
    [
        ("0", COMPLETE),
        ("1", {}),
        ("1", {NAT.comment: [("forward", 10), ("postrouting", 12)]}),
        ("1", {NAT.comment: [*COMPLETE[NAT.comment], ("forward", 19)]}),
        ("1", {replace(NAT, bridge="old").comment: COMPLETE[NAT.comment]}),
        ("1", {**COMPLETE, replace(NAT, bridge="old").comment: [("forward", 5)]}),
    ],
)
def test_a_network_is_not_done(forwarding_now: str, rules: dict[str, list[tuple[str, int]]]) -> None:
    assert not nat.Table(CATALOG, True, "0", 4, forwarding_now, rules).has(NAT)


def test_rules_of_another_network_do_not_matter() -> None:
    other = replace(NAT, network=OTHER).comment
    assert nat.Table(CATALOG, True, "0", 4, "1", {**COMPLETE, other: [("forward", 5)]}).has(NAT)


# -- what is done -----------------------------------------------------------------------------------------------------
ADDED = [f'add rule inet {NAME} {chain} {text} comment "{NAT.comment}"' for chain, text in NAT.rules]


@pytest.fixture
def nft(programs: Programs) -> Programs:
    """One that takes every script."""
    programs.answer("nft", "-f -")
    return programs


def test_the_first_network_makes_the_table_and_switches_forwarding_on(nft: Programs, forwarding: Path) -> None:
    nat.ensure([NAT], nat.Table(CATALOG, forwarding="0"))
    assert nft.read("nft") == [*nat.frame(CATALOG, "0"), *ADDED]
    assert nft.calls("nft") == ["-f -"]
    assert forwarding.read_text() == "1\n"


def test_forwarding_that_is_on_is_left_alone(nft: Programs, forwarding: Path) -> None:
    nat.ensure([NAT], nat.Table(CATALOG, forwarding="1"))
    assert nft.read("nft") == [*nat.frame(CATALOG, "1"), *ADDED]
    assert forwarding.read_text() == "0\n"


def test_in_a_table_that_is_there_the_mark_stays(nft: Programs) -> None:
    others = {replace(NAT, network=OTHER).comment: [("postrouting", 9)]}
    expected = [*nat.frame(CATALOG, "1")[:-1], *ADDED]
    nat.ensure([NAT], nat.Table(CATALOG, True, "1", 4, "1"))
    nat.ensure([NAT], nat.Table(CATALOG, True, "0", 4, "1", others))
    assert nft.read("nft") == [*expected, *expected]


def test_what_forwarding_was_counts_from_the_first_network_with_nat(nft: Programs) -> None:
    """The table may be older than that, and somebody may have switched forwarding on in between."""
    nat.ensure([NAT], nat.Table(CATALOG, True, "0", 4, "1", dict(OF_PLAIN)))
    *made, mark = nat.frame(CATALOG, "1")
    assert nft.read("nft") == [*made, f"delete rule inet {NAME} nebula handle 4", mark, *ADDED]


def test_without_nat_forwarding_is_left_alone(nft: Programs, forwarding: Path) -> None:
    nat.ensure([PLAIN], nat.Table(CATALOG, forwarding="0"))
    assert nft.read("nft")[:6] == nat.frame(CATALOG, "0")
    assert forwarding.read_text() == "0\n"


@pytest.mark.parametrize(
    ("others", "then"), [({}, "0"), ({replace(NAT, network=OTHER).comment: [("postrouting", 9)]}, "1")]
)
def test_a_network_that_has_no_nat_any_more_may_have_been_the_last(
    nft: Programs, forwarding: Path, others: dict[str, list[tuple[str, int]]], then: str
) -> None:
    forwarding.write_text("1\n", encoding="ascii")
    nat.ensure([replace(NAT, whole=None)], nat.Table(CATALOG, True, "0", 4, "1", {**COMPLETE, **others}))
    assert forwarding.read_text() == f"{then}\n"


def test_where_somebody_switched_forwarding_off_the_mark_is_replaced(nft: Programs, forwarding: Path) -> None:
    nat.ensure([NAT], nat.Table(CATALOG, True, "1", 4, "0"))
    *made, mark = nat.frame(CATALOG, "0")
    assert nft.read("nft") == [*made, f"delete rule inet {NAME} nebula handle 4", mark, *ADDED]
    assert forwarding.read_text() == "1\n"


def test_older_rules_of_the_network_go_in_the_same_transaction(nft: Programs) -> None:
    old, other = replace(NAT, bridge="old").comment, replace(NAT, network=OTHER).comment
    rules = {old: [("forward", 10), ("postrouting", 12)], other: [("forward", 20)]}
    nat.ensure([NAT], nat.Table(CATALOG, True, "0", 4, "1", rules))
    assert nft.read("nft")[5:] == [
        f"delete rule inet {NAME} forward handle 10",
        f"delete rule inet {NAME} postrouting handle 12",
        *ADDED,
    ]
    assert nft.calls("nft") == ["-f -"]


def test_forwarding_is_not_switched_on_for_rules_that_nft_refused(programs: Programs, forwarding: Path) -> None:
    programs.answer("nft", "-f -", err="/dev/stdin:1:1-9: Error: Could not process rule\n", code=1)
    with pytest.raises(CommandFailed, match="Could not process rule"):
        nat.ensure([NAT], nat.Table(CATALOG, forwarding="0"))
    assert forwarding.read_text() == "0\n"


def test_a_switch_that_can_not_be_set_is_explained(nft: Programs, forwarding: Path) -> None:
    forwarding.unlink()
    forwarding.mkdir()
    with pytest.raises(CommandFailed) as caught:
        nat.ensure([NAT], nat.Table(CATALOG, forwarding="0"))
    assert caught.value.asked == "set net.ipv4.ip_forward to 1"
    assert caught.value.found == f"{forwarding}: Is a directory"
    assert "a network without nat" in caught.value.remedy


@pytest.mark.parametrize(
    ("others", "then"), [({replace(NAT, network=OTHER).comment: [("postrouting", 20)]}, "1"), (OF_PLAIN, "0")]
)
def test_rules_of_one_network_go_and_the_others_stay(
    nft: Programs, forwarding: Path, others: dict[str, list[tuple[str, int]]], then: str
) -> None:
    forwarding.write_text("1\n", encoding="ascii")
    nat.remove([PUBLIC], nat.Table(CATALOG, True, "0", 4, "1", {**COMPLETE, **others}))
    assert nft.read("nft") == [
        f"delete rule inet {NAME} {chain} handle {handle}" for chain, handle in COMPLETE[NAT.comment]
    ]
    assert forwarding.read_text() == f"{then}\n"


def test_a_network_without_rules_has_nothing_to_remove(nft: Programs) -> None:
    nat.remove([OTHER], nat.Table(CATALOG, True, "0", 4, "1", COMPLETE))
    nat.remove([PUBLIC], nat.Table(CATALOG))
    assert nft.calls("nft") == []


@pytest.mark.parametrize(("found", "now", "then"), [("0", "1", "0"), ("1", "1", "1"), ("0", "0", "0"), ("1", "0", "0")])
def test_with_the_last_network_the_table_goes_and_forwarding_is_what_it_was(
    nft: Programs, forwarding: Path, found: str, now: str, then: str
) -> None:
    forwarding.write_text(f"{now}\n", encoding="ascii")
    nat.remove([PUBLIC], nat.Table(CATALOG, True, found, 4, now, dict(COMPLETE)))
    assert nft.read("nft") == [f"delete table inet {NAME}"]
    assert forwarding.read_text() == f"{then}\n"
