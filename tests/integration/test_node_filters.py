# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that machines on a Linux bridge send, honest ones and others, through the nftables rules of their node."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from frames import (
    ARP,
    BROADCAST,
    ICMP,
    ICMPV6,
    IPV4,
    Cable,
    advertisement,
    arp_request,
    behind,
    checksum,
    datagram,
    destination_options,
    ethernet,
    icmp6,
    ip,
    ip6_parts,
    llc,
    mac,
    mpls,
    packed,
)
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, StalePlan, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.nic_filters import NicFilters
from ansible_collections.nebula.provision.plugins.module_utils.model import context_firewall, ethertypes
from ansible_collections.nebula.provision.plugins.module_utils.model import nic_filter_rules as model
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard, GuardRule
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import nic_filter
from ansible_collections.nebula.provision.plugins.module_utils.network.networks_at_boot import (
    GUARDS,
    PROGRAM,
    SCRIPT,
    Boot,
)
from ansible_collections.nebula.provision.tests.integration.node_namespaces import (
    CATALOG,
    OTHER_CATALOG,
    TABLE,
    made_namespaces,
    network,
)

BRIDGE = "nbr0"
# As nftables lists a table that versions before made for ONE and TWO, which had all of their rules for themselves.
FORMER = Path(__file__).parents[1] / "fixtures" / "filters" / "former.nft"
# And as it lists one that the release before made for the same.
EARLIER = FORMER.with_name("earlier.nft")
NICS = ONE, TWO, FREE = (1, 2, 3)
TCP = 6
SYN, ACK, FIN = 2, 16, 1
COUNTER = itertools.count(1)


def mac_of(nic: int) -> str:
    return f"02:00:0a:42:00:0{nic}"


def address_of(nic: int, six: bool = False) -> str:
    return f"2001:db8::aff:fe42:{nic}" if six else f"10.66.0.1{nic}"


def port_of(nic: int) -> str:
    return f"one-{nic}-0"


def guarded(nic: int, **values: object) -> Guard:
    addresses = (address_of(nic), address_of(nic, six=True))
    given = {"filter_mac": True, "filter_ip": True, **values}
    return Guard(nic, 0, port_of(nic), mac_of(nic), addresses, **given)


def udp(source: int, target: int, ports: tuple[int, int] = (5000, 5001), data: bytes = b"", **forged: str) -> bytes:
    address = forged.get("address", address_of(source))
    to = forged.get("to", address_of(target, six=":" in address))
    return datagram((forged.get("mac", mac_of(source)), mac_of(target)), (address, to), ports, data or b"a packet")


def tcp(source: int, target: int, ports: tuple[int, int], flags: int) -> bytes:
    pair = address_of(source), address_of(target)
    head = struct.pack("!HHIIBBHHH", *ports, 1, 1, 5 << 4, flags, 1000, 0, 0)
    pseudo = packed(pair[0]) + packed(pair[1]) + struct.pack("!BBH", 0, TCP, len(head))
    whole = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
    return ethernet(mac_of(source), mac_of(target), *ip(*pair, TCP, whole))


def echo(source: int, target: int, kind: int) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, 7, 1)
    whole = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return ethernet(mac_of(source), mac_of(target), *ip(address_of(source), address_of(target), ICMP, whole))


def neighbour(source: int, about: str, own: str, kind: int = 136) -> bytes:
    """Says that the IPv6 address is at this MAC address."""
    body = struct.pack("!I", 0x20000000) + packed(about) + b"\x02\x01" + mac(own)
    sender = address_of(source, six=True)
    message = icmp6(sender, "ff02::1", kind, body)
    return ethernet(mac_of(source), "33:33:00:00:00:01", *ip(sender, "ff02::1", ICMPV6, message, 255))


def fragments(source: int, target: int, number: int, ports: tuple[int, int] = (5000, 53)) -> tuple[bytes, bytes]:
    """A datagram in two parts, of which only the first has ports."""
    payload = struct.pack("!HHHH", *ports, 8 + 16, 0) + b"x" * 16
    found = []
    for offset, more, data in ((0, 0x2000, payload[:16]), (2, 0, payload[16:])):
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), number, more | offset, 64, 17, 0)
        head += packed(address_of(source)) + packed(address_of(target))
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        found.append(ethernet(mac_of(source), mac_of(target), IPV4, head + data))
    return found[0], found[1]


def behind_options(frame: bytes) -> bytes:
    """The IPv6 packet with a header before its own."""
    options = destination_options(frame[20])
    length = struct.unpack("!H", frame[18:20])[0] + len(options)
    return frame[:18] + struct.pack("!HB", length, 60) + frame[21:54] + options + frame[54:]


def tagged(frame: bytes) -> bytes:
    return frame[:12] + b"\x81\x00\x00\x05" + frame[12:]


class Cables:
    """Three machines on a bridge of this node."""

    def __init__(self) -> None:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        self.by_nic = {nic: Cable(port_of(nic)) for nic in NICS}
        for cable in self.by_nic.values():
            run("ip", "link", "set", cable.device, "master", BRIDGE)
            # A port forwards nothing before the bridge has seen that it has a carrier.
            for _try in range(200):
                if "state forwarding" in run("bridge", "-d", "link", "show", "dev", cable.device):
                    break

    def arrives(self, sender: int, frame: bytes, receiver: int) -> bool:
        """Whether it is heard before an honest question that is sent after it: these always pass."""
        number = next(COUNTER)
        honest = arp_request(mac_of(sender), address_of(sender), f"10.66.{1 + number // 200}.{1 + number % 200}")
        self.by_nic[sender].send(frame)
        self.by_nic[sender].send(honest)
        heard: list[bytes] = []

        def last(other: bytes) -> bool:
            heard.append(other)
            return other[12:14] == struct.pack("!H", ARP) and honest[:42] == other[:42]

        self.by_nic[receiver].hear(last)
        # The kernel may take away what fills a short one up.
        bare = frame.rstrip(b"\0")
        return any(other.startswith(bare) for other in heard)

    def close(self) -> None:
        for cable in self.by_nic.values():
            cable.close()
        run("ip", "link", "delete", BRIDGE)


