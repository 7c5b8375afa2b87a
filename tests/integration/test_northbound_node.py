# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that machines send, honest ones and others, through a node's ovn-controller and Open vSwitch."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from frames import (
    Cable,
    advertisement,
    arp_reply,
    arp_request,
    asks_for,
    behind,
    datagram,
    discover,
    mac,
    mpls,
    offer_of,
    packed,
    source_of,
)
from in_world import in_bare_world
from ovn_central import CHASSIS, Node, until

from ansible_collections.nebula.provision.plugins.module_utils.model import ethertypes
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    FloatingAddress,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.apply import (
    advertisement_warnings,
    apply,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import Database
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    CATALOG,
    FAR,
    FLOATING,
    FREE,
    GATEWAY,
    NICS,
    ONE,
    RED_ONE,
    RED_TWO,
    ROUTER_INSIDE,
    ROUTER_OUTSIDE,
    TWO,
    UPSTREAM,
    address6_of,
    address_of,
    central,
    desired,
    link_local_of,
    mac_of,
    outside,
    uuid,
)

PORTS = (5000, 5001)


class Cables:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.by_nic = {nic: Cable(f"nic{nic}") for nic in NICS}
        for nic, cable in self.by_nic.items():
            node.attach(cable.device, uuid(nic))

    def __getitem__(self, nic: int) -> Cable:
        return self.by_nic[nic]

    def arrives(self, sender: int, frame: bytes, receiver: int, what: bytes) -> bool:
        """Whether it is heard before two honest frames that are sent after it, one after the other: of frames that Open
        vSwitch takes up together, one that it has to ask about overtakes those that it knows."""
        macs, addresses = (tuple(of(each) for each in (sender, receiver)) for of in (mac_of, address_of))
        heard: list[bytes] = []
        self[sender].send(frame)
        for turn in ("once", "twice"):
            honest = f"{turn} after {len(self[receiver].heard)} {what!r}".encode()[:40]
            self[sender].send(datagram(macs, addresses, PORTS, honest))

            def last(other: bytes, honest: bytes = honest) -> bool:
                heard.append(other)
                return honest in other

            self[receiver].hear(last)
        return any(what in other and b" after " not in other for other in heard)

    def close(self) -> None:
        for cable in self.by_nic.values():
            cable.close()


def carried_out(database: Database, node: Node) -> None:
    """What was applied holds for the next frame."""
    database.settle(hosts=True)
    node.forget_decided()


def udp(nic: int, receiver: int, mac: str = "", address: str = "", data: bytes = b"a packet") -> bytes:
    six = ":" in address
    to = address6_of(receiver) if six else address_of(receiver)
    return datagram((mac or mac_of(nic), mac_of(receiver)), (address or address_of(nic), to), PORTS, data)


def aliases_are_the_machines_too(database: Database, cables: Cables) -> None:
    """With the MAC address of their NIC; DHCP gives what it gave."""
    more = ("10.0.0.77", "2001:db8:1::77")
    ports = [dataclasses.replace(port, further=more) if port.uuid == uuid(ONE) else port for port in desired.ports]
    apply(database, CATALOG, dataclasses.replace(desired, ports=tuple(ports)))
    carried_out(database, cables.node)
    for address in (address_of(ONE), *more):
        assert cables.arrives(ONE, udp(ONE, FREE, address=address, data=b"by an alias"), FREE, b"by an alias")
    assert not cables.arrives(ONE, udp(ONE, FREE, address="10.0.0.78", data=b"none of it"), FREE, b"none of it")
    # Who asks by it is answered, and is found by it.
    cables[ONE].send(arp_request(mac_of(ONE), more[0], address_of(TWO)))
    cables[ONE].hear(lambda frame: frame[12:14] == b"\x08\x06" and frame[21] == 2 and frame[38:42] == packed(more[0]))
    cables[FREE].send(arp_request(mac_of(FREE), address_of(FREE), more[0]))
    reply = cables[FREE].hear(lambda frame: frame[12:14] == b"\x08\x06" and frame[21] == 2)
    assert (reply[22:28], reply[28:32]) == (mac(mac_of(ONE)), packed(more[0]))
    cables[ONE].send(discover(mac_of(ONE), 99))
    offer = offer_of(cables[ONE].hear(offer_of))
    assert offer is not None and offer["address"] == packed(address_of(ONE))
    apply(database, CATALOG, desired)
    carried_out(database, cables.node)
    assert not cables.arrives(ONE, udp(ONE, FREE, address=more[0], data=b"gone"), FREE, b"gone")


