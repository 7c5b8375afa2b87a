# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of tenants in OVN's own databases: what ovn-northd makes of them, where packets go by that (ovn-trace), and
what becomes of rows that others have there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world
from ovn_central import CHASSIS, Central, Cluster

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    NetworkDatabaseError,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import context_firewall, ovn_context_firewall
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Bandwidth,
    FloatingAddress,
    LogicalNetwork,
    LogicalNetworks,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.apply import apply, audit
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import Database, Tls
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    FAR,
    FLOATING,
    FREE,
    GATEWAY,
    GROUP,
    NICS,
    ONE,
    OTHER_CATALOG,
    OUTSIDE,
    RED_ONE,
    RED_TWO,
    ROUTER_INSIDE,
    ROUTER_OUTSIDE,
    TWO,
    address6_of,
    address_of,
    blue,
    central,
    desired,
    group,
    link_local_of,
    mac_of,
    nic,
    router,
    uuid,
    with_router,
)

BROADCAST = "ff:ff:ff:ff:ff:ff"


def rows(database: Database) -> dict[str, int]:
    return {table: len(found) for table, found in database.read().items() if found and table != "NB_Global"}


def names(changes: Sequence[Any]) -> set[str]:
    return {str(change) for change in changes}


# --- a life -----------------------------------------------------------------------------------------------------------
@in_bare_world
def test_what_is_wanted_is_made_once_kept_changed_and_taken_back() -> None:
    with central() as (ovn, database):
        before = rows(database)
        forecast = apply(database, CATALOG, desired, act=False)
        assert rows(database) == before == {}
        made = apply(database, CATALOG, desired)
        everything = {"network blue", "network red", "network outside", "router edge", "security group web"}
        everything |= {f"port nic{number}" for number in (111, 112, 113, 211, 212)} | {f"catalog {CATALOG}"}
        assert names(made.changes) == names(forecast.changes) == everything
        assert made.changes == forecast.changes
        assert all(change.before is None and change.after for change in made.changes)
        assert not apply(database, CATALOG, desired).changed
        assert not apply(database, CATALOG, desired, act=False).changed

        named = dataclasses.replace(desired, networks=(dataclasses.replace(blue, mtu=1400), *desired.networks[1:]))
        (network, edge) = apply(database, CATALOG, named).changes
        assert network.before["DHCP_Options dhcp4"]["options"]["mtu"] == "1442"
        assert network.after["DHCP_Options dhcp4"]["options"]["mtu"] == "1400"
        assert str(edge) == "router edge"
        assert edge.after["Logical_Router_Port interface"]["ipv6_ra_configs"]["mtu"] == "1400"

        fewer = dataclasses.replace(desired, ports=desired.ports[:-1])
        assert names(apply(database, CATALOG, fewer).changes) > {"port nic212"}
        database.settle()
        assert ovn.complaints("northd") == []
        assert apply(database, CATALOG, LogicalNetworks(), act=False).changed
        gone = apply(database, CATALOG, LogicalNetworks())
        assert all(change.after is None and change.before for change in gone.changes)
        assert rows(database) == {}
        assert ovn.nbctl("get", "NB_Global", ".", "external_ids").strip() == "{}"
        assert not apply(database, CATALOG, LogicalNetworks()).changed
        database.settle()
        assert ovn.complaints("northd") == []


@in_bare_world
def test_an_audit_names_what_differs() -> None:
    with central(northd=False) as (ovn, database):
        apply(database, CATALOG, desired)
        assert audit(database, CATALOG, desired) == []
        ovn.nbctl("lsp-set-addresses", uuid(ONE), "02:00:0a:00:00:63 10.0.0.99")
        ovn.nbctl("ls-add", "left", "--", "set", "Logical_Switch", "left", f"external_ids:nebula-catalog={CATALOG}",
                  f"external_ids:nebula-network={uuid(50)}")  # fmt: skip
        more = dataclasses.replace(desired, ports=(*desired.ports, nic(114)))
        found = {finding.asked: finding.found for finding in audit(database, CATALOG, more)}
        assert found["OVN: port nic111"] == "it differs from the catalog's in Logical_Switch_Port (addresses)"
        assert found["OVN: network left"] == "OVN has it, and the catalog does not know it"
        assert found["OVN: port nic114"] == "OVN does not have it"
        apply(database, CATALOG, more)
        assert audit(database, CATALOG, more) == []


