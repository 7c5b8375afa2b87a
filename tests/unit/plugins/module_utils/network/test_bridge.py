# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node is brought to what its networks say, in check mode by decisions alone, and what is not ours is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    InUse,
    InvalidValue,
    MissingDependency,
    TrafficBlocked,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.node_access import NodeAccess
from ansible_collections.nebula.provision.plugins.module_utils.model.states import NetworkState
from ansible_collections.nebula.provision.plugins.module_utils.network import (
    bridge,
    bridge_sysctls,
    host_firewall,
    host_firewall_tables,
    nat,
)

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
PUBLIC, QUIET, LOST = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
TABLE = nat.table_name(CATALOG)
ATTRIBUTES = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"}
WITH_NAT = Network(0, "Public", PUBLIC, bridge="nbr0", nat=True, attributes=ATTRIBUTES)
PLAIN = Network(1, "Quiet", QUIET, bridge="nbr1")
EVERYTHING = NodeAccess(everything=True)
NAT = nat.Rules(PUBLIC, "nbr0", "10.66.0.1", ip_network("10.66.0.0/24"), EVERYTHING)
OF_PLAIN = nat.Rules(QUIET, "nbr1")


class Host:
    """What a host's `ip` and `nft` show, and what they were told to do."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.links: list[dict[str, Any]] = []
        self.routes: list[dict[str, Any]] = []
        self.rules: list[dict[str, Any]] | None = None
        self.others: list[dict[str, Any]] = []
        programs.answer("ip", "-batch -")
        programs.answer("nft", "-f -")
        self.show()

    def show(self) -> None:
        """From now on, what it has."""
        self.programs.answer("ip", "-json -details address show", json.dumps(self.links))
        self.programs.answer("ip", "-json -4 route show table all", json.dumps(self.routes))
        self.programs.answer("ip", "-json -6 route show table all", "[]")
        self.programs.answer("nft", "-j -t list chains", json.dumps({"nftables": self.others}))
        for place in {(each["family"], each["table"]) for entry in self.others for each in entry.values()}:
            self.programs.answer("nft", f"-j -t list table {' '.join(place)}", json.dumps({"nftables": self.others}))
        words = f"-j list table inet {TABLE}"
        if self.rules is None:
            self.programs.answer("nft", words, err="Error: No such file or directory\n", code=1)
        else:
            mark = rule("nebula", 4, f"nebula:{CATALOG}:ip_forward=0")
            self.programs.answer("nft", words, json.dumps({"nftables": [mark, *self.rules]}))

    def has(self, *entries: dict[str, Any]) -> None:
        self.links += entries
        self.show()

    def has_rules(self, of: nat.Rules = NAT) -> None:
        rules = [rule(chain, 10 + n, of.comment) for n, (chain, _text) in enumerate(of.rules)]
        self.rules = [*(self.rules or []), *rules]
        self.show()

    def is_closed(self, **more: Any) -> None:
        """It has a firewall that drops what is forwarded."""
        self.others = [{"chain": {**CLOSED, **more}}]
        self.show()

    @property
    def done(self) -> tuple[list[str], list[str]]:
        """What `ip` and `nft` were told to do."""
        return self.programs.read("ip"), self.programs.read("nft")


def rule(chain: str, handle: int, comment: str) -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": TABLE, "chain": chain, "handle": handle, "comment": comment}}


def link(name: str, network: str = "", address: str = "", **more: Any) -> dict[str, Any]:
    """A bridge of ours, unless told otherwise, that is up and has the address of its mark."""
    alias = ":".join(["nebula", CATALOG, network, *([address] if address else [])]) if network else ""
    local, _slash, length = address.partition("/")
    has = [{"family": "inet", "local": local, "prefixlen": int(length)}] if address else []
    quiet = {"info_kind": "bridge", "info_data": {"stp_state": 0, "forward_delay": 0}}
    return {"ifname": name, "flags": ["UP"], "ifalias": alias, "addr_info": has, "linkinfo": quiet, **more}


def port(name: str, master: str) -> dict[str, Any]:
    return {"ifname": name, "flags": ["UP"], "master": master, "linkinfo": {"info_kind": "tun"}}


OURS = link("nbr0", PUBLIC, "10.66.0.1/24")


@pytest.fixture
def host(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The kernel's switches are files of the test's own."""
    bridged = ((host_firewall, "BRIDGED_TOO", "0\n"), (host_firewall, "BRIDGED_TOO6", "0\n"))
    for module, name, text in ((nat, "FORWARDING", "1\n"), *bridged):
        (tmp_path / name).write_text(text, encoding="ascii")
        monkeypatch.setattr(module, name, tmp_path / name)
    for name in ("LEGACY_TABLES", "LEGACY_TABLES6"):
        monkeypatch.setattr(host_firewall_tables, name, tmp_path / "none")
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path / "proc")
    return Host(programs)


