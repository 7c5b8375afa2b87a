# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out whether machines have their addresses: it asks on the node's bridges by ARP and neighbour solicitation, in
raw frames, so that the node needs no address there, and gets none.

A guest that is just about to take an address looks first whether anybody has it, and takes a question that names no
asker for somebody who is about to take it too: then it has none (RFC 5227, RFC 4862). So the questions name an
asker, wherever that is possible."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Union

from ..dataclass import dataclass
from ..errors import NebulaError
from . import links

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# Seconds between two questions about one address, where a bridge has few machines; each question reaches every port of
# it, so where it has many, it is the number of questions in a second that is limited.
INTERVAL = 1.0
RATE = 50.0
# Frames that are read at a look, and the part of each that is needed: a guest that floods its bridge holds up nobody.
FRAMES = 1000
LONGEST = 128
# How long an answer counts, and how many who answer for one address are remembered.
FRESH = 60.0
OTHERS = 4
# An asker of ARP that nobody has (RFC 7600); guests answer it where they have a way to it.
DUMMY = ipaddress.IPv4Address("192.0.0.8")
NOBODY = ipaddress.IPv4Address("0.0.0.0")
# Those that have none answer only a question without an asker. It is asked late and seldom, and not while the guest is
# seen to look whether its address is free.
BARE_FROM = 10.0
BARE_EVERY = 20.0
LOOKING = 10.0

_ARP, _IPV6 = 0x0806, 0x86DD
_ALL_PROTOCOLS = 3
_REQUEST, _REPLY = 1, 2
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_SOURCE_LINK, _TARGET_LINK = 1, 2
_BROADCAST = b"\xff" * 6
_SHORTEST = 60
_OUTGOING = 4
_SO_ATTACH_FILTER = 26
# Classic BPF (operation, jumps if true and if false, value): of all that reaches the bridge, ARP and advertisements.
_FILTER = (
    (0x28, 0, 0, 12),  # the protocol
    (0x15, 5, 0, _ARP),
    (0x15, 0, 5, _IPV6),
    (0x30, 0, 0, 20),  # what is within IPv6
    (0x15, 0, 3, _ICMPV6),
    (0x30, 0, 0, 54),  # the kind of message
    (0x15, 0, 1, _ADVERTISEMENT),
    (0x06, 0, 0, LONGEST),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True)
class Target:
    """Is an address that a machine is to have by one of its NICs. mac: the NIC's, in lower case."""

    vm_id: int
    bridge: str
    mac: str
    address: Address


@dataclass(frozen=True)
class Claim:
    """Says who claims an address. looks: whether he only asks if anybody else has it."""

    address: Address
    mac: str
    looks: bool = False


@dataclass
class _Asked:
    """Holds what is known of a target. heard: when each MAC address last said that the address is its own."""

    target: Target
    next: float = 0.0
    bare: float = BARE_FROM
    heard: dict[str, float] = field(default_factory=dict)

    def holders(self, now: float) -> list[str]:
        return sorted(mac for mac, when in self.heard.items() if now - when <= FRESH)