@in_bare_world
def test_a_port_is_on_both_hosts_while_its_machine_moves_and_on_neither_by_name_after_that() -> None:
    with central() as (ovn, database):
        for number in (1, 2):
            ovn.sbctl("chassis-add", f"node{number}", "geneve", f"192.0.2.{number}")
        chassis = {name: ovn.sbctl("--bare", "--columns=_uuid", "find", "Chassis", f"name={name}").strip()
                   for name in ("node1", "node2")}  # fmt: skip

        def requested() -> list[str]:
            database.settle()
            columns = "--columns=requested_chassis,requested_additional_chassis"
            return ovn.sbctl("--bare", columns, "find", "Port_Binding", f"logical_port={uuid(ONE)}").split()

        ours, others = desired.ports[0], desired.ports[1:]
        moves = dataclasses.replace(desired, ports=(dataclasses.replace(ours, between=("node1", "node2")), *others))
        apply(database, CATALOG, desired)
        assert requested() == []
        outcome = apply(database, CATALOG, moves)
        # The version of ovn-northd is known once it has written it.
        assert outcome.warnings == [] and names(outcome.changes) == {"port nic111"}
        assert requested() == [chassis["node1"], chassis["node2"]]
        assert not apply(database, CATALOG, moves).changed
        assert audit(database, CATALOG, moves) == []
        assert names(apply(database, CATALOG, desired).changes) == {"port nic111"}
        assert requested() == []
        assert not apply(database, CATALOG, desired).changed
        assert ovn.complaints("northd") == []


# --- where packets go -------------------------------------------------------------------------------------------------
class Packets:
    """What OVN would do with packets; every port is on one node."""

    def __init__(self, ovn: Central) -> None:
        self.ovn = ovn
        ovn.add_chassis(CHASSIS)

    def bind(self, database: Database, wanted: LogicalNetworks = desired) -> None:
        database.settle()
        for port in wanted.ports:
            self.ovn.bind(port.uuid)
        self.ovn.bind(f"cr-{ROUTER_OUTSIDE}")
        assert self.ovn.complaints("northd") == []

    def mac(self, router_port: str) -> str:
        return self.ovn.nbctl("get", "Logical_Router_Port", router_port, "mac").strip().strip('"')

    def way(self, switch: str, port: str, packet: str) -> str:
        return self.ovn.trace(switch, f'inport == "{port}" && {packet}')

    def between(self, first: int, second: int, what: str, switch: str = "blue") -> str:
        packet = (
            f"eth.src == {mac_of(first)} && eth.dst == {mac_of(second)} && ip.ttl == 64 && "
            f"ip4.src == {address_of(first)} && ip4.dst == {address_of(second)} && {what}"
        )
        return self.way(switch, uuid(first), packet)

    def to(self, first: int, address: str, what: str = "icmp4.type == 8") -> str:
        """By the router."""
        packet = (
            f"eth.src == {mac_of(first)} && eth.dst == {self.mac(ROUTER_INSIDE)} && ip.ttl == 64 && "
            f"ip4.src == {address_of(first)} && ip4.dst == {address} && {what}"
        )
        return self.way("blue", uuid(first), packet)

    def from_outside(self, address: str, what: str = "icmp4.type == 8") -> str:
        packet = (
            f"eth.src == 02:aa:00:00:00:01 && eth.dst == {self.mac(ROUTER_OUTSIDE)} && ip.ttl == 64 && "
            f"ip4.src == {FAR} && ip4.dst == {address} && {what}"
        )
        return self.way("outside", f"localnet-{OUTSIDE}", packet)


@contextlib.contextmanager
def packets_of(wanted: LogicalNetworks = desired) -> Iterator[tuple[Database, Packets]]:
    """Yield a database with what is wanted, and what becomes of packets there."""
    with central() as (ovn, database):
        apply(database, CATALOG, wanted)
        packets = Packets(ovn)
        packets.bind(database)
        yield database, packets


def reaches(way: str, port: str) -> bool:
    return f'output to "{port}"' in way


def arrives(way: str) -> bool:
    """At any machine at all."""
    return any(reaches(way, uuid(number)) for number in NICS)


PING = "icmp4.type == 8"