def view(
    name: str, network: str, address: str = "", masquerades: bool = False, rules: str = "present", **more: Any
) -> dict[str, Any]:
    shown = {"bridge": name, "network": network, "up": True, "stp": False, "address": address}
    shown.update(rules=rules, nat=masquerades)
    return {**shown, **more}


VIEW = view("nbr0", PUBLIC, "10.66.0.1/24", True)


@pytest.mark.parametrize("uuid", ["x", PUBLIC[:-1]])
def test_what_is_no_uuid_is_no_catalog(uuid: str, host: Host) -> None:
    with pytest.raises(InvalidValue, match="catalog = "):
        bridge.Node(uuid, act=True)


# -- networks are made ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("act", [False, True])
def test_a_network_is_made(host: Host, act: bool) -> None:
    done = bridge.Node(CATALOG, act).ensure([WITH_NAT], [PUBLIC])
    assert done == [bridge.Done("Public", "nbr0", None, VIEW)]
    steps, script = host.done
    if not act:
        assert (steps, script) == ([], [])
        return
    assert steps[0].startswith("link add name nbr0 address 06:")
    assert steps[1:] == [
        f"link set dev nbr0 alias nebula:{CATALOG}:{PUBLIC}:10.66.0.1/24",
        "address add 10.66.0.1/24 broadcast + dev nbr0",
        "link set dev nbr0 up",
    ]
    assert script[0] == f"add table inet {TABLE}"
    assert sum(line.startswith("add rule") and NAT.comment in line for line in script) == len(NAT.rules)


@pytest.mark.parametrize("act", [False, True])
def test_what_is_as_it_should_be_is_left_alone(host: Host, act: bool) -> None:
    host.has(OURS, link("nbr1", QUIET))
    host.has_rules()
    host.has_rules(OF_PLAIN)
    done = bridge.Node(CATALOG, act).ensure([WITH_NAT, PLAIN], [PUBLIC, QUIET])
    assert done == [
        bridge.Done("Public", "nbr0", VIEW, VIEW),
        bridge.Done("Quiet", "nbr1", view("nbr1", QUIET), view("nbr1", QUIET)),
    ]
    assert host.done == ([], [])


def test_a_bridge_that_was_changed_is_mended(host: Host) -> None:
    host.has({**OURS, "flags": [], "addr_info": []})
    host.has_rules()
    (done,) = bridge.Node(CATALOG, act=True).ensure([WITH_NAT], None)
    assert (done.before, done.after) == (view("nbr0", PUBLIC, "", True, up=False), VIEW)
    assert host.done == (["address add 10.66.0.1/24 broadcast + dev nbr0", "link set dev nbr0 up"], [])


