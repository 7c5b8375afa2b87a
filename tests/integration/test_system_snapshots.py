# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of whole machines of KVM: a guest that counts in its memory shows what it went back to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import system_snapshot_tasks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import (
    SystemSnapshot,
    definition_of,
    held_disks,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os, Tpm, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import (
    Node,
    a_node,
    start_libvirtd,
    stop_libvirtd,
    wait_for,
)
from ansible_collections.nebula.provision.tests.integration.test_disk_tasks import a_catalog

MIB = 1024 * 1024
# A boot sector that sends a B, and then counts in a register: each number goes to the serial port as four letters.
COUNTS = (
    bytes.fromhex("31c08ed8baf803b042ee31dbb9040089dec1c60489f0240f0461eee2f4b00aee43b90200fbf4e2fcebe2").ljust(
        510, b"\0"
    )
    + b"\x55\xaa"
)


@contextmanager
def a_counting_node(audited: bool = True) -> Iterator[Node]:
    with a_node(audited) as node:
        yield with_counting_guest(node)


def with_counting_guest(node: Node) -> Node:
    raw, image = Path(node.root, "counts.raw"), f"{node.root}/counts.qcow2"
    raw.write_bytes(COUNTS.ljust(MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), image], check=True)
    node.take(image)
    return node


def machine(node: Node, **changes: Any) -> Vm:
    vm = node.vm(1)
    data = Disk(disk_id=2, target="vdb", type="FS", format="qcow2", driver="qcow2", size=8)
    return replace(vm, disks=(replace(vm.disks[0], size=8), data), **changes)


def count(node: Node, vm: Vm) -> int:
    """The last number that the guest has sent."""
    found = re.findall(r"(?:^|\n|B)([a-p]{4})\n", node.console(vm))
    return int("".join(f"{ord(letter) - 97:x}" for letter in found[-1]), 16) if found else -1


def counted(node: Node, vm: Vm, least: int) -> int:
    return int(wait_for(lambda: (now := count(node, vm)) >= least and now, f"number {least} of the guest"))


def tags(node: Node, vm: Vm) -> list[list[str]]:
    found = []
    for disk in vm.disks:
        path = str(node.directory(vm) / f"disk.{disk.disk_id}")
        done = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True)
        found.append([each["name"] for each in json.loads(done.stdout).get("snapshots", ())])
    return found


def known(node: Node, vm: Vm) -> list[str]:
    return [each.getName() for each in node.domain(vm).listAllSnapshots(0)]


def task(kind: str, token: str, number: int = 0, memory: bool = True) -> DiskTask:
    return DiskTask(kind, token, 0, snapshot_id=number, name=f"s{number}", mark="ab", memory=memory)


def recorded(vm: Vm, *numbers: int, memory: bool = True) -> Vm:
    """As the catalog has it once these are made."""
    disks = tuple(disk.disk_id for disk in held_disks(vm))
    snapshots = tuple(SystemSnapshot(n, f"s{n}", memory, 0, "ab", disks, definition_of(vm)) for n in numbers)
    return replace(vm, system_snapshots=snapshots)


def done(outcome: VmOutcome, state: str = "RUNNING") -> None:
    assert outcome.error is None, outcome.error
    assert (outcome.state, [each.error for each in outcome.tasks]) == (state, [None] * len(outcome.tasks))


def write(node: Node, vm: Vm, at: int, value: int) -> None:
    path = str(node.directory(vm) / "disk.2")
    words = ["qemu-io", "-f", "qcow2", "-c", f"write -P {value} {at} 64k", path]
    subprocess.run(words, check=True, capture_output=True)


def holds(node: Node, vm: Vm, at: int, value: int) -> bool:
    path = str(node.directory(vm) / "disk.2")
    words = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read -P {value} {at} 64k", path]
    done = subprocess.run(words, check=False, capture_output=True)
    return done.returncode == 0 and b"failed" not in done.stdout


