# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forms of values in OVSDB's JSON, and what tells rows apart; the tables are compared with OVN's own schema where that
is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import ovsdb_tables
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import (
    ATOM,
    LINK,
    MAP,
    REFERENCES,
    SET,
    Identity,
    Owner,
    Uuid,
    decode,
    decode_row,
    encode,
    identity_of,
    set_expression,
    uuid_reference,
)

SCHEMA = Path("/usr/share/ovn/ovn-nb.ovsschema")
A, B = (f"{number:08d}-0000-4000-8000-000000000000" for number in (1, 2))


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        (ATOM, "a", "a"),
        (ATOM, 7, 7),
        (SET, frozenset(), ["set", []]),
        (SET, frozenset(("b", "a")), ["set", ["a", "b"]]),
        (MAP, {}, ["map", []]),
        (MAP, {"b": "1", "a": "2"}, ["map", [["a", "2"], ["b", "1"]]]),
        (REFERENCES, frozenset((Uuid(B), Uuid(A))), ["set", [["uuid", A], ["uuid", B]]]),
        (LINK, frozenset((Uuid(A),)), ["set", [["uuid", A]]]),
    ],
)
def test_a_value_goes_there_and_back(kind, value, form):
    assert encode(kind, value, uuid_reference) == form
    assert decode(kind, form) == value


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [(SET, "a", {"a"}), (SET, 17, {17}), (LINK, ["uuid", A], {A}), (REFERENCES, ["uuid", A], {A})],
)
def test_a_set_of_one_comes_without_brackets(kind, form, value):
    assert decode(kind, form) == value


@given(st.dictionaries(st.text(), st.text()), st.frozensets(st.text()))
def test_any_text_goes_there_and_back(pairs, values):
    assert decode(MAP, json.loads(json.dumps(encode(MAP, pairs, uuid_reference)))) == pairs
    assert decode(SET, json.loads(json.dumps(encode(SET, values, uuid_reference)))) == values


def test_rows_are_the_catalogs_by_their_marks_alone():
    marks = {"nebula-catalog": "c", "nebula-network": "n", "nebula-part": "dhcp4", "nebula-name": "x", "other": "y"}
    found = identity_of("DHCP_Options", marks, "c")
    assert found == Identity("DHCP_Options", "c", network="n", part="dhcp4")
    assert found.marks == {"nebula-catalog": "c", "nebula-network": "n", "nebula-part": "dhcp4"}
    assert identity_of("DHCP_Options", marks, "another") is None
    assert identity_of("DHCP_Options", {"nebula-network": "n"}, "c") is None


@pytest.mark.parametrize(
    ("marks", "owner"),
    [
        ({"port": "p", "network": "n"}, Owner("port", "p")),
        ({"router": "r", "network": "n", "part": "interface"}, Owner("router", "r")),
        ({"group": "g", "part": "x"}, Owner("security group", "g")),
        ({"network": "n", "part": "dns"}, Owner("network", "n")),
        ({"part": "guard"}, Owner("catalog", "c")),
    ],
)
def test_a_row_belongs_to_the_narrowest_object_that_it_names(marks, owner):
    identity = Identity("T", "c", **marks)
    assert identity.owner == owner
    assert str(identity) == f"T {marks.get('part', '')}".strip()


def test_a_row_is_read_without_its_uuid():
    row = {"_uuid": ["uuid", A], "external_ids": ["map", []], "cidr": "10.0.0.0/24", "options": ["map", [["a", "b"]]]}
    assert decode_row("DHCP_Options", row) == {"external_ids": {}, "cidr": "10.0.0.0/24", "options": {"a": "b"}}


def test_constants_of_an_expression():
    assert set_expression(["1"]) == "1"
    assert set_expression(["1", "2"]) == "{1, 2}"


@pytest.mark.skipif(not SCHEMA.exists(), reason="OVN is not installed")
def test_tables_are_those_of_the_schema():
    schema = json.loads(SCHEMA.read_bytes())["tables"]
    for table, kinds in ovsdb_tables.TABLES.items():
        columns = schema[table]["columns"]
        assert columns["external_ids"]["type"]["value"] == "string"
        assert (table in ovsdb_tables.ROOTS) == bool(schema[table].get("isRoot")), table
        for column, kind in kinds.items():
            assert kind_in(columns[column]["type"]) in ((SET,) if kind == SET else (kind, LINK, REFERENCES)), column
            key = columns[column]["type"]["key"] if isinstance(columns[column]["type"], dict) else None
            if kind == REFERENCES:
                assert ((table, column) in ovsdb_tables.WEAK) == (key["refType"] == "weak"), (table, column)
    unique = {table for table in ovsdb_tables.TABLES if ["name"] in schema[table].get("indexes", [])}
    assert unique == set(ovsdb_tables.UNIQUE_NAMES)


def kind_in(declared):
    if isinstance(declared, str):
        return ATOM
    if "value" in declared:
        return MAP
    if isinstance(declared["key"], dict) and "refTable" in declared["key"]:
        return LINK if declared["max"] == 1 else REFERENCES
    return SET if declared.get("min", 1) == 0 or declared.get("max", 1) != 1 else ATOM