@in_bare_world
def test_packets_of_tenants_go_where_they_may() -> None:
    with packets_of() as (_database, packets):
        # In one network, and not in another of the same CIDR, neither by name nor by broadcast.
        assert reaches(packets.between(TWO, ONE, PING), uuid(ONE))
        assert reaches(packets.between(RED_ONE, RED_TWO, PING, "red"), uuid(RED_TWO))
        question = "arp.op == 1 && arp.sha == {} && arp.spa == {} && arp.tpa == 10.0.0.77"
        asked = f"eth.src == {mac_of(RED_ONE)} && eth.dst == {BROADCAST} && "
        flood = packets.way("red", uuid(RED_ONE), asked + question.format(mac_of(RED_ONE), address_of(RED_ONE)))
        assert reaches(flood, uuid(RED_TWO))
        assert not reaches(flood, uuid(ONE))
        # Out by the router, with its own address (what is sent first asks who has the next hop), and in by none.
        out = packets.to(TWO, FAR)
        assert reaches(out, f"localnet-{OUTSIDE}")
        # In by the floating address alone.
        assert reaches(packets.from_outside(FLOATING), uuid(ONE))
        assert not arrives(packets.from_outside(GATEWAY, "tcp.dst == 22"))
        # Metadata of clouds.
        assert not arrives(packets.to(ONE, "169.254.169.254", "tcp.dst == 80"))
        policies = packets.ovn.nbctl("lr-policy-list", "edge")
        assert "169.254.0.0/16" in policies
        assert "drop" in policies


@in_bare_world
def test_what_goes_out_has_the_routers_address_and_what_floats_its_own() -> None:
    with packets_of() as (_database, packets):
        nat = packets.ovn.nbctl("lr-nat-list", "edge").split("\n")
        assert any(line.split()[:3] == ["snat", GATEWAY, "10.0.0.0/24"] for line in nat)
        assert any(line.split()[:3] == ["dnat_and_snat", FLOATING, address_of(ONE)] for line in nat)
        # Its neighbour is known, so that the packet itself goes out.
        datapath, port = (
            packets.ovn.sbctl("--bare", "--columns=_uuid", "find", table, f"{column}={value}").strip()
            for table, column, value in (
                ("Datapath_Binding", "external_ids:name", "edge"),
                ("Port_Binding", "logical_port", ROUTER_OUTSIDE),
            )
        )
        assert port
        packets.ovn.sbctl("create", "MAC_Binding", f"logical_port={ROUTER_OUTSIDE}", "ip=192.0.2.1",
                  'mac="02:aa:00:00:00:02"', f"datapath={datapath}")  # fmt: skip
        out = packets.to(TWO, FAR)
        assert f"ct_snat({GATEWAY})" in out or f"ct_snat_in_czone({GATEWAY})" in out, out
        assert reaches(out, f"localnet-{OUTSIDE}")
        out = packets.to(ONE, FAR)
        assert f"ct_snat({FLOATING})" in out or f"ct_snat_in_czone({FLOATING})" in out, out


@in_bare_world
def test_a_security_group_is_opened_and_closed() -> None:
    with packets_of() as (database, packets):

        def passes(what: str) -> bool:
            return reaches(packets.between(ONE, TWO, what), uuid(TWO))

        new = "ip.ttl == 64 && tcp.dst == {}"
        assert [passes(new.format(port)) for port in (22, 23, 79, 80, 90, 91)] == [
            True,
            False,
            False,
            True,
            True,
            False,
        ]
        assert passes(PING)
        assert not passes("udp.dst == 500")
        # To a machine that is in no group everything passes.
        assert reaches(packets.between(TWO, ONE, new.format(23)), uuid(ONE))
        opened = dataclasses.replace(group, rules=(*group.rules, SecurityRule("inbound", "TCP", ((23, 23),))))
        (change,) = apply(database, CATALOG, dataclasses.replace(desired, groups=(opened,))).changes
        assert str(change) == "security group web"
        assert [text["match"] for text in change.after.values()] == [
            f"outport == @nebula_group_{GROUP.replace('-', '_')} && tcp && tcp.dst == 23"
        ]
        database.settle()
        assert passes(new.format(23))
        closed = dataclasses.replace(group, rules=())
        apply(database, CATALOG, dataclasses.replace(desired, groups=(closed,)))
        database.settle()
        assert not passes(new.format(22))
        assert not passes(PING)
        # Nor does it reach anybody, and yet it has neighbours, and an address by DHCP.
        assert not arrives(packets.between(TWO, ONE, PING))
        assert "put_dhcp_opts(offerip = 10.0.0.12" in dhcp(packets, TWO)
        assert "nd_na" in neighbour(packets, TWO, ONE)
        # In no group at all.
        apply(database, CATALOG, dataclasses.replace(desired, ports=tuple(map(ungrouped, desired.ports))))
        database.settle()
        assert passes(new.format(9999))
        assert packets.ovn.complaints("northd") == []


