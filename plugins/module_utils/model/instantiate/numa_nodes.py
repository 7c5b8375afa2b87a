# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads PIN_POLICY, NODE_AFFINITY, HUGEPAGE_SIZE and MEMORY_ACCESS of TOPOLOGY, and NUMA_NODE: which processors and
memory of its host a machine is to have."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import InvalidValue
from ..device_matching import is_shared_directory
from ..object_names import known_are
from ..template import Template
from ..vm import Numa, NumaNode
from .capacity import memory_of, vcpu_of
from .template_values import read_whole

ATTRIBUTE = "NUMA_NODE"
# What a machine that is pinned to processors has: a whole core for each of its own, threads of cores, or all of its
# threads together. Nobody else has them.
NONE, CORE, THREAD, SHARED = POLICIES = ("none", "core", "thread", "shared")
ACCESSES = ("private", "shared")
# KiB of a page that libvirt and QEMU know, at most: those of 1 GiB.
_MOST_PAGE = 1024
_MOST_NODES = 128
_DISTANCES = re.compile(r"[0-9]{1,3}(-[0-9]{1,3})?:[0-9]{1,3}(,[0-9]{1,3}(-[0-9]{1,3})?:[0-9]{1,3})*")
# What ACPI has for a node's distance to itself, and for nodes that do not reach each other.
_NEAREST, _FARTHEST = 10, 255


def read_numa(template: Template, where: str) -> Numa | None:
    """Return what a machine of the template is to have of its host, without the host's numbers; None for anything.
    Raise InvalidValue for what no machine can have."""
    vector, place = template.vector("TOPOLOGY"), f"{where}: TOPOLOGY"
    policy = _word(vector, "PIN_POLICY", POLICIES, place) or NONE
    affinity, page = _affinity(vector, place), _page_size(vector, place)
    access = _word(vector, "MEMORY_ACCESS", ACCESSES, place)
    if policy != NONE and affinity >= 0:
        raise InvalidValue(
            f"{place}: NODE_AFFINITY = {affinity}, PIN_POLICY = {policy.upper()}",
            "a machine with processors of its own is placed by these",
            "Leave one of the two out",
        )
    if policy == NONE and affinity < 0 and not page:
        return None
    if page and access == "private" and any(map(is_shared_directory, template.vectors("DISK"))):
        raise InvalidValue(
            f"{place}/MEMORY_ACCESS = PRIVATE",
            "the machine has a directory of its host (TYPE = FILESYSTEM), which is served from shared memory",
            "Write shared, or leave it out",
        )
    _refuse_growth(template, where)
    vcpu, memory = vcpu_of(template, where) or 1, memory_of(template, where)
    if policy == NONE:
        nodes: tuple[NumaNode, ...] = (NumaNode(vcpu, memory),)
    else:
        nodes = _nodes(template, vcpu, memory, _number(vector, "SOCKETS", place), where)
    if page and any(node.memory % page for node in nodes):
        raise InvalidValue(
            f"{place}: HUGEPAGE_SIZE = {page}",
            f"memory of {', '.join(str(node.memory) for node in nodes)} MB is no whole number of these pages",
            f"Give memory in multiples of {page} MB",
        )
    sockets, threads = 1, 0
    if policy != NONE:
        sockets, threads = _shape(vector, vcpu, len(template.vectors("NUMA_NODE")), place)
    return Numa(policy, nodes, sockets, threads, affinity, page, access if page else "")


def check_numa(template: Template, where: str) -> None:
    """Raise InvalidValue for what no machine of the template can have, as far as the template says it."""
    if template.get("MEMORY").strip():
        read_numa(template, where)


def doubts_of_numa(template: Template) -> list[str]:
    """Return warnings for what a template says and what does nothing."""
    vector = template.vector("TOPOLOGY")
    found = []
    if template.vectors("NUMA_NODE") and vector.get("PIN_POLICY", "").strip().lower() in ("", NONE):
        found.append("NUMA_NODE does nothing without a PIN_POLICY in TOPOLOGY: CORE, THREAD or SHARED")
    if vector.get("MEMORY_ACCESS", "").strip() and not vector.get("HUGEPAGE_SIZE", "").strip():
        found.append("TOPOLOGY/MEMORY_ACCESS does nothing without a HUGEPAGE_SIZE")
    return found


def distances_of(node: NumaNode, number: int, count: int) -> list[int]:
    """Return the distances of a guest's node to each, as a real oned fills them in; none where it says nothing.
    number: the node's own; count: how many there are."""
    if not node.distances:
        return []
    found = [_NEAREST if other == number else 2 * _NEAREST for other in range(count)]
    for part in node.distances.split(","):
        numbers, _colon, distance = part.partition(":")
        first, _dash, last = numbers.partition("-")
        low, high = sorted((int(first), int(last or first)))
        for other in range(low, min(high, count - 1) + 1):
            # QEMU takes no other distance of a node to itself.
            found[other] = int(distance) if other != number else _NEAREST
    return found


