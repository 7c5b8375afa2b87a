# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at before a machine moves, by two libvirts whose processors differ."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from in_world import in_nodes
from nodes import Node as Host

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, HAS_ARRIVED, HAS_STAYED, LIVE
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Numa, NumaNode, Os, Topology, Vm
from ansible_collections.nebula.provision.tests.integration.fleet import ROOT, Acting, Fleet, a_fleet, outcomes_of
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED

QEMU = "/usr/bin/qemu-system-x86_64"
# QEMU finds its modules by its own directory. This one is of the same package.
BESIDE = "/usr/bin/qemu-system-i386"
# What libvirt takes for the host's processor in emulation is QEMU's "max". Guests of other models are not touched.
LESSER = """\
#!/bin/sh
exec {beside} "$@" -global max-x86_64-cpu.avx2=off
"""
_REQUIRE = """
import json, sys
from dataclasses import replace
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
asked = json.load(sys.stdin)
vm = from_plain(Vm, asked["vm"])
driver = KvmDriver()
site = driver.site(Site("", asked["catalog"], 1, {}))
offered = driver.offer(Mark(asked["catalog"], vm.vm_id, vm.uuid))
processor = driver.processor_offered(offered)
found = {}
for name, old, new in asked["changes"]:
    assert old in offered, (old, offered)
    try:
        driver.require_hardware(vm, site, offered.replace(old, new), processor)
        found[name] = ""
    except NebulaError as error:
        found[name] = str(error)
driver.close()
print(json.dumps({"processor": processor, "found": found}))
"""


def become_lesser(host: Host) -> None:
    """Have the host's QEMU lack a feature of the other one's."""
    host.run("mount", "--bind", QEMU, BESIDE)
    host.run("sh", "-c", f"cat > {ROOT}/lesser && chmod 0755 {ROOT}/lesser", input=LESSER.format(beside=BESIDE))
    host.run("mount", "--bind", f"{ROOT}/lesser", QEMU)


def as_before(host: Host) -> None:
    host.run("umount", QEMU)
    host.run("umount", BESIDE)


def move(fleet: Fleet, vm: Vm, way: str = LIVE, **orders: Any) -> tuple[VmOutcome, VmOutcome]:
    acting = fleet.act(fleet.moves("node1", "node2", vm, way=way, **orders))
    left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
    return left, came


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_processor_that_the_other_host_lacks_is_named_and_what_to_set() -> None:
    with a_fleet() as fleet:
        become_lesser(fleet.hosts["node2"])
        try:
            vm = fleet.vm(1, cpu_model={"MODEL": "qemu64", "FEATURES": "avx2"})
            assert fleet.bring("node1", vm)[0].error is None
            fleet.wait_for_boot("node1", vm)
            for way in (LIVE, COLD):
                left, came = move(fleet, vm, way, hard=way == COLD)
                assert came.error is not None and left.moved == HAS_STAYED
                verb = "runs" if way == LIVE else "is to run"
                lacks = f"it {verb} with processor qemu64, and this host's processor lacks features avx2"
                assert came.error["found"] == lacks, came.error
                assert 'Set CPU_MODEL = [ MODEL = "qemu64" ] in its template' in came.error["remedy"]
                assert ("move: cold" in came.error["remedy"]) is (way == LIVE)
                # It runs on, was not even powered off, and nothing of it is there.
                assert fleet.console("node1", vm).count(BOOTED) == 1
                assert (fleet.states("node1"), fleet.states("node2")) == ({1: "RUNNING"}, {})
                assert not fleet.directory("node2", vm).exists()
            # What was to be set lets it move.
            set_so = fleet.vm(1, cpu_model={"MODEL": "qemu64"})
            assert fleet.bring("node1", set_so, wanted="POWEROFF", hard=True)[0].error is None
            assert fleet.bring("node1", set_so)[0].error is None
            left, came = move(fleet, set_so)
            assert (left.error, came.error, came.moved) == (None, None, HAS_ARRIVED)
        finally:
            as_before(fleet.hosts["node2"])