def test_rules_are_others_when_a_network_has_no_nat_any_more(host: Host) -> None:
    host.has(OURS)
    host.has_rules()
    (done,) = bridge.Node(CATALOG, act=True).ensure([replace(WITH_NAT, nat=False)], None)
    assert done.before == {**VIEW, "rules": "others than are wanted"}
    assert done.after == view("nbr0", PUBLIC)
    assert host.done[0] == [
        "address delete 10.66.0.1/24 dev nbr0",
        f"link set dev nbr0 alias nebula:{CATALOG}:{PUBLIC}",
    ]
    bare = nat.Rules(PUBLIC, "nbr0")
    assert [line for line in host.done[1] if bare.comment in line] == [
        f'add rule inet {TABLE} {chain} {text} comment "{bare.comment}"' for chain, text in bare.rules
    ]
    assert sum(line.startswith("delete rule") for line in host.done[1]) == len(NAT.rules)


def given_settings(**values: str) -> None:
    """Of nbr1, in the place of the kernel's."""
    for name in bridge_sysctls.desired(False) or ("ipv6/disable_ipv6", "ipv6/accept_ra", "ipv4/arp_ignore"):
        family, setting = name.split("/")
        place = bridge_sysctls.PROC / family / "conf" / "nbr1"
        place.mkdir(parents=True, exist_ok=True)
        (place / setting).write_text(values.get(setting, "0") + "\n")


def test_settings_of_the_kernel_are_mended_once(host: Host) -> None:
    given_settings(accept_ra="1")
    host.has(link("nbr1", QUIET, addr_info=[{"family": "inet6", "local": "fd00::1", "prefixlen": 64}]))
    host.has_rules(OF_PLAIN)
    forecast = bridge.Node(CATALOG, act=False).ensure([PLAIN], None)
    node = bridge.Node(CATALOG, act=True)
    (done,) = node.ensure([PLAIN], None)
    assert [done] == forecast
    names = [f"net.{name}" for name in ("ipv6.conf.nbr1.disable_ipv6", "ipv6.conf.nbr1.accept_ra")]
    names.append("net.ipv4.conf.nbr1.arp_ignore")
    assert done.before == view("nbr1", QUIET, settings=dict(zip(names, ("0", "1", "0"))))
    assert done.after == view("nbr1", QUIET, settings=dict(zip(names, ("1", "0", "8"))))
    assert host.done == ([], [])
    (warning,) = node.warnings
    assert warning.startswith("network Quiet: bridge nbr1 had fd00::1/64, which this collection did not give it")
    again = bridge.Node(CATALOG, act=True)
    assert again.ensure([PLAIN], None) == [bridge.Done("Quiet", "nbr1", view("nbr1", QUIET), view("nbr1", QUIET))]
    assert again.warnings == []


def test_a_bridge_of_the_hosts_own_is_told_of_and_left_as_it_is(host: Host) -> None:
    given_settings(accept_ra="1")
    host.has(link("nbr1"))
    node = bridge.Node(CATALOG, act=True)
    assert node.ensure([replace(PLAIN, vn_mad="dummy")], None) == []
    (warning,) = node.warnings
    assert warning.endswith("sysctl -w net.ipv6.conf.nbr1.accept_ra=0")
    assert bridge_sysctls.observe("nbr1")["ipv6/accept_ra"] == "1"


def test_a_network_that_has_another_bridge_now_loses_the_former(host: Host) -> None:
    host.has(link("old", QUIET))
    done = bridge.Node(CATALOG, act=True).ensure([PLAIN], [QUIET])
    assert done == [
        bridge.Done("Quiet", "old", view("old", QUIET, rules="absent")),
        bridge.Done("Quiet", "nbr1", None, view("nbr1", QUIET)),
    ]
    assert host.done[0][0] == "link delete dev old type bridge"


def test_a_former_bridge_that_machines_use_stays(host: Host) -> None:
    host.has(link("old", QUIET), port("one-3-0", "old"))
    (done,) = bridge.Node(CATALOG, act=True).ensure([PLAIN], [QUIET])
    assert isinstance(done.error, InUse)
    assert done.error.asked == "network Quiet: bridge nbr1 instead of old"
    assert done.error.found == "attached to old are one-3-0"
    assert host.done == ([], [])