def serves_nobody(cables: Cables) -> None:
    """What a DHCP server answers does not come from a machine that is held to its addresses, from whatever port, as
    clients look at their own alone. It comes from one that is not."""
    macs = (mac_of(ONE), mac_of(FREE))
    for of, client, server in ((address_of, 68, 67), (address6_of, 546, 547)):
        addresses = (of(ONE), of(FREE))
        for port in (server, server + 6000, client):
            answer = datagram(macs, addresses, (port, client), b"an offer")
            assert not cables.arrives(ONE, answer, FREE, b"an offer"), (port, client)
        for ports in ((client, server), (server, PORTS[1])):
            assert cables.arrives(ONE, datagram(macs, addresses, ports, b"a question"), FREE, b"a question"), ports
    answer = datagram((mac_of(FREE), mac_of(ONE)), (address_of(FREE), address_of(ONE)), (67, 68), b"an offer")
    assert cables.arrives(FREE, answer, ONE, b"an offer")


def settled(database: Database, cables: Cables, **changed: object) -> None:
    """With this changed of all machines that the case names, by their numbers as nic_111, and a group that lets all of
    IP through."""
    by_uuid = {uuid(int(name.partition("_")[2])): values for name, values in changed.items()}
    ports = [dataclasses.replace(port, **by_uuid.get(port.uuid, {})) for port in desired.ports]
    groups = (dataclasses.replace(desired.groups[0], rules=(SecurityRule("inbound"), SecurityRule("outbound"))),)
    apply(database, CATALOG, dataclasses.replace(desired, ports=tuple(ports), groups=groups))
    carried_out(database, cables.node)


def who_has_a_mac_address_alone_is_not_held_to_its_aliases(database: Database, cables: Cables) -> None:
    bare = {"addresses4": (), "addresses6": (), "further": ("10.0.0.77",)}
    settled(database, cables, **{f"nic_{RED_ONE}": bare})
    for address in ("10.0.0.77", "10.0.0.55"):
        assert cables.arrives(RED_ONE, udp(RED_ONE, RED_TWO, address=address, data=b"leased"), RED_TWO, b"leased")
    forged = udp(RED_ONE, RED_TWO, mac="02:00:0a:00:00:77", data=b"forged")
    assert not cables.arrives(RED_ONE, forged, RED_TWO, b"forged")
    settled(database, cables)


def nothing_passes_but_arp_and_ip(database: Database, cables: Cables) -> None:
    """From and to one that is held to its addresses, and one that is in a group besides."""
    plain = {"filter_mac": False, "filter_ip": False}
    settled(database, cables, **{f"nic_{FREE}": plain})

    def through(*kinds: str) -> dict[str, list[bool]]:
        """Of each kind, whether it comes from the free one to each of the others, and from these to it."""
        found = {}
        for kind in kinds:
            found[kind] = []
            for nic in (ONE, TWO):
                for sender, receiver in ((FREE, nic), (nic, FREE)):
                    honest = udp(sender, receiver, data=b"below it")
                    frame = {
                        "mpls": mpls(honest),
                        "pppoe": behind(honest, (0x8864, b"\x11\0\0\x01\0\x2a")),
                        "eapol": behind(honest, (0x888E, b"\x01\x01")),
                        "own": behind(honest, (0x88B5, b"")),
                    }[kind]
                    found[kind].append(cables.arrives(sender, frame, receiver, b"below it"))
        return found

    def becomes(wanted: dict[str, list[bool]]) -> None:
        assert through(*wanted) == wanted

    becomes(dict.fromkeys(("mpls", "pppoe", "eapol", "own"), [False] * 4))
    # Of one that is held to its IP addresses, OVN lets nothing else out by itself.
    named = {"ethertypes": ethertypes.read("mpls 0x88b5", ""), "filter_ip": False}
    settled(database, cables, **{f"nic_{FREE}": plain, f"nic_{ONE}": named, f"nic_{TWO}": named})
    becomes({"mpls": [True] * 4, "pppoe": [False] * 4, "eapol": [False] * 4, "own": [True] * 4})
    # Whom nothing filters sends and gets all of it.
    free = {**plain, "security_groups": ()}
    settled(database, cables, **{f"nic_{number}": free for number in (FREE, ONE, TWO)})
    becomes({"mpls": [True] * 4, "pppoe": [True] * 4})
    settled(database, cables)


