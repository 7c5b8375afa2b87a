# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the tables of OVN's northbound database, as far as networks of tenants need them, and the forms that
values have in Python and in OVSDB's JSON (RFC 7047, section 5.1). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple

DATABASE = "OVN_Northbound"
# Kinds of columns. An optional value is a SET of at most one. REFERENCES: rows that may be those of others as well.
# LINK: at most one row, which is wholly ours.
ATOM, SET, MAP, REFERENCES, LINK = "atom", "set", "map", "references", "link"
EXTERNAL_IDS = "external_ids"

TABLES: Mapping[str, Mapping[str, str]] = {
    "Logical_Switch": {
        "name": ATOM,
        "ports": REFERENCES,
        "acls": REFERENCES,
        "qos_rules": REFERENCES,
        "dns_records": REFERENCES,
    },
    "Logical_Switch_Port": {
        "name": ATOM,
        "type": ATOM,
        "addresses": SET,
        "port_security": SET,
        "tag": SET,
        "options": MAP,
        "dhcpv4_options": LINK,
        "dhcpv6_options": LINK,
    },
    "DHCP_Options": {"cidr": ATOM, "options": MAP},
    "DNS": {"records": MAP},
    "Logical_Router": {
        "name": ATOM,
        "ports": REFERENCES,
        "static_routes": REFERENCES,
        "policies": REFERENCES,
        "nat": REFERENCES,
    },
    "Logical_Router_Port": {
        "name": ATOM,
        "mac": ATOM,
        "networks": SET,
        "options": MAP,
        "ipv6_ra_configs": MAP,
        "gateway_chassis": REFERENCES,
    },
    "Gateway_Chassis": {"name": ATOM, "chassis_name": ATOM, "priority": ATOM},
    "NAT": {"type": ATOM, "external_ip": ATOM, "logical_ip": ATOM, "external_mac": SET, "logical_port": SET},
    "Logical_Router_Static_Route": {"ip_prefix": ATOM, "nexthop": ATOM, "output_port": SET},
    "Logical_Router_Policy": {"priority": ATOM, "match": ATOM, "action": ATOM},
    "Port_Group": {"name": ATOM, "ports": REFERENCES, "acls": REFERENCES},
    "Address_Set": {"name": ATOM, "addresses": SET},
    "ACL": {"priority": ATOM, "direction": ATOM, "match": ATOM, "action": ATOM},
    "QoS": {"priority": ATOM, "direction": ATOM, "match": ATOM, "bandwidth": MAP},
}
# The same, with what every row has.
KINDS: Mapping[str, Mapping[str, str]] = {table: {**kinds, EXTERNAL_IDS: MAP} for table, kinds in TABLES.items()}
# They are there by themselves. A row of another table is there as long as one of these leads to it.
ROOTS = frozenset(("Logical_Switch", "Logical_Router", "DHCP_Options", "DNS", "Port_Group", "Address_Set"))
# References that keep nothing alive, and of which a row may have any number.
WEAK = frozenset((("Logical_Switch", "dns_records"), ("Port_Group", "ports")))
# References to rows that are there by these alone.
CHILDREN = frozenset(
    (table, column)
    for table, kinds in TABLES.items()
    for column, kind in kinds.items()
    if kind == REFERENCES and (table, column) not in WEAK
)
# Tables in which a name is there once.
UNIQUE_NAMES = ("Logical_Switch_Port", "Logical_Router_Port", "Gateway_Chassis", "Port_Group", "Address_Set")
# Of these maps the keys that are named are ours to set and to remove, and others are left alone. Other maps are ours.
MANAGED_KEYS: Mapping[tuple[str, str], frozenset[str]] = {
    ("Logical_Switch_Port", "options"): frozenset(("router-port", "nat-addresses", "network_name", "hostname")),
    ("Logical_Router_Port", "options"): frozenset(("gateway_mtu",)),
}