class Presence:
    """Asks for the addresses of all machines of a node. now: seconds since waiting began."""

    kind = "address"

    def __init__(self, targets: Sequence[Target]) -> None:
        by_bridge: dict[str, list[_Asked]] = {}
        self._of: dict[int, list[_Asked]] = {}
        for target in targets:
            asked = _Asked(target)
            by_bridge.setdefault(target.bridge, []).append(asked)
            self._of.setdefault(target.vm_id, []).append(asked)
        self._sockets = {bridge: _BridgeSocket(bridge, found) for bridge, found in by_bridge.items()}
        self._now = 0.0

    def look(self, waiting: Collection[int], now: float) -> None:
        """Take in what was answered since the last look, and ask about the machines that are waited for."""
        self._now = now
        senders: Mapping[str, Sequence[ipaddress.IPv4Interface]] | None = None
        for wire in self._sockets.values():
            wire.listen(now)
            if wire.is_due(waiting, now):
                senders = own_addresses() if senders is None else senders
                wire.open(now, senders.get(wire.bridge, ()))
            wire.ask(waiting, now)

    def evidence(self, vm_id: int) -> str:
        """Return the evidence, "" unless the machine's own NICs have all its addresses and nobody else has any."""
        found = self._of.get(vm_id, [])
        if not found or any(asked.holders(self._now) != [asked.target.mac] for asked in found):
            return ""
        return f"address: {', '.join(f'{asked.target.address} of {asked.target.mac}' for asked in found)}"

    def found(self, vm_id: int) -> str:
        if vm_id not in self._of:
            return "no address that could be asked for on a bridge of this node"
        return ", ".join(self._describe(asked) for asked in self._of[vm_id])

    def close(self) -> None:
        for wire in self._sockets.values():
            wire.close()

    def _describe(self, asked: _Asked) -> str:
        target, problem = asked.target, self._sockets[asked.target.bridge].problem
        about = f"{target.address} on {target.bridge}"
        holders = asked.holders(self._now)
        others = [mac for mac in holders if mac != target.mac]
        if others:
            too = "is answered for also by" if target.mac in holders else "is answered for by"
            return f"{about} {too} {', '.join(others)}, and the machine's is {target.mac}"
        if holders:
            return f"{about} answers"
        return f"{about} can't be asked ({problem})" if problem else f"nobody answers for {about}"


def own_addresses() -> dict[str, list[ipaddress.IPv4Interface]]:
    try:
        found = links.observe()
    except NebulaError:
        return {}
    return {name: [ipaddress.IPv4Interface(text) for text in link.addresses] for name, link in found.items()}


class _BridgeSocket:
    """Asks for addresses on one bridge. problem: why the bridge can't be used, "" if it can."""

    def __init__(self, bridge: str, asked: Sequence[_Asked]) -> None:
        self.bridge = bridge
        self.problem = ""
        self._turn = deque(asked)
        self._by_address: dict[Address, list[_Asked]] = {}
        for each in asked:
            self._by_address.setdefault(each.target.address, []).append(each)
        self._socket: socket.socket | None = None
        self._mac = b""
        self._senders: Sequence[ipaddress.IPv4Interface] = ()
        self._retry = 0.0
        self._allowance = RATE
        self._last = 0.0

    def is_due(self, waiting: Collection[int], now: float) -> bool:
        if self._socket is not None or now < self._retry:
            return False
        return any(asked.target.vm_id in waiting for asked in self._turn)

    def open(self, now: float, senders: Sequence[ipaddress.IPv4Interface]) -> None:
        self._retry = now + INTERVAL
        # Of no protocol before it is bound: it would hear all interfaces.
        try:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            self.problem = f"{error.strerror}; raw frames are root's, become: true"
            return
        try:
            _attach_filter(opened)
            opened.bind((self.bridge, _ALL_PROTOCOLS))
            self._mac = bytes(opened.getsockname()[4])[:6]
        except OSError as error:
            opened.close()
            self.problem = f"{self.bridge}: {error.strerror}"
            return
        self._socket, self._senders, self.problem = opened, senders, ""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def listen(self, now: float) -> None:
        opened = self._socket
        if opened is None:
            return
        for _frame in range(FRAMES):
            try:
                frame, sender = opened.recvfrom(LONGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._note_lost(error)
                return
            claim = None if sender[2] == _OUTGOING else claim_of(frame)
            if claim is not None:
                self._hear(claim, now)

    def _hear(self, claim: Claim, now: float) -> None:
        for asked in self._by_address.get(claim.address, ()):
            its_own = claim.mac == asked.target.mac
            if claim.looks:
                asked.bare = max(asked.bare, now + LOOKING) if its_own else asked.bare
            # One guest can have any number of MAC addresses, and a few are worth a word.
            elif its_own or claim.mac in asked.heard or len(asked.heard) < OTHERS:
                asked.heard[claim.mac] = now

    def ask(self, waiting: Collection[int], now: float) -> None:
        self._allowance = min(RATE, self._allowance + (now - self._last) * RATE)
        self._last = now
        for _target in range(len(self._turn)):
            if self._allowance < 1.0 or self._socket is None:
                return
            asked = self._turn[0]
            self._turn.rotate(-1)
            if asked.target.vm_id not in waiting or now < asked.next:
                continue
            asked.next = now + INTERVAL
            self._send(self._question(asked, now))
            self._allowance -= 1.0

    def _question(self, asked: _Asked, now: float) -> bytes:
        address = asked.target.address
        if isinstance(address, ipaddress.IPv6Address):
            return solicitation(self._mac, address)
        own = next((each.ip for each in self._senders if address in each.network and each.ip != address), None)
        if own is None and now >= asked.bare and not asked.heard:
            asked.bare = now + BARE_EVERY
            own = NOBODY
        return request(self._mac, own or DUMMY, address)

    def _send(self, frame: bytes) -> None:
        try:
            if self._socket is not None:
                self._socket.send(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            self._note_lost(error)

    def _note_lost(self, error: OSError) -> None:
        """Note that a bridge went or is down; it may come back."""
        self.problem = f"{self.bridge}: {error.strerror}"
        self.close()


def _attach_filter(opened: socket.socket) -> None:
    """Have the kernel drop frames that this process would throw away. Without the filter the process works too."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _FILTER))
    with contextlib.suppress(OSError):
        opened.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(program))
        )


def _checksum(data: bytes) -> int:
    """Return the Internet checksum: the complement of the sum of all 16-bit words."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# -- frames -----------------------------------------------------------------------------------------------------------
def request(mac: bytes, asker: ipaddress.IPv4Address, address: ipaddress.IPv4Address) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REQUEST) + mac + asker.packed + bytes(6) + address.packed
    return (_BROADCAST + mac + struct.pack("!H", _ARP) + body).ljust(_SHORTEST, b"\0")


def solicitation(mac: bytes, address: ipaddress.IPv6Address) -> bytes:
    """Return the same frame of IPv6. The asker is the MAC address's own address, whether or not the node has it."""
    asker = b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    group = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:]
    option = bytes((_SOURCE_LINK, 1)) + mac
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address.packed + option
    pseudo = asker + group + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + asker + group
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", _IPV6) + header + message