@in_bare_world
def test_machines_are_held_to_their_addresses_and_get_those_that_the_catalog_leased() -> None:
    with (
        tempfile.TemporaryDirectory() as place,
        central() as (ovn, database),
        Node(Path(place) / "node", ovn.southbound) as node,
    ):
        apply(database, CATALOG, desired)
        assert [text.split(":")[0] for text in advertisement_warnings(desired, [CHASSIS])] == ["network blue"]
        cables = Cables(node)
        up = ["--bare", "--columns=up", "list", "Logical_Switch_Port", *map(uuid, NICS)]
        until(lambda: ovn.nbctl(*up).split() == ["true"] * len(NICS), "the node has all ports")
        carried_out(database, node)

        # What is the machine's own passes, in both families.
        for address in (address_of(ONE), address6_of(ONE)):
            assert cables.arrives(ONE, udp(ONE, FREE, address=address, data=b"honest"), FREE, b"honest")
        # Addresses that are not its own, and MAC addresses.
        for forged in (
            udp(ONE, FREE, address="10.0.0.77", data=b"forged"),
            udp(ONE, FREE, address="2001:db8:1::77", data=b"forged"),
            udp(ONE, FREE, mac="02:00:0a:00:00:77", data=b"forged"),
        ):
            assert not cables.arrives(ONE, forged, FREE, b"forged")
        stolen = arp_request(mac_of(ONE), "10.0.0.77", address_of(FREE))
        assert not cables.arrives(ONE, stolen, FREE, packed("10.0.0.77"))
        # One that is held to its MAC address alone.
        assert cables.arrives(FREE, udp(FREE, ONE, address="10.0.0.77", data=b"router"), ONE, b"router")
        assert not cables.arrives(FREE, udp(FREE, ONE, mac="02:00:0a:00:00:77", data=b"forged"), ONE, b"forged")
        serves_nobody(cables)
        # A router's advertisement, where machines have no IPv6; where they have, it passes, which is why there is a
        # warning.
        prefix = "2001:db8:bad::"
        rogue = advertisement(mac_of(RED_ONE), link_local_of(RED_ONE), prefix)
        assert not cables.arrives(RED_ONE, rogue, RED_TWO, packed(prefix))
        rogue = advertisement(mac_of(ONE), link_local_of(ONE), prefix)
        assert cables.arrives(ONE, rogue, FREE, packed(prefix))
        # Another tenant hears nothing of this, though it has the same addresses.
        assert not any(b"honest" in frame or b"router" in frame for frame in cables[RED_ONE].heard)

        # DHCP, to one that is in a security group as well.
        for nic in (ONE, TWO):
            cables[nic].send(discover(mac_of(nic), nic))
            offer = offer_of(cables[nic].hear(offer_of))
            assert offer is not None
            assert offer["address"] == packed(address_of(nic))
            assert int.from_bytes(offer[51], "big") == 4242
            assert int.from_bytes(offer[26], "big") == 1442
            assert offer[3] == packed("10.0.0.1")
            assert offer[12] == f"host{nic}".encode()
        cables[ONE].send(arp_request(mac_of(ONE), address_of(ONE), address_of(TWO)))
        cables[ONE].hear(lambda frame: frame[12:14] == b"\x08\x06" and frame[21] == 2)
        aliases_are_the_machines_too(database, cables)
        who_has_a_mac_address_alone_is_not_held_to_its_aliases(database, cables)
        nothing_passes_but_arp_and_ip(database, cables)
        cables.close()
        assert (node.complaints("controller"), ovn.complaints("northd")) == ([], []), node.complaints("controller")