@in_bare_world
def test_a_firewall_of_a_context_and_a_security_group_have_both_to_let_it_in() -> None:
    firewall = context_firewall.read("[22,8080] 10.0.0.11 [*] 10.0.0.13", "")
    wall = ovn_context_firewall.firewall_group(firewall, [group], {BLUE: blue})
    alone = ovn_context_firewall.firewall_group(firewall, None, {})
    ports = tuple(
        dataclasses.replace(
            port, security_groups={uuid(TWO): (wall.uuid,), uuid(ONE): (alone.uuid,)}.get(port.uuid, ())
        )
        for port in desired.ports
    )
    wanted = dataclasses.replace(desired, ports=ports, groups=(wall, alone))
    with packets_of(wanted) as (database, packets):

        def passes(sender: int, receiver: int, what: str) -> bool:
            return reaches(packets.between(sender, receiver, what), uuid(receiver))

        new = "tcp.dst == {}"
        # The group lets in 22 and 80 to 90 of TCP, and pings of the network; the firewall names who.
        assert [passes(ONE, TWO, new.format(port)) for port in (22, 80, 8080)] == [True, False, False]
        assert [passes(FREE, TWO, new.format(port)) for port in (22, 80, 8080)] == [True, True, False]
        assert (passes(ONE, TWO, PING), passes(FREE, TWO, PING)) == (False, True)
        # Without a group, the firewall alone.
        assert [passes(TWO, ONE, what) for what in (new.format(22), PING)] == [False, False]
        assert [passes(FREE, ONE, what) for what in (new.format(22), "udp.dst == 9", PING)] == [True] * 3
        # Nothing is said of what goes out, and both have their neighbours and addresses.
        for number in (ONE, TWO):
            assert passes(number, FREE, new.format(9999)) and passes(number, FREE, "udp.dst == 7")
            assert "put_dhcp_opts(offerip = " in dhcp(packets, number)
            assert "nd_na" in neighbour(packets, number, FREE)
        assert apply(database, CATALOG, wanted).changes == []
        assert packets.ovn.complaints("northd") == []


def ungrouped(port: Any) -> Any:
    return dataclasses.replace(port, security_groups=())


def dhcp(packets: Packets, number: int) -> str:
    asked = (
        f"eth.src == {mac_of(number)} && eth.dst == {BROADCAST} && ip4.src == 0.0.0.0 && "
        "ip4.dst == 255.255.255.255 && udp.src == 68 && udp.dst == 67 && ip.ttl == 64"
    )
    return packets.way("blue", uuid(number), asked)


def neighbour(packets: Packets, number: int, other: int) -> str:
    asked = (
        f"eth.src == {mac_of(number)} && eth.dst == 33:33:ff:00:00:{other % 100:02x} && "
        f"ip6.src == {link_local_of(number)} && ip6.dst == ff02::1:ff00:{other % 100:x} && ip.ttl == 255 && "
        f"icmp6.type == 135 && icmp6.code == 0 && nd.target == {address6_of(other)} && nd.sll == {mac_of(number)}"
    )
    return packets.way("blue", uuid(number), asked)


@in_bare_world
def test_dhcp_gives_what_the_catalog_leased_and_nobody_else_answers() -> None:
    with packets_of() as (_database, packets):
        offered = dhcp(packets, ONE)
        for part in (
            *("offerip = 10.0.0.11", "lease_time = 4242", "mtu = 1442", "router = 10.0.0.1", "dns_server = 9.9.9.9"),
            *("netmask = 255.255.255.0", 'domain_name = "blue.example"', 'hostname = "host111"'),
        ):
            assert part in offered, part
        assert reaches(offered, uuid(ONE))
        answer = "udp.src == 67 && udp.dst == 68"
        assert not arrives(packets.between(ONE, FREE, answer))
        # One that is not held to its addresses may be a server of its own.
        assert reaches(packets.between(FREE, ONE, answer), uuid(ONE))