def test_a_network_with_another_driver_is_only_looked_for(host: Host) -> None:
    host.has(link("br0"))
    node = bridge.Node(CATALOG, act=True)
    both = [replace(PLAIN, vn_mad="dummy", bridge=name) for name in ("br0", "br9")]
    assert node.ensure(both, [QUIET]) == []
    (warning,) = node.warnings
    assert warning.startswith("network Quiet: there is no bridge br9 on this host; with vn_mad dummy ")


# -- networks are refused ---------------------------------------------------------------------------------------------
def test_one_network_that_is_refused_does_not_stop_the_others(host: Host) -> None:
    host.has(link("nbr0"))
    first, second = bridge.Node(CATALOG, act=True).ensure([WITH_NAT, PLAIN], None)
    assert isinstance(first.error, ForeignObject)
    assert first.before == first.after == view("nbr0", "", rules="absent")
    assert (second.bridge, second.error) == ("nbr1", None)
    assert all("nbr0" not in step for step in host.done[0])


def test_a_bridge_of_a_network_that_the_catalog_forgot_is_taken_over(host: Host) -> None:
    host.has(link("nbr1", LOST))
    (refused,) = bridge.Node(CATALOG, act=True).ensure([PLAIN], None)
    assert isinstance(refused.error, ForeignObject)
    (refused,) = bridge.Node(CATALOG, act=True).ensure([PLAIN], [LOST, QUIET])
    assert isinstance(refused.error, ForeignObject)
    taken = bridge.Node(CATALOG, act=False).ensure([PLAIN], [QUIET])
    assert taken == [bridge.Done("Quiet", "nbr1", view("nbr1", LOST, rules="absent"), view("nbr1", QUIET))]


def test_addresses_that_the_host_reaches_otherwise_are_refused_before_the_bridge_has_one(host: Host) -> None:
    host.routes = [{"dst": "10.66.0.0/16", "dev": "eth0"}]
    host.show()
    (refused,) = bridge.Node(CATALOG, act=True).ensure([WITH_NAT], None)
    assert isinstance(refused.error, Conflict)
    assert (refused.before, refused.after, host.done) == (None, None, ([], []))
    # A route that came later must not end what works.
    host.has(OURS)
    (done,) = bridge.Node(CATALOG, act=False).ensure([WITH_NAT], None)
    assert done.error is None


def test_routes_are_read_where_a_network_has_to_do_with_them_alone(host: Host) -> None:
    """A network that is joined with others' by an interface of the host takes no addresses from anybody."""
    attributes = {"PHYDEV": "eth2", "VLAN_ID": "7"}
    tunnel = replace(PLAIN, name="Tunnel", uuid=PUBLIC, bridge="nbr7", vn_mad="vxlan", attributes=attributes)
    of_host = {"family": "inet", "local": "192.0.2.1", "prefixlen": 24}
    host.has({"ifname": "eth2", "flags": ["UP"], "mtu": 1500, "addr_info": [of_host]})
    for networks, asked in (([tunnel], 0), ([tunnel, PLAIN], 2)):
        done = bridge.Node(CATALOG, act=False).ensure(networks, None)
        assert [each.error for each in done] == [None] * len(networks)
        assert sum("route" in words for words in host.programs.calls("ip")) == asked


def test_the_route_of_its_own_bridge_is_no_overlap_nor_that_of_its_former(host: Host) -> None:
    host.routes = [{"dst": "10.66.0.0/24", "dev": "old"}, {"dst": "10.66.0.0/24", "dev": "nbr0"}]
    host.has(link("old", PUBLIC, "10.66.0.1/24"))
    done = bridge.Node(CATALOG, act=False).ensure([WITH_NAT], None)
    assert [each.error for each in done] == [None, None]