@in_world
def test_a_running_machine_goes_back_with_its_memory() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        then = counted(node, vm, 3)
        plan = node.plan(vm, tasks=(task(SYSTEM_CREATE, "1"),))
        made = node.apply(plan)[0]
        done(made)
        assert made.changed
        assert tags(node, vm) == [["nebula-system-0-ab"], ["nebula-system-0-ab"]]
        vm = recorded(vm, 0)
        # What was done is told again, and not done again.
        again = node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),))
        assert (again.changed, again.tasks) == (False, made.tasks)
        later = counted(node, vm, then + 30)
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),)))
        back = wait_for(lambda: (now := count(node, vm)) < later and now, "the guest's going back")
        assert then <= back < later
        assert node.boots(vm) == 1
        counted(node, vm, back + 3)
        # The next plan finds it as it is to be, also under the newest number.
        quiet = node.one(vm)
        assert (quiet.state, quiet.changed, quiet.error) == ("RUNNING", False, None)
        assert node.states() == {1: "RUNNING"}
        # From a machine that is off, too: it does not boot.
        later = counted(node, vm, then + 20)
        done(node.one(vm, "POWEROFF", hard=True), "POWEROFF")
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "3"),)))
        assert then <= wait_for(lambda: (now := count(node, vm)) < later and now, "the guest's going back") < later
        assert node.boots(vm) == 1
        assert node.one(vm).changed is False
        done(node.one(vm, tasks=(task(SYSTEM_DELETE, "4"),)))
        assert (tags(node, vm), known(node, vm)) == ([[], []], [])
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_machine_that_is_off_has_all_its_disks_at_one_moment() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm, "POWEROFF"), "POWEROFF")
        write(node, vm, 0x10000, 0x11)
        done(node.one(vm, "POWEROFF", tasks=(task(SYSTEM_CREATE, "1", memory=False),)), "POWEROFF")
        assert (tags(node, vm), known(node, vm)) == ([["nebula-system-0-ab"], ["nebula-system-0-ab"]], [])
        vm = recorded(vm, 0, memory=False)
        write(node, vm, 0x10000, 0x22)
        done(node.one(vm))
        node.wait_for_boots(vm, 1)
        refused = node.one(vm, tasks=(task(SYSTEM_REVERT, "2", memory=False),))
        assert "was off when it was made" in refused.error["found"]
        done(node.one(vm, "POWEROFF", hard=True), "POWEROFF")
        # Before it starts; from its disks.
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "3", memory=False),)))
        assert holds(node, vm, 0x10000, 0x11)
        node.wait_for_boots(vm, 2)
        done(node.one(vm, tasks=(task(SYSTEM_DELETE, "4", memory=False),)))
        assert tags(node, vm) == [[], []]
        node.one(vm, "DONE", hard=True)