@in_bare_world
def test_addresses_of_ipv6_are_announced_and_given_as_the_network_says() -> None:
    with central() as (ovn, database):
        packets = Packets(ovn)
        solicit = (
            f"eth.src == {mac_of(ONE)} && eth.dst == 33:33:00:01:00:02 && ip6.src == {link_local_of(ONE)} && "
            "ip6.dst == ff02::1:2 && udp.src == 546 && udp.dst == 547 && ip.ttl == 1"
        )
        for mode in ("slaac", "dhcpv6_stateless", "dhcpv6_stateful"):
            network = dataclasses.replace(blue, ra_mode=mode)
            apply(database, CATALOG, dataclasses.replace(desired, networks=(network, *desired.networks[1:])))
            packets.bind(database)
            flows = ovn.sbctl("lflow-list", "edge")
            assert f'put_nd_ra_opts(addr_mode = "{mode}"' in flows
            assert "prefix = 2001:db8:1::/64" in flows
            answered = packets.way("blue", uuid(ONE), solicit)
            assert ("put_dhcpv6_opts" in answered) == (mode != "slaac")
            assert ("ia_addr = 2001:db8:1::b" in answered) == (mode == "dhcpv6_stateful")


@in_bare_world
def test_what_a_machine_sends_and_gets_is_limited() -> None:
    limited = nic(ONE, bandwidth=Bandwidth(inbound=8000, inbound_burst=800, outbound=4000))
    with packets_of(dataclasses.replace(desired, ports=(limited, *desired.ports[1:]))) as (_database, packets):
        assert "set_meter(4000)" in packets.between(ONE, FREE, PING)
        assert "set_meter(8000, 800)" in packets.between(FREE, ONE, PING)
        assert "set_meter" not in packets.between(FREE, TWO, PING)


# --- changes that follow each other -----------------------------------------------------------------------------------
@in_bare_world
def test_a_floating_address_moves_and_an_address_goes_to_a_new_nic_in_one_transaction() -> None:
    with packets_of() as (database, packets):
        (row,) = packets.ovn.nbctl("--bare", "--columns=_uuid", "find", "NAT", "type=dnat_and_snat").split()
        moved = with_router(floating=(FloatingAddress(FLOATING, uuid(TWO)),))
        (change,) = apply(database, CATALOG, moved).changes
        assert (change.before, change.after) == (
            {f"NAT floating {FLOATING}": {"logical_ip": "10.0.0.11"}},
            {f"NAT floating {FLOATING}": {"logical_ip": "10.0.0.12"}},
        )
        database.settle()
        assert packets.ovn.nbctl("--bare", "--columns=_uuid", "find", "NAT", "type=dnat_and_snat").split() == [row]
        assert reaches(packets.from_outside(FLOATING, "tcp.dst == 22"), uuid(TWO))
        # Both ways a floating address can be carried.
        apply(database, CATALOG, with_router(floating=(FloatingAddress(FLOATING, uuid(ONE), distributed=True),)))
        database.settle()
        assert reaches(packets.from_outside(FLOATING), uuid(ONE))
        # Another NIC with the same MAC and address, under another UUID.
        heir = dataclasses.replace(nic(ONE), uuid=uuid(777), name="heir")
        with_heir = dataclasses.replace(
            with_router(floating=(FloatingAddress(FLOATING, uuid(777)),)), ports=(heir, *desired.ports[1:])
        )
        apply(database, CATALOG, with_heir)
        packets.bind(database, with_heir)
        assert reaches(packets.from_outside(FLOATING), uuid(777))
        # And into another network, under the same UUID.
        other = dataclasses.replace(
            heir, network=desired.networks[1].uuid, mac="02:00:0a:00:00:32", addresses4=("10.0.0.50",), addresses6=()
        )
        elsewhere = dataclasses.replace(with_router(floating=()), ports=(other, *desired.ports[1:]))
        apply(database, CATALOG, elsewhere)
        assert not apply(database, CATALOG, elsewhere).changed
        database.settle()
        assert packets.ovn.complaints("northd") == []


