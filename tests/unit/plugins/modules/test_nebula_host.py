# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what it refuses; test_object_lists.py has what it shares with others."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}


def test_a_host_with_marks_of_another_catalog_is_refused(root, host):
    result = host(root, **dict(HOST, catalog="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"))
    assert isinstance(result.errors[0].error, ForeignObject)
    assert result.payload["hosts"] == []


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


def test_a_host_that_is_lost_takes_its_machines_with_it(furnished, host, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    foreseen = host(furnished, check=True, name="node1", state="lost")
    assert foreseen.changed and not foreseen.errors
    assert not host(furnished, name="node1", state="lost").errors
    assert host(furnished, name="node1", state="absent").changed is False
    freed = host(furnished, name="node1", state="lost", gone=True)
    assert freed.changed and freed.payload["freed"] == ["10.66.0.10 of network Public"]
    assert host(furnished, name="node1", state="lost", gone=True).changed is False
