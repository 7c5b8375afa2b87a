# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides where everything in the picture is. Networks are bands: at the top those that lead outside, then each
tenant's. Routers are between them, and below each band are its machines, grouped by their nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import cards, connector_lanes
from .cards import Card
from .geometry import Block, Box, Dot, Line, Mark, Picture
from .site import Leg, Machine, Network, Router, Site
from .state_signs import BAD, GOOD, MOVING, OFF
from .text_width import natural_sort_key, number_of, width

WIDTH, EDGE, GAP = 1200.0, 12.0, 14.0
# The bands never get less than this; with very many lines on the left the picture gets wider.
LEAST = 960.0
LANE, NARROW_LANE, WIDE_LANES = 13.0, 6.0, 16
BAND, HEADING, ROUTER_HEAD, ROUTER_ROW = 60.0, 40.0, 28.0, 20.0
# How far the cards are to the right of their band's edge: the line that leads to the lower ones is there.
INDENT = 22.0
STEM = 16.0
CARD = 340.0
COLOURS = 8


def picture(site: Site) -> Picture:
    return _Drawing(site).picture()


class _Drawing:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.order = list(_order(site))
        networks = [item for item in self.order if isinstance(item, Network)]
        self.colours = {network.name: n % COLOURS for n, network in enumerate(networks)}
        reach = connector_lanes.reach_of_lanes(self.order)
        self.lanes = connector_lanes.assign_lanes(reach)
        number = max(self.lanes.values(), default=-1) + 1
        self.step = LANE if number <= WIDE_LANES else NARROW_LANE
        self.left = EDGE + (number * self.step + 10 if number else 0)
        self.width = max(WIDTH, self.left + LEAST + EDGE)
        self.right = self.width - EDGE
        self.blocks: list[Block] = []
        # Where each network's line is connected: y from the top of the picture, and where the connection ends.
        self.taps: dict[str, list[float]] = {}
        self.height = 0.0

    def picture(self) -> Picture:
        self._legend()
        externals = [item for item in self.order if isinstance(item, Network) and item.external]
        if externals and len(externals) < len(self.order):
            self._heading("External networks", number_of(len(externals), "network"))
        inside = False
        tenant: str | None = None
        for item in self.order:
            outside = isinstance(item, Network) and item.external
            if not outside and self.site.tenants and item.tenant != tenant:
                self._heading(f"Tenant {item.tenant}" if item.tenant else "Of no tenant", self._of_tenant(item.tenant))
            elif not outside and not inside and externals:
                self._heading("Networks and routers", "")
            if not outside:
                inside, tenant = True, item.tenant
            if isinstance(item, Network):
                self._network(item)
            else:
                self._router(item)
        self._machines_nodes_groups()
        self._lines()
        return Picture(self.width, tuple(self.blocks))

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _add(self, title: str, summary: str, height: float) -> Block:
        block = Block(title, summary, height, top=self.height)
        self.height += height
        self.blocks.append(block)
        return block

    def _legend(self) -> None:
        block = self._add("Legend", "What the signs mean", 36)
        x = EDGE
        for sign, text in (
            (GOOD, "as it should be: RUNNING, MONITORED"),
            (OFF, "switched off: POWEROFF, DISABLED …"),
            (MOVING, "on its way: PROLOG, BOOT, SHUTDOWN …"),
            (BAD, "needs somebody: FAILURE, UNKNOWN, ERROR"),
        ):
            block.shapes.append(Mark(x + 7, 14, sign))
            block.write(x + 19, 18, 270, text, 11, "faint")
            x += 290
        if not (self.order or self.site.machines or self.site.nodes):
            empty = self._add("Nothing", "The catalog is empty", 90)
            empty.shapes.append(Box(EDGE, 10, self.width - 2 * EDGE, 70, "void"))
            text = "There are no networks, nodes or machines in this catalog yet."
            empty.write(EDGE + 24, 50, self.width - 2 * EDGE - 48, text, 15, "faint")

    def _heading(self, text: str, right: str) -> None:
        block = self._add(text, right, HEADING)
        block.leads = True
        half = (self.right - self.left) / 2
        block.write(self.left, 27, half, text, 14, "heading", bold=True)
        block.write(self.right, 27, half - GAP, right, 11, "faint", right=True)

    def _of_tenant(self, tenant: str) -> str:
        mine = [
            item for item in self.order if item.tenant == tenant and not (isinstance(item, Network) and item.external)
        ]
        networks = [item for item in mine if isinstance(item, Network)]
        names = {network.name for network in networks}
        machines = [m for m in self.site.machines if m.tenant == tenant if m.tenant or names & {*m.networks}]
        if tenant and not machines:
            machines = [m for m in self.site.machines if not m.tenant and names & {*m.networks}]
        return ", ".join(
            (
                number_of(len(networks), "network"),
                number_of(len(mine) - len(networks), "router"),
                number_of(len(machines), "machine"),
            )
        )

    def _network(self, network: Network) -> None:
        machines = self.site.by_network.get(network.name, ())
        colour = self.colours[network.name]
        block = self._add(
            f"{'External network' if network.external else 'Network'} {network.name}",
            ", ".join(filter(None, (network.cidr, network.link, number_of(len(machines), "machine")))),
            BAND + (0 if machines else GAP),
        )
        block.leads = bool(machines)
        wide = self.right - self.left
        kind = "band unknown" if network.unknown else "band outer" if network.external else "band"
        block.shapes.append(Box(self.left, 1.5, wide, BAND - 3, kind, colour, 7))
        block.shapes.append(Box(self.left, 1.5, 8, BAND - 3, "edge", colour, 3))
        x, half = self.left + 20, wide / 2 - 30
        block.write(x, 24, half, network.name, 15, "name", bold=True)
        link = "not in the catalog" if network.unknown else network.link
        right = " · ".join(filter(None, ("external" if network.external else "", link, *network.notes)))
        block.write(self.right - 14, 24, half, right, 11, "faint", right=True)
        via = f"gateway {', '.join(network.gateways)}" if network.gateways else ""
        addresses = "  ".join(
            filter(None, (network.cidr, via, f"range {_short(network.ranges)}" if network.ranges else ""))
        )
        whole = "; ".join(network.ranges) if len(network.ranges) > 2 else ""
        block.write(x, 46, wide * 0.68 - 30, addresses, 12, "", f"{addresses}: {whole}" if whole else "", mono=True)
        leased = f"{network.used} of {network.size} addresses taken" if network.size else ""
        held = f"{network.held} held" if network.held else ""
        counts = " · ".join(filter(None, (number_of(len(machines), "machine"), leased, held)))
        block.write(self.right - 14, 46, wide * 0.32 - 14, counts, 11, "faint", right=True)
        self._connect(network.name, block.top + BAND / 2)
        self._cards(
            list(cards.by_node(self.site, machines, network.name)), colour, f"Machines of network {network.name}"
        )

    def _cards(self, those: Sequence[Card], colour: int, title: str, least: float = CARD) -> None:
        """Add rows of cards below a band, whose line goes on to each of them. colour: -1 if there is no band."""
        start = self.left + (INDENT if colour >= 0 else 0)
        columns = max(1, int((self.right - start + GAP) // (least + GAP)))
        wide = (self.right - start - GAP * (columns - 1)) / columns
        spine = self.left + 4
        for first in range(0, len(those), columns):
            row = those[first : first + columns]
            head = (STEM if colour >= 0 else 2) + (6 if first and colour >= 0 else 0)
            last = first + columns >= len(those)
            text = "; ".join(f"{card.title}: {card.right}" for card in row)
            block = self._add(title, text, head + max(card.height for card in row) + (GAP if last else 2))
            if colour >= 0 and not last:
                block.shapes.append(Line(spine, 0, spine, block.height, colour, 4))
            for place, card in enumerate(row):
                x = start + place * (wide + GAP)
                if colour >= 0:
                    block.shapes.append(Line(x + 15, 6 if first else 0, x + 15, head, colour, 3))
                card.draw(block, x, head, wide)
            if colour >= 0 and first:
                rail = start + (len(row) - 1) * (wide + GAP) + 15
                block.shapes.append(Line(spine, 6, rail, 6, colour, 3))
                if last:
                    block.shapes.append(Line(spine, 0, spine, 6, colour, 4))

    def _router(self, router: Router) -> None:
        pairs = [router.floating[n : n + 2] for n in range(0, len(router.floating), 2)]
        rows = max(len(router.legs), len(pairs), 1)
        height = ROUTER_HEAD + rows * ROUTER_ROW + 8
        block = self._add(
            f"Router {router.name}",
            "; ".join(f"{_kind(leg)} {leg.network} {leg.ip}".strip() for leg in router.legs) or "it has no interfaces",
            height + GAP + 2,
        )
        wide = self.right - self.left
        block.shapes.append(Box(self.left, 2, wide, height, "router", round=12))
        block.shapes.append(Mark(self.left + 20, 17, "router"))
        block.write(self.left + 36, 21, wide * 0.4, f"Router {router.name}", 13.5, "name", bold=True)
        outside = number_of(len(router.floating), "floating address", "es") if router.floating else ""
        right = " · ".join(filter(None, (f"on node {router.host}" if router.host else "", outside)))
        block.write(self.right - 14, 21, wide * 0.5, right, 11, "faint", right=True)
        half = wide * 0.42
        for number, leg in enumerate(router.legs):
            y = ROUTER_HEAD + number * ROUTER_ROW + 14
            block.shapes.append(Dot(self.left, y - 4, self.colours[leg.network]))
            block.write(self.left + 16, y, 74, _kind(leg), 11, "faint")
            block.write(self.left + 94, y, half - 100 - 130, leg.network, 12, "name")
            block.write(self.left + half - 124, y, 124, leg.ip, 12 if len(leg.ip) < 16 else 11, mono=True)
            self._connect(leg.network, block.top + y - 4)
        each = (wide - half - 30) / 2
        for number, pair in enumerate(pairs):
            for place, floating in enumerate(pair):
                x, y = self.left + half + 20 + place * each, ROUTER_HEAD + number * ROUTER_ROW + 14
                way = f"{floating.external} → {floating.internal}" if floating.internal else floating.external
                block.write(x, y, 232, way, 11, mono=True)
                if floating.machine:
                    gone = min(232, width(way, 11, mono=True)) + 10
                    block.write(x + gone, y, each - gone - 10, floating.machine, 11, "name")

    def _machines_nodes_groups(self) -> None:
        alone: Sequence[Machine] = self.site.by_network.get("", ())
        if alone:
            self._heading("In no network", number_of(len(alone), "machine"))
            self._cards(list(cards.by_node(self.site, alone, "")), -1, "Machines in no network")
        if self.site.nodes:
            self._heading("Nodes", number_of(len(self.site.nodes), "node"))
            self._cards([cards.of_node(self.site, node) for node in self.site.nodes], -1, "Nodes")
        if self.site.groups:
            self._heading("Security groups", number_of(len(self.site.groups), "security group"))
            self._cards([cards.of_group(self.site, group) for group in self.site.groups], -1, "Security groups")

    # -- lines --------------------------------------------------------------------------------------------------------

    def _connect(self, network: str, y: float) -> None:
        self.taps.setdefault(network, []).append(y)

    def _lines(self) -> None:
        """Add each network's line on the left, connected with its band and each router; every block draws its part."""
        for network, number in self.lanes.items():
            colour = self.colours[network]
            x = self.left - 10 - self.step / 2 - number * self.step
            taps = self.taps[network]
            top, bottom = min(taps), max(taps)
            for block in self.blocks:
                end = block.top + block.height
                first, last = max(top, block.top), min(bottom, end)
                parts: list[Line | Dot] = (
                    [Line(x, first - block.top, x, last - block.top, colour)] if first < last else []
                )
                for y in taps:
                    if block.top <= y < end:
                        parts += [
                            Line(x, y - block.top, self.left, y - block.top, colour),
                            Dot(x, y - block.top, colour),
                        ]
                block.shapes[:0] = parts


def _order(site: Site) -> Iterator[Network | Router]:
    """Yield outer networks first, then each tenant's routers, each with its networks that no router before it has."""
    yield from (network for network in site.networks if network.external)
    left = {network.name: network for network in site.networks if not network.external}
    # What belongs to nobody comes last.
    for tenant in (*site.tenants, ""):
        for router in site.routers:
            if router.tenant != tenant:
                continue
            yield router
            names = sorted({leg.network for leg in router.legs}, key=natural_sort_key)
            for name in names:
                if name in left and left[name].tenant in (tenant, ""):
                    yield left.pop(name)
        yield from [left.pop(name) for name, network in list(left.items()) if network.tenant == tenant]


def _kind(leg: Leg) -> str:
    return "gateway" if leg.gateway else "interface"


def _short(ranges: Sequence[str]) -> str:
    more = f" and {len(ranges) - 2} more" if len(ranges) > 2 else ""
    return ", ".join(ranges[:2]) + more