@in_world
def test_snapshots_of_disks_and_of_the_machine_leave_each_other_alone() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        of_disk = DiskTask(CREATE, "1", 0, snapshot_id=0, name="s0", mark="ab")
        done(node.one(vm, tasks=(of_disk,)))
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "2"), task(SYSTEM_CREATE, "3", 1))))
        vm = recorded(vm, 0, 1)
        both = ["nebula-system-0-ab", "nebula-system-1-ab"]
        assert tags(node, vm) == [["nebula-0-ab", *both], both]
        done(node.one(vm, tasks=(replace(of_disk, kind=DELETE, token="4"),)))
        assert tags(node, vm) == [both, both]
        # The older one goes, and the one that was made after it stays.
        done(node.one(vm, tasks=(task(SYSTEM_DELETE, "5", 0),)))
        assert (tags(node, vm), known(node, vm)) == ([[both[1]], [both[1]]], [both[1]])
        vm = recorded(vm, 1)
        later = counted(node, vm, 5)
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "6", 1),)))
        # A disk that goes back alone, while the machine is off, takes the others with it nowhere.
        done(node.one(vm, tasks=(replace(of_disk, token="7", snapshot_id=3),)))
        back = replace(of_disk, kind=REVERT, token="8", snapshot_id=3)
        done(node.one(vm, "POWEROFF", hard=True, tasks=(back,)), "POWEROFF")
        assert tags(node, vm) == [[both[1], "nebula-3-ab"], [both[1]]]
        # Deleted while it is off.
        done(node.one(vm, "POWEROFF", tasks=(task(SYSTEM_DELETE, "9", 1),)), "POWEROFF")
        assert (tags(node, vm), known(node, vm)) == ([["nebula-3-ab"], []], [])
        assert later
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_machine_with_snapshots_is_changed_and_removed() -> None:
    with a_counting_node() as node:
        vm = machine(node, graphics=Graphics(port=5905, password="former"))
        done(node.one(vm))
        counted(node, vm, 1)
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),)))
        vm = recorded(vm, 0)
        # What is set at once is what is to be so after going back, too.
        vm = replace(vm, graphics=Graphics(port=5905, password="another"))
        done(node.one(vm))
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),)))
        text = node.domain(vm).XMLDesc(1)
        assert ET.fromstring(text).find("./devices/graphics").get("passwd") == "another"
        text = node.domain(vm).XMLDesc(3)
        assert ET.fromstring(text).find("./devices/graphics").get("passwd") == "another"
        # Other memory: refused, also in check mode, and the machine runs on.
        more = replace(vm, memory=40)
        done(node.one(more))
        plan = node.plan(more, tasks=(task(SYSTEM_REVERT, "3"),))
        forecast = predict(plan, poll(node.driver, node.root, "node", node.catalog), node.driver, node.root)
        refused = node.carry_out(plan)[0]
        assert forecast[0].error == refused.error
        assert "MEMORY was 32 MiB, and is 40 MiB" in refused.error["found"]
        assert node.boots(vm) == 1 and node.states() == {1: "RUNNING"}
        done(node.one(vm))
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "4"),)))
        # Suspended and resumed, reset and rebooted, with one.
        done(node.one(vm, "SUSPENDED"), "SUSPENDED")
        refused = node.one(vm, "SUSPENDED", tasks=(task(SYSTEM_DELETE, "5"),))
        assert "SUSPENDED" in refused.error["found"]
        done(node.one(vm))
        done(node.one(vm, operation="reset"))
        # Made anew, it has none; and it ends with one.
        anew = replace(vm, system_snapshots=())
        done(node.one(anew, operation="recreate", hard=True))
        assert (tags(node, anew), known(node, anew)) == ([[], []], [])
        done(node.one(anew, tasks=(task(SYSTEM_CREATE, "6", 1),)))
        assert node.one(recorded(anew, 1), "DONE", hard=True).state == "DONE"
        assert node.states() == {}
        assert not list(Path("/var/lib/libvirt/qemu/snapshot").glob("one-1/*"))


@in_world
def test_what_happens_beside_them() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        counted(node, vm, 2)
        # Two runs at once do it once.
        plan = node.plan(vm, tasks=(task(SYSTEM_CREATE, "1"),))
        with ThreadPoolExecutor(2) as pool:
            both = [each.result()[0] for each in [pool.submit(node.carry_out, plan) for _ in range(2)]]
        for each in both:
            done(each)
        assert sorted(each.changed for each in both) == [False, True]
        vm = recorded(vm, 0)
        # Saved as an image, which has none of them.
        target = f"{node.root}/datastores/1/saved"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        for token in ("2", "3"):
            saving = DiskTask(SAVE_AS, token, 2, CRASH, 1, "saved", target, "qcow2")
            state = "RUNNING" if token == "2" else "POWEROFF"
            done(node.one(vm, state, hard=True, tasks=(saving,)), state)
            info = subprocess.run(["qemu-img", "info", "--output=json", target], check=True, capture_output=True)
            assert "snapshots" not in json.loads(info.stdout)
        # libvirtd is started anew, under another name of the machine.
        vm = replace(vm, name="other")
        done(node.one(vm))
        stop_libvirtd()
        start_libvirtd(node)
        later = counted(node, vm, 3)
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "4"),)))
        assert later > 0 and node.one(vm).changed is False
        # Its QEMU is killed while it writes its memory: nothing of that stays.
        for number, after in enumerate((0.001, 0.005, 0.01, 0.02), 1):
            one = task(SYSTEM_CREATE, f"k{number}", number)
            pid = node.qemu(vm)
            plan = node.plan(vm, tasks=(one,))
            carry_out = system_snapshot_tasks.carry_out

            def killing(*given: Any, pid: int = pid, after: float = after, act: Any = carry_out) -> Any:
                Timer(after, os.kill, (pid, signal.SIGKILL)).start()
                return act(*given)

            system_snapshot_tasks.carry_out = killing  # type: ignore[assignment]
            try:
                came = node.carry_out(plan)[0]
            finally:
                system_snapshot_tasks.carry_out = carry_out
            wait_for(lambda: node.states() == {1: "POWEROFF"}, "the end of QEMU")
            if came.error is not None:
                assert tags(node, vm) == [["nebula-system-0-ab"]] * 2
                assert known(node, vm) == ["nebula-system-0-ab"]
            else:
                done(node.one(vm, "POWEROFF", tasks=(task(SYSTEM_DELETE, f"d{number}", number),)), "POWEROFF")
            done(node.one(vm))
            counted(node, vm, 1)
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "5"),)))
        node.one(vm, "DONE", hard=True)


