# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws cards: the machines of a network that are on the same node, a row for each; nodes; security groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .geometry import Block, Box, Mark
from .site import NOWHERE, Machine, Nic, Node, SecurityGroup, Site
from .state_signs import BAD, GOOD, sign_of_state
from .text_width import natural_sort_key, number_of
from .text_width import width as measured

HEAD, ROW, LINE, FOOT = 26.0, 19.0, 15.0, 6.0
# A card with more rows than this goes on in another one, so that none is longer than a printed page.
ROWS = 20
# A name gets what the longest address and state of its card leave, which are cut before it gets too little.
_STATE, _ADDRESS = 110.0, 130.0
_RULES = 6


@dataclass(frozen=True)
class Row:
    """Shows a machine in a card. lines: further facts about it in this network."""

    machine: Machine
    address: str
    lines: tuple[tuple[str, bool], ...]

    @property
    def height(self) -> float:
        return ROW + LINE * len(self.lines)


@dataclass(frozen=True)
class Card:
    """Is a box with a head (title, right). whole: what is shown when a pointer rests on the head."""

    title: str
    right: str
    mood: str
    whole: str = ""
    rows: tuple[Row, ...] = ()
    lines: tuple[tuple[str, bool], ...] = ()

    @property
    def height(self) -> float:
        return HEAD + sum(row.height for row in self.rows) + LINE * len(self.lines) + FOOT

    def draw(self, block: Block, x: float, y: float, width: float) -> None:
        block.shapes.append(Box(x, y, width, self.height, "card"))
        block.shapes.append(Box(x, y, width, HEAD, f"head {self.mood}"))
        block.shapes.append(Mark(x + 15, y + HEAD / 2, self.mood))
        room = width - 27 - 10 - 12
        right = min(measured(self.right, 11), max(room * 0.45, room - measured(self.title, 12.5, bold=True)))
        block.write(x + 27, y + 17.5, room - right, self.title, 12.5, "name", self.whole, bold=True)
        block.write(x + width - 10, y + 17.5, right, self.right, 11, "faint", self.whole, right=True)
        top = y + HEAD
        state = min(_STATE, max((measured(_state(row), 10, bold=True) for row in self.rows), default=0.0))
        address = min(_ADDRESS, max((measured(row.address, _size(row), mono=True) for row in self.rows), default=0.0))
        for number, row in enumerate(self.rows):
            if number % 2:
                block.shapes.append(Box(x + 1, top, width - 2, row.height, "stripe", round=0))
            _draw_row(block, row, x, top, width, state, address)
            top += row.height
        for text, mono in self.lines:
            block.write(x + 12, top + 12.5, width - 22, text, 11, "" if mono else "faint", mono=mono)
            top += LINE


def _state(row: Row) -> str:
    return row.machine.state or "UNKNOWN"


def _size(row: Row) -> float:
    """Return the size of an address: an IPv4 address is as large as a name, anything longer is smaller."""
    return 12 if len(row.address) < 16 else 11


def _draw_row(block: Block, row: Row, x: float, top: float, width: float, state: float, address: float) -> None:
    machine = row.machine
    sign = sign_of_state(machine.state)
    block.shapes.append(Mark(x + 15, top + ROW / 2, sign))
    room = width - 27 - 10 - state - 10 - address - 10
    whole = f"{machine.name}: {machine.error}" if machine.error else ""
    block.write(x + 27, top + 13.5, room, machine.name, 12, "name", whole)
    block.write(x + 27 + room + 10, top + 13.5, address, row.address, _size(row), mono=True)
    block.write(x + width - 10, top + 13.5, state, _state(row), 10, f"state {sign}", bold=True, right=True)
    for number, (text, mono) in enumerate(row.lines):
        y = top + ROW + LINE * number + 9.5
        block.write(x + 27, y, width - 37, text, 11, "" if mono else "faint", mono=mono)


def machine_rows(machines: Sequence[Machine], network: str) -> list[Row]:
    """Return the rows of the machines in a network, or of the machines that are in no network ("")."""
    return [_row(machine, network) for machine in machines]


def _row(machine: Machine, network: str) -> Row:
    here = [nic for nic in machine.nics if nic.network == network]
    lines: list[tuple[str, bool]] = []
    for number, nic in enumerate(here):
        if number and nic.first:
            lines.append((nic.first, True))
        lines += [(address, True) for address in nic.ip6]
        lines += [(f"{address} alias", True) for address in nic.aliases]
        lines += [(f"{address} floating", True) for address in nic.floating]
    groups = _group_names(here)
    if groups:
        lines.append((f"security groups: {', '.join(groups)}", False))
    others = [name for name in machine.networks if name not in (network, "")]
    if others:
        lines.append((f"also in {', '.join(others)}", False))
    return Row(machine, here[0].first if here else "", tuple(lines))


def _group_names(nics: Sequence[Nic]) -> list[str]:
    return list(dict.fromkeys(group for nic in nics for group in nic.groups))


def by_node(site: Site, machines: Sequence[Machine], network: str) -> Iterator[Card]:
    """Yield a card for each node that has some of the machines, or several cards if there are many."""
    hosts: dict[str, list[Machine]] = {}
    for machine in machines:
        hosts.setdefault(machine.host, []).append(machine)
    for host in sorted(hosts, key=lambda name: (name == "", natural_sort_key(name))):
        rows = machine_rows(hosts[host], network)
        parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        node = site.node(host)
        words = " ".join(filter(None, (node.hypervisor, node.state)))
        for number, part in enumerate(parts):
            of_them = (
                f"{number * ROWS + 1}–{number * ROWS + len(part)} of {len(rows)}" if len(parts) > 1 else str(len(rows))
            )
            yield Card(
                title=host or NOWHERE,
                right=" · ".join(filter(None, (words, of_them))),
                mood=sign_of_state(node.state) if host and node.state else GOOD if host else "moving",
                whole=" ".join(filter(None, (host or NOWHERE, words, node.error))),
                rows=tuple(part),
            )


def of_node(site: Site, node: Node) -> Card:
    machines = [machine for machine in site.machines if machine.host == node.name]
    states = ", ".join(f"{count} {state}" for state, count in site.states(machines))
    count = number_of(len(machines), "machine")
    lines = [(f"{count}: {states}" if machines else "no machines", False)]
    networks = sorted({name for machine in machines for name in machine.networks} - {""}, key=natural_sort_key)
    if networks:
        lines.append((f"networks: {', '.join(networks)}", False))
    if node.error:
        lines.append((node.error, False))
    words = " ".join(filter(None, (node.hypervisor, node.state)))
    return Card(
        title=node.name,
        right=words,
        mood=sign_of_state(node.state) if node.state else BAD,
        whole=" ".join(filter(None, (node.name, words, node.error))),
        lines=tuple(lines),
    )


def of_group(site: Site, group: SecurityGroup) -> Card:
    named = {group.name, group.id} - {""}
    count = sum(any(named & {*nic.groups} for nic in machine.nics) for machine in site.machines)
    lines = [(rule, True) for rule in group.rules[:_RULES]]
    if len(group.rules) > _RULES:
        lines.append((f"and {len(group.rules) - _RULES} more rules: see the table", False))
    return Card(
        title=group.name,
        right=f"{number_of(len(group.rules), 'rule')} · {number_of(count, 'machine')}",
        mood="plain",
        lines=tuple(lines or [("no rules", False)]),
    )