def test_check_mode_knows_what_earlier_networks_would_have_made(host: Host) -> None:
    again = replace(WITH_NAT, name="Again", uuid=QUIET, bridge="nbr1")
    same_bridge = replace(PLAIN, uuid=LOST, bridge="nbr0")
    first, beside, second = bridge.Node(CATALOG, act=False).ensure([WITH_NAT, again, same_bridge], None)
    assert first.error is None and beside.error is None
    assert beside.before is None and beside.after is not None and beside.after["owner"] == PUBLIC
    assert isinstance(second.error, Conflict) and "10.66.0.0/24 on device nbr0" in second.error.found
    others = replace(same_bridge, vn_mad="802.1Q", attributes={"PHYDEV": "eth1", "VLAN_ID": "7"})
    _first, third = bridge.Node(CATALOG, act=False).ensure([WITH_NAT, others], None)
    assert isinstance(third.error, ForeignObject) and PUBLIC in third.error.found


# -- firewalls --------------------------------------------------------------------------------------------------------
CLOSED = {"family": "inet", "table": "f", "name": "forward", "hook": "forward", "policy": "drop"}


@pytest.mark.parametrize("act", [False, True])
def test_a_network_that_would_reach_nothing_is_not_made(host: Host, act: bool) -> None:
    host.is_closed()
    (refused,) = bridge.Node(CATALOG, act).ensure([WITH_NAT], None)
    assert isinstance(refused.error, TrafficBlocked) and "policy drop" in refused.error.found
    assert host.done == ([], [])


def test_drops_that_are_ignored_are_warnings(host: Host) -> None:
    host.is_closed()
    node = bridge.Node(CATALOG, act=False, ignore_drops=True)
    (done,) = node.ensure([WITH_NAT], None)
    assert done.error is None
    (warning,) = node.warnings
    assert warning.startswith("network Public: forwarding: a firewall of the host is in the way: nft table inet f")
    assert warning.endswith("ignored, as nebula_ignore_forward_drop says")


def test_a_network_without_nat_needs_only_what_is_bridged(host: Host) -> None:
    host.is_closed()
    (done,) = bridge.Node(CATALOG, act=False).ensure([PLAIN], None)
    assert done.error is None
    host_firewall.BRIDGED_TOO.write_text("1\n", encoding="ascii")
    (refused,) = bridge.Node(CATALOG, act=False).ensure([PLAIN], None)
    assert isinstance(refused.error, TrafficBlocked)


SIX = replace(PLAIN, address_ranges=(AddressRange(0, "IP4_6", 9, "10.66.0.10", "02:00:0a:42:00:0a", "2001:db8::"),))


def test_what_drops_ipv6_between_machines_matters_where_they_have_it(host: Host) -> None:
    host.is_closed(family="ip6")
    host_firewall.BRIDGED_TOO6.write_text("1\n", encoding="ascii")
    (done,) = bridge.Node(CATALOG, act=False).ensure([PLAIN], None)
    assert done.error is None
    (refused,) = bridge.Node(CATALOG, act=False).ensure([SIX], None)
    assert isinstance(refused.error, TrafficBlocked) and "each other by IPv6" in refused.error.found


def test_who_keeps_pings_or_udp_from_machines_means_it(host: Host) -> None:
    of = {"family": "inet", "table": "f", "chain": "forward", "handle": 7}
    left = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["icmp", "udp"]}}}
    host.others = [{"chain": {**CLOSED, "policy": "accept"}}, {"rule": {**of, "expr": [left, {"drop": None}]}}]
    host.show()
    node = bridge.Node(CATALOG, act=False)
    (done,) = node.ensure([WITH_NAT], None)
    (warning,) = node.warnings
    assert done.error is None and "which drops what machines of nbr0 send (UDP, ping), answers to" in warning