# --- others -----------------------------------------------------------------------------------------------------------
FOREIGN = (
    "ls-add theirs -- lsp-add theirs theirs-1 -- lsp-set-addresses theirs-1 '02:bb:00:00:00:01 10.0.0.11' "
    "-- lr-add their-router -- lrp-add their-router their-lrp 02:bb:00:00:00:02 192.0.2.30/24 "
    "-- ls-add their-outside -- lsp-add their-outside their-localnet -- lsp-set-type their-localnet localnet "
    "-- lsp-set-options their-localnet network_name=physnet -- set logical_switch_port their-localnet tag=17 "
    "-- lsp-add their-outside their-end -- lsp-set-type their-end router "
    "-- lsp-set-options their-end router-port=their-lrp "
    "-- lr-nat-add their-router dnat_and_snat 192.0.2.31 10.0.0.11"
)


def dump(ovn: Central) -> dict[str, list[str]]:
    """Everything that is in the database, by table, but for what changes by itself."""
    volatile = ("nb_cfg", "sb_cfg", "hv_cfg", "nb_cfg_timestamp", "sb_cfg_timestamp", "hv_cfg_timestamp")
    text = ovn.run("ovsdb-client", "dump", "--format=json", ovn.remote, "OVN_Northbound")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        table = json.loads(line)
        kept = [number for number, name in enumerate(table["headings"]) if name not in volatile]
        found[table["caption"]] = sorted(json.dumps([row[number] for number in kept]) for row in table["data"])
    return found


@in_bare_world
def test_what_others_have_is_as_it_was() -> None:
    with central() as (ovn, database):
        ovn.nbctl(*shlex.split(FOREIGN))
        apply(database, OTHER_CATALOG, LogicalNetworks((LogicalNetwork(uuid(61), "elsewhere", cidr4="10.0.0.0/24"),)))
        before = dump(ovn)
        apply(database, CATALOG, desired)
        # What somebody adds to ours stays in it, and ours is not taken for changed by that.
        ovn.nbctl("lsp-add", "blue", "guest-port", "--", "acl-add", "blue", "from-lport", "5", "ip4", "allow")
        ovn.nbctl("set", "Logical_Switch", "blue", "other_config:mcast_snoop=true", "external_ids:owner=somebody")
        ovn.nbctl("set", "Logical_Switch_Port", uuid(ONE), "options:requested-chassis=node1")
        assert not apply(database, CATALOG, desired).changed
        apply(database, CATALOG, dataclasses.replace(desired, ports=desired.ports[1:], routers=()))
        apply(database, CATALOG, desired)
        shown = ovn.nbctl("show", "blue")
        assert "guest-port" in shown
        assert "5 (ip4) allow" in ovn.nbctl("acl-list", "blue")
        assert "mcast_snoop" in ovn.nbctl("get", "Logical_Switch", "blue", "other_config")
        assert "somebody" in ovn.nbctl("get", "Logical_Switch", "blue", "external_ids")
        with pytest.raises(ForeignObject, match="guest-port"):
            apply(database, CATALOG, LogicalNetworks())
        ovn.nbctl("lsp-del", "guest-port", "--", "acl-del", "blue", "from-lport", "5", "ip4")
        apply(database, CATALOG, LogicalNetworks())
        apply(database, OTHER_CATALOG, LogicalNetworks(), act=False)
        after = dump(ovn)
        after["NB_Global table"] = before["NB_Global table"]
        assert {table: rows for table, rows in after.items() if rows != before[table]} == {}