def run(*argv: str, **options: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout


@contextlib.contextmanager
def machines() -> Iterator[Cables]:
    cables = Cables()
    try:
        yield cables
    finally:
        cables.close()
        run("nft", "flush", "ruleset")


def filtered(*wanted: Guard, as_of: float = 0.0) -> bool:
    table = nic_filter.observe(CATALOG)
    changed = nic_filter.ensure(wanted, table, as_of or table.as_of + 1.0, ())
    assert nic_filter.differing(wanted, nic_filter.observe(CATALOG), ()) == ({}, {})
    return changed


FORGED = {
    "MAC address": udp(ONE, TWO, mac="02:00:0a:42:00:77"),
    "IPv4 address": udp(ONE, TWO, address="10.66.0.77"),
    "IPv6 address": udp(ONE, TWO, address="2001:db8::77"),
    "link-local address": udp(ONE, TWO, address="fe80::77"),
    "nobody's address": udp(ONE, TWO, address="::"),
    "ARP of another": arp_request(mac_of(ONE), "10.66.0.77", address_of(TWO)),
    "ARP for another MAC": ethernet(
        mac_of(ONE), BROADCAST, ARP, arp_request("02:00:0a:42:00:77", address_of(ONE), address_of(TWO))[14:42]
    ),
    "neighbour advertisement for another": neighbour(ONE, "2001:db8::77", mac_of(ONE)),
    "neighbour advertisement with another MAC": neighbour(ONE, address_of(ONE, six=True), "02:00:0a:42:00:77"),
    "router advertisement": advertisement(mac_of(ONE), "fe80::aff:fe42:1", "2001:db8:bad::"),
    "answer of a DHCP server": udp(ONE, TWO, ports=(67, 68)),
    "answer of a DHCPv6 server": udp(ONE, TWO, ports=(547, 546), address=address_of(ONE, six=True)),
    # Clients take them from whatever port they come.
    "DHCP answer from another port": udp(ONE, TWO, ports=(6767, 68)),
    "DHCP answer to everybody from another port": datagram(
        (mac_of(ONE), BROADCAST), (address_of(ONE), "255.255.255.255"), (6767, 68), b"an offer"
    ),
    "DHCP answer from a client's port": udp(ONE, TWO, ports=(68, 68)),
    "first part of a DHCP answer": fragments(ONE, TWO, 68, (6767, 68))[0],
    "DHCPv6 answer from another port": udp(ONE, TWO, ports=(6547, 546), address=address_of(ONE, six=True)),
    "DHCPv6 answer from the link-local address": udp(ONE, TWO, ports=(6547, 546), address="fe80::aff:fe42:1"),
    "DHCPv6 answer behind a header": behind_options(
        udp(ONE, TWO, ports=(6547, 546), address=address_of(ONE, six=True))
    ),
    "first part of a DHCPv6 answer": ip6_parts(
        udp(ONE, TWO, ports=(6547, 546), address=address_of(ONE, six=True), data=b"x" * 32), 16
    )[0],
    "forged packet behind a VLAN tag": tagged(udp(ONE, TWO, address="10.66.0.77")),
}
HONEST = {
    "IPv4": udp(ONE, TWO),
    "IPv6": udp(ONE, TWO, address=address_of(ONE, six=True)),
    "link-local": udp(ONE, TWO, address="fe80::aff:fe42:1"),
    "a question for its own address": arp_request(mac_of(ONE), "0.0.0.0", address_of(ONE)),
    "neighbour advertisement": neighbour(ONE, address_of(ONE, six=True), mac_of(ONE)),
    "DHCP": datagram((mac_of(ONE), BROADCAST), ("0.0.0.0", "255.255.255.255"), (68, 67), b"discover"),
    "a longer lease": udp(ONE, TWO, ports=(68, 67)),
    "DHCPv6": udp(ONE, TWO, ports=(546, 547), address="fe80::aff:fe42:1"),
    "from the ports of servers": udp(ONE, TWO, ports=(67, 5001)),
}


@in_bare_world
def test_a_machine_sends_with_its_own_addresses_only_and_is_neither_router_nor_dhcp_server() -> None:
    with machines() as cables:
        # Without rules all of it arrives: it is the rules that keep it.
        lost = [what for what, frame in {**FORGED, **HONEST}.items() if not cables.arrives(ONE, frame, TWO)]
        assert lost == [], lost
        assert filtered(guarded(ONE))
        assert [what for what, frame in FORGED.items() if cables.arrives(ONE, frame, TWO)] == []
        assert [what for what, frame in HONEST.items() if not cables.arrives(ONE, frame, TWO)] == []
        # Whom nothing filters sends what it likes, and one that is held to its MAC address alone, any address.
        forged = udp(FREE, TWO, address="10.66.0.77")
        assert cables.arrives(FREE, forged, TWO)
        assert filtered(guarded(ONE), guarded(FREE, filter_ip=False))
        assert cables.arrives(FREE, forged, TWO)
        assert not cables.arrives(FREE, udp(FREE, TWO, mac="02:00:0a:42:00:77"), TWO)


def of_the_catalog(nic: dict[str, object], alias: dict[str, object]) -> list[Guard]:
    """What the catalog has its node filter of machine ONE, which has this NIC in a filtered network without addresses,
    and this alias of it in one with addresses."""
    attributes = {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}
    ranges = {"lab": AddressRange(NEW_AR, "ETHER", 9), "more": AddressRange(NEW_AR, "IP4", 9, ip="10.66.0.70")}
    with (
        tempfile.TemporaryDirectory() as root,
        contextlib.closing(EmbeddedEngine(root, create=True)) as engine,
        engine.session(),
    ):
        engine.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=1, cpu=1))
        for name, given in ranges.items():
            whole = Network(
                None, name, vn_mad="bridge", bridge=f"{name}0", attributes=attributes, address_ranges=(given,)
            )
            engine.networks.allocate(whole)
        engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime, host_id)"
            " VALUES (?, 'm', '00000000-0000-4000-8000-000000000001', 3, 3, 'RUNNING', 1, 1, '', ?, 0, 0)",
            (ONE, json.dumps({"nics": [nic], "aliases": [alias]})),
        )
        return list(engine.networks.guards()["node1"])


@in_bare_world
def test_a_machine_with_a_mac_address_alone_is_not_held_to_the_address_of_its_alias() -> None:
    """Who gave it its own address is not the catalog. Its MAC address is the catalog's."""
    own = {"ar_id": 0, "mac": mac_of(ONE), "target": port_of(ONE), "options": {}, "ip6": "", "ip6_ula": ""}
    nic = {**own, "nic_id": 0, "network_id": 0, "ip": ""}
    alias = {**own, "nic_id": 1, "parent_id": 0, "network_id": 1, "ip": "10.66.0.77", "external": False}
    forged = udp(ONE, TWO, mac="02:00:0a:42:00:77")
    others = [udp(ONE, TWO, address=address) for address in (address_of(ONE), "10.66.0.77", "2001:db8::5")]
    with machines() as cables:
        assert filtered(*of_the_catalog(nic, alias))
        assert all(cables.arrives(ONE, frame, TWO) for frame in others) and not cables.arrives(ONE, forged, TWO)
        # With an address of its own it is held to that and its alias's.
        assert filtered(*of_the_catalog({**nic, "ip": address_of(ONE)}, alias))
        assert [cables.arrives(ONE, frame, TWO) for frame in others] == [True, True, False]
        assert not cables.arrives(ONE, udp(ONE, TWO, address="10.66.0.55"), TWO)


def answer_to(frame: bytes, port: int) -> bytes:
    """What FREE answers from this port, as a DHCP server, to what a client asks; b"" if it asks nothing."""
    if frame[12:14] != struct.pack("!H", IPV4) or frame[23] != 17 or frame[36:38] != b"\0\x43":
        return b""
    # The first option of both questions is their kind: a discovery gets an offer, and a request its lease.
    kind = {b"\x35\x01\x01": 2, b"\x35\x01\x03": 5}.get(frame[282:285], 0)
    own, wide = packed(address_of(FREE)), packed("255.255.255.0")
    body = b"\x02\x01\x06\0" + frame[46:50] + b"\0\0\x80\0" + bytes(4) + packed("10.66.0.99") + own + bytes(4)
    options = bytes((53, 1, kind)) + b"\x36\x04" + own + b"\x33\x04\0\0\x0e\x10" + b"\x01\x04" + wide + b"\xff"
    message = (body + frame[70:86] + bytes(192) + b"\x63\x82\x53\x63" + options).ljust(300, b"\0")
    ends = (mac_of(FREE), BROADCAST), (address_of(FREE), "255.255.255.255")
    return datagram(*ends, (port, 68), message) if kind else b""