def test_chains_of_interfaces_matter_where_these_are_ports_of_the_bridge(host: Host) -> None:
    chain = {**CLOSED, "family": "netdev", "hook": "ingress", "dev": "vnet0"}
    host.others = [{"chain": chain}]
    host.has(link("nbr1", QUIET))
    for ports, number in (([], 0), ([port("vnet1", "nbr1")], 0), ([port("vnet0", "nbr1")], 1)):
        host.has(*ports)
        node = bridge.Node(CATALOG, act=False)
        (done,) = node.ensure([PLAIN], None)
        said = [each for each in node.warnings if "chain forward, of vnet0, policy drop, which drops" in each]
        assert done.error is None and len(said) == number
    # The interface that is to be its port.
    host.links = [{"ifname": "eth1", "flags": ["UP"]}]
    host.others = [{"chain": {**chain, "dev": ["eth1"]}}]
    host.show()
    joined = replace(PLAIN, attributes={**PLAIN.attributes, "PHYDEV": "eth1"})
    (refused,) = bridge.Node(CATALOG, act=False).ensure([joined], None)
    assert isinstance(refused.error, TrafficBlocked) and "of eth1" in refused.error.found


@pytest.mark.parametrize("hook", ["prerouting", "postrouting"])
def test_what_earlier_versions_did_not_look_for_is_a_warning_where_the_bridge_is_there(host: Host, hook: str) -> None:
    host.is_closed(hook=hook)
    host_firewall.BRIDGED_TOO.write_text("1\n", encoding="ascii")
    (refused,) = bridge.Node(CATALOG, act=False).ensure([PLAIN], None)
    assert isinstance(refused.error, TrafficBlocked)
    host.has(link("nbr1", QUIET))
    node = bridge.Node(CATALOG, act=False)
    (done,) = node.ensure([PLAIN], None)
    (warning,) = node.warnings
    assert done.error is None and f"nft insert rule inet f forward {'i' if hook == 'prerouting' else 'o'}if" in warning


def test_on_a_bridge_of_the_hosts_own_it_is_a_warning(host: Host) -> None:
    host.others = [{"chain": CLOSED}]
    host.has(link("br0"))
    dummy = replace(PLAIN, vn_mad="dummy", bridge="br0")
    for text, number in (("0\n", 0), ("1\n", 1)):
        host_firewall.BRIDGED_TOO.write_text(text, encoding="ascii")
        node = bridge.Node(CATALOG, act=True)
        assert node.ensure([dummy], None) == []
        assert len([each for each in node.warnings if "which drops what machines of br0" in each]) == number


# -- networks go ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("act", [False, True])
def test_a_network_that_is_done_goes_with_its_rules(host: Host, act: bool) -> None:
    host.has(OURS)
    host.has_rules()
    node = bridge.Node(CATALOG, act)
    done = node.ensure([replace(WITH_NAT, state=NetworkState.DONE)], None)
    assert done == [bridge.Done(f"network {PUBLIC}", "nbr0", VIEW)]
    assert host.done == ((["link delete dev nbr0 type bridge"], [f"delete table inet {TABLE}"]) if act else ([], []))
    assert not node.links


def test_a_bridge_in_use_stays_and_keeps_its_rules(host: Host) -> None:
    host.has(OURS, port("veth7", "nbr0"))
    host.has_rules()
    (refused,) = bridge.Node(CATALOG, act=True).remove([WITH_NAT])
    assert isinstance(refused.error, InUse)
    assert str(refused.error) == ("remove bridge nbr0: attached to nbr0 are veth7. End the machines that use it first")
    assert refused.after == refused.before == VIEW
    assert host.done == ([], [])


def test_check_mode_takes_machines_for_ended_and_nothing_else(host: Host) -> None:
    host.has(OURS, port("one-7-0", "nbr0"))
    (done,) = bridge.Node(CATALOG, act=False).remove([WITH_NAT])
    assert done.error is None
    (done,) = bridge.Node(CATALOG, act=True).remove([WITH_NAT])
    assert isinstance(done.error, InUse)
    host.has(port("veth7", "nbr0"))
    (done,) = bridge.Node(CATALOG, act=False).remove([WITH_NAT])
    assert done.error is not None and done.error.found == "attached to nbr0 are veth7"