def claim_of(frame: bytes) -> Claim | None:
    """Return what a frame says of an address; None if it says nothing, or is of neither kind."""
    if len(frame) < 42:
        return None
    source, kind = frame[6:12], struct.unpack_from("!H", frame, 12)[0]
    if kind == _ARP:
        return _arp_claim(frame, source)
    # A hop limit below 255: it was sent on by somebody.
    if kind != _IPV6 or len(frame) < 78 or frame[20] != _ICMPV6 or frame[21] != 255 or frame[54] != _ADVERTISEMENT:
        return None
    announced = source
    if len(frame) >= 86 and frame[78] == _TARGET_LINK and frame[79] == 1:
        announced = frame[80:86]
    return Claim(ipaddress.IPv6Address(frame[62:78]), _mac_text(source, announced))


def _arp_claim(frame: bytes, source: bytes) -> Claim | None:
    hardware, protocol, lengths, operation = struct.unpack_from("!HHHH", frame, 14)
    if (hardware, protocol, lengths) != (1, 0x0800, 0x0604) or operation not in (_REQUEST, _REPLY):
        return None
    announced, sender, target = frame[22:28], frame[28:32], frame[38:42]
    if sender == NOBODY.packed:
        return Claim(ipaddress.IPv4Address(target), _mac_text(source, announced), looks=True)
    return Claim(ipaddress.IPv4Address(sender), _mac_text(source, announced))


def _mac_text(source: bytes, announced: bytes) -> str:
    """Return a MAC address as text; where a frame comes from another address than it tells, both of them."""
    texts = [":".join(f"{byte:02x}" for byte in mac) for mac in (source, announced)]
    return texts[0] if source == announced else " as ".join(texts)
