# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit compares, as it travels, and the sentence that a finding is."""

from __future__ import annotations

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.audit import (
    Bridge,
    Domain,
    Inventory,
    Ledger,
    LedgerVm,
    SwitchBridge,
    UplinkDevice,
    VmDirectory,
    VmFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, NumaNode, Topology, Vm

DOMAIN = Domain(
    name="one-0",
    catalog="c",
    vm_id=0,
    uuid="u",
    state="RUNNING",
    generation=3,
    directory="/srv/0",
    persistent=False,
    autostart=True,
    port=5900,
    topology=Topology(1, 4, 1),
    growth=Growth(1024, 8, 16),
    hotplug_slots=24,
    hardware_version=1,
    numa_nodes=(NumaNode(1, 512, "", (3,), 0),),
    host_devices=("0000:01:00.0",),
    macs=("02:00:0a:00:00:05",),
    disks=("/srv/0/disk.0",),
    turn="virsh autostart --disable one-0",
    undefine="virsh undefine one-0",
    forget="virsh undefine --nvram one-0",
    unmark="virsh metadata one-0 --remove",
)
FILE = VmFile("disk.0", "link", 5, "/srv/base", 64, "/srv/older", True)
DIRECTORY = VmDirectory("/srv/0", "0", "c", 0, "u", 3, (FILE, VmFile("deployment.0")), exact=True)
BRIDGE = Bridge(
    "onebr0", "c", "lan", "10.0.0.1/24", False, ("10.0.0.1/24", "10.0.0.2/24"), ("one-0-0",), {"a": "1"}, 9000
)
DEVICE = UplinkDevice("eth1.100", "c", "lan", "VLAN 100 on eth1", "onebr0", False)
SWITCH = SwitchBridge("ovsbr0", "c", ("lan",), "eth1", False, True, {"eth1": "all VLANs"}, False)
INVENTORY = Inventory(
    place="/srv",
    domains=(DOMAIN,),
    foreign=("other",),
    directories=(DIRECTORY,),
    bridges=(BRIDGE,),
    others=(BRIDGE,),
    devices=(DEVICE,),
    interfaces=("lo", "onebr0"),
    table="nebula",
    rules={"lan": 2},
    forwarding=True,
    filters={"one-3-0": "0123456789ab"},
    left=("/srv/x.tmp",),
    unseen=("the firewall: nft is not there",),
    switches=(SWITCH,),
)


@pytest.mark.parametrize(
    "value", [INVENTORY, DOMAIN, DIRECTORY, FILE, BRIDGE, DEVICE, SWITCH], ids=lambda value: type(value).__name__
)
def test_what_is_on_a_node_arrives_with_all_it_has(value: object) -> None:
    assert unset(value) == set()
    assert carried(value) == value


def test_a_directory_without_a_mark_is_of_no_machine_and_not_of_the_one_with_id_0() -> None:
    assert VmDirectory("/srv/x", "x").vm_id == -1
    assert carried(Inventory()) == Inventory()


def test_a_machine_is_found_in_the_ledger_by_its_id_also_by_0() -> None:
    machines = tuple(
        LedgerVm(Vm(number, "", f"web-{number}", "kvm", 1.0, 64), "node1", "RUNNING", "RUNNING", True, 1)
        for number in (4, 0, 2)
    )
    ledger = Ledger(vms=machines, ended=frozenset((1,)))
    assert ledger.vm(0) is machines[1] and ledger.vm(2) is machines[2]
    # One that is DONE is no machine of the ledger any more.
    assert ledger.vm(1) is None
    assert Ledger().vm(0) is None
