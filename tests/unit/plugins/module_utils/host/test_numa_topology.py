# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of memory and processors of a host, as its kernel tells them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import numa_topology
from ansible_collections.nebula.provision.plugins.module_utils.model.host import HostNode


def write(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{text}\n", encoding="ascii")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    for number, cpus in ((0, (0, 1, 4, 5)), (10, (2, 3, 6, 7))):
        place = f"node/node{number}"
        write(tmp_path, f"{place}/cpulist", f"{cpus[0]}-{cpus[1]},{cpus[2]}-{cpus[3]}")
        write(tmp_path, f"{place}/meminfo", f"Node {number} MemTotal:       4194304 kB\nNode {number} MemFree: 1 kB")
        write(tmp_path, f"{place}/distance", "10 21" if number == 0 else "21 10")
        write(tmp_path, f"{place}/hugepages/hugepages-2048kB/nr_hugepages", str(number * 10))
        write(tmp_path, f"{place}/hugepages/hugepages-1048576kB/nr_hugepages", "1")
        for cpu in cpus:
            first = cpu % 4
            write(tmp_path, f"cpu/cpu{cpu}/topology/thread_siblings_list", f"{first},{first + 4}")
    write(tmp_path, "node/online", "0,10")
    return tmp_path


def test_nodes_with_their_cores_and_pages(system: Path) -> None:
    assert numa_topology.nodes(range(8), str(system)) == (
        HostNode(0, 4096 - 1024, ((0, 4), (1, 5)), {"1024": 1}, (10, 21)),
        HostNode(10, 4096 - 1024 - 200, ((2, 6), (3, 7)), {"2": 100, "1024": 1}, (21, 10)),
    )


def test_an_only_node_has_the_memory_of_the_host(system: Path, tmp_path: Path) -> None:
    """In a virtual machine that gets its memory as it uses it, the node says less, and more from time to time."""
    shutil.rmtree(system / "node/node10")
    write(tmp_path, "meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB")
    (node,) = numa_topology.nodes(range(8), str(system), str(tmp_path / "meminfo"))
    assert node.memory == 8192 - 1024


def test_processors_that_this_process_may_not_use_are_none_of_it(system: Path) -> None:
    assert [node.cores for node in numa_topology.nodes([0, 4, 2], str(system))] == [((0, 4),), ((2,),)]


def test_a_kernel_without_nodes(tmp_path: Path) -> None:
    assert numa_topology.nodes([0], str(tmp_path)) == ()
    write(tmp_path, "node/node0/cpulist", "0")
    assert numa_topology.nodes([0], str(tmp_path), "") == (HostNode(0, 0, ((0,),)),)


@pytest.mark.parametrize(
    ("given", "usable"),
    [({}, range(4)), ({"cpuset.cpus.effective": "1-2"}, (1, 2)), ({"cpuset/cpuset.effective_cpus": "3,9"}, (3,))],
)
def test_processors_that_machines_can_have(tmp_path: Path, given: dict[str, str], usable: tuple[int, ...]) -> None:
    write(tmp_path, "cpu/online", "0-3")
    for name, text in given.items():
        write(tmp_path, f"groups/{name}", text)
    assert numa_topology.usable(str(tmp_path), str(tmp_path / "groups")) == frozenset(usable)


def test_this_host() -> None:
    assert os.sched_getaffinity(0) <= numa_topology.usable()
    found = numa_topology.nodes(numa_topology.usable())
    cpus = {cpu for node in found for core in node.cores for cpu in core}
    assert cpus == numa_topology.usable() or not found
    assert all(node.memory > 0 for node in found)
