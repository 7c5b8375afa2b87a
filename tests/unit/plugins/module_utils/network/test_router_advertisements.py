# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and udev's rule by which machines on OVN are kept from announcing themselves as routers; what nftables does
with them is tests/integration/test_announcers.py's."""

from __future__ import annotations

import dataclasses
import os
import re
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ForeignObject,
    MissingDependency,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard
from ansible_collections.nebula.provision.plugins.module_utils.network import nat, router_advertisements
from ansible_collections.nebula.provision.plugins.module_utils.network.router_advertisements import (
    Announcers,
    desired_chains,
    digests,
)

CATALOG = "0b1c2d3e-0000-4000-8000-000000000001"
SILENT = Guard(
    5, 0, "one-5-0", "02:00:0a:42:00:0a", ("10.0.0.5", "2001:db8::5"), filter_mac=True, filter_ip=True, on_ovn=True
)


class Node:
    """nft that keeps what it is told, interfaces and udev's directory."""

    def __init__(self, place, monkeypatch):
        self.root, self.rules, self.interfaces = place / "nebula", place / "rules.d", place / "net"
        for each in (self.rules, self.interfaces):
            each.mkdir()
        self.listed, self.told, self.problem = "", [], None
        monkeypatch.setattr(router_advertisements, "UDEV", self.rules)
        monkeypatch.setattr(router_advertisements, "INTERFACES", self.interfaces)
        monkeypatch.setattr(router_advertisements, "run", self.run)
        self.announcers = Announcers(str(self.root), CATALOG)

    def run(self, argv, input="", **_options):
        if self.problem is not None and (input or isinstance(self.problem, MissingDependency)):
            raise self.problem
        if input:
            self.told.append(input)
        return SimpleNamespace(stdout=self.listed)

    def ensure(self, *guards, staying=()):
        return self.announcers.ensure(desired_chains(guards, CATALOG), staying)

    def has(self, *interfaces):
        for name in interfaces:
            (self.interfaces / name).touch()

    def lists(self, *devices, drops=True):
        made = re.findall(
            "^add rule netdev [^ ]+ [^ ]+ (.*)", desired_chains([SILENT], CATALOG)["one-5-0"], re.MULTILINE
        )
        rule = "".join(f"\t\t{each}\n" for each in (made if drops else made[1:]))
        hook = '\t\ttype filter hook ingress device "{0}" priority filter; policy accept;\n'
        chains = "".join(
            f"\tchain {chain} {{\n{hook.format(name)}{rule}\t}}\n"
            for name, chain in (each.split("=") for each in devices)
        )
        self.listed = f"table netdev nebula {{\n{chains}}}\n"


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


def test_who_has_no_ipv6_is_not_held_or_is_on_a_linux_bridge_needs_nothing():
    others = (
        dataclasses.replace(SILENT, addresses=("10.0.0.5",)),
        dataclasses.replace(SILENT, filter_ip=False),
        dataclasses.replace(SILENT, on_ovn=False),
    )
    assert desired_chains(others, CATALOG) == {}
    assert [guard.filters for guard in (SILENT, *others)] == [False, False, False, True]


def test_an_interface_and_the_one_that_xen_emulates_have_a_chain_each():
    found = desired_chains([SILENT], CATALOG)
    assert set(found) == {"one-5-0", "one-5-0-emu"}
    assert 'nic_5_0 { type filter hook ingress device "one-5-0" ' in found["one-5-0"]
    assert 'nic_5_0_emu { type filter hook ingress device "one-5-0-emu" ' in found["one-5-0-emu"]
    # An audit knows a NIC by one name.
    assert set(digests(found)) == {"one-5-0"}


def test_files_are_there_before_the_interface_is_and_go_with_the_last_machine(node):
    assert node.ensure() == (False, [])
    assert not node.root.exists() and node.told == []
    assert node.ensure(SILENT) == (True, [])
    # No kernel before 6.16 could make it yet: udev does when the interface comes.
    assert node.told == []
    rule = (node.rules / f"70-nebula-{CATALOG}.rules").read_text()
    place = node.root / "announcers"
    assert f'TEST=="{place}/$name", RUN+="' in rule and f'nft -f {place}/$name"' in rule
    assert sorted(os.listdir(place)) == ["one-5-0", "one-5-0-emu"]
    assert node.ensure(SILENT) == (False, [])
    assert node.ensure() == (True, [])
    assert not place.exists() and os.listdir(node.rules) == []
    # The table goes with what is in it.
    node.ensure(SILENT)
    node.lists("one-5-0=nic_5_0")
    assert node.ensure()[0]
    assert node.told == [f"delete table netdev {nat.table_name(CATALOG)}\n"]


@pytest.mark.parametrize(
    ("listed", "drops", "gone"),
    [((), True, ()), (("one-5-0=nic_5_0",), False, ()), (("one-5-0=nic_9_0",), True, ("flush", "delete"))],
)
def test_a_chain_that_is_lacking_or_is_not_whole_is_made_anew(node, listed, drops, gone):
    node.ensure(SILENT)
    node.has("one-5-0")
    node.lists(*listed, drops=drops)
    assert node.ensure(SILENT)[0]
    stale = "".join(f"{verb} chain netdev {nat.table_name(CATALOG)} nic_9_0\n" for verb in gone)
    assert node.told == [stale + desired_chains([SILENT], CATALOG)["one-5-0"]]
    node.lists("one-5-0=nic_5_0")
    assert node.ensure(SILENT) == (False, [])