@in_bare_world
def test_names_and_addresses_that_others_have_are_refused_before_anything_is_written() -> None:
    with central(northd=False) as (ovn, database):
        ovn.nbctl("init")
        ovn.nbctl(*shlex.split(FOREIGN))
        before = dump(ovn)
        theirs = dataclasses.replace(
            desired, networks=(dataclasses.replace(blue, name="theirs"), *desired.networks[1:])
        )
        with pytest.raises(ForeignObject, match=r"network theirs: Logical_Switch .* has this name"):
            apply(database, CATALOG, theirs)
        with pytest.raises(ForeignObject, match="router their-router"):
            apply(database, CATALOG, with_router(name="their-router"))
        for address in ("192.0.2.30", "192.0.2.31"):
            with pytest.raises(Conflict, match=f"{address} in network outside: "):
                apply(database, CATALOG, with_router(floating=(FloatingAddress(address, uuid(ONE)),)))
            gateway = dataclasses.replace(router.gateway, addresses=(f"{address}/24",))
            with pytest.raises(Conflict, match=f"gateway: {address}"):
                apply(database, CATALOG, with_router(gateway=gateway))
        # On another VLAN of the same physical network the address is another's.
        elsewhere = dataclasses.replace(desired.networks[2], vlan=18)
        apart = dataclasses.replace(with_router(floating=(FloatingAddress("192.0.2.31", uuid(ONE)),)),
                                    networks=(*desired.networks[:2], elsewhere))  # fmt: skip
        assert apply(database, CATALOG, apart, act=False).changed
        assert dump(ovn) == before
        # A port that has the name of ours, and one on a switch of ours that has the address.
        ovn.nbctl("lsp-add", "theirs", uuid(ONE))
        with pytest.raises(ForeignObject, match=f"port {uuid(ONE)} .*Logical_Switch_Port"):
            apply(database, CATALOG, desired)
        ovn.nbctl("lsp-del", uuid(ONE))
        apply(database, CATALOG, desired)
        ovn.nbctl("lsp-add", "blue", "squatter", "--", "lsp-set-addresses", "squatter", "02:bb:00:00:00:09 10.0.0.14")
        with pytest.raises(Conflict, match=r"NIC nic114: 10\.0\.0\.14 in network blue: Logical_Switch_Port squatter"):
            apply(database, CATALOG, dataclasses.replace(desired, ports=(*desired.ports, nic(114))))
        # Added by somebody to our own router.
        ovn.nbctl("lr-nat-add", "edge", "dnat_and_snat", "192.0.2.77", "10.0.0.12")
        with pytest.raises(Conflict, match=r"192\.0\.2\.77"):
            apply(database, CATALOG, with_router(floating=(FloatingAddress("192.0.2.77", uuid(ONE)),)))


class Interrupted(Database):
    """Something happens between what is read and what is written."""

    def __init__(self, remote: str, happening: Sequence[Sequence[str]], ovn: Central) -> None:
        super().__init__([remote])
        self.happening, self.ovn, self.writes = list(happening), ovn, 0

    def write(self, operations: Any) -> None:
        self.writes += 1
        if self.happening:
            self.ovn.nbctl(*self.happening.pop(0))
        super().write(operations)


@in_bare_world
def test_a_change_that_somebody_makes_meanwhile_is_not_overrun() -> None:
    with central(northd=False) as (ovn, database):
        ovn.nbctl("init")
        apply(database, CATALOG, desired)
        ovn.nbctl("lsp-set-options", uuid(ONE), "hostname=other")
        happening = (
            # The very column.
            ["set", "Logical_Switch_Port", uuid(ONE), "options:requested-chassis=node7"],
            # The row is not marked as ours any more; by name it is somebody's then.
        )
        with Interrupted(ovn.remote, happening, ovn) as slow:
            apply(slow, CATALOG, desired)
            assert slow.writes == 2
        options = ovn.nbctl("get", "Logical_Switch_Port", uuid(ONE), "options")
        assert "requested-chassis=node7" in options
        assert "host111" in options
        # A port that comes to a switch that is about to go.
        lonely = LogicalNetwork(uuid(60), "lonely", cidr4="10.9.0.0/24")
        apply(database, CATALOG, dataclasses.replace(desired, networks=(*desired.networks, lonely)))
        with Interrupted(ovn.remote, [["lsp-add", "lonely", "late"]], ovn) as slow:
            with pytest.raises(ForeignObject, match="late"):
                apply(slow, CATALOG, desired)
            assert slow.writes == 1
        ovn.nbctl("lsp-del", "late")
        # Another run of the same catalog's.
        with Database([ovn.remote]) as second:

            class Overtaken(Database):
                writes = 0

                def write(self, operations: Any) -> None:
                    self.writes += 1
                    if self.writes == 1:
                        apply(second, CATALOG, dataclasses.replace(desired, ports=(*desired.ports, nic(115))))
                    super().write(operations)

            with Overtaken([ovn.remote]) as first:
                apply(first, CATALOG, dataclasses.replace(desired, ports=(*desired.ports, nic(115))))
                assert first.writes == 1
        # Somebody who never stops.
        moves = [["lsp-set-options", uuid(ONE), f"hostname=h{number}"] for number in range(9)]
        ovn.nbctl("lsp-set-options", uuid(ONE), "hostname=other")
        with Interrupted(ovn.remote, moves, ovn) as slow, pytest.raises(Conflict, match="5 times"):
            apply(slow, CATALOG, dataclasses.replace(desired, ports=(*desired.ports, nic(115))))


