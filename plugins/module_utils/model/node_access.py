# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads NODE_ACCESS: what the machines of a network may reach on the node whose bridge they are attached to.

Beside it they always reach what the node itself began to speak to, and an answer to their ping of the gateway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..dataclass import dataclass
from ..errors import InvalidValue
from .whole_numbers import whole

ATTRIBUTE = "NODE_ACCESS"
EVERYTHING, NOTHING = "all", "none"
ICMP = "icmp"
PROTOCOLS = ("tcp", "udp")
LAST_PORT = 65535
# Ranges of a protocol: a rule of nftables has 128 expressions, and each takes two.
MOST = 50
_FORM = "Write a list of icmp, tcp/22, udp/53 and ranges as tcp/8000-8010, or all; an empty list means nothing"

Ports = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class NodeAccess:
    """Describes what machines may reach on their node.
    tcp, udp: ranges of ports, from lowest to highest, that do not overlap.
    everything: all that the node has."""

    everything: bool = False
    icmp: bool = False
    tcp: Ports = ()
    udp: Ports = ()

    def ports(self, protocol: str) -> Ports:
        return self.tcp if protocol == "tcp" else self.udp

    def __str__(self) -> str:
        """Return its one form, which read() takes again."""
        if self.everything:
            return EVERYTHING
        words = [ICMP] if self.icmp else []
        words += [f"{protocol}/{ports_text(span)}" for protocol in PROTOCOLS for span in self.ports(protocol)]
        return " ".join(words) or NOTHING


def ports_text(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def read(text: str, asked: str) -> NodeAccess:
    """Return what a text with blanks or commas between says. asked: the object and attribute, for the error."""
    words = text.replace(",", " ").lower().split()
    for word in (EVERYTHING, NOTHING):
        if word in words and set(words) != {word}:
            raise InvalidValue(f"{asked} = {text[:80]!r}", f"beside {word} there can be nothing else", _FORM)
    if EVERYTHING in words:
        return NodeAccess(everything=True)
    spans: dict[str, list[tuple[int, int]]] = {protocol: [] for protocol in PROTOCOLS}
    for word in words:
        protocol, slash, ports = word.partition("/")
        if protocol in spans and slash:
            spans[protocol].append(_read_span(ports, word, asked))
        elif word not in (ICMP, NOTHING):
            raise InvalidValue(f"{asked}: {word[:80]!r}", "not something that a node has", _FORM)
    merged = {protocol: merge_spans(each) for protocol, each in spans.items()}
    for protocol, each in merged.items():
        if len(each) > MOST:
            raise InvalidValue(
                f"{asked}: {protocol}", f"{len(each)} ports and ranges, the limit is {MOST}", "Give fewer, wider ranges"
            )
    return NodeAccess(icmp=ICMP in words, tcp=merged["tcp"], udp=merged["udp"])


def _read_span(text: str, word: str, asked: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low, high = whole(first), whole(last if dash else first)
    if low is None or high is None or not 1 <= low <= high <= LAST_PORT:
        raise InvalidValue(f"{asked}: {word[:80]!r}", f"not a port or a range of ports from 1 to {LAST_PORT}", _FORM)
    return low, high


def merge_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the spans without overlaps, which nftables refuses."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)
