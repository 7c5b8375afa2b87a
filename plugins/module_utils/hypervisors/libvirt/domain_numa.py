# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders which processors and memory of its host a machine has, with the meaning that TOPOLOGY and NUMA_NODE have in
OpenNebula's KVM deployment file; and reads it from a definition. Pure."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ...model.disk import SHARED_DIRECTORY
from ...model.instantiate.numa_nodes import NONE, SHARED, distances_of
from ...model.vm import NumaNode, Vm
from ...model.whole_numbers import whole

_KIB = 1024


def add_pins(tuned: ET.Element, vm: Vm) -> None:
    """Say on which processors of the host each virtual one runs, and QEMU's own threads."""
    if vm.numa is None:
        return
    number = 0
    for node in vm.numa.nodes:
        shared = vm.numa.policy in (NONE, SHARED)
        for index in range(node.vcpus):
            some = node.cpus if shared else node.cpus[index : index + 1]
            ET.SubElement(tuned, "vcpupin", {"vcpu": str(number), "cpuset": _joined(some)})
            number += 1
    cpus = sorted({cpu for node in vm.numa.nodes for cpu in node.cpus})
    ET.SubElement(tuned, "emulatorpin", {"cpuset": _joined(cpus)})


def add_memory_nodes(domain: ET.Element, vm: Vm) -> None:
    """Say of which nodes of the host its memory is."""
    if vm.numa is None:
        return
    tuned = ET.SubElement(domain, "numatune")
    numbers = sorted({node.memory_node for node in vm.numa.nodes})
    ET.SubElement(tuned, "memory", {"mode": "strict", "nodeset": _joined(numbers)})
    for cell, node in enumerate(vm.numa.nodes):
        values = {"cellid": str(cell), "mode": "strict", "nodeset": str(node.memory_node)}
        ET.SubElement(tuned, "memnode", values)


def add_memory_backing(domain: ET.Element, vm: Vm) -> None:
    """Say of which pages its memory is, and that whoever serves its directories reaches it."""
    shared = any(disk.type == SHARED_DIRECTORY for disk in vm.disks)
    page_size = vm.numa.page_size if vm.numa is not None else 0
    if not (shared or page_size):
        return
    backing = ET.SubElement(domain, "memoryBacking")
    if page_size:
        pages = ET.SubElement(backing, "hugepages")
        ET.SubElement(pages, "page", {"size": str(page_size * _KIB), "unit": "KiB"})
    else:
        ET.SubElement(backing, "source", {"type": "memfd"})
    if shared:
        ET.SubElement(backing, "access", {"mode": "shared"})


def add_cells(cpu: ET.Element, vm: Vm) -> None:
    """Say which nodes the guest sees."""
    if vm.numa is None:
        return
    cells = ET.SubElement(cpu, "numa")
    first = 0
    for number, node in enumerate(vm.numa.nodes):
        last = first + node.vcpus - 1
        values = {
            "id": str(number),
            "cpus": f"{first}-{last}" if last > first else str(first),
            "memory": str(node.memory * _KIB),
            "unit": "KiB",
        }
        if vm.numa.access:
            values["memAccess"] = vm.numa.access
        cell = ET.SubElement(cells, "cell", values)
        distances = distances_of(node, number, len(vm.numa.nodes))
        if distances:
            siblings = ET.SubElement(cell, "distances")
            for other, distance in enumerate(distances):
                ET.SubElement(siblings, "sibling", {"id": str(other), "value": str(distance)})
        first += node.vcpus


def numa_nodes_of(domain: ET.Element) -> tuple[NumaNode, ...]:
    """Return what a definition says of the nodes that a guest sees, without their distances; none where it binds them
    to none of the host's."""
    memory = {each.get("cellid"): each.get("nodeset", "") for each in domain.iterfind("numatune/memnode")}
    pins = {each.get("vcpu"): _numbers(each.get("cpuset", "")) for each in domain.iterfind("cputune/vcpupin")}
    found, vcpu = [], 0
    for cell in domain.iterfind("cpu/numa/cell") if memory and pins else ():
        count = len(_numbers(cell.get("cpus", "")))
        own = [pins.get(str(number), []) for number in range(vcpu, vcpu + count)]
        shared = bool(own) and all(each == own[0] for each in own)
        cpus = own[0] if shared else [each[0] for each in own if each]
        size = (whole(cell.get("memory", "")) or 0) // _KIB
        found.append(NumaNode(count, size, "", tuple(cpus), whole(memory.get(cell.get("id"), "")) or 0))
        vcpu += count
    return tuple(found)


def _joined(numbers: tuple[int, ...] | list[int]) -> str:
    return ",".join(map(str, numbers))


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _dash, last = part.partition("-")
        low, high = whole(first), whole(last or first)
        # No host has more: a definition may be anything.
        if low is not None and high is not None and high - low < 8192:
            found.extend(range(low, high + 1))
    return found
