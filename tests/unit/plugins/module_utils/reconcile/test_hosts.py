# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An item of a list of hosts, applied to a real catalog: what it sets, what it leaves, and what it is refused for."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import hosts

NODE = {"name": "node1", "hypervisor": "xen", "memory": "4096", "cpu": "8", "attributes": {"rack": 3}}


@pytest.fixture
def engine(tmp_path):
    opened = EmbeddedEngine(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def apply(engine):
    def one(**item):
        with engine.session():
            return hosts.apply(engine, item)

    return one


def refusal(item):
    assert isinstance(item.error, InvalidValue)
    assert not item.is_changed
    return str(item.error)


def test_a_host_is_made_as_described_with_texts_read_as_numbers(apply, engine):
    made = apply(**NODE, reserved_memory=512, cpu_overcommit="2.5", overhead={"fixed": 30, "share": "0.01"})
    assert made.before is None
    assert made.is_changed
    assert made.after["state"] == "MONITORED"
    assert engine.hosts.info("node1") == Host(
        id=0,
        name="node1",
        hypervisor="xen",
        state=HostState.MONITORED,
        memory=4096,
        cpu=8.0,
        reserved_memory=512,
        cpu_overcommit=2.5,
        overhead=Overhead(fixed=30.0, share=0.01),
        attributes={"RACK": "3"},
    )


def test_the_same_again_changes_nothing_and_what_is_not_given_stays(apply, engine):
    apply(**NODE)
    before = engine.hosts.info("node1")
    for item in (NODE, {"name": "node1"}, {**NODE, "memory": None, "cpu": None}):
        assert not apply(**item).is_changed
    changed = apply(name="node1", cpu=4)
    assert changed.is_changed
    assert (changed.before["cpu"], changed.after["cpu"]) == (8.0, 4.0)
    assert engine.hosts.info("node1").memory == before.memory


@pytest.mark.parametrize(
    ("there", "asked", "then"),
    [
        (None, None, "MONITORED"),
        (None, "present", "MONITORED"),
        (None, "enabled", "MONITORED"),
        (None, "disabled", "DISABLED"),
        ("enabled", "present", "MONITORED"),
        ("enabled", "disabled", "DISABLED"),
        ("disabled", "present", "DISABLED"),
        ("disabled", None, "DISABLED"),
        ("disabled", "enabled", "MONITORED"),
        ("disabled", "disabled", "DISABLED"),
    ],
)
def test_only_enabled_ends_what_an_administrator_disabled(apply, there, asked, then):
    if there:
        apply(name="node1", state=there)
    assert apply(name="node1", state=asked).after["state"] == then


@pytest.mark.parametrize("state", ["absent", "lost"])
def test_a_host_goes_and_goes_only_once(apply, engine, state):
    apply(**NODE)
    gone = apply(name="node1", state=state)
    assert gone.before["memory"] == 4096
    assert gone.after is None
    assert gone.is_changed
    assert engine.hosts.pool() == []
    assert not apply(name="node1", state=state).is_changed


def test_a_host_that_was_given_up_can_be_said_to_be_gone_for_good(apply, engine, monkeypatch):
    apply(**NODE)
    said = []
    monkeypatch.setattr(engine.hosts, "gone", lambda name: said.append(name) or ["10.0.0.1 of network n"][: len(said)])
    forgotten = apply(name="node1", state="lost", gone="no")
    assert forgotten.is_changed and said == []
    freed = apply(name="node1", state="lost", gone="yes")
    assert (freed.before, freed.after, said) == ({"name": "node1", "freed": ["10.0.0.1 of network n"]}, None, ["node1"])
    monkeypatch.setattr(engine.hosts, "gone", lambda name: [])
    assert not apply(name="node1", state="lost", gone=True).is_changed
    assert "It goes with state: lost only" in refusal(apply(name="node1", state="absent", gone=True))
    assert "gone 'perhaps'" in refusal(apply(name="node1", state="lost", gone="perhaps"))


def test_the_marks_of_another_catalog_are_refused_and_those_of_this_one_are_not(apply, engine):
    other = apply(**NODE, catalog="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10")
    assert isinstance(other.error, ForeignObject)
    for part in ("host node1", "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", engine.catalog(), "provision.teardown"):
        assert part in str(other.error)
    assert engine.hosts.pool() == []
    assert apply(**NODE, catalog=engine.catalog()).error is None
    # Whoever gives the host up need not be asked whose it is.
    assert apply(name="node1", state="absent", catalog="another").error is None


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("state", "gone", "present, enabled, disabled, absent, lost"),
        ("transfer", "ftp", "Known are shared, ssh"),
        ("cpu_overcommit", 0, "nothing to promise"),
        ("memory_overcommit", "0.0", "nothing to promise"),
        ("memory", [1], "it is not a whole number of MiB, 0 to 4294967296"),
        ("cpu", False, "it is not a number"),
        ("cpu", "-0.5", "it is not a number of processors, 0 to 1048576"),
        ("reserved_memory", "1e999", "it is not a whole number of MiB, 0 or more"),
        ("overhead", "many", "overhead: it is a str. Give a dict with fixed, vcpu, share"),
        ("overhead", {"fixd": 1}, "overhead: key 'fixd': no such key. Did you mean 'fixed'?"),
        ("overhead", {"vcpu": "x"}, "overhead: vcpu 'x': it is not a number, 0 to 1048576"),
        ("overhead", {"share": 1e300}, "overhead: share 1e+300: it is not a number, 0 to 1048576"),
        ("cpu", 1e300, "cpu 1e+300: it is not a number of processors, 0 to 1048576"),
        ("memory", 1 << 50, "memory 1125899906842624: it is not a whole number of MiB, 0 to 4294967296"),
        ("attributes", "RACK=3", "it is a str. Give a dict"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_kept_of_it(apply, engine, key, value, told):
    text = refusal(apply(name="node1", **{key: value}))
    assert "host node1" in text
    assert key in text
    assert told in text
    assert engine.hosts.pool() == []


@pytest.mark.parametrize("name", [None, "", "a/b", " a", 5])
def test_a_name_that_is_none_is_refused(apply, name):
    assert refusal(apply(name=name)).startswith("host")


def test_a_refused_change_leaves_the_host_as_it_was(apply, engine):
    apply(**NODE)
    before = engine.hosts.info("node1")
    refusal(apply(name="node1", memory=1, cpu="x"))
    assert engine.hosts.info("node1") == before


def test_a_host_is_shown_with_plain_values(engine):
    shown = hosts.host_view(
        Host(0, "node1", state=HostState.ERROR, overhead=Overhead(fixed=1.5), attributes={"A": "b"})
    )
    assert shown["id"] == 0
    assert shown["state"] == "ERROR"
    assert shown["overhead"] == {"fixed": 1.5, "vcpu": 0.0, "share": 0.0}
    assert shown["attributes"] == {"A": "b"}
    assert json.loads(json.dumps(shown)) == shown
    # All that an item may set can be seen.
    assert set(hosts.KEYS) - {"catalog", "gone", "mark", "machine_id", "renamed_from"} <= set(shown)


def test_the_memory_of_an_only_node_is_the_hosts_and_is_no_change_by_itself(apply, engine):
    def of(*memory):
        nodes = [{"number": number, "memory": each, "cores": [[number]]} for number, each in enumerate(memory)]
        return {"nodes": nodes, "iommu": False, "devices": [], "encryption": []}

    apply(**NODE, hardware=of(4000))
    assert not apply(**NODE, hardware=of(4096)).is_changed
    assert engine.hosts.info("node1").hardware.nodes[0].memory == 4096
    assert apply(**{**NODE, "memory": "8192"}, hardware=of(8192)).is_changed
    assert apply(**NODE, hardware=of(4096, 4096)).is_changed
    assert apply(**NODE, hardware=of(4096, 2048)).is_changed