CHECKPOINT = (
    "<domaincheckpoint><name>{}</name><disks><disk name='vda' checkpoint='bitmap'/>"
    "<disk name='vdb' checkpoint='bitmap'/></disks></domaincheckpoint>"
)


def bitmaps(node: Node, vm: Vm, disk_id: int) -> list[str]:
    path = str(node.directory(vm) / f"disk.{disk_id}")
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True)
    return [each["name"] for each in json.loads(done.stdout)["format-specific"]["data"].get("bitmaps", ())]


@in_world
def test_checkpoints_of_backups_are_dropped_before() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),)))
        vm = recorded(vm, 0)
        domain = node.domain(vm)
        for name in ("nebula-0123abcd-1", "nebula-0123abcd-2"):
            domain.checkpointCreateXML(CHECKPOINT.format(name), 0)
        # While it runs.
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),)))
        assert domain.listAllCheckpoints(0) == []
        # While it is off, and after its QEMU was killed.
        for end, kill in (("3", False), ("4", True)):
            domain.checkpointCreateXML(CHECKPOINT.format("nebula-0123abcd-3"), 0)
            if kill:
                os.kill(node.qemu(vm), signal.SIGKILL)
                wait_for(lambda: node.states() == {1: "POWEROFF"}, "the end of QEMU")
            done(node.one(vm, "POWEROFF", hard=True), "POWEROFF")
            done(node.one(vm, tasks=(task(SYSTEM_REVERT, end),)))
            assert domain.listAllCheckpoints(0) == []
            assert bitmaps(node, vm, 0) == bitmaps(node, vm, 2) == []
        # One disk alone, of a machine that is off.
        done(node.one(vm, tasks=(DiskTask(CREATE, "5", 2, snapshot_id=0, name="s", mark="cd"),)))
        domain.checkpointCreateXML(CHECKPOINT.format("nebula-0123abcd-4"), 0)
        of_disk = DiskTask(REVERT, "6", 2, snapshot_id=0, name="s", mark="cd")
        done(node.one(vm, "POWEROFF", hard=True, tasks=(of_disk,)), "POWEROFF")
        assert (domain.listAllCheckpoints(0), bitmaps(node, vm, 2)) == ([], [])
        # The other disk's bitmap is in nobody's way, and goes when that goes back.
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "7"),)))
        # Somebody else's: the machine runs on as it did, and check mode says so, too.
        domain.checkpointCreateXML(CHECKPOINT.format("theirs"), 0)
        plan = node.plan(vm, tasks=(task(SYSTEM_REVERT, "8"),))
        forecast = predict(plan, poll(node.driver, node.root, "node", node.catalog), node.driver, node.root)
        pid = node.qemu(vm)
        refused = node.carry_out(plan)[0]
        assert forecast[0].error == refused.error
        assert "theirs" in refused.error["found"] and refused.error["kind"] == "Conflict"
        assert (node.qemu(vm), [each.getName() for each in domain.listAllCheckpoints(0)]) == (pid, ["theirs"])
        for each in domain.listAllCheckpoints(0):
            each.delete(0)
        # A machine with both ends.
        domain.checkpointCreateXML(CHECKPOINT.format("nebula-0123abcd-5"), 0)
        assert node.one(vm, "DONE", hard=True).error is None


