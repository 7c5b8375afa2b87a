# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the facts of the picture as tables: for readers who do not see it, for searching, and for copying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement

from .site import Machine, Nic, Site
from .state_signs import sign_of_state

# Columns of addresses, which are aligned by their digits.
_MONOSPACED = {"addresses", "MAC", "network address", "gateway", "ranges", "from outside", "inside"}


# Up to so many characters stay on one line; a MAC address has fewer.
_SHORT = 22
# What most sites have none of: nothing is said of them then.
_SELDOM = {"Routers", "Floating addresses", "Security groups"}


def tables(site: Site) -> Iterator[Element]:
    return (
        table
        for title, columns, rows in _facts(site)
        if rows or title not in _SELDOM
        for table in [_table(title, columns, rows)]
    )


def _facts(site: Site) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    yield (
        "Machines",
        ("ID", "name", "state", "wanted", "node", "network", "addresses", "MAC", "security groups", "error"),
        [row for machine in site.machines for row in _machine(machine)],
    )
    yield (
        "Networks",
        ("ID", "name", "tenant", "driver", "network address", "gateway", "ranges", "taken", "held", "size", "notes"),
        [
            (
                *(n.id, n.name, n.tenant, n.link, n.cidr, ", ".join(n.gateways), ", ".join(n.ranges)),
                *(str(n.used), str(n.held), str(n.size)),
                ", ".join(
                    (
                        *(["external"] if n.external else []),
                        *(["not in the catalog"] if n.unknown else []),
                        *n.notes,
                    )
                ),
            )
            for n in site.networks
        ],
    )
    yield (
        "Routers",
        ("name", "tenant", "node", "kind", "network", "addresses"),
        [
            (router.name, router.tenant, router.host, "gateway" if leg.gateway else "interface", leg.network, leg.ip)
            for router in site.routers
            for leg in router.legs
        ],
    )
    yield (
        "Floating addresses",
        ("router", "from outside", "inside", "machine"),
        [(router.name, f.external, f.internal, f.machine) for router in site.routers for f in router.floating],
    )
    yield (
        "Nodes",
        ("name", "hypervisor", "state", "machines", "error"),
        [
            (node.name, node.hypervisor, node.state, str(sum(m.host == node.name for m in site.machines)), node.error)
            for node in site.nodes
        ],
    )
    yield (
        "Security groups",
        ("ID", "name", "tenant", "rules"),
        [(group.id, group.name, group.tenant, rule) for group in site.groups for rule in group.rules or ("no rules",)],
    )


def _machine(machine: Machine) -> Iterator[tuple[str, ...]]:
    """Yield a row for each NIC, and one row for a machine without NICs."""
    for nic in machine.nics or (Nic(""),):
        addresses = [nic.ip, *nic.ip6, *(f"{address} alias" for address in nic.aliases)]
        addresses += [f"{address} floating" for address in nic.floating]
        yield (
            *(machine.id, machine.name, machine.state, machine.wanted, machine.host, nic.network),
            *(", ".join(filter(None, addresses)), nic.mac, ", ".join(nic.groups), machine.error),
        )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    """Return the table with its heading; empty columns are left out."""
    section = Element("section")
    name = f"table-{title.lower().replace(' ', '-')}"
    SubElement(section, "h2", id=name).text = title
    if not rows:
        SubElement(section, "p").text = "none"
        return section
    kept = [number for number, _name in enumerate(columns) if any(row[number] for row in rows)]
    table = SubElement(SubElement(section, "div", {"class": "scrolled"}), "table", {"aria-labelledby": name})
    head = SubElement(SubElement(table, "thead"), "tr")
    for number in kept:
        SubElement(head, "th", scope="col").text = columns[number]
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for number in kept:
            cell = SubElement(line, "td")
            classes = ["mono"] if columns[number] in _MONOSPACED else []
            classes += ["state", sign_of_state(row[number])] if columns[number] == "state" else []
            classes += ["short"] if len(row[number]) <= _SHORT else []
            if classes:
                cell.set("class", " ".join(classes))
            SubElement(cell, "bdi").text = row[number]
    return section
