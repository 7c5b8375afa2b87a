# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the Ethernet types that a network lets pass where its machines are filtered, besides ARP, IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidValue

# Attribute of networks: names and numbers, with blanks between.
ATTRIBUTE = "ETHERTYPES"
# YES for a network that was filtered before all other types were dropped: its next run says so, once.
UNTOLD = "ETHERTYPES_UNTOLD"
# Smaller numbers are the length of an IEEE 802.3 frame, in which LLC says what it carries.
LEAST = 0x0600
# Stands for all such frames.
LLC = 0
NAMES: dict[str, tuple[int, ...]] = {
    "llc": (LLC,),
    "vlan": (0x8100,),
    "qinq": (0x88A8, 0x9100, 0x9200),
    "mpls": (0x8847, 0x8848),
    "pppoe": (0x8863, 0x8864),
    "eapol": (0x888E,),
    "lldp": (0x88CC,),
    "macsec": (0x88E5,),
    "ptp": (0x88F7,),
    "rarp": (0x8035,),
    "wol": (0x0842,),
    "aoe": (0x88A2,),
    "fcoe": (0x8906, 0x8914),
    "batman": (0x4305,),
    "profinet": (0x8892,),
    "ethercat": (0x88A4,),
}
# Leases and security groups decide about these.
_ALWAYS = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6"}


def read(text: str, asked: str) -> tuple[int, ...]:
    """Return the numbers, sorted; raise InvalidValue for a word that is no such type."""
    return tuple(sorted({number for word in text.replace(",", " ").split() for number in _read(word, asked)}))


def normalise(word: str, asked: str) -> str:
    """Return an Ethernet type in its one form: a name, or a number as 0x88b5."""
    numbers = _read(word, asked)
    return word.lower() if word.lower() in NAMES else f"0x{numbers[0]:04x}"


def _read(word: str, asked: str) -> Sequence[int]:
    named = NAMES.get(word.lower())
    if named is not None:
        return named
    try:
        number = int(word, 0)
    except ValueError:
        raise InvalidValue(
            f"{asked}: {word}", "no such Ethernet type is known", f"Use a number as 0x88b5, or {', '.join(NAMES)}"
        ) from None
    if number == LLC:
        raise InvalidValue(f"{asked}: {word}", "it is no Ethernet type", "Write llc for IEEE 802.3 frames with LLC")
    check(number, asked)
    return (number,)


def check(number: int, asked: str) -> None:
    """Raise InvalidValue for what a rule must not let pass unseen, or is no type."""
    if number in _ALWAYS:
        raise InvalidValue(
            f"{asked}: 0x{number:04x}",
            f"it is {_ALWAYS[number]}, which passes as leases and security groups say",
            "Leave it out. To have it pass from any address: filter_ip_spoofing: false",
        )
    if number != LLC and not LEAST <= number <= 0xFFFF:
        raise InvalidValue(f"{asked}: {number}", "it is no Ethernet type", f"Use 0x{LEAST:04x} to 0xffff")
