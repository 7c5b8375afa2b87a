# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template says of processors, memory and huge pages of its own."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.numa_nodes import (
    distances_of,
    read_numa,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Numa, NumaNode
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

TWO = 'NUMA_NODE = [ TOTAL_CPUS = 3, MEMORY = 768 ] NUMA_NODE = [ TOTAL_CPUS = 1, MEMORY = 256, DISTANCE = "0:30" ]'


def template(said: str, more: str = "") -> Template:
    return parse(f'MEMORY = 1024 VCPU = 4 DISK = [ IMAGE = "demo" ] TOPOLOGY = [ {said} ] {more}')


@pytest.mark.parametrize(
    ("said", "more", "wanted"),
    [
        ('PIN_POLICY = "NONE"', "", None),
        ("SOCKETS = 2", "", None),
        ('MEMORY_ACCESS = "shared"', "", None),
        ('PIN_POLICY = "core"', "", Numa("core", (NumaNode(4, 1024),))),
        ('PIN_POLICY = "THREAD", SOCKETS = 2', "", Numa("thread", (NumaNode(2, 512),) * 2, 2)),
        ('PIN_POLICY = "SHARED", CORES = 2', "", Numa("shared", (NumaNode(4, 1024),), 1, 2)),
        ('PIN_POLICY = "THREAD", SOCKETS = 1, CORES = 1, THREADS = 4', "", Numa("thread", (NumaNode(4, 1024),), 1, 4)),
        ("NODE_AFFINITY = -1", "", None),
        ("NODE_AFFINITY = 0", "", Numa("none", (NumaNode(4, 1024),), affinity=0)),
        (
            'HUGEPAGE_SIZE = 2, MEMORY_ACCESS = "SHARED"',
            "",
            Numa("none", (NumaNode(4, 1024),), page_size=2, access="shared"),
        ),
        ('PIN_POLICY = "CORE"', TWO, Numa("core", (NumaNode(3, 768), NumaNode(1, 256, "0:30")), 2)),
        # What a real oned leaves out of machines that are not pinned.
        ('PIN_POLICY = "NONE"', TWO, None),
        ("NODE_AFFINITY = 1", TWO, Numa("none", (NumaNode(4, 1024),), affinity=1)),
    ],
)
def test_what_is_asked_for(said: str, more: str, wanted: Numa | None) -> None:
    assert read_numa(template(said, more), "VM web") == wanted


@pytest.mark.parametrize(
    ("said", "more", "found"),
    [
        ('PIN_POLICY = "CORES"', "", "PIN_POLICY = CORES: no such word. Did you mean CORE?"),
        ('PIN_POLICY = "CORE", NODE_AFFINITY = 0', "", "Leave one of the two out"),
        ("NODE_AFFINITY = any", "", "NODE_AFFINITY = 'any': it is not a whole number"),
        ("HUGEPAGE_SIZE = 3", "", "HUGEPAGE_SIZE = 3: no processor has such pages"),
        ("HUGEPAGE_SIZE = 2048", "", "no processor has such pages. Give MB, such as 2 or 1024"),
        ('HUGEPAGE_SIZE = 2, MEMORY_ACCESS = "all"', "", "MEMORY_ACCESS = all: no such word"),
        ('PIN_POLICY = "CORE", SOCKETS = 3', "", "VCPU = 4: TOPOLOGY/SOCKETS is 3"),
        ('PIN_POLICY = "CORE", SOCKETS = 1, CORES = 3', "", "TOPOLOGY = [ SOCKETS = 1, CORES = 3 ]: VCPU is 4"),
        ('PIN_POLICY = "CORE", CORES = 2, THREADS = 1', "", "Make SOCKETS * CORES * THREADS equal to VCPU"),
        ('PIN_POLICY = "CORE"', "VCPU_MAX = 8", "VCPU_MAX = 8: TOPOLOGY gives the machine processors or memory of one"),
        ("HUGEPAGE_SIZE = 2", "MEMORY_MAX = 2048", "Leave MEMORY_MAX out, or leave PIN_POLICY"),
        ('PIN_POLICY = "CORE"', TWO.replace("768", "512"), "MEMORY = 1024: MEMORY of all NUMA_NODE come to 768"),
        ('PIN_POLICY = "CORE"', TWO.replace("= 3", "= 2"), "VCPU = 4: TOTAL_CPUS of all NUMA_NODE come to 3"),
        ('PIN_POLICY = "CORE"', TWO.replace("= 1,", "= 0,"), "NUMA_NODE 1/TOTAL_CPUS = '0': it is not a whole number"),
        ('PIN_POLICY = "CORE"', TWO.replace(", MEMORY = 256", ""), "NUMA_NODE 1/MEMORY = '': it is not a whole number"),
        ('PIN_POLICY = "CORE"', TWO.replace("0:30", "0=30"), "DISTANCE = '0=30': it is no list of nodes"),
        ('PIN_POLICY = "CORE"', TWO.replace("0:30", "0:300"), "distances are 10 to 255"),
        ('PIN_POLICY = "CORE", SOCKETS = 999999999999', "", "TOPOLOGY/SOCKETS = 999999999999: no machine has so many"),
        ("HUGEPAGE_SIZE = 2", "MEMORY_MAX = 1024", "Leave MEMORY_MAX out"),
        (
            'HUGEPAGE_SIZE = 2, MEMORY_ACCESS = "private"',
            'DISK = [ TYPE = "FILESYSTEM", SOURCE = "/srv" ]',
            "which is served from shared memory",
        ),
        ('PIN_POLICY = "CORE", HUGEPAGE_SIZE = 1024', TWO, "memory of 768, 256 MB is no whole number of these pages"),
    ],
)
def test_what_no_machine_can_have(said: str, more: str, found: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_numa(template(said, more), "VM web")
    assert found in str(caught.value) and str(caught.value).startswith("VM web: ")
    # A template that is there already is warned of.
    assert any(found in text for text in validate(template(said, more), hypervisors=["kvm"]))


def test_what_does_nothing() -> None:
    assert any("NUMA_NODE does nothing without a PIN_POLICY" in text for text in validate(template("SOCKETS = 1", TWO)))
    warned = validate(template('MEMORY_ACCESS = "shared"'))
    assert any("TOPOLOGY/MEMORY_ACCESS does nothing without a HUGEPAGE_SIZE" in text for text in warned)


def test_distances() -> None:
    assert distances_of(NumaNode(1, 1), 0, 2) == []
    assert distances_of(NumaNode(1, 1, "1:30,2-9:40"), 0, 4) == [10, 30, 40, 40]
    assert distances_of(NumaNode(1, 1, "3-2:90,7:11"), 1, 4) == [20, 10, 90, 90]
    assert distances_of(NumaNode(1, 1, "0-1:30"), 0, 2) == [10, 30]
