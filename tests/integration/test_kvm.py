# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans carried out on a real libvirtd: the life of machines, what goes wrong with one, and who may touch what."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import tty
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    NotFound,
    StalePlan,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import power_off_given_up
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import kvm
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.running_disks import RunningDisks
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import GivenUp, Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node, wait_for

SAVED = b"LibvirtQemudSave"


@in_world
def test_created_again_ended_and_ended_again() -> None:
    with a_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(3)]
        plan = node.plan(*vms)
        outcomes = node.apply(plan)
        assert [(o.vm_id, o.state, o.changed, o.error) for o in outcomes] == [
            (i, "RUNNING", True, None) for i in range(3)
        ]
        again = node.apply(plan)
        assert [(o.state, o.changed) for o in again] == [("RUNNING", False)] * 3
        for vm in vms:
            node.wait_for_boots(vm, 1)
        observed = node.observed()
        assert {seen.vm_id: (seen.state, seen.uuid, seen.generation) for seen in observed.vms} == {
            vm.vm_id: ("RUNNING", vm.uuid, 1) for vm in vms
        }
        assert (observed.catalog, observed.plan_number, observed.foreign_memory) == (node.catalog, 1, 0)
        end = node.plan(*vms, wanted="DONE", hard=True)
        assert [(o.state, o.changed) for o in node.apply(end)] == [("DONE", True)] * 3
        assert [(o.state, o.changed) for o in node.apply(end)] == [("DONE", False)] * 3
        assert os.listdir(Path(node.root, "datastores", "0")) == []
        assert node.observed().vms == ()


@in_world
def test_logs_of_libvirt_go_with_their_machine_and_no_other() -> None:
    logs = Path("/var/log/libvirt/qemu")
    with a_node() as node:
        node.bring(node.vm(1), node.vm(11))
        own, strangers = {"one-1.log", "one-1.log.0", "one-1.log.1"}, {"one-1.log.old", "one-1.logs", "one-1x.log"}
        for name in own | strangers:
            (logs / name).touch()
        before = {path.name for path in logs.iterdir()}
        assert "one-11.log" in before
        assert node.one(node.vm(1), "DONE", hard=True).error is None
        assert {path.name for path in logs.iterdir()} == before - own
        for name in strangers:
            (logs / name).unlink()


@in_world
def test_apparmors_profile_goes_with_its_machine_and_no_other() -> None:
    profiles = Path(os.environ["NEBULA_WORLD"], "profiles")
    profiles.mkdir()
    before, kvm.PROFILES = kvm.PROFILES, profiles
    try:
        with a_node() as node:
            vm, other = node.vm(1), node.vm(2)
            node.bring(vm, other, wanted="POWEROFF")
            own = {f"libvirt-{vm.uuid}", f"libvirt-{vm.uuid}.files"}
            kept = {"TEMPLATE.qemu", f"libvirt-{other.uuid}", f"libvirt-{other.uuid}.files"}
            for name in own | kept:
                (profiles / name).touch()
            assert node.one(vm, "DONE", hard=True).error is None
            assert {path.name for path in profiles.iterdir()} == kept
    finally:
        kvm.PROFILES = before