def has_lease(cables: Cables, port: int) -> bool:
    """Whether a real client at TWO gets a lease of FREE, which answers from this port."""
    device, server = cables.by_nic[TWO].other, cables.by_nic[FREE]
    ask = ["busybox", "udhcpc", "-i", device, "-n", "-q", "-f", "-t", "3", "-T", "1", "-s", "/bin/true"]
    client = subprocess.Popen(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while client.poll() is None:
            with contextlib.suppress(TimeoutError):
                server.send(answer_to(server.hear(lambda frame: answer_to(frame, port), 0.2), port))
    finally:
        client.kill()
    return client.wait() == 0


@in_bare_world
def test_a_dhcp_client_gets_its_lease_of_whoever_may_serve_and_of_nobody_else() -> None:
    groups = (everything("inbound"), everything("outbound"))
    with machines() as cables:
        run("ip", "link", "set", cables.by_nic[TWO].other, "address", mac_of(TWO))
        assert has_lease(cables, 67) and has_lease(cables, 6767)
        assert filtered(guarded(TWO, rules=groups), guarded(FREE, rules=groups))
        assert not has_lease(cables, 67) and not has_lease(cables, 6767)
        assert filtered(guarded(TWO, rules=groups), guarded(FREE, filter_ip=False, rules=groups))
        assert has_lease(cables, 67)


def named(*text: str) -> tuple[int, ...]:
    return ethertypes.read(" ".join(text), "")


def asks_for(source: int, about: str, option: bytes, sender: str) -> bytes:
    """Who has this IPv6 address? option: what follows it."""
    group = f"ff02::1:ff{int.from_bytes(packed(about)[13:14], 'big'):02x}:{packed(about)[14:].hex()}"
    message = icmp6(sender, group, 135, bytes(4) + packed(about) + option)
    return ethernet(mac_of(source), f"33:33:{packed(group)[12:].hex(':')}", *ip(sender, group, ICMPV6, message, 255))


def solicits(source: int, sender: str, option: bytes = b"") -> bytes:
    message = icmp6(sender, "ff02::2", 133, bytes(4) + option)
    return ethernet(mac_of(source), "33:33:00:00:00:02", *ip(sender, "ff02::2", ICMPV6, message, 255))


def says(source: int, options: bytes) -> bytes:
    """An advertisement of its own address with these options."""
    sender = address_of(source, six=True)
    message = icmp6(sender, "ff02::1", 136, struct.pack("!I", 0x20000000) + packed(sender) + options)
    return ethernet(mac_of(source), "33:33:00:00:00:01", *ip(sender, "ff02::1", ICMPV6, message, 255))


def announced(source: int, about: str) -> bytes:
    """What QEMU sends where a machine arrives that was migrated."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 3) + 2 * (mac(about) + bytes(4))
    return ethernet(mac_of(source), BROADCAST, 0x8035, body)


def carriers(source: int, target: int) -> dict[str, bytes]:
    """What carries a packet of the sender's own past rules that read IP in Ethernet II alone."""
    honest = udp(source, target)
    six = udp(source, target, address=address_of(source, six=True))
    question = arp_request(mac_of(source), address_of(source), address_of(target))
    tag = struct.pack("!H", 5)
    return {
        "SNAP with IPv4": llc(honest),
        "SNAP with IPv6": llc(six),
        "SNAP with ARP": llc(question),
        "LLC with IPv4": llc(honest, snap=False),
        "raw 802.3": ethernet(mac_of(source), mac_of(target), 50, b"\xff\xff" + bytes(48)),
        "tag 0x8100": behind(honest, (0x8100, tag)),
        "tag 0x88a8": behind(honest, (0x88A8, tag)),
        "tag 0x9100": behind(honest, (0x9100, tag)),
        "tag 0x9200": behind(honest, (0x9200, tag)),
        "two tags": behind(six, (0x88A8, tag), (0x8100, tag)),
        "priority tag": behind(honest, (0x8100, b"\xe0\0")),
        "tag before SNAP": behind(llc(honest), (0x8100, tag)),
        "MPLS": mpls(honest),
        "MPLS, multicast": mpls(honest, 0x8848),
        "PPPoE discovery": ethernet(mac_of(source), BROADCAST, 0x8863, b"\x11\x09" + bytes(40)),
        "PPPoE": behind(six, (0x8864, b"\x11\0\0\x01\0\x2a")),
        "EAPOL": ethernet(mac_of(source), mac_of(target), 0x888E, b"\x01\x01" + bytes(44)),
        "RARP answer": ethernet(mac_of(source), mac_of(target), 0x8035, question[14:20] + b"\0\4" + question[22:42]),
        "something of its own": ethernet(mac_of(source), BROADCAST, 0x88B5, b"something of its own"),
        "ARP of IEEE 802 hardware": question[:15] + b"\x06" + question[16:],
        "ARP about no IPv4": question[:16] + b"\x08\x01" + question[18:],
        "ARP with longer addresses": question[:18] + b"\x08" + question[19:],
    }


@in_bare_world
def test_a_filtered_nic_sends_and_gets_nothing_but_arp_and_ip_in_ethernet_ii() -> None:
    kinds = {
        "filters": guarded(ONE),
        "MAC filter": guarded(ONE, filter_ip=False),
        "group": guarded(ONE, filter_mac=False, filter_ip=False, rules=(*map(everything, ("inbound", "outbound")),)),
        "firewall": guarded(ONE, filter_mac=False, filter_ip=False, firewall=(everything("inbound"),)),
    }
    with machines() as cables:

        def through(sender: int, receiver: int) -> list[str]:
            return [
                what for what, frame in carriers(sender, receiver).items() if cables.arrives(sender, frame, receiver)
            ]

        whole = list(carriers(ONE, TWO))
        # Of a NIC that nothing filters, all of it arrives.
        assert filtered(guarded(FREE))
        assert through(ONE, TWO) == whole
        for what, wanted in kinds.items():
            assert filtered(wanted), what
            assert (what, through(ONE, TWO), through(TWO, ONE)) == (what, [], [])
            assert cables.arrives(ONE, udp(ONE, TWO), TWO) and cables.arrives(TWO, udp(TWO, ONE), ONE), what
        assert through(TWO, FREE) == whole


def everything(direction: str) -> GuardRule:
    return GuardRule(direction, "ALL")


@in_bare_world
def test_a_network_names_what_passes_besides() -> None:
    kept = {
        "pppoe": {"PPPoE discovery", "PPPoE"},
        "eapol 0x88b5": {"EAPOL", "something of its own"},
        "vlan": {"tag 0x8100", "priority tag", "tag before SNAP"},
        "qinq": {"tag 0x88a8", "tag 0x9100", "tag 0x9200", "two tags"},
        "llc": {"SNAP with IPv4", "SNAP with IPv6", "SNAP with ARP", "LLC with IPv4", "raw 802.3"},
        "mpls": {"MPLS", "MPLS, multicast"},
    }
    with machines() as cables:
        for text, what in kept.items():
            wanted = guarded(ONE, ethertypes=named(text), rules=WEB)
            assert filtered(wanted) and not filtered(wanted)
            for sender, receiver in ((ONE, TWO), (TWO, ONE)):
                frames = carriers(sender, receiver).items()
                assert {name for name, frame in frames if cables.arrives(sender, frame, receiver)} == what, text
            # It is still held to its MAC address, and to what the rules of its group say of IP.
            forged = carriers(ONE, TWO)[min(what)]
            assert not cables.arrives(ONE, forged[:6] + mac("02:00:0a:42:00:77") + forged[12:], TWO)
            assert not cables.arrives(ONE, udp(ONE, TWO), TWO)
        # The rules of a network are one chain for all of its NICs, which goes with the last.
        both = [guarded(nic, ethertypes=named("eapol")) for nic in (ONE, TWO)]
        assert filtered(*both)
        assert len(of_networks()) == 2
        assert filtered(guarded(ONE), guarded(TWO))
        assert of_networks() == []


def of_networks() -> list[str]:
    return [name for name in nic_filter.observe(CATALOG).chains if re.match("ethernet_[0-9a-f]{12}", name)]


@in_bare_world
def test_where_a_machine_arrives_that_was_migrated_is_told_to_switches() -> None:
    with machines() as cables:
        assert filtered(guarded(ONE, rules=()))
        assert cables.arrives(ONE, announced(ONE, mac_of(ONE)), TWO)
        assert cables.arrives(ONE, announced(ONE, mac_of(ONE)), FREE)
        forged = announced(ONE, mac_of(ONE))
        assert not cables.arrives(ONE, forged[:6] + mac(mac_of(TWO)) + forged[12:], TWO)
        assert not cables.arrives(TWO, announced(TWO, mac_of(TWO)), ONE)


@in_bare_world
def test_what_asks_whether_an_address_is_free_is_about_its_own() -> None:
    own, other = (mac(mac_of(nic)) for nic in (ONE, TWO))
    six, link = address_of(ONE, six=True), "fe80::aff:fe42:1"
    once = b"\x0e\x01abcdef"
    honest = {
        "ARP probe": arp_request(mac_of(ONE), "0.0.0.0", address_of(ONE)),
        "whether it is free": asks_for(ONE, six, b"", "::"),
        "the same with a number used once": asks_for(ONE, six, once, "::"),
        "of its link-local address": asks_for(ONE, link, once, "::"),
        "a question for another": asks_for(ONE, address_of(TWO, six=True), b"\x01\x01" + own, six),
        "by its link-local address": asks_for(ONE, address_of(TWO, six=True), b"\x01\x01" + own, link),
        "a question without its MAC address": asks_for(ONE, address_of(TWO, six=True), b"", six),
        "an advertisement": says(ONE, b"\x02\x01" + own),
        "an advertisement without options": says(ONE, b""),
        "for routers": solicits(ONE, "::"),
        "for routers with its MAC address": solicits(ONE, link, b"\x01\x01" + own),
    }
    forged = {
        "ARP probe for another's": arp_request(mac_of(ONE), "0.0.0.0", address_of(TWO)),
        "whether another's is free": asks_for(ONE, address_of(TWO, six=True), b"", "::"),
        "the same with a number used once": asks_for(ONE, address_of(TWO, six=True), once, "::"),
        "whether another's link-local address is free": asks_for(ONE, "fe80::aff:fe42:2", b"", "::"),
        "a question with another's MAC address": asks_for(ONE, address_of(TWO, six=True), b"\x01\x01" + other, six),
        "the same as a second option": asks_for(ONE, address_of(TWO, six=True), once + b"\x01\x01" + other, six),
        "an advertisement with another's second": says(ONE, b"\x02\x01" + own + b"\x02\x01" + other),
        "an advertisement with another's after others": says(ONE, once + b"\x02\x01" + other),
        "an advertisement with another's after an unknown one": says(
            ONE, b"\xfd\x02" + bytes(14) + b"\x02\x01" + other
        ),
        "for routers with another's MAC address": solicits(ONE, link, b"\x01\x01" + other),
        "the same after others": solicits(ONE, link, once + b"\x01\x01" + other),
    }
    with machines() as cables:
        lost = [what for what, frame in {**honest, **forged}.items() if not cables.arrives(ONE, frame, TWO)]
        assert lost == []
        assert filtered(guarded(ONE))
        assert [what for what, frame in forged.items() if cables.arrives(ONE, frame, TWO)] == []
        assert [what for what, frame in honest.items() if not cables.arrives(ONE, frame, TWO)] == []
        # Of one that has only a MAC address, that is held.
        assert filtered(replace(guarded(ONE), addresses=()))
        passing = {what for what, frame in forged.items() if cables.arrives(ONE, frame, TWO)}
        assert passing == {what for what in forged if "ARP" in what or "is free" in what} | {
            *(["the same with a number used once"])
        }
        assert [what for what, frame in honest.items() if not cables.arrives(ONE, frame, TWO)] == []


def parts_of_announcements(source: int, to: str = "33:33:00:00:00:01") -> dict[str, list[bytes]]:
    """What a machine makes a router's announcement, or a DHCP server's answer, of, once it has put it together."""
    whole = advertisement(mac_of(source), "fe80::aff:fe42:1", "2001:db8:bad::")
    spoken = neighbour(source, "2001:db8::77", mac_of(source))
    answer = udp(source, TWO, ports=(547, 546), address=address_of(source, six=True), data=b"x" * 40)
    icmp, long = destination_options(58), destination_options(58, 24)
    return {
        "one part": ip6_parts(whole),
        "two parts": ip6_parts(whole, 24),
        "the first with options alone": ip6_parts(whole, 8, first=icmp),
        "the first with half of the options": ip6_parts(whole, 8, first=long),
        "half of the options, and three parts": ip6_parts(whole, 8, 32, first=long),
        "a neighbour's in two": ip6_parts(spoken, 16),
        "a neighbour's behind options": ip6_parts(spoken, 8, first=icmp),
        "DHCPv6's behind options": ip6_parts(answer, 8, first=destination_options(17)),
        "DHCPv6's in two": ip6_parts(answer, 16),
    }


@in_bare_world
def test_neighbour_discovery_does_not_come_in_parts() -> None:
    honest = udp(ONE, TWO, address=address_of(ONE, six=True), data=b"y" * 100)
    echoed = ethernet(
        mac_of(ONE),
        mac_of(TWO),
        *ip(
            address_of(ONE, six=True),
            address_of(TWO, six=True),
            ICMPV6,
            icmp6(address_of(ONE, six=True), address_of(TWO, six=True), 128, b"z" * 60),
        ),
    )
    passing = [*ip6_parts(honest, 40), *ip6_parts(honest, 8, 40, first=b""), *ip6_parts(echoed, 32), echoed, honest]
    passing += ip6_parts(honest, 24, first=destination_options(17))

    def arriving(sender: int, receiver: int) -> dict[str, list[int]]:
        """The parts of each that arrive: without the first nothing becomes of the others."""
        return {
            what: [number for number, part in enumerate(parts) if cables.arrives(sender, part, receiver)]
            for what, parts in parts_of_announcements(sender).items()
        }

    with machines() as cables:
        assert all(arriving(ONE, TWO).values())
        assert filtered(guarded(ONE))
        assert {what: found for what, found in arriving(ONE, TWO).items() if 0 in found} == {}
        assert [number for number, part in enumerate(passing) if not cables.arrives(ONE, part, TWO)] == []
        # What others send arrives whole at a machine that is filtered, or not at all.
        assert filtered(guarded(ONE, rules=(everything("inbound"), everything("outbound"))))
        of_neighbours = {what for what in parts_of_announcements(ONE) if "DHCP" not in what}
        assert {what for what, found in arriving(FREE, ONE).items() if 0 in found and what in of_neighbours} == set()
        assert {what for what, found in arriving(ONE, TWO).items() if 0 in found} == set()
        assert [number for number, part in enumerate(passing) if not cables.arrives(ONE, part, TWO)] == []


@in_bare_world
def test_rules_that_somebody_took_away_are_missed_and_made_anew() -> None:
    wanted = [guarded(ONE), guarded(TWO, rules=(GuardRule("outbound", "ALL"),))]
    forged = udp(ONE, FREE, address="10.66.0.77")
    with machines() as cables:
        run("nft", "add", "table", "bridge", "others")
        filtered(*wanted)
        (letting,) = nic_filter.observe(CATALOG).letting["out_2_0"]
        for harm in (
            ["flush", "ruleset"],
            ["flush", "table", "bridge", TABLE],
            ["flush", "chain", "bridge", TABLE, "out_1_0"],
            ["flush", "chain", "bridge", TABLE, "prerouting"],
            ["flush", "chain", "bridge", TABLE, "end_in"],
            ["flush", "chain", "bridge", TABLE, "servers"],
            ["flush", "chain", "bridge", TABLE, "always_out"],
            ["flush", "chain", "bridge", TABLE, letting],
        ):
            filtered(*wanted)
            assert not cables.arrives(ONE, forged, FREE)
            run("nft", *harm)
            assert nic_filter.differing(wanted, nic_filter.observe(CATALOG), ()) != ({}, {}), harm
            assert filtered(*wanted)
            assert not cables.arrives(ONE, forged, FREE)
            assert not filtered(*wanted)
        # What a host has after a reboot; and others' tables are nobody's business.
        text = nic_filter.at_boot(CATALOG)
        run("nft", "add", "table", "bridge", "others")
        run("nft", "delete", "table", "bridge", TABLE)
        assert cables.arrives(ONE, forged, FREE)
        with tempfile.TemporaryDirectory() as root:
            kept = Boot(root, CATALOG)
            kept.write({SCRIPT: PROGRAM, GUARDS: text})
            script = ("sh", f"{kept.place}/{SCRIPT}", kept.place, CATALOG, TABLE)
            run(*script)
            run(*script)
            # A second run has nothing to keep that it has not kept.
            assert nic_filter.at_boot(CATALOG) == text
        assert nic_filter.differing(wanted, nic_filter.observe(CATALOG), ()) == ({}, {})
        assert not cables.arrives(ONE, forged, FREE)
        assert cables.arrives(TWO, udp(TWO, FREE), FREE) and cables.arrives(FREE, udp(FREE, TWO, (5001, 5000)), TWO)
        assert not cables.arrives(FREE, udp(FREE, TWO, (5001, 5002)), TWO)
        assert cables.arrives(TWO, tcp(TWO, FREE, (5000, 80), SYN), FREE)
        assert cables.arrives(FREE, tcp(FREE, TWO, (80, 5000), ACK), TWO)
        assert not cables.arrives(FREE, tcp(FREE, TWO, (80, 5001), ACK), TWO)
        assert filtered()
        assert "table bridge others" in run("nft", "list", "tables") and TABLE not in run("nft", "list", "tables")
        assert cables.arrives(ONE, forged, FREE)
        # One of ours by its name alone is left alone.
        run("nft", "add", "table", "bridge", TABLE)
        run("nft", "add", "chain", "bridge", TABLE, "theirs")
        run("nft", "add", "rule", "bridge", TABLE, "theirs", "counter")
        with pytest.raises(ForeignObject, match=TABLE):
            nic_filter.observe(CATALOG)
        with tempfile.TemporaryDirectory() as root:
            kept = Boot(root, CATALOG)
            kept.write({SCRIPT: PROGRAM, GUARDS: text})
            done = subprocess.run(
                ["sh", f"{kept.place}/{SCRIPT}", kept.place, CATALOG, TABLE], capture_output=True, text=True
            )
            assert done.returncode == 1 and f"nftables table bridge {TABLE} is not of catalog" in done.stderr


WEB = (
    GuardRule("inbound", "TCP", ports=((80, 80), (8000, 8010))),
    GuardRule("inbound", "TCP", ports=((22, 22),), addresses=("10.66.0.11-10.66.0.12",)),
    GuardRule("inbound", "ICMP", icmp_type=8),
    GuardRule("outbound", "UDP", ports=((53, 53),)),
)


@in_bare_world
def test_a_security_group_lets_through_what_it_names_and_answers() -> None:
    with machines() as cables:
        assert cables.arrives(ONE, tcp(ONE, TWO, (4000, 443), SYN), TWO)
        filtered(guarded(TWO, rules=WEB))

        def comes(*frames: bytes, sender: int = ONE) -> list[bool]:
            return [cables.arrives(sender, frame, TWO) for frame in frames]

        def goes(*frames: bytes, receiver: int = ONE) -> list[bool]:
            return [cables.arrives(TWO, frame, receiver) for frame in frames]

        # In: the ports that it names, and 22 for those alone that it names.
        assert comes(*(tcp(ONE, TWO, (4000, port), SYN) for port in (80, 8005, 22, 443, 8011))) == [
            *(True, True, True, False, False)
        ]
        assert comes(tcp(FREE, TWO, (4000, 22), SYN), tcp(FREE, TWO, (4000, 80), SYN), sender=FREE) == [False, True]
        assert comes(udp(ONE, TWO, (4000, 80)), udp(ONE, TWO, address=address_of(ONE, six=True))) == [False, False]
        # Out: answers to what came in, to nobody else, and what it names.
        assert goes(
            tcp(TWO, ONE, (80, 4000), SYN | ACK),
            tcp(TWO, ONE, (80, 4001), SYN | ACK),
            tcp(TWO, ONE, (443, 4000), ACK),
            tcp(TWO, ONE, (80, 4000), FIN | ACK),
        ) == [True, False, False, True]
        assert goes(udp(TWO, ONE, (4000, 53)), udp(TWO, ONE, (4000, 54))) == [True, False]
        assert comes(udp(ONE, TWO, (53, 4000)), udp(ONE, TWO, (53, 4001))) == [True, False]
        assert comes(udp(FREE, TWO, (53, 4000)), sender=FREE) == [False]
        six = address_of(ONE, six=True), address_of(TWO, six=True)
        assert comes(udp(ONE, TWO, (53, 5000), address=six[0])) == [False]
        assert goes(udp(TWO, ONE, (5000, 53), address=six[1])) == [True]
        assert comes(udp(ONE, TWO, (53, 5000), address=six[0])) == [True]
        assert comes(udp(ONE, TWO, (53, 5000), address="2001:db8::aff:fe42:9")) == [False]
        # A ping of it, and none by it.
        assert goes(echo(TWO, ONE, 0)) == [False]
        assert comes(echo(ONE, TWO, 8)) == [True] and goes(echo(TWO, ONE, 0), echo(TWO, ONE, 8)) == [True, False]
        # Neighbours are found, in both families.
        assert comes(neighbour(ONE, address_of(ONE, six=True), mac_of(ONE))) == [True]
        assert goes(neighbour(TWO, address_of(TWO, six=True), mac_of(TWO))) == [True]
        # A packet in parts passes if the first of them does.
        first, second = fragments(TWO, ONE, 7)
        assert goes(second, first, second) == [False, True, True]
        first, second = fragments(ONE, TWO, 8)
        assert comes(first, second) == [False, False]
        # It is a filter against spoofing, too.
        assert goes(udp(TWO, ONE, (4000, 53), address="10.66.0.77")) == [False]


@in_bare_world
def test_what_is_remembered_of_answers_has_an_end() -> None:
    """No set is made with a size, for which the kernel would take memory at once: it is the kernel that sets one."""
    assert filtered(guarded(ONE, rules=()))
    listed = json.loads(run("nft", "-j", "-t", "list", "sets", "bridge"))["nftables"]
    assert [entry["set"]["size"] for entry in listed if "set" in entry] == [65535] * 12


HUNDREDS = 200


@in_bare_world
def test_a_nic_more_makes_few_sets_and_rules_more_and_none_for_a_group_that_others_have() -> None:
    """The kernel looks through all sets of a table for one, and through all rules for each part of a list of them."""

    def nic(number: int) -> Guard:
        return replace(
            guarded(ONE, rules=WEB), vm_id=number, port=f"one-{number}-0", mac=f"02:00:0a:43:00:{number:02x}"
        )

    assert filtered(nic(1))
    first = size()
    assert filtered(*map(nic, range(1, HUNDREDS + 1)))
    sets, chains, rules, length = (all_of - one for all_of, one in zip(size(), first))
    # Those of its answers: packets with ports and others, of two families, both ways.
    assert sets == 8 * (HUNDREDS - 1)
    assert chains == 2 * (HUNDREDS - 1)
    assert rules <= 57 * (HUNDREDS - 1), rules / (HUNDREDS - 1)
    # A thousand are far from what is read of a list.
    assert length / (HUNDREDS - 1) * 5000 < nic_filter.LONGEST_LIST
    # All of them go with the last.
    assert filtered(nic(1)) and size()[:3] == first[:3]


def size() -> tuple[int, int, int, int]:
    """Sets, chains and rules of the table, and the length of its list."""
    listed = json.loads(run("nft", "-j", "-t", "list", "table", "bridge", TABLE))["nftables"]
    kinds = [next(iter(entry)) for entry in listed]
    # Those without names are not among them, but in the rules.
    unnamed = sum(json.dumps(entry).count('"set": [') for entry in listed if "set" not in entry)
    counts = kinds.count("set") + unnamed, kinds.count("chain"), kinds.count("rule")
    return (*counts, len(nic_filter.at_boot(CATALOG)))


@in_bare_world
def test_a_machine_with_ipv4_alone_remembers_nothing_of_ipv6_that_it_can_not_answer() -> None:
    with machines() as cables:
        rules = GuardRule("inbound", "ALL"), GuardRule("outbound", "UDP", ports=((53, 53),))
        both = guarded(TWO, rules=rules)
        four = replace(both, addresses=(address_of(TWO),))
        six = address_of(ONE, six=True), address_of(TWO, six=True)
        for wanted, named in ((both, 8), (four, 4)):
            assert filtered(wanted)
            assert len([name for name in nic_filter.observe(CATALOG).sets if name.endswith("_2_0")]) == named
            assert cables.arrives(ONE, udp(ONE, TWO, address=six[0]), TWO)
            assert cables.arrives(TWO, udp(TWO, ONE, (5001, 5000), address=six[1]), ONE) is (wanted is both)
            assert cables.arrives(ONE, udp(ONE, TWO), TWO)
            assert cables.arrives(TWO, udp(TWO, ONE, (5001, 5000)), ONE)
            assert not cables.arrives(TWO, udp(TWO, ONE, (5001, 5002)), ONE)
        # Its address may be its only filter.
        assert filtered(replace(four, rules=None)) and filtered(four)


@in_bare_world
def test_a_group_without_rules_or_a_firewall_without_lets_nothing_through() -> None:
    with machines() as cables:
        assert cables.arrives(ONE, udp(ONE, TWO), TWO)
        for shut in (guarded(TWO, rules=()), guarded(TWO, firewall=())):
            assert filtered(shut)
            assert not cables.arrives(ONE, udp(ONE, TWO), TWO)
            assert cables.arrives(TWO, udp(TWO, ONE), ONE) is (shut.rules is None)


@in_bare_world
def test_a_table_of_the_former_form_is_brought_to_this_one_and_keeps_its_answers() -> None:
    forged = udp(ONE, FREE, address="10.66.0.77")
    asks, answers = tcp(ONE, TWO, (4000, 80), ACK), tcp(TWO, ONE, (80, 4000), ACK)
    one, two = guarded(ONE), guarded(TWO, rules=WEB)

    def works() -> None:
        assert cables.arrives(TWO, answers, ONE) and cables.arrives(ONE, asks, TWO)
        assert not cables.arrives(ONE, forged, FREE)
        assert not cables.arrives(ONE, tcp(ONE, TWO, (4000, 443), ACK), TWO)
        assert cables.arrives(TWO, udp(TWO, ONE, (4000, 53)), ONE)
        assert not cables.arrives(TWO, udp(TWO, ONE, (4000, 54)), ONE)
        first, second = fragments(TWO, ONE, next(COUNTER))
        assert [cables.arrives(TWO, each, ONE) for each in (second, first, second)] == [False, True, True]

    with machines() as cables:
        run("nft", "-f", str(FORMER))
        assert set(nic_filter.observe(CATALOG).nics) == {"one-1-0", "one-2-0"}
        assert cables.arrives(ONE, asks, TWO)
        works()
        # One of a machine that the catalog does not know goes on with the rules that it has, beside those of this form.
        assert nic_filter.ensure([one], nic_filter.observe(CATALOG), 2.0, ["one-2-0"])
        assert "jump servers" in run("nft", "list", "chain", "bridge", TABLE, "out_1_0")
        assert "@ports4_out_2_0" in run("nft", "list", "chain", "bridge", TABLE, "pass_in_2_0")
        works()
        assert filtered(one, two)
        works()
        assert "pass_in" not in run("nft", "list", "table", "bridge", TABLE)
        assert not filtered(one, two)


@in_bare_world
def test_a_table_of_the_release_before_is_made_anew_and_nothing_is_said_to_be_changed() -> None:
    one, two = guarded(ONE), guarded(TWO, rules=WEB)
    late = udp(ONE, FREE, ports=(4000, 68))
    with machines() as cables:
        run("nft", "-f", str(EARLIER))
        table = nic_filter.observe(CATALOG)
        assert nic_filter.differing([one, two], table, ()) == ({}, {})
        assert nic_filter.made_by_last_release([one, two], table) == {"one-1-0", "one-2-0"}
        assert cables.arrives(ONE, late, FREE)
        # What somebody has changed besides, or the catalog says otherwise, is a difference as ever.
        before, after = nic_filter.differing([one, guarded(TWO)], table, ())
        assert (list(before), list(after)) == (["one-2-0"], ["one-2-0"])
        run("nft", "flush", "chain", "bridge", TABLE, "out_1_0")
        assert nic_filter.made_by_last_release([one, two], nic_filter.observe(CATALOG)) == {"one-2-0"}
        assert filtered(one, two)
        assert nic_filter.made_by_last_release([one, two], nic_filter.observe(CATALOG)) == set()
        assert not cables.arrives(ONE, late, FREE) and not filtered(one, two)


@in_bare_world
def test_a_chain_that_only_earlier_versions_shared_goes_with_their_last_nic() -> None:
    one, two = guarded(ONE), guarded(TWO)
    with machines() as cables:
        assert filtered(one, two)
        run("nft", "add", "chain", "bridge", TABLE, "tagged")
        run("nft", "add", "rule", "bridge", TABLE, "tagged", "ether type { 8021q, 8021ad, 0x9100 } drop")
        for nic in (ONE, TWO):
            run("nft", "flush", "chain", "bridge", TABLE, f"in_{nic}_0")
        for _rule in range(2):
            run("nft", "add", "rule", "bridge", TABLE, "out_2_0", "jump tagged")
        assert cables.arrives(FREE, carriers(FREE, TWO)["MPLS"], TWO)
        # One of a machine that the catalog does not know has it still.
        assert nic_filter.ensure([one], nic_filter.observe(CATALOG), 9.0, ["one-2-0"])
        assert "tagged" in nic_filter.observe(CATALOG).chains
        assert filtered(one, two)
        assert "tagged" not in nic_filter.observe(CATALOG).chains
        assert not cables.arrives(FREE, carriers(FREE, TWO)["MPLS"], TWO)


@in_bare_world
def test_rules_that_nics_share_stay_for_as_long_as_one_has_them() -> None:
    one, two = guarded(ONE, rules=WEB), guarded(TWO, rules=WEB)

    def letting() -> set[str]:
        return {name for name in nic_filter.observe(CATALOG).chains if name.startswith("passing_")}

    with machines() as cables:
        assert filtered(one, two)
        shared = letting()
        assert len(shared) == 2
        # The one that stays is of a machine that the catalog does not know.
        assert nic_filter.ensure([guarded(ONE)], nic_filter.observe(CATALOG), 5.0, ["one-2-0"])
        assert letting() == shared
        assert cables.arrives(ONE, tcp(ONE, TWO, (4000, 80), SYN), TWO)
        assert not cables.arrives(ONE, tcp(ONE, TWO, (4000, 443), SYN), TWO)
        assert filtered(guarded(ONE), guarded(TWO, rules=()))
        assert letting().isdisjoint(shared)
        assert filtered(guarded(ONE)) and letting() == set()
        # What came in while rules were missing is no reason for answers.
        assert filtered(two)
        (name,) = nic_filter.observe(CATALOG).letting["in_2_0"]
        run("nft", "flush", "chain", "bridge", TABLE, name)
        assert cables.arrives(ONE, tcp(ONE, TWO, (4000, 443), ACK), TWO)
        assert filtered(two)
        assert not cables.arrives(TWO, tcp(TWO, ONE, (443, 4000), ACK), ONE)


@in_bare_world
def test_a_group_is_opened_and_closed_while_traffic_runs() -> None:
    with machines() as cables:
        closed = guarded(TWO, rules=WEB)
        opened = guarded(TWO, rules=(*WEB, GuardRule("inbound", "TCP", ports=((443, 443),))))
        asks, answers = tcp(ONE, TWO, (4000, 443), ACK), tcp(TWO, ONE, (443, 4000), ACK)
        web = tcp(ONE, TWO, (4000, 80), ACK), tcp(TWO, ONE, (80, 4000), ACK)
        filtered(closed)
        assert cables.arrives(ONE, web[0], TWO) and not cables.arrives(ONE, asks, TWO)
        filtered(opened)
        # What was open stays so, without that the other side has to say anything.
        assert cables.arrives(TWO, web[1], ONE)
        assert cables.arrives(ONE, asks, TWO) and cables.arrives(TWO, answers, ONE)
        # Others of the node do not matter.
        filtered(opened, guarded(ONE))
        assert cables.arrives(TWO, answers, ONE)
        filtered(closed, guarded(ONE))
        assert not cables.arrives(TWO, answers, ONE) and not cables.arrives(ONE, asks, TWO)
        # Group 0 again, and nothing at all.
        filtered(guarded(TWO), guarded(ONE))
        assert cables.arrives(ONE, asks, TWO) and cables.arrives(TWO, answers, ONE)
        assert "_2_0 {" in run("nft", "list", "table", "bridge", TABLE)
        filtered(guarded(ONE))
        assert "_2_0" not in run("nft", "list", "table", "bridge", TABLE)


@in_bare_world
def test_a_firewall_in_the_context_keeps_out_whom_it_does_not_name_and_groups_still_count() -> None:
    def ask(source: int, port: int, flags: int = SYN) -> bytes:
        return tcp(source, TWO, (4000, port), flags)

    with machines() as cables:
        assert cables.arrives(FREE, ask(FREE, 80), TWO)
        firewall = context_firewall.read("[*] 10.66.0.11 [22,udp:53] 10.66.0.0/24", "VM")
        filtered(guarded(TWO, firewall=firewall))
        assert cables.arrives(ONE, ask(ONE, 80), TWO) and cables.arrives(ONE, udp(ONE, TWO), TWO)
        assert cables.arrives(FREE, ask(FREE, 22), TWO) and cables.arrives(FREE, udp(FREE, TWO, (4000, 53)), TWO)
        assert not cables.arrives(FREE, ask(FREE, 80), TWO) and not cables.arrives(FREE, udp(FREE, TWO), TWO)
        assert not cables.arrives(FREE, echo(FREE, TWO, 8), TWO)
        # It says nothing of what goes out, nor of answers to that.
        assert cables.arrives(TWO, tcp(TWO, FREE, (5000, 443), SYN), FREE)
        assert cables.arrives(FREE, tcp(FREE, TWO, (443, 5000), SYN | ACK), TWO)
        # Of what it lets in, a group lets in less.
        filtered(guarded(TWO, firewall=firewall, rules=WEB))
        assert cables.arrives(ONE, ask(ONE, 80), TWO) and not cables.arrives(ONE, ask(ONE, 443), TWO)
        assert not cables.arrives(FREE, ask(FREE, 80), TWO) and not cables.arrives(FREE, ask(FREE, 22), TWO)
        # Whoever it does not name any more has no more answers either.
        answer = tcp(TWO, ONE, (80, 4000), ACK)
        assert cables.arrives(TWO, answer, ONE)
        filtered(guarded(TWO, firewall=context_firewall.read("[22] *", "VM"), rules=WEB))
        assert not cables.arrives(TWO, answer, ONE) and not cables.arrives(ONE, ask(ONE, 80, ACK), TWO)
        filtered(guarded(ONE))
        assert cables.arrives(FREE, ask(FREE, 80), TWO)


def outcome(vm_id: int, state: str, error: object = None) -> VmOutcome:
    return VmOutcome(vm_id, 1, state, error=error)


def ports() -> set[str]:
    return set(nic_filter.observe(CATALOG).ports)


@in_bare_world
def test_rules_are_there_before_a_machine_is_and_until_it_is_gone() -> None:
    def work(number: int, *wanted: Guard) -> NicFilters:
        return NicFilters(
            Plan(CATALOG, number, "node", machines=(ONE, TWO), guards=wanted, guarded_at=float(number)), place
        )

    with tempfile.TemporaryDirectory() as place, machines():
        first = work(1, guarded(ONE), guarded(TWO))
        first.begin()
        assert ports() == {"one-1-0", "one-2-0"}
        first.end([outcome(ONE, "RUNNING"), outcome(TWO, "BOOT_FAILURE", {"kind": "CommandFailed"})])
        assert ports() == {"one-1-0", "one-2-0"}
        # A NIC that is to go, and that its machine still has: until it is gone.
        second = work(2, guarded(ONE))
        second.begin()
        assert ports() == {"one-1-0", "one-2-0"}
        # Its guest has not let it go.
        second.end([outcome(ONE, "RUNNING"), outcome(TWO, "RUNNING", {"kind": "TimedOut"})])
        assert ports() == {"one-1-0", "one-2-0"}
        second.end([outcome(ONE, "RUNNING"), outcome(TWO, "RUNNING")])
        assert ports() == {"one-1-0"}
        # An older plan changes nothing of it; a machine that could not be ended keeps its rules, and takes them along.
        first.begin()
        assert ports() == {"one-1-0"}
        # No machine starts without its rules.
        starts = PlannedVm(Vm(TWO, "u2", "web", "kvm", 1.0, 64), 1, "RUNNING")
        with pytest.raises(StalePlan, match="filters of one-2-0"):
            NicFilters(Plan(CATALOG, 1, "node", (starts,), guards=(guarded(TWO),), guarded_at=1.0), place).begin()
        work(3, guarded(ONE)).end([outcome(ONE, "EPILOG_FAILURE", {"kind": "CommandFailed"})])
        assert ports() == {"one-1-0"}
        work(4, guarded(ONE)).end([outcome(ONE, "DONE")])
        assert not nic_filter.observe(CATALOG).exists


@in_bare_world
def test_a_machine_that_the_catalog_does_not_know_keeps_its_rules_while_it_runs() -> None:
    def work(number: int, *wanted: Guard, known: Sequence[int] = (ONE,)) -> NicFilters:
        plan = Plan(CATALOG, number, "node", machines=tuple(known), guards=wanted, guarded_at=float(number))
        return NicFilters(plan, place)

    with tempfile.TemporaryDirectory() as place, machines():
        work(1, guarded(ONE), guarded(TWO), known=(ONE, TWO)).begin()
        assert ports() == {"one-1-0", "one-2-0"}
        # A catalog that was restored, or gave its host up, does not have machine TWO.
        work(2, guarded(ONE)).end([])
        assert ports() == {"one-1-0", "one-2-0"}
        # With a filter that was switched off it is another thing.
        work(3, guarded(ONE), known=(ONE, TWO)).end([])
        assert ports() == {"one-1-0"}
        work(4, guarded(ONE), guarded(TWO), known=(ONE, TWO)).begin()
        # What ends it need not know when its rules were decided.
        work(0).end([outcome(TWO, "DONE")])
        assert ports() == {"one-1-0"}
        # One without an interface is none that runs.
        work(5, guarded(ONE), replace(guarded(TWO), vm_id=7, port="one-7-0"), known=(ONE, 7)).begin()
        assert ports() == {"one-1-0", "one-7-0"}
        work(6, guarded(ONE)).end([])
        assert ports() == {"one-1-0"}


@in_bare_world
def test_a_plan_of_some_machines_leaves_the_rules_of_the_others_and_needs_them() -> None:
    def work(number: int, *wanted: Guard, since: float | None = None) -> NicFilters:
        about = tuple(guard.vm_id for guard in wanted)
        told = float(number)
        return NicFilters(
            Plan(CATALOG, number, "node", machines=about, guards=wanted, guarded_at=told, guards_since=since), place
        )

    # An interface that is not there is that of a machine which is off.
    off = replace(guarded(ONE), vm_id=7, port="one-7-0")
    with tempfile.TemporaryDirectory() as place, machines():
        whole = work(1, off, guarded(ONE))
        whole.begin()
        whole.end([])
        assert nic_filter.observe(CATALOG).as_of == 1.0
        one_more = work(2, guarded(TWO), since=1.0)
        one_more.begin()
        one_more.end([outcome(TWO, "RUNNING")])
        assert ports() == {"one-1-0", "one-2-0", "one-7-0"}
        assert nic_filter.observe(CATALOG).as_of == 2.0
        # A plan that has nothing to change: the table says that it is as new as the plan, with all rules.
        text = nic_filter.at_boot(CATALOG)
        work(3, guarded(TWO), since=2.0).end([])
        assert nic_filter.observe(CATALOG).as_of == 3.0
        assert nic_filter.at_boot(CATALOG) == text.replace(":2.000", ":3.000")
        # One ends, and takes nobody's rules along.
        work(4, guarded(TWO), since=3.0).end([outcome(TWO, "DONE")])
        assert ports() == {"one-1-0", "one-7-0"}
        subprocess.run(["nft", "delete", "table", "bridge", TABLE], check=True)
        with pytest.raises(WrongState, match="all machines of this host") as caught:
            work(5, guarded(TWO), since=4.0).begin()
        assert TABLE in str(caught.value)
        assert not nic_filter.observe(CATALOG).exists
        # What a boot would make of it is as good.
        boot = Boot(place, CATALOG)
        boot.write({SCRIPT: PROGRAM, GUARDS: text})
        work(5, guarded(TWO), since=2.0).begin()
        assert ports() == {"one-1-0", "one-2-0", "one-7-0"}
        subprocess.run(["nft", "delete", "table", "bridge", TABLE], check=True)
        # Where nothing was filtered of the others, nothing has to be there.
        work(6, guarded(TWO), since=0.0).begin()
        assert ports() == {"one-2-0"}


def given(*wanted: Guard) -> str:
    return model.pack(wanted, [ONE, TWO])


@pytest.mark.root
def test_the_module_keeps_them_with_the_networks_and_takes_them_back() -> None:
    with made_namespaces() as make:
        node = make()
        wanted = [guarded(ONE), guarded(TWO, rules=WEB)]
        node.ok(network(), guards="", as_of=1.0)
        assert node.ok(network(), guards=given(*wanted), as_of=2.0, check=True)["changed"]
        assert node.run("nft", "list", "tables", "bridge") == ""
        done = node.ok(network(), guards=given(*wanted), as_of=2.0)
        assert done["changed"] and "one-2-0" in json.dumps(done["diff"])
        assert not node.ok(network(), guards=given(*wanted), as_of=3.0)["changed"]
        # Who says nothing of them, or is older, changes nothing.
        assert not node.ok(network())["changed"]
        late = node.ok(network(), guards=given(guarded(ONE)), as_of=1.5)
        assert not late["changed"] and "another run decided it later" in str(late["warnings"])
        # Another catalog's have a table of their own.
        assert node.ok(guards=given(guarded(FREE)), as_of=1.0, networks=[], catalog=OTHER_CATALOG)["changed"]
        node.run("nft", "delete", "table", "bridge", TABLE)
        assert node.ok(network(), guards=given(*wanted), as_of=4.0)["changed"]
        assert node.ok(network(), guards=given(wanted[0]), as_of=5.0)["changed"]
        assert "_2_0" not in node.run("nft", "list", "table", "bridge", TABLE)
        tables = re.findall(r"nebula_\w+", node.run("nft", "list", "tables", "bridge"))
        assert sorted(tables) == [TABLE, "nebula_aaaaaaaa"]


@pytest.mark.root
def test_all_of_it_goes_with_the_last_network_but_not_before_the_machine() -> None:
    with made_namespaces() as make:
        node = make()
        node.ok(network(), guards=given(guarded(ONE)), as_of=1.0)
        node.run("nft", "add", "table", "bridge", "others")
        node.port("one-1-0", "nbr0")
        assert "one-1-0" in node.module(network(), state="absent")["msg"]
        assert TABLE in node.run("nft", "list", "tables", "bridge")
        node.run("ip", "link", "delete", "one-1-0")
        node.ok(network(), state="absent")
        assert node.run("nft", "list", "tables", "bridge").split() == ["table", "bridge", "others"]


@pytest.mark.root
def test_what_can_not_be_is_refused_by_name() -> None:
    with made_namespaces() as make:
        node = make()
        assert "option guards" in node.refused(network(), guards="nonsense", as_of=1.0)
        port = replace(guarded(ONE), port='one"; flush ruleset; #')
        assert "TARGET" in node.refused(network(), guards=given(port), as_of=1.0)
        hidden: Sequence[str] = [str(Path("/usr/sbin/nft"))]
        message = node.module(guards=given(guarded(ONE)), networks=[], as_of=1.0, hidden=hidden)["msg"]
        assert "nft" in message and "filter_mac_spoofing" in message
