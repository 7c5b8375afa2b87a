# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each machine of a list, as results show it."""

from __future__ import annotations

import dataclasses

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import Change
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import PartChange
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import decided_list
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_outcome import Difference, Outcome
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ROOT = "/var/lib/nebula"

NIC = {"nic_id": 0, "network": "Public", "ip": "10.66.0.10", "ip6": "", "mac": "02:00:0a:42:00:0a"}

RECORD = VmRecord(
    id=0,
    name="web",
    uuid="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10",
    state="RUNNING",
    wanted="RUNNING",
    host="node1",
    hypervisor="kvm",
    generation=1,
    cpu=0.5,
    vcpu=None,
    memory=128,
    addresses=("10.66.0.10",),
    nics=(NIC,),
    disks=({"disk_id": 0, "image": "demo", "target": "vda", "size": 16},),
    graphics={"type": "vnc", "listen": "127.0.0.1", "port": 5900},
    request=parse('CONTEXT = [ PASSWORD = "s3cr3t" ]'),
)

# -- what was given up -------------------------------------------------------------------------------------------------
LEFT, ENDED = "it is left as it is.", "it is powered off, and its disks stay."

REMEDY = "nebula_end_given_up: true (end_given_up of nebula_vm) powers it off and leaves its disks"


def record(**changes):
    return dataclasses.replace(RECORD, **changes)


# -- what a run did ---------------------------------------------------------------------------------------------------
def test_a_machine_that_came_stayed_went_or_failed():
    error = Conflict("VM d", "it is there", "Rename it")
    nothing = VmRecord(**{field.name: getattr(RECORD, field.name) for field in dataclasses.fields(VmRecord)})
    items = decided_list.vm_items(
        [
            Outcome("a", None, record(name="a")),
            Outcome("b", RECORD, nothing),
            Outcome("c", RECORD, None),
            Outcome("d", RECORD, RECORD, error),
        ]
    )
    assert [item.name for item in items] == ["a", "b", "c", "d"]
    assert [item.is_changed for item in items] == [True, False, True, False]
    assert (items[0].before, items[2].after) == (None, None)
    assert items[0].after == {
        "state": "RUNNING",
        "wanted": "RUNNING",
        "host": "node1",
        "cpu": 0.5,
        "vcpu": None,
        "memory": 128,
        "template": "",
        "error": "",
        "nics": [{"network": "Public", "ip": "10.66.0.10", "mac": "02:00:0a:42:00:0a"}],
        "disks": [{"disk_id": 0, "image": "demo", "target": "vda", "size": 16}],
    }
    assert items[3].error is error


def test_what_becomes_different_is_told_and_two_secrets_are_told_apart():
    changes = [Change("CPU", "0.5", "1", "live"), Change("CONTEXT", "[ A = (secret) ]", "[ A = (secret) ]", "live")]
    (item,) = decided_list.vm_items([Outcome("web", RECORD, record(cpu=1.0, generation=2), changes=changes)])
    assert item.before["changed"] == {"CPU": "0.5", "CONTEXT": "[ A = (secret) ]"}
    assert item.after["changed"] == {"CPU": "1", "CONTEXT": "[ A = (secret) ], another"}


def test_a_reboot_is_seen_by_its_generation():
    (item,) = decided_list.vm_items([Outcome("web", RECORD, record(generation=2))])
    assert item.is_changed
    assert (item.before["generation"], item.after["generation"]) == (1, 2)
    (item,) = decided_list.vm_items([Outcome("web", RECORD, record(generation=2, state="POWEROFF"))])
    assert "generation" not in item.after


def test_machines_that_moved_by_themselves_are_told_once():
    decided = [Outcome("web", RECORD, record(memory=256))]
    items = decided_list.vm_items(decided, [record(name="web"), record(name="db", state="POWEROFF")])
    assert [item.name for item in items] == ["web", "db"]
    assert items[1].before == {"state": ""}
    assert items[1].after["state"] == "POWEROFF"
    assert items[1].is_changed


def test_a_difference_is_shown_with_what_to_do():
    difference = Difference("web", 0, "node1", "MEMORY", "128", "256", "differs in MEMORY: …", "power it off first")
    assert decided_list.difference_view(difference) == {
        "name": "web", "id": 0, "host": "node1", "attribute": "MEMORY", "found": "128", "wanted": "256",
        "remedy": "power it off first",
        "sentence": "VM web (id 0) differs in MEMORY: …; left as it is: power it off first",
    }  # fmt: skip


def test_what_is_left_is_told_with_what_it_waits_for():
    left = Difference("web", 0, "node1", "NIC", "two", "one", "differs", "set detach: true", "detach: true")
    parts = [PartChange("MEMORY", "128", "256", "at its next start")]
    (item,) = decided_list.vm_items([Outcome("web", RECORD, record(generation=2), parts=parts, differences=[left])])
    assert item.before["changed"] == {"MEMORY": "128", "NIC": "two"}
    assert item.after["changed"] == {"MEMORY": "256, at its next start", "NIC": "one, not until detach: true"}
    # Of one device some may come at once and some later, and two that come are called the same.
    parts = [
        PartChange("DISK 0", "[ SIZE = 8 ]", "[ SIZE = 9 ]", "at once"),
        PartChange("DISK 0", "[ CACHE = none ]", "[ CACHE = unsafe ]", "at its next start"),
        *[PartChange("NIC of network a", "nothing", "network a", "at once")] * 2,
    ]
    (item,) = decided_list.vm_items([Outcome("web", RECORD, record(generation=2), parts=parts)])
    assert item.before["changed"]["DISK 0"] == "[ SIZE = 8 ]; [ CACHE = none ]"
    assert item.after["changed"] == {
        "DISK 0": "[ SIZE = 9 ], at once; [ CACHE = unsafe ], at its next start",
        "NIC of network a": "network a, at once; network a, at once",
    }
    # By itself it is no change.
    (item,) = decided_list.vm_items([Outcome("web", RECORD, RECORD, differences=[left])])
    assert item.after["changed"] == {"NIC": "one, not until detach: true"} and not item.is_changed