def _nodes(template: Template, vcpu: int, memory: int, sockets: int, where: str) -> tuple[NumaNode, ...]:
    vectors = template.vectors("NUMA_NODE")
    if not vectors:
        count = sockets or 1
        if count > _MOST_NODES:
            raise InvalidValue(
                f"{where}: TOPOLOGY/SOCKETS = {count}", "no machine has so many nodes", f"Give {_MOST_NODES} at most"
            )
        for name, number in (("VCPU", vcpu), ("MEMORY", memory)):
            if number % count:
                raise InvalidValue(
                    f"{where}: {name} = {number}",
                    f"TOPOLOGY/SOCKETS is {count}, and each of its nodes has as much of it",
                    f"Give a multiple of {count}, or say what each has: NUMA_NODE = [ TOTAL_CPUS = …, MEMORY = … ]",
                )
        return (NumaNode(vcpu // count, memory // count),) * count
    if len(vectors) > _MOST_NODES:
        raise InvalidValue(f"{where}: NUMA_NODE", f"it is there {len(vectors)} times", f"Give {_MOST_NODES} at most")
    nodes = tuple(_node(vector, f"{where}: NUMA_NODE {index}") for index, vector in enumerate(vectors))
    for name, key, total, number in (
        ("VCPU", "TOTAL_CPUS", sum(node.vcpus for node in nodes), vcpu),
        ("MEMORY", "MEMORY", sum(node.memory for node in nodes), memory),
    ):
        if total != number:
            raise InvalidValue(
                f"{where}: {name} = {number}",
                f"{key} of all NUMA_NODE come to {total}",
                f"Make them come to {number}",
            )
    return nodes


def _node(vector: Mapping[str, str], where: str) -> NumaNode:
    vcpus, memory = (
        read_whole(vector.get(key, ""), f"{where}/{key}", "Give a whole number, at least 1", lowest=1)
        for key in ("TOTAL_CPUS", "MEMORY")
    )
    text = "".join(vector.get("DISTANCE", "").split())
    if text and not (
        _DISTANCES.fullmatch(text)
        and all(_NEAREST <= int(each) <= _FARTHEST for each in re.findall(r":([0-9]+)", text))
    ):
        raise InvalidValue(
            f"{where}/DISTANCE = {text!r}",
            "it is no list of nodes with their distances",
            f"Write it as in 1:20,2-3:30; distances are {_NEAREST} to {_FARTHEST}",
        )
    return NumaNode(vcpus, memory, text)


def _shape(vector: Mapping[str, str], vcpu: int, nodes: int, where: str) -> tuple[int, int]:
    """Return the sockets of a pinned machine, and the threads of each of its cores, 0 for those of the host."""
    given = {key: _number(vector, key, where) for key in ("SOCKETS", "CORES", "THREADS")}
    sockets, cores, threads = given["SOCKETS"] or max(nodes, 1), given["CORES"], given["THREADS"]
    if not threads and cores and vcpu % (sockets * cores) == 0:
        threads = vcpu // (sockets * cores)
    if vcpu % (sockets * max(cores, 1) * max(threads, 1)) or (cores and threads and sockets * cores * threads != vcpu):
        raise InvalidValue(
            f"{where} = [ {', '.join(f'{key} = {value}' for key, value in given.items() if value)} ]",
            f"VCPU is {vcpu}, and they are {sockets} sockets",
            "Make SOCKETS * CORES * THREADS equal to VCPU, or leave CORES and THREADS out",
        )
    if threads & (threads - 1):
        raise InvalidValue(f"{where}: THREADS = {threads}", "no core has so many", "Give 1, 2, 4 or 8")
    return sockets, threads


def _refuse_growth(template: Template, where: str) -> None:
    for name in ("VCPU_MAX", "MEMORY_MAX"):
        text = template.get(name).strip()
        if text:
            raise InvalidValue(
                f"{where}: {name} = {text}",
                "TOPOLOGY gives the machine processors or memory of one place, where it does not grow while it runs",
                f"Leave {name} out, or leave PIN_POLICY, NODE_AFFINITY and HUGEPAGE_SIZE out of TOPOLOGY",
            )


def _affinity(vector: Mapping[str, str], where: str) -> int:
    text = vector.get("NODE_AFFINITY", "").strip()
    if text == "-1":
        # A real oned takes it for none.
        return -1
    return read_whole(text, f"{where}/NODE_AFFINITY", "Give the number of a node of the host") if text else -1


def _page_size(vector: Mapping[str, str], where: str) -> int:
    text = vector.get("HUGEPAGE_SIZE", "").strip()
    remedy = "Give MB, such as 2 or 1024: pages of that size are to be set aside on the host"
    size = read_whole(text, f"{where}/HUGEPAGE_SIZE", remedy) if text else 0
    if size & (size - 1) or size > _MOST_PAGE:
        raise InvalidValue(f"{where}/HUGEPAGE_SIZE = {text}", "no processor has such pages", remedy)
    return size


def _number(vector: Mapping[str, str], key: str, where: str) -> int:
    text = vector.get(key, "").strip()
    return read_whole(text, f"{where}/{key}", "Give a whole number, at least 1", lowest=1) if text else 0


def _word(vector: Mapping[str, str], key: str, known: tuple[str, ...], where: str) -> str:
    text = vector.get(key, "").strip()
    found = text.lower()
    if found and found not in known:
        raise InvalidValue(
            f"{where}/{key} = {text}", "no such word", known_are(text.upper(), [word.upper() for word in known], "{}")
        )
    return found
