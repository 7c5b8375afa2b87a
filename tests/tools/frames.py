# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames as a machine would send them, honest or not, put together by hand; and a machine's end of a cable,
on which they are sent and heard."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
UDP, ICMP, ICMPV6 = 17, 1, 58
_DESTINATION, _FRAGMENT = 60, 44
_ALL = 3
_VLAN = 0x8100
# Where the kernel says which tag it took off a frame (linux/if_packet.h).
_SOL_PACKET, _PACKET_AUXDATA, _HAS_TAG = 263, 8, 1 << 4
SECONDS = 10.0


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, destination: str, kind: int, payload: bytes) -> bytes:
    return (mac(destination) + mac(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def llc(frame: bytes, snap: bool = True) -> bytes:
    """The same as an IEEE 802.3 frame, with LLC and SNAP or with LLC's own number of IP."""
    length = struct.unpack("!H", frame[16:18])[0] if frame[12:14] == b"\x08\x00" else 0
    if frame[12:14] == b"\x86\xdd":
        length = 40 + struct.unpack("!H", frame[18:20])[0]
    payload = frame[14 : 14 + (length or 28)]
    payload = (b"\xaa\xaa\x03\0\0\0" + frame[12:14] if snap else b"\x06\x06\x03") + payload
    return (frame[:12] + struct.pack("!H", len(payload)) + payload).ljust(60, b"\0")


def behind(frame: bytes, *headers: tuple[int, bytes]) -> bytes:
    """The frame with further headers before its own, each of an Ethernet type and what follows it."""
    inner = frame[12:]
    for kind, header in reversed(headers):
        inner = struct.pack("!H", kind) + header + inner
    return frame[:12] + inner


def mpls(frame: bytes, kind: int = 0x8847) -> bytes:
    """The packet below a label of MPLS."""
    return frame[:12] + struct.pack("!HI", kind, 16 << 12 | 1 << 8 | 64) + frame[14:]


def ip6_parts(frame: bytes, *cuts: int, first: bytes = b"", number: int = 7) -> list[bytes]:
    """The IPv6 packet of a frame in parts, cut at these multiples of 8. first: further headers within the first part,
    of which the last says what follows; each as the kind of the next header is in its first byte."""
    length = struct.unpack("!H", frame[18:20])[0]
    kind, payload = frame[20], frame[54 : 54 + length]
    whole = first + payload
    kind = _DESTINATION if first else kind
    ends = (*cuts, len(whole))
    found = []
    for start, end in zip((0, *cuts), ends):
        more = int(end != len(whole))
        part = struct.pack("!BBHI", kind, 0, start | more, number) + whole[start:end]
        head = frame[14:18] + struct.pack("!HB", len(part), _FRAGMENT) + frame[21:54]
        found.append((frame[:14] + head + part).ljust(60, b"\0"))
    return found


def destination_options(following: int, length: int = 8) -> bytes:
    """A header of IPv6 that says nothing."""
    return bytes((following, length // 8 - 1, 1, length - 4)) + bytes(length - 4)


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + struct.pack("!HH", _VLAN, vlan) + frame[12:]


def vlan_of(frame: bytes) -> int:
    """0 for a frame without a tag."""
    kind, tag = struct.unpack("!HH", frame[12:16])
    return tag & 0xFFF if kind == _VLAN else 0


def ip(source: str, destination: str, protocol: int, payload: bytes, hops: int = 64) -> tuple[int, bytes]:
    """Its Ethernet type, and the packet."""
    sender, receiver = packed(source), packed(destination)
    if len(sender) == 16:
        return IPV6, struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + sender + receiver + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, hops, protocol, 0) + sender + receiver
    return IPV4, header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(source: str, destination: str, ports: tuple[int, int], data: bytes) -> bytes:
    length = 8 + len(data)
    datagram = struct.pack("!HHHH", *ports, length, 0) + data
    pseudo = packed(source) + packed(destination) + struct.pack("!II", length, UDP)
    return datagram[:6] + struct.pack("!H", checksum(pseudo + datagram) or 0xFFFF) + datagram[8:]


def icmp6(source: str, destination: str, kind: int, body: bytes) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = packed(source) + packed(destination) + struct.pack("!II", len(message), ICMPV6)
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def datagram(macs: tuple[str, str], addresses: tuple[str, str], ports: tuple[int, int], data: bytes) -> bytes:
    """A frame from the first of each to the second."""
    return ethernet(*macs, *ip(*addresses, UDP, udp(*addresses, ports, data)))


def arp_request(source: str, sender: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac(source) + packed(sender) + bytes(6) + packed(target)
    return ethernet(source, BROADCAST, ARP, body)


def arp_reply(source: str, sender: str, question: bytes) -> bytes:
    """Sender has it: the answer to a frame that asks."""
    asker = ":".join(f"{byte:02x}" for byte in question[6:12])
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 2) + mac(source) + packed(sender) + question[22:28] + question[28:32]
    return ethernet(source, asker, ARP, body)


def asks_for(frame: bytes, address: str) -> bool:
    """Whether it is an ARP request for the address."""
    return frame[12:14] == b"\x08\x06" and frame[21] == 1 and frame[38:42] == packed(address)


def source_of(frame: bytes) -> str:
    """The IPv4 address that a packet comes from; "" of another frame."""
    return str(ipaddress.ip_address(frame[26:30])) if frame[12:14] == b"\x08\x00" else ""


def advertisement(source: str, address: str, prefix: str) -> bytes:
    """A router's, that machines are to take addresses and their default route from it."""
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    body += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + packed(prefix)
    everybody = "ff02::1"
    message = icmp6(address, everybody, 134, body)
    return ethernet(source, "33:33:00:00:00:01", *ip(address, everybody, ICMPV6, message, 255))


def discover(source: str, transaction: int) -> bytes:
    """Of a DHCP client that knows nothing yet."""
    body = struct.pack("!BBBBIHH", 1, 1, 6, 0, transaction, 0, 0x8000) + bytes(16) + mac(source).ljust(16, b"\0")
    options = b"\x63\x82\x53\x63" + bytes((53, 1, 1)) + bytes((55, 6, 1, 3, 6, 12, 26, 51)) + b"\xff"
    message = (body + bytes(192) + options).ljust(300, b"\0")
    return datagram((source, BROADCAST), ("0.0.0.0", "255.255.255.255"), (68, 67), message)


def offer_of(frame: bytes) -> dict[int | str, bytes] | None:
    """What a DHCP server offers: the address, and options by number; None for other frames."""
    if len(frame) < 282 or frame[12:14] != b"\x08\x00" or frame[23] != UDP or frame[34:38] != b"\0\x43\0\x44":
        return None
    found: dict[int | str, bytes] = {"address": frame[58:62]}
    rest = frame[282:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        found[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return found


class Cable:
    """Two devices, one as the node has it (device), the other a machine's, on which this sends and hears."""

    def __init__(self, device: str) -> None:
        self.device, self.other = device, f"{device}m"
        for argv in (
            ["link", "add", self.device, "type", "veth", "peer", "name", self.other],
            ["link", "set", self.device, "up"],
            ["link", "set", self.other, "up"],
        ):
            subprocess.run(["ip", *argv], check=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self.socket.bind((self.other, 0))
        self.heard: list[bytes] = []

    def send(self, frame: bytes) -> None:
        """From one processor always: each has a queue of its own, and what is sent later would come before."""
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            self.socket.send(frame)
        finally:
            os.sched_setaffinity(0, allowed)

    def close(self) -> None:
        self.socket.close()
        subprocess.run(["ip", "link", "del", self.device], check=True)

    def hear(self, fits: Callable[[bytes], object], seconds: float = SECONDS) -> bytes:
        """The first frame that fits, of those that came since the last was taken."""
        deadline = time.monotonic() + seconds
        while True:
            for number, frame in enumerate(self.heard):
                if fits(frame):
                    del self.heard[: number + 1]
                    return frame
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                frame, about, _flags, origin = self.socket.recvmsg(4096, 64)
            except TimeoutError:
                raise TimeoutError(f"{self.other}: nothing that fits came within {seconds:g} s") from None
            if origin[2] != socket.PACKET_OUTGOING:
                self.heard.append(_with_tag(frame, about))


def _with_tag(frame: bytes, about: list[tuple[int, int, bytes]]) -> bytes:
    """The frame as it was on the wire."""
    for level, kind, data in about:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, tag, ethertype = struct.unpack("=I12xHH", data[:20])
            if status & _HAS_TAG:
                return behind(frame, (ethertype, struct.pack("!H", tag)))
    return frame