@in_world
def test_a_list_makes_goes_back_to_and_deletes_them() -> None:
    with a_node(audited=False) as node, a_catalog(node) as bring:
        own = {"TYPE": "fs", "FORMAT": "qcow2", "SIZE": 4, "DEV_PREFIX": "vd"}
        item: dict[str, Any] = {"name": "web", "template": "web", "hard": True}
        item = dict(item, disks=[{"IMAGE": "base", "DEV_PREFIX": "vd"}, own])
        bring(item)
        domain = node.driver._connection().lookupByName("one-0")
        made = bring(dict(item, system_snapshots=[{"name": "before"}]))
        assert made.state == "RUNNING"
        assert [(each["name"], each["memory"], each["disks"]) for each in made.system_snapshots] == [
            ("before", True, [0, 1])
        ]
        assert made.system_snapshots[0]["date"] > 0
        (tag,) = (each.getName() for each in domain.listAllSnapshots(0))
        assert tag.startswith("nebula-system-0-")
        bring(dict(item, system_snapshots=[{"name": "before"}]), changed=False)
        back = dict(item, system_snapshots=[{"name": "before", "state": "reverted"}])
        assert bring(back).state == "RUNNING"
        bring(item, changed=False)
        # A disk that it holds stays, and stays as large as it is; others come, and it is gone back to without them.
        for disks in ([item["disks"][0]], [item["disks"][0], dict(own, SIZE=8)]):
            with pytest.raises(NebulaError, match="snapshots"):
                bring(dict(item, disks=disks, detach=True))
        more = dict(item, disks=[*item["disks"], dict(own, SIZE=6)])
        bring(more)
        with pytest.raises(NebulaError, match="DISK 3 was not there"):
            bring(dict(more, system_snapshots=back["system_snapshots"]))
        # Its guest lets go of nothing.
        bring(dict(item, state="poweroff"), differs="a disk that the list does not")
        bring(dict(item, state="poweroff", detach=True))
        # From a machine that is off: it runs after that, whatever the item says of its state.
        with pytest.raises(NebulaError, match="Say state: running"):
            bring(dict(back, state="poweroff"))
        assert bring(dict(back, state="running")).state == "RUNNING"
        bring(item, changed=False)
        # Of one that is off it holds the disks alone.
        off = bring(dict(item, state="poweroff", system_snapshots=[{"name": "off"}]))
        assert [(each["name"], each["memory"]) for each in off.system_snapshots] == [("before", True), ("off", False)]
        bring(dict(item, state="running", system_snapshots=[{"name": "off", "state": "reverted"}]))
        gone = [{"name": name, "state": "absent"} for name in ("before", "off")]
        assert bring(dict(item, system_snapshots=gone)).system_snapshots == []
        assert domain.listAllSnapshots(0) == []
        bring(dict(item, system_snapshots=gone), changed=False)
        bring(dict(item, system_snapshots=[{"name": "last"}]))
        assert bring(dict(item, memory=40, recreate=True)).system_snapshots == []
        bring({"name": "web", "state": "absent", "hard": True})