@in_world
def test_what_lies_in_a_machines_directory() -> None:
    with a_node() as node:
        vm = node.vm(7, graphics=Graphics(port=5907, password="geheim"))
        node.one(vm)
        directory = node.directory(vm)
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in directory.iterdir()}
        assert modes["deployment.0"] == 0o600
        assert modes["vm.json"] == 0o600
        assert modes["vm.log"] == 0o640
        assert modes["disk.1"] == 0o640
        assert stat.S_IMODE(directory.stat().st_mode) == 0o711
        # Another user of the host passes, as QEMU's has to, and finds nothing that he could list, read or write.
        assert {name: mode for name, mode in modes.items() if mode & 0o007} == {}
        tried = ["sh", "-c", 'ls "$1"; cd "$1" && shift && for name; do cat "$name" || true >>"$name"; done', "sh"]
        argv = [*tried, str(directory), *modes]
        done = subprocess.run(argv, user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
        assert done.stdout == "" and done.stderr.count("ermission denied") == 1 + 2 * len(modes), done.stderr
        log = (directory / "vm.log").read_text(encoding="utf-8").splitlines()
        form = re.compile(
            r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{1,2} \d\d:\d\d:\d\d \d{4} \[[A-Z]{2,3}\] \[[IWE]\]: .+"
        )
        assert all(form.fullmatch(line) for line in log), log
        states = [line.partition("]: ")[2] for line in log if "New VM state" in line]
        assert states == [f"New VM state is {state}" for state in ("ACTIVE", "PROLOG", "BOOT", "RUNNING")]
        assert "geheim" in (directory / "deployment.0").read_text(encoding="utf-8")
        readable = [
            name
            for name, mode in modes.items()
            if mode & 0o044 and "geheim" in (directory / name).read_text(errors="replace")
        ]
        assert readable == []
        # Nothing libvirt shows to those who may only look.
        assert "geheim" not in node.domain(vm).XMLDesc(0)


@in_world
def test_a_shared_base_keeps_owner_mode_and_content() -> None:
    def facts(path: str) -> tuple[int, int, int, str]:
        found = os.stat(path)
        return (
            found.st_uid,
            found.st_gid,
            stat.S_IMODE(found.st_mode),
            hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        )

    with a_node() as node:
        before = facts(node.base)
        iso = Disk(
            disk_id=1,
            target="hdc",
            type="CDROM",
            image="base",
            source=node.base,
            format="raw",
            clone=False,
            readonly=True,
        )
        vm = node.vm(1)
        vm = replace(vm, disks=(*vm.disks, iso), context=replace(vm.context, disk_id=2))
        node.bring(vm, node.vm(2))
        node.wait_for_boots(vm, 1)
        assert facts(node.base) == before
        node.bring(vm, node.vm(2), wanted="DONE", hard=True)
        assert facts(node.base) == before


@in_world
def test_suspended_and_resumed() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        assert node.one(vm, "SUSPENDED").state == "SUSPENDED"
        checkpoint = node.directory(vm) / "checkpoint"
        assert checkpoint.read_bytes()[:16] == SAVED
        assert stat.S_IMODE(checkpoint.stat().st_mode) == 0o600
        assert node.states() == {1: "SUSPENDED"}
        again = node.one(vm, "SUSPENDED")
        assert (again.state, again.changed) == ("SUSPENDED", False)
        back = node.one(vm)
        assert (back.state, back.changed, back.error) == ("RUNNING", True, None)
        assert not checkpoint.exists()
        assert node.states() == {1: "RUNNING"}
        # It went on, it was not booted.
        assert node.boots(vm) == 1


@in_world
def test_only_what_is_to_run_starts_with_its_host() -> None:
    with a_node() as node:
        vm, off = node.vm(1), node.vm(2)
        node.one(vm)
        node.one(off, "POWEROFF")
        assert (node.domain(vm).autostart(), node.domain(off).autostart()) == (1, 0)
        for wanted, hard, expected in (("SUSPENDED", False, 0), ("RUNNING", False, 1), ("POWEROFF", True, 0)):
            assert node.one(vm, wanted, hard=hard).state == wanted
            assert node.domain(vm).autostart() == expected, wanted
            assert not node.one(vm, wanted).changed
        # Changed by hand, it is put right, as check mode foretells.
        node.domain(vm).setAutostart(1)
        assert node.one(vm, "POWEROFF").changed
        assert node.domain(vm).autostart() == 0
        node.one(vm)
        node.domain(vm).setAutostart(0)
        assert node.one(vm).changed
        node.one(vm, operation="recreate")
        assert node.domain(vm).autostart() == 1
        # The host dies while it saves the machine: what is half saved is not booted behind our back.

        seen = []

        def cut(mark: Any, checkpoint: str) -> None:
            seen.append(node.domain(vm).autostart())
            raise WrongState("suspending", "the disk is full")

        node.driver.suspend = cut  # type: ignore[method-assign]
        assert node.one(vm, "SUSPENDED").error is not None
        assert seen == [0]
        # It lives on after all.
        assert (node.domain(vm).isActive(), node.domain(vm).autostart()) == (1, 1)


@in_world
def test_a_half_written_checkpoint_is_never_resumed() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        node.one(vm, "POWEROFF", hard=True)
        (node.directory(vm) / "checkpoint.partial").write_bytes(b"LibvirtQemudPart" + bytes(100))
        outcome = node.one(vm)
        assert outcome.state == "RUNNING"
        node.wait_for_boots(vm, 2)
        node.one(vm, "POWEROFF", hard=True)
        refused = node.one(vm, "SUSPENDED")
        assert refused.error is not None
        assert refused.error["kind"] == "WrongState"
        assert node.states() == {1: "POWEROFF"}


@in_world
def test_a_save_whose_run_was_killed_before_its_end_is_finished() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        node.domain(vm).save(str(node.directory(vm) / "checkpoint.partial"))
        assert node.one(vm, "SUSPENDED").state == "SUSPENDED"
        assert node.one(vm).state == "RUNNING"
        assert node.boots(vm) == 1


@in_world
def test_memory_older_than_the_disks_is_not_resumed() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        node.one(vm, "SUSPENDED")
        # Started by hand past us, and ended again.
        node.domain(vm).create()
        node.domain(vm).destroy()
        os.utime(node.directory(vm) / "disk.0")
        refused = node.one(vm)
        assert refused.error is not None
        assert "disk 0" in str(refused.error["found"])
        assert refused.state == "SUSPENDED"
        assert node.one(vm, "POWEROFF", hard=True).state == "POWEROFF"
        assert node.one(vm).state == "RUNNING"


@in_world
def test_reset_once_per_decision() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        plan = node.plan(vm, operation="reset")
        assert node.apply(plan)[0].changed
        node.wait_for_boots(vm, 2)
        assert not node.apply(plan)[0].changed
        assert node.one(vm, operation="reset").changed
        # Had the repeated plan reset it too, this were the fourth.
        node.wait_for_boots(vm, 3)


@in_world
def test_a_guest_that_ignores_the_power_button_runs_on() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        outcome = node.one(vm, "POWEROFF", shutdown_timeout=1)
        assert outcome.state == "RUNNING"
        assert outcome.error is not None
        assert outcome.error["kind"] == "TimedOut"
        assert node.states() == {1: "RUNNING"}
        outcome = node.one(vm, "DONE", shutdown_timeout=1)
        assert outcome.state == "RUNNING"
        assert outcome.error is not None
        assert node.one(vm, "POWEROFF", hard=True).state == "POWEROFF"
        assert node.states() == {1: "POWEROFF"}


@in_world
def test_killed_or_undefined_behind_our_back_it_comes_back() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        disk = (node.directory(vm) / "disk.0").stat().st_ino
        os.kill(node.qemu(vm), signal.SIGKILL)
        wait_for(lambda: node.states() == {1: "POWEROFF"}, "libvirt to see that QEMU is gone")
        assert node.one(vm).changed
        node.wait_for_boots(vm, 2)
        node.domain(vm).destroy()
        node.domain(vm).undefine()
        assert node.observed().vms == ()
        assert node.one(vm).state == "RUNNING"
        node.wait_for_boots(vm, 3)
        # What the guest may have written is not made anew.
        assert (node.directory(vm) / "disk.0").stat().st_ino == disk


@in_world
def test_paused_goes_on() -> None:
    with a_node() as node:
        vm = node.vm(1, graphics=Graphics(port=5951))
        node.one(vm)
        node.wait_for_boots(vm, 1)
        node.domain(vm).suspend()
        assert node.states() == {1: "UNKNOWN"}
        assert node.one(vm).state == "RUNNING"
        assert node.boots(vm) == 1


def asked_of(port: int) -> set[int]:
    """The ways to authenticate that a VNC server offers: 1 is none, 2 a password (RFC 6143, 7.1.2)."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as viewer:
        assert viewer.recv(12, socket.MSG_WAITALL) == b"RFB 003.008\n"
        viewer.sendall(b"RFB 003.008\n")
        (count,) = viewer.recv(1)
        return set(viewer.recv(count, socket.MSG_WAITALL))


@in_world
def test_a_console_that_was_open_gets_its_password_with_the_next_start() -> None:
    """As a version before has left it: it runs without a password, and nothing was noted of that."""

    def is_open() -> bool:
        (seen,) = node.observed().vms
        return seen.open_console

    with a_node() as node:
        vm = node.vm(1, graphics=Graphics(port=5953))
        node.one(vm)
        assert asked_of(5953) == {1} and is_open()
        closed = replace(vm, graphics=Graphics(port=5953, password="abcdefgh", made_up=True))
        # With what else is decided about it: defined, and not started anew.
        process = node.qemu(vm)
        assert node.one(closed).changed and node.qemu(vm) == process
        assert asked_of(5953) == {1} and is_open()
        assert not node.one(closed).changed
        node.one(closed, "POWEROFF", hard=True)
        assert not is_open()
        node.one(closed)
        assert asked_of(5953) == {2} and not is_open()
        # One that its host started is asked of libvirt.
        path = node.directory(vm) / "vm.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "closed": False}))
        assert not is_open()


@in_world
def test_what_a_host_keeps_is_no_kernel() -> None:
    with a_node() as node:
        vm = node.vm(1, os=Os(machine="pc", kernel="/run/libvirt/qemu/one-7.xml"))
        outcome = node.one(vm)
        assert outcome.state == "PROLOG_FAILURE" and outcome.error is not None
        assert outcome.error["asked"] == "virtual machine web-1: OS/KERNEL = /run/libvirt/qemu/one-7.xml"
        assert "is below /run, which is restricted" in outcome.error["found"]
        assert "nebula_safe_dirs" in outcome.error["remedy"]
        # Of its own nebula_root it is an image, or what a user has put there.
        other = replace(vm, os=Os(machine="pc", initrd=str(node.directory(vm) / "disk.1"), kernel=node.base))
        outcome = node.one(other)
        assert outcome.error is not None and "keeps in its nebula_root" in outcome.error["found"]
        assert "OS/INITRD" in outcome.error["asked"]
        node.one(vm, "DONE", hard=True)


@in_world
def test_recreated_once_per_decision() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        inode = (node.directory(vm) / "disk.0").stat().st_ino
        (node.directory(vm) / "disk.0").touch()
        marker = (node.directory(vm) / "disk.0").stat().st_mtime_ns
        plan = node.plan(vm, operation="recreate")
        assert node.apply(plan)[0].state == "RUNNING"
        made = (node.directory(vm) / "disk.0").stat()
        assert (made.st_ino, made.st_mtime_ns) != (inode, marker)
        assert not node.apply(plan)[0].changed
        assert (node.directory(vm) / "disk.0").stat().st_ino == made.st_ino
        # What was decided before the catalog heard that it is done takes it along.
        later = node.plan(vm, operation="recreate", hard=True, wanted="POWEROFF", decided=plan.vms[0].generation)
        assert node.apply(later)[0].state == "POWEROFF"
        assert (node.directory(vm) / "disk.0").stat().st_ino == made.st_ino


@in_world
def test_a_context_changes_on_a_running_machine() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        iso = node.directory(vm) / "disk.1"
        before = iso.read_bytes()
        changed = replace(vm, context=Context(disk_id=1, target="hda", variables={"HOSTNAME": "other"}))
        assert node.one(changed).changed
        assert iso.read_bytes() != before
        opened = [os.stat(path).st_ino for path in Path(f"/proc/{node.qemu(vm)}/fd").iterdir() if path.exists()]
        assert iso.stat().st_ino in opened
        assert not node.one(changed).changed
        assert node.boots(vm) == 1


@in_world
def test_cpu_shares_change_on_a_running_machine() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        assert node.domain(vm).schedulerParameters()["cpu_shares"] == 512
        assert node.one(replace(vm, cpu=2.0)).changed
        assert node.domain(vm).schedulerParameters()["cpu_shares"] == 2048
        assert node.boots(vm) <= 1


@in_world
def test_check_mode_foresees_changes_that_leave_the_state_as_it_is() -> None:
    with a_node() as node:

        def comes(vm: Vm, wanted: str = "RUNNING", **orders: Any) -> bool:
            """Whether something changes; apply() compares that with the forecast."""
            found = node.one(vm, wanted, **orders)
            assert (found.state, found.error) == (wanted, None), found
            return found.changed

        vm = node.vm(1)
        assert comes(vm)
        assert not comes(vm), "a decision that leaves nothing to be done, as one that is taken back"
        assert comes(vm, operation="reset")
        vm = replace(vm, cpu=2.0)
        assert comes(vm)
        vm = replace(vm, context=Context(disk_id=1, target="hda", variables={"HOSTNAME": "other"}))
        assert comes(vm)
        assert not comes(vm)
        assert comes(vm, "POWEROFF", hard=True)
        vm = replace(vm, graphics=Graphics(port=5971, keymap="de"))
        assert comes(vm, "POWEROFF")
        assert not comes(vm, "POWEROFF")
        assert comes(vm)
        assert comes(vm, "DONE", hard=True)
        assert not comes(vm, "DONE", hard=True)
        node.directory(vm).mkdir()
        assert comes(vm, "DONE", hard=True), "what a killed run left of a directory"


@in_world
def test_a_guest_that_boots_takes_another_context() -> None:
    """It looks for media meanwhile, and draws the tray in."""
    import libvirt

    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        for boot in range(10):
            assert node.one(vm, operation="reset").error is None
            for number in range(3):
                context = Context(disk_id=1, target="hda", variables={"HOSTNAME": f"web-{boot}-{number}"})
                vm = replace(vm, context=context)
                outcome = node.one(vm)
                assert (outcome.state, outcome.error, outcome.changed) == ("RUNNING", None, True)
        # What is done where libvirt takes a tray for open that is not: it is opened, whatever libvirt takes it for.
        domain = node.domain(vm)
        drives = RunningDisks(libvirt, kvm.KvmDriver.uri, domain, "a tray")
        drives.open_tray("hda")
        wait_for(lambda: "tray='open'" in domain.XMLDesc(0), "libvirt to hear of the open tray")
        drives.open_tray("hda")
        with pytest.raises(NotFound, match="hdd"):
            drives.open_tray("hdd")
        assert node.one(replace(vm, context=Context(disk_id=1, target="hda"))).error is None
        wait_for(lambda: "tray='open'" not in domain.XMLDesc(0), "libvirt to hear of the closed tray")


@in_world
def test_what_the_driver_can_not_do_leaves_the_machine_running() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.bring(vm)
        process = node.qemu(vm)
        node.driver.capabilities = node.driver.capabilities - {"suspend"}
        outcome = node.one(vm, "SUSPENDED")
        assert (outcome.state, outcome.changed) == ("RUNNING", False)
        assert outcome.error is not None and "web-1: suspend" in outcome.error["asked"]
        assert node.qemu(vm) == process
        assert list(node.directory(vm).glob("checkpoint*")) == []
        node.driver.capabilities = type(node.driver).capabilities
        assert node.one(vm, "SUSPENDED").state == "SUSPENDED"


@in_world
def test_memory_changes_at_the_next_start() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        larger = replace(vm, memory=48)
        assert node.one(larger, "POWEROFF", hard=True).state == "POWEROFF"
        node.one(larger)
        assert node.domain(vm).maxMemory() == 48 * 1024


@in_world
def test_what_changed_while_it_was_suspended_is_there_when_it_goes_on() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        node.one(vm, "SUSPENDED")
        changed = replace(vm, cpu=2.0, context=Context(disk_id=1, target="hda", variables={"HOSTNAME": "other"}))
        outcome = node.one(changed)
        assert (outcome.state, outcome.error) == ("RUNNING", None)
        assert node.domain(vm).schedulerParameters()["cpu_shares"] == 2048
        assert b"other" in (node.directory(vm) / "disk.1").read_bytes()
        assert not node.one(changed).changed
        assert node.boots(vm) == 1


@in_world
def test_made_without_being_started() -> None:
    with a_node() as node:
        vm = node.vm(1)
        outcome = node.one(vm, "POWEROFF")
        assert (outcome.state, outcome.changed, outcome.error) == ("POWEROFF", True, None)
        assert node.states() == {1: "POWEROFF"}
        assert not node.one(vm, "POWEROFF").changed
        assert node.boots(vm) == 0
        assert node.one(vm).state == "RUNNING"
        node.wait_for_boots(vm, 1)


@in_world
def test_a_persistent_image_is_used_in_place_and_stays() -> None:
    with a_node() as node:
        image = Path(node.root, "data")
        image.write_bytes(bytes(1 << 20))
        data = Disk(disk_id=1, target="vdb", image="data", source=str(image), clone=False, save=True, size=1)
        vm = node.vm(1)
        vm = replace(vm, disks=(*vm.disks, data), context=replace(vm.context, disk_id=2))
        outcome = node.one(vm)
        assert outcome.error is None
        node.wait_for_boots(vm, 1)
        # QEMU has the image itself open, for writing.
        opened = {os.stat(path).st_ino for path in Path(f"/proc/{node.qemu(vm)}/fd").iterdir() if path.exists()}
        assert image.stat().st_ino in opened
        assert os.readlink(node.directory(vm) / "disk.1") == str(image)
        node.one(vm, "DONE", hard=True)
        assert image.stat().st_size == 1 << 20
        assert stat.S_IMODE(image.stat().st_mode) == 0o660


@in_world
def test_interfaces_stand_on_their_bridge() -> None:
    def nic(nic_id: int, bridge: str, **more: str) -> Nic:
        mac = f"02:00:0a:42:00:0{nic_id}"
        return Nic(nic_id, 0, "net", bridge, mac, f"10.66.0.{nic_id}", target=f"one-1-{nic_id}", **more)

    with a_node() as node:
        subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
        try:
            nics = (nic(0, "nbrtest"), nic(1, "nbrtest", model="e1000"), nic(2, ""))
            vm = node.vm(1, vcpu=2, nics=nics)
            outcome = node.one(vm)
            assert outcome.error is None
            for number in (0, 1):
                master = Path(f"/sys/class/net/one-1-{number}/master").resolve().name
                assert master == "nbrtest"
            assert not Path("/sys/class/net/one-1-2/master").exists()
            # One queue for each virtual processor.
            assert b'"driver":"virtio-net-pci","mq":true' in Path(f"/proc/{node.qemu(vm)}/cmdline").read_bytes()
            node.one(vm, "DONE", hard=True)
            assert not list(Path("/sys/class/net").glob("one-1-*"))
        finally:
            subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)


@in_world
def test_an_interface_that_an_earlier_run_left_is_told_with_what_to_do() -> None:
    with a_node() as node:
        subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
        try:
            subprocess.run(["ip", "tuntap", "add", "one-1-0", "mode", "tap"], check=True)
            vm = node.vm(1, nics=(Nic(0, 0, "net", "nbrtest", "02:00:0a:42:00:01", "10.66.0.1", target="one-1-0"),))
            error = str(node.one(vm).error)
            assert "one-1-0" in error and "ip -details link show one-1-0" in error
            subprocess.run(["ip", "link", "delete", "one-1-0"], check=False, capture_output=True)
            assert node.one(vm).error is None
            node.one(vm, "DONE", hard=True)
        finally:
            subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)


@in_world
def test_nvram_lies_beside_the_disks_and_goes_with_them() -> None:
    with a_node() as node:
        vm = node.vm(1, memory=128, os=Os(machine="q35", firmware="UEFI"))
        vm = replace(vm, context=replace(vm.context, target="sda"))
        outcome = node.one(vm)
        assert outcome.error is None
        assert (node.directory(vm) / "one-1_VARS.fd").stat().st_size > 0
        assert node.one(vm, "DONE", hard=True).error is None
        assert not node.directory(vm).exists()


# -- what goes wrong -------------------------------------------------------------------------------------------------


@in_world
def test_one_failure_does_not_stop_the_others() -> None:
    with a_node() as node:
        no_base = node.vm(2, disks=(replace(node.vm(2).disks[0], source=node.root + "/nosuch"),))
        bridge = "<devices><interface type='bridge'><source bridge='nosuch0'/></interface></devices>"
        no_bridge = node.vm(3, raw={"kvm": bridge})
        malformed = node.vm(4, raw={"kvm": "<devices>"})
        outcomes = node.bring(node.vm(1), no_base, no_bridge, malformed, node.vm(5))
        assert [o.state for o in outcomes] == ["RUNNING", "PROLOG_FAILURE", "BOOT_FAILURE", "BOOT_FAILURE", "RUNNING"]
        told = [str(o.error["found"]) + str(o.error["asked"]) for o in outcomes if o.error]
        assert "nosuch" in told[0]
        assert "nosuch0" in told[1]
        assert "RAW" in told[2]
        assert outcomes[2].error is not None
        assert "role nebula.provision.network" in outcomes[2].error["remedy"]
        assert any("[E]" in line for line in outcomes[1].log)
        assert node.states() == {1: "RUNNING", 3: "POWEROFF", 5: "RUNNING"}
        # The next run does what is left, once the reason is gone.
        assert [o.state for o in node.bring(node.vm(2), node.vm(3), node.vm(4))] == ["RUNNING"] * 3


@in_world
def test_a_port_that_a_stranger_took() -> None:
    with a_node() as node, socket.create_server(("127.0.0.1", 5942)):
        vm = node.vm(1, graphics=Graphics(port=5942))
        outcomes = node.bring(vm, node.vm(2, graphics=Graphics(port=5943)))
        assert [o.state for o in outcomes] == ["BOOT_FAILURE", "RUNNING"]
        assert outcomes[0].error is not None
        assert outcomes[0].error["kind"] == "NoCapacity"
        assert "5942" in outcomes[0].error["asked"]
        # Ours is not a stranger's.
        assert node.observed().ports == (5942,)
        moved = node.one(replace(vm, graphics=Graphics(port=5944)))
        assert moved.state == "RUNNING"


@in_world
def test_a_machine_starts_in_the_place_of_another_once_that_is_gone() -> None:
    """Its guest does not obey the power button: it stays, and what was to have its place is not begun."""
    with a_node() as node:
        old, new, beside = node.vm(1), node.vm(2), node.vm(3)
        node.one(old)

        def list_of(hard: bool) -> Plan:
            node.number += 1
            ends = node.planned(
                old, "DONE", gives_memory=32, gives_cpu=0.5, hard=hard, shutdown_timeout=1, previous="RUNNING"
            )
            starts = [node.planned(each, "RUNNING", previous="PROLOG") for each in (beside, new)]
            return Plan(node.catalog, node.number, "node", (*starts, ends), lacking_memory=16)

        outcomes = node.carry_out(list_of(hard=False))
        assert [o.state for o in outcomes] == ["PROLOG_FAILURE", "RUNNING", "RUNNING"]
        assert outcomes[0].error is not None and "what web-1 (id 1) held of host node" in outcomes[0].error["found"]
        assert node.states() == {1: "RUNNING", 2: "RUNNING"}
        assert [o.state for o in node.carry_out(list_of(hard=True))] == ["RUNNING", "RUNNING", "DONE"]
        assert node.states() == {2: "RUNNING", 3: "RUNNING"}


@in_world
def test_a_machine_that_was_given_up_is_powered_off_and_keeps_its_disks() -> None:
    """Its guest does not obey the power button: it ends all the same. A machine beside it goes on."""
    with a_node(audited=False) as node, pytest.MonkeyPatch.context() as patch:
        patch.setattr(power_off_given_up, "SHUTDOWN_SECONDS", 1)
        old, beside = node.vm(1), node.vm(2)
        node.bring(old, beside)
        assert node.domain(old).autostart() == 1
        disks = {path.name for path in node.directory(old).iterdir() if path.name.startswith("disk.")}
        node.number += 1
        machine = GivenUp(1, old.uuid, old.name, "node", "RUNNING", ("10.0.0.1",))
        plan = Plan(node.catalog, node.number, "node", given_up=(machine,))
        (outcome,) = Batch(plan, node.driver, node.root).apply()
        assert (outcome.vm_id, outcome.state, outcome.changed, outcome.error) == (1, "POWEROFF", True, None)
        assert node.states() == {1: "POWEROFF", 2: "RUNNING"}
        assert node.domain(old).autostart() == 0
        assert disks and disks <= {path.name for path in node.directory(old).iterdir()}
        assert Batch(plan, node.driver, node.root).apply()[0].changed is False
        # One of its id that is another machine is nobody's to end.
        other = replace(machine, vm_id=2, uuid=old.uuid)
        (outcome,) = Batch(replace(plan, given_up=(other,)), node.driver, node.root).apply()
        assert outcome.error is not None and node.states()[2] == "RUNNING", outcome


@in_world
def test_no_libvirtd_is_said_with_the_remedy() -> None:
    from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
    from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver

    with pytest.raises(HypervisorError, match=r"role nebula\.provision\.node"):
        KvmDriver("qemu+unix:///system?socket=/nonexistent")


# -- whose it is -----------------------------------------------------------------------------------------------------


@in_world
def test_a_domain_without_our_mark_is_not_touched() -> None:
    with a_node() as node, a_node() as other:
        xml = (
            "<domain type='qemu'><name>one-1</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
        )
        foreign = node.driver._connection().createXML(xml)
        for wanted in ("RUNNING", "POWEROFF", "SUSPENDED"):
            outcome = node.one(node.vm(1), wanted, hard=True)
            assert outcome.error is not None
            assert outcome.error["kind"] == "ForeignObject"
        assert node.observed().foreign_ids == (1,)
        # What is ours of it, its directory, goes all the same.
        assert node.one(node.vm(1), "DONE", hard=True).state == "DONE"
        assert not node.directory(node.vm(1)).exists()
        assert foreign.isActive()
        assert node.observed().vms == ()
        assert node.observed().foreign_memory == 32 + node.driver.overhead("qemu").of(32, 1)
        # The mark of another catalog is no mark of ours.
        other.one(other.vm(2))
        assert node.one(node.vm(2), "DONE", hard=True).state == "DONE"
        assert other.states() == {2: "RUNNING"}


@in_world
def test_a_directory_without_our_mark_is_not_touched() -> None:
    with a_node() as node:
        node.one(node.vm(1))
        directory = node.directory(node.vm(2))
        directory.mkdir()
        (directory / "disk.0").write_bytes(b"somebody's")
        for wanted in ("RUNNING", "DONE"):
            outcome = node.one(node.vm(2), wanted, hard=True)
            assert outcome.error is not None
            assert outcome.error["kind"] == "ForeignObject"
        assert (directory / "disk.0").read_bytes() == b"somebody's"
        assert [entry.name for entry in directory.iterdir()] == ["disk.0"]


@in_world
def test_older_plans_and_other_catalogs_are_refused() -> None:
    with a_node() as node:
        vm = node.vm(1)
        old = node.plan(vm, wanted="DONE", hard=True)
        node.one(vm)
        with pytest.raises(StalePlan):
            node.apply(old)
        with pytest.raises(ForeignObject):
            node.apply(Plan("11111111-2222-3333-4444-555555555555", 99, "node", old.vms))
        assert node.states() == {1: "RUNNING"}


@in_world
def test_an_older_decision_about_a_machine_is_refused() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.number += 5
        node.one(vm)
        plan = node.plan(vm, wanted="DONE", hard=True, generation=2)
        outcome = node.apply(plan)[0]
        assert outcome.error is not None
        assert outcome.error["kind"] == "StalePlan"
        assert node.states() == {1: "RUNNING"}


@in_world
def test_a_plan_that_waited_for_a_newer_one_leaves_its_machines_alone() -> None:
    with a_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(2)]
        node.bring(*vms)
        old = node.plan(*vms, wanted="POWEROFF", hard=True)
        new = node.plan(*vms, wanted="RUNNING")
        from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
        from ansible_collections.nebula.provision.plugins.module_utils.host.files import lock

        outcomes = []
        with lock(str(node.directory(vms[0]))), lock(str(node.directory(vms[1]))):
            late = threading.Thread(target=lambda: outcomes.extend(node.apply(old)))
            late.start()
            wait_for(lambda: node_file.read(node.root).plan == old.number, "the older plan to be accepted")
            node_file.accept(node.root, new.catalog, new.number)
        late.join()
        assert [o.error["kind"] for o in outcomes if o.error] == ["StalePlan", "StalePlan"]
        assert node.states() == {0: "RUNNING", 1: "RUNNING"}


@in_world
def test_one_plan_at_the_same_time_twice() -> None:
    with a_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(4)]
        plan = node.plan(*vms)
        found = []
        runs = [threading.Thread(target=lambda: found.append(node.carry_out(plan))) for _ in range(2)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert [o.state for outcomes in found for o in outcomes] == ["RUNNING"] * 8
        # Each machine was made by exactly one of the two.
        for first, second in zip(*found):
            assert first.changed != second.changed
        for vm in vms:
            node.wait_for_boots(vm, 1)


APPLY = """
import json, sys
sys.path.append("/usr/lib/python3/dist-packages")
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for
print("begun", flush=True)
Batch(plan_for(sys.stdin.read(), "node"), KvmDriver(), sys.argv[1], 2).apply()
"""


@pytest.mark.parametrize("done", [0, 1, 3])
@in_world
def test_killed_half_way_it_is_finished_by_the_next_plan(done: int) -> None:
    with a_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(6)]
        node.one(vms[5])
        plan = node.plan(*vms)
        run = subprocess.Popen(
            [sys.executable, "-c", APPLY, node.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(json.dumps(to_plain(plan)).encode())
        run.stdin.close()
        assert run.stdout.readline() == b"begun\n"
        wait_for(lambda: list(Path(node.root, "datastores/0").glob("*/disk.0")), "the first disk")
        wait_for(lambda: sum(state == "RUNNING" for state in node.states().values()) > done, f"{done} more running")
        run.kill()
        run.wait()
        # No forecast: what the killed run asked for goes on in libvirtd.
        outcomes = node.carry_out(node.plan(*vms))
        assert [(o.state, o.error) for o in outcomes] == [("RUNNING", None)] * 6, outcomes
        assert node.states() == {vm.vm_id: "RUNNING" for vm in vms}
        for vm in vms:
            node.wait_for_boots(vm, 1)
            assert not list(node.directory(vm).glob(".*"))


# -- a guest that obeys ------------------------------------------------------------------------------------------------


@in_world
def test_the_power_button(image: str) -> None:
    """Of machines of both types at once."""
    with a_node() as node:
        node.take(image)
        vms = [node.vm(1, memory=128, os=Os(machine="pc")), node.vm(2, memory=128, os=Os(machine="q35"))]
        vms[1] = replace(vms[1], context=replace(vms[1].context, target="sda"))

        def ready(times: int) -> bool:
            return all(node.console(vm).count("nebula-guest: ready") >= times for vm in vms)

        node.bring(*vms)
        wait_for(lambda: ready(1), "the guests to be up", 120)
        for vm in vms:
            assert f"nebula-guest: hostname=web-{vm.vm_id}" in node.console(vm)
        plan = node.plan(*vms, operation="reboot", shutdown_timeout=60)
        for outcome in node.apply(plan):
            assert (outcome.state, outcome.error, outcome.changed) == ("RUNNING", None, True)
        wait_for(lambda: ready(2), "the guests to be up again", 120)
        assert not any(outcome.changed for outcome in node.apply(plan))
        outcomes = node.bring(*vms, wanted="POWEROFF", shutdown_timeout=120)
        assert [(o.state, o.error) for o in outcomes] == [("POWEROFF", None)] * 2
        assert node.states() == {1: "POWEROFF", 2: "POWEROFF"}
        assert [outcome.state for outcome in node.bring(*vms, wanted="DONE", shutdown_timeout=60)] == ["DONE"] * 2
    # Where nobody runs it any more, libvirtd ends connections that are idle for half a minute, of this process and all.
    import libvirt

    runs = threading.Event()
    timer = libvirt.virEventAddTimeout(0, lambda _timer, _opaque: runs.set(), None)
    try:
        assert runs.wait(30), "libvirt's event loop ended with the driver that began it"
    finally:
        libvirt.virEventRemoveTimeout(timer)


@in_world
def test_a_suspended_guest_is_powered_off_by_its_button(image: str) -> None:
    with a_node() as node:
        node.take(image)
        vm = node.vm(1, memory=128)
        node.one(vm)
        wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
        assert node.one(vm, "SUSPENDED").state == "SUSPENDED"
        outcome = node.one(vm, "POWEROFF", shutdown_timeout=120)
        assert (outcome.state, outcome.error) == ("POWEROFF", None)
        assert not (node.directory(vm) / "checkpoint").exists()


@in_world
def test_virsh_console_and_the_log_both_see_the_serial_port(image: str) -> None:
    with a_node() as node:
        node.take(image)
        vm = node.vm(1, memory=128)
        node.one(vm)
        wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
        told = subprocess.run(["virsh", "ttyconsole", "one-1"], capture_output=True, text=True, check=True)
        terminal = os.open(told.stdout.strip(), os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(terminal)
            os.write(terminal, b"\necho typed-$((40+2))\n")
            wait_for(lambda: "typed-42" in node.console(vm), "what was typed to be in the log")
        finally:
            os.close(terminal)
