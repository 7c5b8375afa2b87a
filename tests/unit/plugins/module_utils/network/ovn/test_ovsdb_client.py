# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ovsdb-client prints, read."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import ovsdb_client


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """ovsdb-client that answers so, and keeps what it was asked."""

    def made(text):
        program = tmp_path / "ovsdb-client"
        (tmp_path / "answer").write_text(text)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\ncat {tmp_path}/answer\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "asked"

    return made


def test_rows_come_by_their_tables(answer):
    asked = answer('[{"rows":[{"_uuid":["uuid","a"],"external_ids":["map",[["nebula-catalog","c"]]]}]},{"rows":[]}]')
    rows = ovsdb_client.select("/run/s", "OVN_Northbound", ("NB_Global", "SSL"), ("external_ids",))
    assert rows["SSL"] == []
    assert ovsdb_client.mark_of(rows["NB_Global"][0]) == "c"
    assert ovsdb_client.uuid_of(rows["NB_Global"][0]) == "a"
    assert asked.read_text().splitlines()[:2] == ["query", "unix:/run/s"]


def test_a_transaction_that_somebody_overran_is_an_error(answer):
    answer('[{"error":"timed out","details":"\\"where\\" clause test failed"},null]')
    with pytest.raises(CommandFailed, match="timed out"):
        ovsdb_client.transact("/run/s", "OVN_Northbound", [{"op": "wait"}])


@pytest.mark.parametrize(
    ("value", "items"),
    [(["set", []], []), (["set", [["uuid", "a"], ["uuid", "b"]]], ["a", "b"]), (["uuid", "a"], ["a"]), ("x", ["x"])],
)
def test_a_set_of_one_is_written_as_the_one(value, items):
    assert ovsdb_client.as_list(value) == items
    assert ovsdb_client.as_text(value) == (items[0] if items else "")


def test_maps_go_there_and_back():
    assert ovsdb_client.as_map(ovsdb_client.map_value({"a": "1", "b": "2"})) == {"a": "1", "b": "2"}
    assert ovsdb_client.as_map(["set", []]) == {}
