# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked, when, and who is believed. Real guests and other hosts answer in tests/integration/test_verify.py."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import MissingDependency
from ansible_collections.nebula.provision.plugins.module_utils.network import address_probe, links
from ansible_collections.nebula.provision.plugins.module_utils.network.address_probe import Claim, Presence, Target

NODE = bytes.fromhex("060102030405")
MAC, OTHER = "02:00:0a:42:00:0a", "02:00:0a:42:00:63"
IP, IP6 = IPv4Address("10.66.0.10"), IPv6Address("fd00:66::10")


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def arp(mac: str, sender: str, target: str, operation: int = 2, source: str = "") -> bytes:
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + packed(mac) + IPv4Address(sender).packed
    return NODE + packed(source or mac) + b"\x08\x06" + body + NODE + IPv4Address(target).packed


def advertisement(mac: str, address: IPv6Address, told: str | None = None, hops: int = 255) -> bytes:
    option = b"" if told is None else bytes((2, 1)) + packed(told)
    message = bytes((136, 0, 0, 0, 0x60, 0, 0, 0)) + address.packed + option
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, hops) + bytes(32)
    return NODE + packed(mac) + b"\x86\xdd" + header + message


class Bridge:
    """Stands for the sockets on one bridge: what was sent, and what will be received."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.coming: list[tuple[bytes, int]] = []
        self.bound: Any = None
        self.closed = 0
        self.fails: OSError | None = None

    def setsockopt(self, level: int, option: int, _program: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, 26)
        raise OSError("no filters here")

    def bind(self, address: Any) -> None:
        if self.fails:
            raise self.fails
        self.bound = address

    def getsockname(self) -> Any:
        return ("br0", 3, 0, 1, NODE)

    def send(self, frame: bytes) -> None:
        if self.fails:
            raise self.fails
        self.sent.append(frame)

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        if self.fails:
            raise self.fails
        if not self.coming:
            raise BlockingIOError
        frame, kind = self.coming.pop(0)
        return frame[:size], ("br0", 0x806, kind, 1, b"")

    def close(self) -> None:
        self.closed += 1

    def hears(self, *frames: bytes, kind: int = 0) -> None:
        self.coming += [(frame, kind) for frame in frames]

    def asked(self) -> list[tuple[str, str]]:
        """(asker, address) of each ARP request since the last call."""
        found = [(str(IPv4Address(f[28:32])), str(IPv4Address(f[38:42]))) for f in self.sent if f[12:14] == b"\x08\x06"]
        self.sent.clear()
        return found


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Bridge:
    made = Bridge()
    monkeypatch.setattr(address_probe.socket, "socket", lambda *_arguments: made)
    monkeypatch.setattr(address_probe, "own_addresses", dict)
    return made


def one(*addresses: Any, vm_id: int = 7, mac: str = MAC) -> list[Target]:
    return [Target(vm_id, "br0", mac, address) for address in addresses or (IP,)]


# -- frames -----------------------------------------------------------------------------------------------------------
def test_a_request_is_what_arp_says() -> None:
    frame = address_probe.request(NODE, IPv4Address("10.66.0.1"), IP)
    assert len(frame) == 60
    assert frame[:14] == b"\xff" * 6 + NODE + b"\x08\x06"
    assert frame[14:42] == bytes.fromhex("0001080006040001") + NODE + bytes((10, 66, 0, 1)) + bytes(6) + IP.packed


def test_a_solicitation_names_who_asks_and_adds_up() -> None:
    frame = address_probe.solicitation(NODE, IP6)
    assert frame[:14] == bytes.fromhex("3333ff000010") + NODE + b"\x86\xdd"
    assert (frame[14] >> 4, frame[18:20], frame[20], frame[21]) == (6, b"\0\x20", 58, 255)
    # Not the unspecified address: a guest that is about to take its own would give it up.
    assert str(IPv6Address(frame[22:38])) == "fe80::401:2ff:fe03:405"
    assert str(IPv6Address(frame[38:54])) == "ff02::1:ff00:10"
    assert (frame[54], frame[62:78], frame[78:]) == (135, IP6.packed, b"\1\1" + NODE)
    words = struct.unpack("!36H", frame[22:54] + struct.pack("!II", 32, 58) + frame[54:])
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


@pytest.mark.parametrize(
    ("frame", "claim"),
    [
        (arp(MAC, str(IP), "10.66.0.1"), Claim(IP, MAC)),
        # Somebody who asks for another says who he is.
        (arp(MAC, str(IP), "10.66.0.1", 1), Claim(IP, MAC)),
        (arp(MAC, "0.0.0.0", str(IP), 1), Claim(IP, MAC, looks=True)),
        (arp(MAC, str(IP), "10.66.0.1", source=OTHER), Claim(IP, f"{OTHER} as {MAC}")),
        (arp(MAC, str(IP), "10.66.0.1", 3), None),
        (arp(MAC, str(IP), "10.66.0.1")[:41], None),
        (arp(MAC, str(IP), "10.66.0.1").replace(b"\x08\x00\x06\x04", b"\x08\x01\x06\x04"), None),
        (advertisement(MAC, IP6), Claim(IP6, MAC)),
        (advertisement(MAC, IP6, MAC), Claim(IP6, MAC)),
        (advertisement(OTHER, IP6, MAC), Claim(IP6, f"{OTHER} as {MAC}")),
        # It came from beyond a router.
        (advertisement(MAC, IP6, hops=254), None),
        (advertisement(MAC, IP6)[:77], None),
        (address_probe.solicitation(NODE, IP6), None),
        (b"", None),
        (bytes(100), None),
    ],
)
def test_what_a_frame_says(frame: bytes, claim: Claim | None) -> None:
    assert address_probe.claim_of(frame) == claim


# -- asking -----------------------------------------------------------------------------------------------------------
def test_a_machine_whose_own_mac_answers_has_its_address(bridge: Bridge) -> None:
    found = Presence(one())
    assert found.evidence(7) == ""
    found.look({7}, 0.2)
    assert bridge.bound == ("br0", 3)
    assert bridge.asked() == [("192.0.0.8", "10.66.0.10")]
    assert found.found(7) == "nobody answers for 10.66.0.10 on br0"
    bridge.hears(arp(MAC, str(IP), "192.0.0.8"))
    found.look({7}, 0.4)
    assert found.evidence(7) == f"address: 10.66.0.10 of {MAC}"
    assert bridge.asked() == [], "it is not asked again at once"
    found.close()
    assert bridge.closed == 1


def test_all_addresses_have_to_answer(bridge: Bridge) -> None:
    found = Presence(one(IP, IP6))
    found.look({7}, 0.2)
    assert [frame[12:14].hex() for frame in bridge.sent] == ["0806", "86dd"]
    bridge.hears(arp(MAC, str(IP), "192.0.0.8"))
    found.look({7}, 0.4)
    assert found.evidence(7) == ""
    assert found.found(7) == f"10.66.0.10 on br0 answers, nobody answers for {IP6} on br0"
    bridge.hears(advertisement(MAC, IP6))
    found.look({7}, 0.6)
    assert found.evidence(7) == f"address: 10.66.0.10 of {MAC}, {IP6} of {MAC}"


@pytest.mark.parametrize("too", [False, True])
def test_an_address_that_another_answers_for_is_no_sign(bridge: Bridge, too: bool) -> None:
    found = Presence(one())
    found.look({7}, 0.2)
    bridge.hears(*[arp(MAC, str(IP), "192.0.0.8")] * too, arp(OTHER, str(IP), "192.0.0.8"))
    found.look({7}, 0.4)
    assert found.evidence(7) == ""
    said = "is answered for also by" if too else "is answered for by"
    assert found.found(7) == f"10.66.0.10 on br0 {said} {OTHER}, and the machine's is {MAC}"
    # He is gone, the machine is there.
    bridge.hears(arp(MAC, str(IP), "192.0.0.8"))
    found.look({7}, 1.0 + address_probe.FRESH)
    assert found.evidence(7) == f"address: 10.66.0.10 of {MAC}"


def test_what_the_node_itself_sends_is_nobodys_answer(bridge: Bridge) -> None:
    found = Presence(one())
    found.look({7}, 0.2)
    bridge.hears(arp(MAC, str(IP), "192.0.0.8"), kind=4)
    found.look({7}, 0.4)
    assert found.evidence(7) == ""


def test_an_answer_does_not_count_for_ever(bridge: Bridge) -> None:
    found = Presence(one())
    found.look({7}, 0.2)
    bridge.hears(arp(MAC, str(IP), "192.0.0.8"))
    found.look({7}, 0.4)
    assert found.evidence(7)
    found.look({7}, 1.0 + address_probe.FRESH)
    assert found.evidence(7) == ""


def test_a_node_that_is_in_the_network_asks_by_its_own_address(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "br0": [IPv4Interface("172.16.0.1/24"), IPv4Interface("10.66.0.1/24")],
        "eth0": [IPv4Interface("10.66.0.2/16")],
    }
    monkeypatch.setattr(address_probe, "own_addresses", lambda: own)
    found = Presence(one())
    for now in (0.2, 30.0, 60.0):
        found.look({7}, now)
    assert bridge.asked() == [("10.66.0.1", "10.66.0.10")] * 3


def test_a_question_without_an_asker_is_asked_late_and_seldom(bridge: Bridge) -> None:
    found = Presence(one())
    times = []
    for now in range(1, 101):
        found.look({7}, float(now))
        times += [now for asker, _address in bridge.asked() if asker == "0.0.0.0"]
    assert times == [10, 30, 50, 70, 90]


def test_a_guest_that_looks_whether_its_address_is_free_is_left_alone(bridge: Bridge) -> None:
    """It would take the question for somebody who is about to take the address too."""
    found = Presence(one())
    times = []
    for now in range(1, 41):
        if now in (8, 10, 12):
            bridge.hears(arp(MAC, "0.0.0.0", str(IP), 1))
        if now == 15:
            bridge.hears(arp(OTHER, "0.0.0.0", str(IP), 1))
        found.look({7}, float(now))
        times += [now for asker, _address in bridge.asked() if asker == "0.0.0.0"]
    assert times == [22]
    assert found.evidence(7) == ""


def test_only_those_that_are_waited_for_are_asked(bridge: Bridge) -> None:
    found = Presence([*one(), *one(IPv4Address("10.66.0.11"), vm_id=8, mac=OTHER)])
    found.look(set(), 0.2)
    assert bridge.bound is None
    found.look({8}, 0.4)
    assert bridge.asked() == [("192.0.0.8", "10.66.0.11")]
    assert found.evidence(9) == ""
    assert found.found(9) == "no address that could be asked for on a bridge of this node"


def test_a_thousand_machines_take_turns(bridge: Bridge) -> None:
    """Each question reaches every port of the bridge: so many in a second, whatever the number of machines."""
    first = int(IPv4Address("10.66.0.0"))
    found = Presence(
        [Target(n, "br0", f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", IPv4Address(first + n)) for n in range(1000)]
    )
    counted: Counter[str] = Counter()
    now = 0.0
    while now < 20.0:
        now += 0.2
        found.look(set(range(1000)), now)
        counted.update(address for _asker, address in bridge.asked())
    assert sum(counted.values()) <= address_probe.RATE * 21
    assert len(counted) == 1000
    assert max(counted.values()) <= 2


def test_a_flood_is_read_in_parts_and_its_addresses_are_not_all_kept(bridge: Bridge) -> None:
    found = Presence(one())
    found.look({7}, 0.2)
    bridge.hears(*(arp(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", str(IP), "10.0.0.1") for n in range(5000)))
    found.look({7}, 0.4)
    assert len(bridge.coming) == 5000 - address_probe.FRAMES
    assert found.found(7).count("02:00:00:00:") == address_probe.OTHERS
    bridge.coming.clear()
    bridge.hears(arp(MAC, str(IP), "10.0.0.1"))
    found.look({7}, 0.6)
    assert "also by" in found.found(7)


def test_a_bridge_that_is_not_there_may_come(bridge: Bridge) -> None:
    bridge.fails = OSError(19, "No such device")
    found = Presence(one())
    found.look({7}, 0.2)
    assert found.found(7) == "10.66.0.10 on br0 can't be asked (br0: No such device)"
    bridge.fails = None
    found.look({7}, 0.4)
    assert bridge.asked() == [], "not at every look"
    found.look({7}, 1.4)
    assert bridge.asked() != []
    # It goes down, and comes again.
    bridge.fails = OSError(100, "Network is down")
    found.look({7}, 2.5)
    assert "Network is down" in found.found(7)
    bridge.fails = None
    found.look({7}, 4.0)
    assert bridge.asked() != []


def test_who_may_not_send_frames_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(address_probe.socket, "socket", refused)
    monkeypatch.setattr(address_probe, "own_addresses", dict)
    found = Presence(one())
    found.look({7}, 0.2)
    assert found.evidence(7) == ""
    assert "Operation not permitted; raw frames are root's, become: true" in found.found(7)


def test_the_nodes_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"br0": links.Link("br0", "bridge", addresses=("10.66.0.1/24",)), "br1": links.Link("br1")}
    monkeypatch.setattr(links, "observe", lambda: known)
    assert address_probe.own_addresses() == {"br0": [ipaddress.IPv4Interface("10.66.0.1/24")], "br1": []}

    def lacking() -> None:
        raise MissingDependency("program ip", "it is not there")

    monkeypatch.setattr(links, "observe", lacking)
    assert address_probe.own_addresses() == {}


def test_an_advertisement_that_is_cut_off_announces_nothing_else_than_its_sender() -> None:
    address = IPv6Address("fd00::7")
    whole = advertisement(MAC, address, "02:00:00:00:00:99")
    assert len(whole) == 86 and address_probe.claim_of(whole) != address_probe.claim_of(whole[:78])
    assert address_probe.claim_of(whole[:85]) == address_probe.claim_of(whole[:78])