@in_world
def test_refusals_come_before_anything_is_done() -> None:
    with a_counting_node() as node:
        base = machine(node)
        raw = Disk(disk_id=2, target="vdb", type="FS", driver="raw", size=4)
        swap = Disk(disk_id=2, target="vdb", type="SWAP", driver="raw", size=4)
        uefi = Os(machine="q35", firmware="/usr/share/OVMF/OVMF_CODE_4M.fd")
        for change, word in (
            ({"os": uefi}, "UEFI"),
            ({"disks": (base.disks[0], raw)}, "raw disk"),
            ({"disks": (base.disks[0], swap)}, "raw disk"),
        ):
            vm = replace(base, **change)
            done(node.one(vm))
            plan = node.plan(vm, tasks=(task(SYSTEM_CREATE, "1"),))
            forecast = predict(plan, poll(node.driver, node.root, "node", node.catalog), node.driver, node.root)
            refused = node.carry_out(plan)[0]
            assert forecast[0].error == refused.error
            assert word in refused.error["found"], refused.error
            assert refused.error["remedy"]
            assert known(node, vm) == []
            node.one(vm, "DONE", hard=True)
        # What QEMU can: a TPM, whose state goes back with the memory.
        vm = replace(base, tpm=Tpm())
        done(node.one(vm))
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),)))
        vm = recorded(vm, 0)
        done(node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),)))
        # The machine has ended meanwhile.
        node.domain(vm).destroy()
        ended = node.one(vm, "POWEROFF", hard=True, tasks=(task(SYSTEM_CREATE, "3", 1),))
        assert "POWEROFF by now" in ended.error["found"]
        node.one(vm, "DONE", hard=True)


@in_world
def test_without_room_for_the_memory_nothing_is_begun() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        before = system_snapshot_tasks.MARGIN
        system_snapshot_tasks.MARGIN = 1 << 60
        try:
            full = node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),))
        finally:
            system_snapshot_tasks.MARGIN = before
        assert full.error["kind"] == "NoSpace"
        assert (full.state, tags(node, vm), known(node, vm)) == ("RUNNING", [[], []], [])
        node.one(vm, "DONE", hard=True)


@in_world
def test_what_libvirt_forgot_is_named_and_can_be_deleted() -> None:
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),)))
        vm = recorded(vm, 0)
        node.domain(vm).snapshotLookupByName("nebula-system-0-ab").delete(2)
        pid = node.qemu(vm)
        refused = node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),))
        assert "does not know it" in refused.error["found"]
        assert node.qemu(vm) == pid
        done(node.one(vm, tasks=(task(SYSTEM_DELETE, "3"),)))
        assert tags(node, vm) == [[], []]
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_run_that_is_killed_is_finished_by_the_next() -> None:
    """The run is killed at many moments of making and going back; libvirt goes on by itself, or has not begun."""
    with a_counting_node() as node:
        vm = machine(node)
        done(node.one(vm))
        counted(node, vm, 2)
        for number, after in enumerate((0.0, 0.01, 0.03, 0.06, 0.1)):
            one = task(SYSTEM_CREATE, f"c{number}", number)
            _killed(node, vm, one, after)
            done(node.one(vm, tasks=(one,)))
            assert all(f"nebula-system-{number}-ab" in each for each in tags(node, vm))
            vm = recorded(vm, *range(number + 1))
        for number, after in enumerate((0.0, 0.02, 0.1, 0.2, 0.4)):
            one = task(SYSTEM_REVERT, f"r{number}", number)
            _killed(node, vm, one, after)
            done(node.one(vm, tasks=(one,)))
            assert node.boots(vm) == 1
            assert node.one(vm, tasks=(one,)).changed is False
        for number, after in enumerate((0.0, 0.01, 0.02, 0.05, 0.1)):
            one = task(SYSTEM_DELETE, f"d{number}", number)
            _killed(node, vm, one, after)
            done(node.one(vm, tasks=(one,)))
        assert (tags(node, vm), known(node, vm)) == ([[], []], [])
        node.one(vm, "DONE", hard=True)


def _killed(node: Node, vm: Vm, one: DiskTask, after: float) -> None:
    """Carry the task out in a process that is killed so many seconds after it has begun with it."""
    child = os.fork()
    if child == 0:
        try:
            # What it does by itself: the process ends at once.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            # The other one's connection is the parent's: it stays open.
            others, node.driver = node.driver, node.kind_of_driver()
            assert others
            wanted = system_snapshot_tasks.carry_out

            def slowly(*given: Any) -> Any:
                signal.setitimer(signal.ITIMER_REAL, after or 1e-6)
                return wanted(*given)

            system_snapshot_tasks.carry_out = slowly
            node.carry_out(node.plan(vm, tasks=(one,)))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) < 0
    node.number += 1