# Of a port's options besides, as long as it has MOVING: where its interface may be, and what lets a second one of them
# send. Without MOVING somebody else has set them.
MOVE_KEYS = frozenset(("requested-chassis", "activation-strategy"))

# In external_ids of every row of ours: whose it is, which object it belongs to, and which part of that it is.
CATALOG, NETWORK, PORT, ROUTER, GROUP, PART = KEYS = (
    "nebula-catalog",
    "nebula-network",
    "nebula-port",
    "nebula-router",
    "nebula-security-group",
    "nebula-part",
)
# Beside them, and no part of what tells one row from another.
NAME = "nebula-name"
# The port's machine moves: its MOVE_KEYS are ours.
MOVING = "nebula-moving"
MARKS = frozenset((*KEYS, NAME, MOVING))


class Uuid(str):
    """Is the UUID of a row that is in the database."""

    __slots__ = ()


class Owner(NamedTuple):
    kind: str
    uuid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.uuid}"


class Identity(NamedTuple):
    """Tells a row of ours from all others, whether it is in the database or not: by its table, and its marks in the
    order of KEYS, "" for marks that it does not have."""

    table: str
    catalog: str
    network: str = ""
    port: str = ""
    router: str = ""
    group: str = ""
    part: str = ""

    @property
    def marks(self) -> dict[str, str]:
        return {key: value for key, value in zip(KEYS, self[1:]) if value}

    @property
    def owner(self) -> Owner:
        """Return the object that the row belongs to: the narrowest that its marks name."""
        for kind, uuid in (("port", self.port), ("router", self.router), ("security group", self.group)):
            if uuid:
                return Owner(kind, uuid)
        return Owner("network", self.network) if self.network else Owner("catalog", self.catalog)

    def __str__(self) -> str:
        return f"{self.table} {self.part}" if self.part else self.table


def identity_of(table: str, external_ids: Mapping[str, str], catalog: str) -> Identity | None:
    """Return the identity of a row that is there; None if the row is not the catalog's."""
    if external_ids.get(CATALOG) != catalog:
        return None
    return Identity(table, *[external_ids.get(key, "") for key in KEYS])


# --- OVSDB's JSON -----------------------------------------------------------------------------------------------------
def decode(kind: str, value: Any) -> Any:
    """Return a column's value as Python has it. OVSDB writes a set with a single element without brackets."""
    if kind == ATOM:
        return value
    if kind == MAP:
        return dict(value[1])
    values = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    if kind in (REFERENCES, LINK):
        return frozenset(Uuid(each[1]) for each in values)
    return frozenset(values)


def encode(kind: str, value: Any, reference: Callable[[Any], list[str]]) -> Any:
    """Return a column's value in OVSDB's JSON, in a fixed order. reference: tells what OVSDB calls a row."""
    if kind == ATOM:
        return value
    if kind == MAP:
        return ["map", [list(pair) for pair in sorted(value.items())]]
    return ["set", sorted(map(reference, value)) if kind in (REFERENCES, LINK) else sorted(value)]


def uuid_reference(row: Uuid) -> list[str]:
    return ["uuid", row]


def wait_unchanged(table: str, row: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation that fails unless these columns of a row are still as they were read. row: its reference."""
    same = {"columns": list(values), "until": "==", "rows": [values], "timeout": 0}
    return {"op": "wait", "table": table, "where": [["_uuid", "==", row]], **same}


def columns_read(table: str) -> list[str]:
    return ["_uuid", EXTERNAL_IDS, *TABLES[table]]


def decode_row(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    kinds = KINDS[table]
    return {column: decode(kinds[column], value) for column, value in row.items() if column != "_uuid"}


def set_expression(values: Iterable[str]) -> str:
    """Return several values as an expression of OVN has them."""
    listed = list(values)
    return listed[0] if len(listed) == 1 else "{" + ", ".join(listed) + "}"
