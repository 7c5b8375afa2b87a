# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that a host has and the catalog does not know: all of it has to be there before it can be taken over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.unknown_vms import find, with_macs
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory, VmDirectory, VmFile
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import Demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.nic_vectors import NicDemand
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Comparison, Observed, ObservedVm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "11111111-8c55-4b0e-9d6a-2f1f3c7d9a10"
ASKED = "VM web: adopting machine 4"
SEEN = ObservedVm(4, UUID, "RUNNING", 3)
DOMAIN = Domain("one-4", CATALOG, 4, UUID.upper(), "RUNNING", 2, macs=("02:00:0A:42:00:0B",), port=5904)
FILES = (VmFile("disk.0"), VmFile("deployment.2"), VmFile("deployment.10"), VmFile("deployment.x"))
DIRECTORY = VmDirectory("/n/datastores/0/4", "4", CATALOG, 4, UUID, 5, FILES)


def node(host: str = "node1", domain: Any = DOMAIN, directory: Any = DIRECTORY, **values: Any) -> Observed:
    inventory = Inventory(
        domains=(replace(DOMAIN, vm_id=1), *([domain] if domain else [])),
        directories=(replace(DIRECTORY, vm_id=1), *([directory] if directory else [])),
    )
    return Observed(host, **{"catalog": CATALOG, "vms": (SEEN,), "inventory": inventory, **values})


def found(*nodes: Observed, vm_id: int = 4) -> Any:
    others = {each.host: each.vms for each in nodes}
    return find(ASKED, vm_id, others, {each.host: each for each in nodes}, CATALOG)


def test_what_is_taken_over() -> None:
    machine = found(node(compared=(Comparison(3, "x", 1), Comparison(4, UUID, 5))))
    assert (machine.host, machine.uuid, machine.state, machine.generation, machine.seq) == (
        "node1", UUID, "RUNNING", 5, 10,
    )  # fmt: skip
    assert (machine.macs, machine.port, machine.compared) == (("02:00:0a:42:00:0b",), 5904, Comparison(4, UUID, 5))
    assert found(node()).compared is None


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([], "unknown machines with it: none"),
        (
            [node(vms=(replace(SEEN, vm_id=7),))],
            "unknown machines with it: 7 on node1. Playbook nebula.provision.audit",
        ),
        (
            [node(vms=(), domain=replace(DOMAIN, catalog="other"))],
            "none; one-4 on node1 carries the mark of catalog other, and is that front-end's",
        ),
        ([node(), node("node2")], "hosts node1 and node2 have it"),
        ([node(inventory=None)], "host node1 has not told what it keeps of it"),
        ([node(domain=None)], "host node1 has no domain of it"),
        ([node(domain=replace(DOMAIN, catalog="other"))], "host node1 has no domain of it"),
        ([node(domain=replace(DOMAIN, persistent=False))], "its domain on host node1 is not defined"),
        ([node(directory=None)], "its directory on host node1 has no vm.json of it"),
        ([node(directory=replace(DIRECTORY, uuid="other"))], "its directory on host node1 has no vm.json of it"),
        ([node(directory=replace(DIRECTORY, files=FILES[:1]))], "has no deployment file"),
        ([node(vms=(replace(SEEN, state="UNKNOWN"),))], "it stands still on host node1, paused or crashed"),
    ],
)
def test_what_is_missing_is_said(nodes: list[Observed], says: str) -> None:
    with pytest.raises(NebulaError) as error:
        found(*nodes)
    assert str(error.value).startswith(ASKED) and says in str(error.value)


def test_its_nics_have_the_addresses_that_they_have() -> None:
    demands = Demands(1.0, None, 64, nics=(NicDemand("a"), NicDemand("b", mac="02:00:00:00:00:02")))
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert [nic.mac for nic in with_macs(ASKED, demands, macs).nics] == [*macs]
    with pytest.raises(Conflict, match=r"it has 1 NICs \(02:00:00:00:00:01\), and the list says 2"):
        with_macs(ASKED, demands, macs[:1])
    with pytest.raises(Conflict, match=r"it has a NIC 02:00:00:00:00:01, and the list says 02:00:00:00:00:02"):
        with_macs(ASKED, demands, macs[::-1])