def test_rules_whose_bridge_is_gone_are_removed(host: Host) -> None:
    host.has_rules()
    done = bridge.Node(CATALOG, act=True).remove([WITH_NAT])
    assert done == [bridge.Done(f"network {PUBLIC}", "", {"rules": "present", "nat": True})]
    assert host.done == ([], [f"delete table inet {TABLE}"])


def test_everything_of_the_catalog_and_nothing_else_is_removed(host: Host) -> None:
    theirs = {**link("br1", PUBLIC), "ifalias": f"nebula:{LOST}:{PUBLIC}"}
    host.has(OURS, link("nbr1", QUIET), link("br0"), theirs)
    host.has_rules()
    host.has_rules(replace(NAT, network=LOST))
    node = bridge.Node(CATALOG, act=False)
    assert node.left()
    assert [(done.network, done.bridge) for done in node.remove(None)] == [
        (f"network {PUBLIC}", "nbr0"),
        (f"network {QUIET}", "nbr1"),
        (f"network {LOST}", ""),
    ]
    assert not node.left()
    assert list(node.links) == ["br0", "br1"]


def test_rules_alone_are_something_that_is_left(host: Host) -> None:
    assert not bridge.Node(CATALOG, act=True).left()
    host.has_rules()
    assert bridge.Node(CATALOG, act=True).left()


def test_what_is_left_over_from_networks_that_the_catalog_forgot_goes(host: Host) -> None:
    host.has(link("old", LOST), link("nbr1", QUIET))
    node = bridge.Node(CATALOG, act=True)
    assert node.ensure([PLAIN], None)[1:] == []
    assert node.ensure([PLAIN], [QUIET])[1:] == [
        bridge.Done(f"network {LOST}", "old", view("old", LOST, rules="absent"))
    ]
    assert host.done[0] == ["link delete dev old type bridge"]


def test_what_is_left_over_and_in_use_is_a_warning(host: Host) -> None:
    host.has(link("old", LOST), port("veth7", "old"))
    node = bridge.Node(CATALOG, act=True)
    assert node.ensure([], []) == []
    (warning,) = node.warnings
    assert warning.startswith("left over from a network that the catalog no longer has: remove bridge old: ")


# -- programs that are missing ----------------------------------------------------------------------------------------
def test_without_ip_check_mode_says_what_has_to_be_installed(host: Host) -> None:
    host.programs.lose("ip")
    with pytest.raises(MissingDependency, match="iproute2"):
        bridge.Node(CATALOG, act=True)
    node = bridge.Node(CATALOG, act=False)
    assert node.warnings == ["program ip: it is not on this host; it would have to be installed first"]
    (done,) = node.ensure([PLAIN], None)
    assert (done.before, done.after) == (None, view("nbr1", QUIET))


def test_nftables_is_needed_for_every_bridge_of_ours(host: Host) -> None:
    host.programs.lose("nft")
    for wanted in (PLAIN, WITH_NAT):
        (done,) = bridge.Node(CATALOG, act=True).ensure([wanted], None)
        assert isinstance(done.error, MissingDependency)
        assert f"Install the package nftables (role nebula.provision.node does): network {wanted.name} needs it" in (
            done.error.remedy
        )
    assert host.done == ([], [])
    assert bridge.Node(CATALOG, act=True).ensure([replace(PLAIN, vn_mad="dummy")], None) == []
    node = bridge.Node(CATALOG, act=False)
    (forecast,) = node.ensure([WITH_NAT], None)
    assert forecast.after == VIEW
    assert node.warnings == ["program nft: it is not on this host; it would have to be installed first"]
