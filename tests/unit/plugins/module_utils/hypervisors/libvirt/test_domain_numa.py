# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processors and memory of a machine's own in its definition. Whole definitions are goldens of test_domain_xml.py."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_numa import numa_nodes_of
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Numa, NumaNode, Topology, Vm

TWO = (NumaNode(2, 256, "1:30", (4, 6), 1), NumaNode(1, 128, "", (0,), 0))


def defined(numa: Numa | None, **changes: object) -> ET.Element:
    vm, site = deployment_files.load("kvm", "minimal_without_disks")
    vm = dataclasses.replace(vm, numa=numa, vcpu=3, memory=384, **changes)
    return ET.fromstring(domain_xml.render(vm, site).text)


def pins(domain: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(each.get("vcpu"), each.get("cpuset")) for each in domain.iterfind("cputune/vcpupin")]


def test_as_a_real_oned_writes_it() -> None:
    domain = defined(Numa("core", TWO, 2, page_size=2, access="shared"), topology=Topology(3, 1, 1))
    assert pins(domain) == [("0", "4"), ("1", "6"), ("2", "0")]
    pin = domain.find("cputune/emulatorpin")
    assert pin is not None and pin.get("cpuset") == "0,4,6"
    cells = [dict(each.attrib) for each in domain.iterfind("cpu/numa/cell")]
    shared = {"unit": "KiB", "memAccess": "shared"}
    assert cells == [
        {"id": "0", "cpus": "0-1", "memory": "262144", **shared},
        {"id": "1", "cpus": "2", "memory": "131072", **shared},
    ]
    distances = [(each.get("id"), each.get("value")) for each in domain.iterfind("cpu/numa/cell/distances/sibling")]
    assert distances == [("0", "10"), ("1", "30")]
    memory = domain.find("numatune/memory")
    assert memory is not None and dict(memory.attrib) == {"mode": "strict", "nodeset": "0,1"}
    nodes = [(each.get("cellid"), each.get("nodeset")) for each in domain.iterfind("numatune/memnode")]
    assert nodes == [("0", "1"), ("1", "0")]
    page = domain.find("memoryBacking/hugepages/page")
    assert page is not None and dict(page.attrib) == {"size": "2048", "unit": "KiB"}


@pytest.mark.parametrize("policy", ["none", "shared"])
def test_processors_that_are_shared(policy: str) -> None:
    domain = defined(Numa(policy, (NumaNode(3, 384, "", (1, 3, 5), 0),)))
    assert pins(domain) == [("0", "1,3,5"), ("1", "1,3,5"), ("2", "1,3,5")]
    assert domain.find("memoryBacking") is None


def test_nothing_of_it_where_nothing_is_asked_for() -> None:
    domain = defined(None)
    found = [path for path in ("cputune/vcpupin", "numatune", "memoryBacking", "cpu") if domain.find(path) is not None]
    assert found == []


def test_pins_need_no_weights() -> None:
    vm, site = deployment_files.load("kvm", "no_cgroups")
    numa = Numa("core", (NumaNode(1, vm.memory, "", (7,), 0),))
    domain = ET.fromstring(domain_xml.render(dataclasses.replace(vm, numa=numa, vcpu=1), site).text)
    assert pins(domain) == [("0", "7")] and domain.find("cputune/shares") is None


@pytest.mark.parametrize(
    "numa",
    [
        Numa("core", TWO, 2),
        Numa("thread", TWO, 2, page_size=2),
        Numa("shared", (NumaNode(3, 384, "", (1, 3, 5), 1),)),
        Numa("none", (NumaNode(3, 384, "", (5,), 1),)),
        Numa("none", (NumaNode(3, 384, "", tuple(range(16)), 0),), affinity=0),
        Numa("core", (NumaNode(1, 384, "", (2,), 0), NumaNode(2, 384, "", (3, 4), 0))),
        None,
    ],
)
def test_what_a_definition_has_is_read_back(numa: Numa | None) -> None:
    wanted = () if numa is None else tuple(dataclasses.replace(node, distances="") for node in numa.nodes)
    assert numa_nodes_of(defined(numa)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        (
            "<domain><numatune><memnode cellid='0' nodeset='x'/></numatune><cputune><vcpupin vcpu='0' cpuset='^3,a'/>"
            "</cputune><cpu><numa><cell id='0' cpus='0-99999999999' memory='x'/></numa></cpu></domain>"
        ),
        "<domain><cputune><vcpupin/></cputune><numatune><memnode/></numatune><cpu><numa><cell/></numa></cpu></domain>",
    ],
)
def test_a_definition_may_be_anything(text: str) -> None:
    (found,) = numa_nodes_of(ET.fromstring(text))
    assert (found.vcpus, found.memory, found.cpus) == (0, 0, ())


def test_memory_of_huge_pages_is_no_ordinary_memory() -> None:
    plain = Vm(0, "u", "web", "kvm", 1.0, 384)
    paged = dataclasses.replace(plain, numa=Numa("none", (NumaNode(1, 384),), page_size=2))
    assert (plain.ordinary_memory, paged.ordinary_memory, paged.most_memory) == (384, 0, 384)