def test_a_chain_of_an_earlier_version_is_made_anew_unless_nobody_knows_its_machine(node):
    node.ensure(SILENT)
    node.has("one-5-0")
    node.lists("one-5-0=nic_5_0")
    former = "\t\ticmpv6 type nd-router-advert drop\n"
    node.listed = re.sub(r"(policy accept;\n)(\t\t.*\n)+", rf"\1{former}", node.listed)
    assert node.ensure(SILENT)[0] and node.told == [desired_chains([SILENT], CATALOG)["one-5-0"]]
    path = node.root / "announcers" / "one-5-0"
    lines = path.read_text().splitlines()[:3]
    path.write_text("\n".join([*lines, "add rule netdev x nic_5_0 icmpv6 type nd-router-advert drop", ""]))
    before = len(node.told)
    node.ensure(staying=("one-5-0", "one-5-0-emu"))
    assert len(node.told) == before


def test_what_is_of_nobody_any_more_loses_its_chain(node):
    other = dataclasses.replace(SILENT, vm_id=6, port="one-6-0")
    node.ensure(SILENT, other)
    node.has("one-5-0", "one-6-0")
    node.lists("one-5-0=nic_5_0", "one-6-0=nic_6_0")
    node.ensure(other)
    (told,) = node.told
    assert [line.split()[0] for line in told.splitlines()] == ["flush", "delete"]
    assert all(line.endswith(" nic_5_0") for line in told.splitlines())
    assert set(node.announcers.found()) == {"one-6-0", "one-6-0-emu"}


def test_a_machine_that_the_catalog_does_not_know_keeps_what_it_had_while_it_runs(node):
    node.ensure(SILENT)
    assert node.announcers.of_strangers([]) == set()
    node.has("one-5-0")
    assert node.announcers.of_strangers([5]) == set()
    staying = node.announcers.of_strangers([6])
    assert staying == {"one-5-0"}
    node.lists("one-5-0=nic_5_0")
    node.ensure(staying=staying)
    assert set(node.announcers.found()) == {"one-5-0"}


def test_what_a_killed_run_had_begun_to_write_goes_and_an_interface_may_be_hidden(node):
    hidden = dataclasses.replace(SILENT, port=".5")
    node.ensure(hidden)
    assert node.ensure(hidden) == (False, [])
    (node.root / "announcers" / ".one-5-0.abc.tmp").write_text("add ta")
    assert set(node.announcers.found()) == {".5", ".5-emu"}
    node.ensure()
    assert not (node.root / "announcers").exists()


def test_an_interface_that_goes_meanwhile_takes_nothing_from_others(node, monkeypatch):
    other = dataclasses.replace(SILENT, vm_id=6, port="one-6-0")
    node.ensure(SILENT, other)
    node.has("one-5-0", "one-6-0")
    run = node.run

    def fails_once(argv, input="", **options):
        if "one-5-0" in input:
            (node.interfaces / "one-5-0").unlink()
            raise CommandFailed("nft", "No such file or directory", "See it")
        return run(argv, input, **options)

    monkeypatch.setattr(router_advertisements, "run", fails_once)
    assert node.ensure(SILENT, other) == (True, [])
    assert node.told == [desired_chains([other], CATALOG)["one-6-0"]]


def test_a_kernel_that_can_t_is_a_warning(node):
    node.has("one-5-0")
    node.problem = CommandFailed("nft", "Operation not supported", "See it")
    changed, (warning,) = node.ensure(SILENT)
    assert changed and "Operation not supported" in warning and "passes on this host" in warning
    # It is told in each run, and nothing is changed any more.
    assert node.ensure(SILENT) == (False, [warning])


def test_without_nftables_there_is_nothing_to_take_away_and_nothing_to_hold_with(node):
    node.ensure(SILENT)
    node.problem = MissingDependency("nft", "not installed", "Install it")
    assert node.ensure() == (True, [])
    with pytest.raises(MissingDependency):
        node.ensure(SILENT)


def test_a_rule_of_somebody_else_and_a_root_that_udev_can_t_name(node, tmp_path):
    rule = node.rules / f"70-nebula-{CATALOG}.rules"
    rule.write_text("# mine\n")
    with pytest.raises(ForeignObject, match="not ours"):
        node.ensure(SILENT)
    assert rule.read_text() == "# mine\n" and node.announcers.found() == {}
    rule.unlink()
    _changed, (warning,) = Announcers(str(tmp_path / "a root"), CATALOG).ensure(desired_chains([SILENT], CATALOG), ())
    assert "characters that no rule of udev can name" in warning and not rule.exists()


def test_where_no_udev_is_none_gets_a_rule(node):
    node.rules.rmdir()
    assert node.ensure(SILENT) == (True, [])
    assert not node.rules.exists()
