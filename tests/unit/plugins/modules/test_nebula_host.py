# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: {create, again, update, absent, again} × {real, check}, and what it refuses."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.modules import nebula_host

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}


def test_host_life(root, host):
    assert host(root, check=True, **HOST).changed
    made = host(root, **HOST)
    assert made.changed and made.payload["host"]["memory"] == 4096 and made.payload["host"]["id"] == 0
    assert not host(root, **HOST).changed and not host(root, check=True, **HOST).changed
    more = dict(HOST, memory=8192)
    assert host(root, check=True, **more).changed
    assert host(root, **more).payload["host"]["memory"] == 8192
    assert host(root, name="node1", state="disabled").payload["host"]["state"] == "DISABLED"
    assert not host(root, **more).changed, "role node must not enable what an administrator disabled"
    assert host(root, name="node1", state="enabled").payload["host"]["state"] == "MONITORED"
    assert host(root, check=True, name="node1", state="absent").changed
    assert host(root, name="node1", state="absent").changed
    assert not host(root, name="node1", state="absent").changed


def test_check_mode_on_a_bare_front_end_makes_no_file(root, tmp_path, host):
    assert host(root, check=True, **HOST).changed
    assert list(tmp_path.iterdir()) == []


def test_a_host_with_marks_of_another_catalog_is_refused(root, host):
    result = host(root, **dict(HOST, catalog="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"))
    assert isinstance(result.errors[0].error, ForeignObject)
    assert result.payload["hosts"] == []


def test_unknown_keys_have_a_near_miss(root, host):
    items = [{"name": "a", "memroy": 1}, "b", {"name": 5}, {"name": "c", "memory": 64}]
    result = host(root, hosts=items)
    texts = [str(item.error) for item in result.errors]
    assert "host a" in texts[0] and "'memory'" in texts[0] and "hosts[1]: it is a str" in texts[1]
    assert "host 5: the name is a int" in texts[2]
    assert [view["name"] for view in result.payload["hosts"]] == ["c"], "the others go on"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("memory", "lots", "not a whole number of MiB, 0 to 4294967296"),
        ("memory", True, "not a whole number"),
        ("cpu", -1, "not a number of processors, 0 to 1048576"),
        ("state", "gone", "present, enabled, disabled, absent, lost"),
        ("memory", float("inf"), "not a whole number"),
        ("cpu", float("nan"), "not a number"),
        ("reserved_memory", -5, "not a whole number of MiB, 0 or more"),
        ("memory_overcommit", 0, "nothing to promise"),
        ("attributes", ["RACK"], "Give a dict"),
        ("attributes", {"A B": 1}, "A_B"),
    ],
)
def test_values_of_hosts_that_mean_nothing(root, key, value, told, host):
    result = host(root, hosts=[{"name": "a", key: value}, {"name": "b"}])
    assert "host a" in str(result.errors[0].error) and told in str(result.errors[0].error)
    assert [view["name"] for view in result.payload["hosts"]] == ["b"]


def test_a_host_that_runs_machines_is_kept(furnished, host, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    result = host(furnished, name="node1", state="absent")
    assert "a (id 0)" in str(result.errors[0].error)


def test_the_list_goes_with_the_options_of_one_host_or_with_none(options):
    assert "mutually exclusive" in options(nebula_host, refused=True, name="a", hosts=[])
    assert "one of the following is required: name, hosts" in options(nebula_host, refused=True)
    assert "value of state must be one of" in options(nebula_host, refused=True, name="a", state="gone")


def test_what_would_be_made_has_no_id_and_what_is_there_has(root, host):
    host(root, **HOST)
    views = host(root, check=True, hosts=[{"name": "node1", "memory": 1}, {"name": "node2"}]).payload["hosts"]
    assert [(view["name"], view["id"]) for view in views] == [("node1", 0), ("node2", None)]


def test_the_catalog_is_told_and_one_host_only_where_one_was_asked_for(root, host):
    made = host(root, **HOST)
    assert len(made.payload["catalog"]) == 36
    assert made.payload["host"] == made.payload["hosts"][0]
    many = host(root, hosts=[HOST])
    assert "host" not in many.payload
    assert many.payload["catalog"] == made.payload["catalog"]
    gone = host(root, name="node1", state="absent")
    assert gone.payload == {"hosts": [], "freed": [], "catalog": made.payload["catalog"]}


def test_a_host_that_is_lost_takes_its_machines_with_it(furnished, host, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    foreseen = host(furnished, check=True, name="node1", state="lost")
    assert foreseen.changed and not foreseen.errors
    assert not host(furnished, name="node1", state="lost").errors
    assert host(furnished, name="node1", state="absent").changed is False
    freed = host(furnished, name="node1", state="lost", gone=True)
    assert freed.changed and freed.payload["freed"] == ["10.66.0.10 of network Public"]
    assert host(furnished, name="node1", state="lost", gone=True).changed is False