@pytest.mark.timeout(300)
@in_nodes(1)
def test_hardware_that_this_host_has_not_is_named() -> None:
    """Each beside what libvirt itself says of a machine that runs."""
    with a_fleet() as fleet:
        vm = fleet.vm(1, os=Os(machine="q35"), cpu_model={"MODEL": "qemu64"})
        most = fleet.vm(2, cpu_model={"MODEL": "maximum"})
        assert [each.error for each in fleet.bring("node1", vm, most)] == [None, None]

        def ask(machine: Vm, *changes: tuple[str, str, str]) -> dict[str, Any]:
            asked = {"vm": to_plain(machine), "catalog": fleet.catalog, "changes": changes}
            found = Acting(fleet.hosts["node1"], _REQUIRE, asked).result()
            assert found is not None
            return found

        answer = ask(
            vm,
            ("as it is", "<name>", "<name>"),
            ("machine", "pc-q35-7.2", "pc-q35-9.1"),
            ("kind", "pc-q35-7.2", "sun4m"),
            ("model", ">qemu64<", ">EPYC-Tomorrow<"),
            ("features", ">qemu64</model>", ">qemu64</model><feature policy='require' name='avx512f'/>"),
            ("disabled", ">qemu64</model>", ">qemu64</model><feature policy='disable' name='avx512f'/>"),
        )
        found = answer["found"]
        assert (found["as it is"], found["disabled"], answer["processor"]) == ("", "", "")
        assert "machine type pc-q35-9.1, which this host's /usr/bin/qemu-system-x86_64 has not" in found["machine"]
        assert "nearest are: pc-q35-7.2, pc-q35-7.1, pc-q35-7.0. Bring a QEMU" in found["machine"]
        assert "nearest are: none of that kind" in found["kind"]
        assert "EPYC-Tomorrow" in found["model"] and "move: cold" in found["model"]
        assert "lacks features avx512f. Set CPU_MODEL" in found["features"]
        # One that has all of its host's processor is compared by that.
        answer = ask(most, ("as it is", "<name>", "<name>"))
        assert answer["found"] == {"as it is": ""} and "<model" in answer["processor"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_processors_and_memory_of_its_new_host_are_what_that_gives_it(way: str) -> None:
    """Both hosts of the test are this machine: the processors by their numbers tell whose choice it is."""
    with a_fleet() as fleet:
        number, other = sorted(os.sched_getaffinity(0))[:2]
        numa = Numa("thread", (NumaNode(1, 32, cpus=(number,), memory_node=0),))
        vm = fleet.vm(1, vcpu=1, numa=numa, topology=Topology(1, 1, 1))
        there = replace(vm, numa=replace(numa, nodes=(replace(numa.nodes[0], cpus=(other,)),)))
        assert fleet.bring("node1", vm)[0].error is None
        fleet.wait_for_boot("node1", vm)
        assert pins(fleet, "node1") == ([str(number)], ["0"])
        plans = fleet.moves("node1", "node2", vm, way=way, hard=way == COLD)
        coming = tuple(replace(each, vm=there) for each in plans["node2"].vms)
        acting = fleet.act({**plans, "node2": replace(plans["node2"], vms=coming)})
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, came.error, came.moved, came.state) == (None, None, HAS_ARRIVED, "RUNNING"), (left, came)
        assert pins(fleet, "node2") == ([str(other)], ["0"])
        assert not fleet.bring("node2", there)[0].changed


def pins(fleet: Fleet, host: str) -> tuple[list[str], list[str]]:
    """The host's processors and nodes that a running machine has, by libvirt, as which it sees itself."""
    found = ET.fromstring(fleet.hosts[host].run("virsh", "dumpxml", "one-1").stdout)
    assert [each.get("memory") for each in found.iterfind("cpu/numa/cell")] == [str(32 << 10)]
    return (
        [each.get("cpuset", "") for each in found.iterfind("cputune/vcpupin")],
        [each.get("nodeset", "") for each in found.iterfind("numatune/memnode")],
    )