@in_bare_world
def test_machines_go_out_as_the_router_and_are_reached_by_floating_addresses() -> None:
    """By a machine outside, which is the router's next hop as well."""
    wanted = dataclasses.replace(desired, networks=(*desired.networks[:2], dataclasses.replace(outside, vlan=None)))
    with (
        tempfile.TemporaryDirectory() as place,
        central() as (ovn, database),
        Node(Path(place) / "node", ovn.southbound) as node,
    ):
        apply(database, CATALOG, wanted)
        cables = Cables(node)
        upstream = Cable("upstream")
        node.vsctl("add-port", "br-ex", upstream.device)
        carries = ["--bare", "--columns=up", "find", "Port_Binding", f"logical_port=cr-{ROUTER_OUTSIDE}"]
        until(lambda: ovn.sbctl(*carries).strip() == "true", "the node carries the gateway")
        carried_out(database, node)
        inside = ovn.nbctl("get", "Logical_Router_Port", ROUTER_INSIDE, "mac").strip().strip('"')

        def out(nic: int, data: bytes, ports: tuple[int, int] = PORTS) -> bytes:
            macs, addresses = (mac_of(nic), inside), (address_of(nic), FAR)
            return datagram(macs, addresses, ports, data)

        # The first packet waits until the next hop has answered.
        cables[TWO].send(out(TWO, b"first"))
        question = upstream.hear(lambda frame: asks_for(frame, UPSTREAM))
        upstream.send(arp_reply("02:aa:00:00:00:01", UPSTREAM, question))
        assert source_of(upstream.hear(lambda frame: b"first" in frame)) == GATEWAY
        until(lambda: UPSTREAM in ovn.sbctl("list", "MAC_Binding"), "the next hop is known")
        carried_out(database, node)
        # An answer finds its way back; what nobody asked for does not.
        cables[TWO].send(out(TWO, b"second"))
        sent = upstream.hear(lambda frame: b"second" in frame)
        router_mac = ":".join(f"{byte:02x}" for byte in sent[6:12])
        port = int.from_bytes(sent[34:36], "big")
        outwards = ("02:aa:00:00:00:01", router_mac)
        upstream.send(datagram(outwards, (FAR, GATEWAY), (PORTS[1], port), b"an answer"))
        cables[TWO].hear(lambda frame: b"an answer" in frame)
        # By the floating address, both ways.
        upstream.send(datagram(outwards, (FAR, FLOATING), PORTS, b"from outside"))
        cables[ONE].hear(lambda frame: b"from outside" in frame)
        cables[ONE].send(out(ONE, b"as itself"))
        assert source_of(upstream.hear(lambda frame: b"as itself" in frame)) == FLOATING
        # It moves to another machine.
        moved = dataclasses.replace(wanted.routers[0], floating=(FloatingAddress(FLOATING, uuid(FREE)),))
        apply(database, CATALOG, dataclasses.replace(wanted, routers=(moved,)))
        carried_out(database, node)
        upstream.send(datagram(outwards, (FAR, FLOATING), (PORTS[0], 6000), b"moved"))
        cables[FREE].hear(lambda frame: b"moved" in frame)
        # What is under way keeps the address that it began with; what begins now has the router's.
        cables[ONE].send(out(ONE, b"with others", (6000, PORTS[1])))
        assert source_of(upstream.hear(lambda frame: b"with others" in frame)) == GATEWAY
        # Metadata is nobody's.
        cables[FREE].send(datagram((mac_of(FREE), inside), (address_of(FREE), "169.254.169.254"), PORTS, b"metadata"))
        for turn in (b"once after it", b"twice after it"):
            cables[FREE].send(out(FREE, turn))
            heard = upstream.hear(lambda frame, turn=turn: turn in frame or b"metadata" in frame)
            assert b"metadata" not in heard
        upstream.close()
        cables.close()
        assert (node.complaints("controller"), ovn.complaints("northd")) == ([], []), node.complaints("controller")