# --- connections ------------------------------------------------------------------------------------------------------
def certificates(directory: Path) -> dict[str, Path]:
    """Of one authority for servers and clients, and of another one."""
    made = {}
    for authority in ("ca", "stranger"):
        key, certificate = directory / f"{authority}.key", directory / f"{authority}.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}",
                "-keyout", key, "-out", certificate)  # fmt: skip
        made[authority] = certificate
    for name in ("server", "client"):
        key, request = directory / f"{name}.key", directory / f"{name}.csr"
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-days", "2", "-CA", made["ca"], "-CAkey", directory / "ca.key",
                "-CAcreateserial", "-out", directory / f"{name}.pem")  # fmt: skip
        made[name], made[f"{name} key"] = directory / f"{name}.pem", key
    return made


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@in_bare_world
def test_the_database_is_reached_by_tcp_and_by_tls() -> None:
    with tempfile.TemporaryDirectory() as place:
        made = certificates(Path(place))
        options = (
            *("--remote=ptcp:6641:127.0.0.1", "--remote=pssl:6642:127.0.0.1", f"--private-key={made['server key']}"),
            *(f"--certificate={made['server']}", f"--ca-cert={made['ca']}"),
        )
        with Central(Path(place) / "central", northd=False, options=options) as ovn:
            ovn.nbctl("init")
            tls = Tls(str(made["client key"]), str(made["client"]), str(made["ca"]))
            with Database(["tcp:127.0.0.1:6641"]) as database:
                # More than one piece, and not all of it in ASCII.
                named = [dataclasses.replace(nic(111 + each), name=f"ä€😀-{each}") for each in range(80)]
                apply(database, CATALOG, dataclasses.replace(desired, ports=tuple(named)))
            with Database(["ssl:127.0.0.1:6642"], tls) as database:
                ports = database.read()["Logical_Switch_Port"]
                assert sum("ä€😀" in json.dumps(port, ensure_ascii=False) for port in ports) == 80
                assert apply(database, CATALOG, desired).changed
                assert not apply(database, CATALOG, desired).changed
            stranger = Tls(tls.private_key, tls.certificate, str(made["stranger"]))
            for remote, given, found in (
                ("ssl:127.0.0.1:6642", stranger, "certificate"),
                ("ssl:127.0.0.1:6642", None, "no key, certificate and CA were given"),
                ("ssl:127.0.0.1:6642", Tls("/nowhere", tls.certificate, tls.ca_certificate), "No such file"),
                ("tcp:127.0.0.1:6699", None, "Connection refused"),
                (f"unix:{place}/nothing", None, "No such file"),
                ("http://127.0.0.1", None, "neither unix:PATH nor"),
                ("tcp:127.0.0.1", None, "it names no address and port, as in tcp:192.0.2.1:6641"),
                ("tcp:[::1]:port", None, "it names no address and port"),
            ):
                with Database([remote], given, timeout=5) as database, pytest.raises(NetworkDatabaseError, match=found):
                    database.read()
            # Of several the one that answers.
            with Database(["tcp:127.0.0.1:6699", ovn.remote]) as database:
                assert database.read()["Logical_Switch"]
            # Nobody carries out what is written.
            with Database([ovn.remote], timeout=0.3) as database, pytest.raises(TimedOut, match="ovn-northd"):
                database.settle()


@in_bare_world
def test_a_database_of_another_kind_is_refused() -> None:
    found = pytest.raises(NetworkDatabaseError, match="it has no database OVN_Northbound")
    with central() as (ovn, _database), Database([ovn.southbound]) as wrong, found:
        wrong.read()


@in_bare_world
def test_a_cluster_is_written_by_whichever_member_answers_and_outlives_its_leader() -> None:
    fewer = dataclasses.replace(desired, ports=desired.ports[:-1])
    with (
        tempfile.TemporaryDirectory() as place,
        Cluster(Path(place) / "cluster") as cluster,
        Database(cluster.remotes) as database,
        Database(cluster.remotes[2:]) as follower,
    ):
        assert apply(database, CATALOG, desired).changed
        assert apply(follower, CATALOG, fewer).changed
        assert not apply(database, CATALOG, fewer).changed
        # While it is connected with the leader. Until there is another nobody answers.
        cluster.kill_first()
        assert apply(database, CATALOG, desired).changed
        assert not apply(follower, CATALOG, desired).changed
