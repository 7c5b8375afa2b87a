# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of containers on a real libvirtd: mounted where they are to be, with the container's owners, and given back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes, NodeFile
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import (
    disk_hook,
    init_process,
    start_hook,
    veth_link,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CRASH, SAVE_AS, DiskTask
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import mounted_disks
from ansible_collections.nebula.provision.tests.integration.kvm_node import start_libvirtd, stop_libvirtd, wait_for
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node


def init_of(node: LxcNode, vm: Vm) -> int:
    return wait_for(lambda: init_process.init_of_controller(node.domain(vm).ID()), "its init")


class Inside:
    """A container that runs, as its own root sees it."""

    def __init__(self, node: LxcNode, vm: Vm) -> None:
        self._node, self._vm = node, vm

    def __call__(self, command: str, status: int = 0) -> str:
        init = init_of(self._node, self._vm)
        argv = ["nsenter", "-t", str(init), "-a", "-S", "0", "-G", "0", "-r", "-w", "/bin/sh", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": "/bin"})
        assert done.returncode == status, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()


def volatile(disk_id: int, target: str = "", **more: object) -> Disk:
    target = target or f"/media/one-disk.{disk_id}"
    return replace(Disk(disk_id, target, type="FS", driver="raw", size=16, fs="ext4"), **more)


def with_disks(vm: Vm, *disks: Disk) -> Vm:
    """Beside its root; the context has number 1."""
    return replace(vm, disks=(vm.disks[0], *disks))


def devices(node: LxcNode) -> list[str]:
    """Files of the node that a loop device shows."""
    shown = subprocess.run(["losetup", "--noheadings", "--output", "BACK-FILE"], capture_output=True, check=True)
    return [line for line in shown.stdout.decode().split("\n") if line.startswith(node.root)]


@contextmanager
def nothing_left(node: LxcNode, *vms: Vm) -> Iterator[None]:
    try:
        yield
    finally:
        for vm in vms:
            node.one(vm, "DONE", hard=True)
    assert devices(node) == []
    for vm in vms:
        assert not Path(mounted_disks.PLACE, vm.uuid).exists()
    assert os.listdir(Path(node.root, "datastores", "0")) == []


@in_world
def test_empty_disks_are_mounted_where_they_are_to_be_and_keep_what_is_written() -> None:
    with a_container_node() as node:
        vm = with_disks(node.vm(3), volatile(2), volatile(3, "/srv/data"), volatile(4, "/srv"))
        inside = Inside(node, vm)
        with nothing_left(node, vm):
            outcome = node.one(vm)
            assert (outcome.error, outcome.state) == (None, "RUNNING")
            node.wait_for_line(vm, "nebula-guest: ready")
            assert not node.one(vm).changed
            # The container's root owns them, and what it makes there; nobody else of the host gets at them.
            assert inside("stat -c %u:%g:%a /srv /srv/data /media/one-disk.2").split() == ["0:0:755"] * 3
            inside(
                "echo kept > /srv/data/file; echo above > /srv/file; mkdir /media/one-disk.2/d; chown 33:34 /srv/file"
            )
            point = Path(mounted_disks.mount_point(vm.uuid, 4))
            found = (point / "file").stat()
            assert (found.st_uid, found.st_gid) == (id_range(3).start + 33, id_range(3).start + 34)
            # Its root goes through this directory, and changes nothing there.
            found = point.parent.stat()
            assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o710, 0, id_range(3).start)
            # No device that it makes there is one, and no program gets more rights by its mode.
            assert {"nodev", "nosuid"} <= set(inside("grep ' /srv ' /proc/mounts").split()[3].split(","))
            assert len(devices(node)) == 3
            assert node.one(vm, "POWEROFF", shutdown_timeout=20).error is None
            assert devices(node) == []
            assert node.one(vm).error is None
            assert inside("cat /srv/data/file /srv/file").split() == ["kept", "above"]
            assert node.one(vm, operation="reboot", shutdown_timeout=30).error is None
            assert inside("cat /srv/data/file /srv/file").split() == ["kept", "above"]
            # It ends itself: what it had is given back with the next run.
            init_process.signal_init(init_of(node, vm), reboot=False)
            wait_for(lambda: node.states() == {3: "POWEROFF"}, "its end")
            assert node.one(vm, "POWEROFF").error is None
            assert devices(node) == []


@in_world
def test_disks_come_to_a_container_that_runs_and_go() -> None:
    with a_container_node() as node:
        plain = node.vm(5)
        one, two = volatile(2), volatile(3, "/srv/data", size=20)
        vm, inside = with_disks(plain, one), Inside(node, plain)
        with nothing_left(node, vm):
            assert node.one(vm).error is None
            node.wait_for_line(vm, "nebula-guest: ready")
            init = init_of(node, vm)
            more = with_disks(plain, one, two)
            outcome = node.one(more, refitted=True)
            assert (outcome.error, outcome.changed, outcome.fitted) == (None, True, True)
            assert not node.one(more).changed
            assert inside("stat -c %u:%g /srv /srv/data").split() == ["0:0"] * 2
            inside("echo kept > /srv/data/file; echo there > /media/one-disk.2/file")
            # Whatever becomes of the node's own mount: a second one would spoil the file system.
            subprocess.run(["umount", mounted_disks.mount_point(vm.uuid, 3)], check=True)
            assert not node.one(more).changed and len(devices(node)) == 2
            inside("umount /srv/data")
            wait_for(lambda: len(devices(node)) == 1, "the end of the mount")
            outcome = node.carry_out(node.plan(more))[0]
            assert (outcome.error, outcome.changed, inside("cat /srv/data/file")) == (None, True, "kept")
            node.assert_consistent()
            # One that it uses stays, whatever its list says, until it does not.
            inside("cd /srv/data; sleep 1000 > /dev/null 2>&1 & echo $! > /pid")
            refused = node.one(with_disks(plain, one), detached=(3,), refitted=True, agreed=True)
            assert refused.error is not None and refused.error["kind"] == "InUse", refused.error
            # So the catalog keeps it, too.
            assert refused.stays == ("DISK 3",)
            assert inside("cat /srv/data/file") == "kept" and (node.directory(vm) / "disk.3").exists()
            inside("kill $(cat /pid)")
            without = with_disks(plain, one)
            wait_for(lambda: node.one(without, detached=(3,), agreed=True).error is None, "the disk to go")
            assert not (node.directory(vm) / "disk.3").exists() and len(devices(node)) == 1
            assert inside("ls /srv/data") == "" and inside("cat /media/one-disk.2/file") == "there"
            # One that it was started with goes too.
            outcome = node.one(plain, detached=(2,), agreed=True)
            assert (outcome.error, outcome.changed, outcome.fitted) == (None, True, True)
            assert devices(node) == [] and not (node.directory(vm) / "disk.2").exists()
            assert init_of(node, vm) == init
            # It starts anew by itself with nothing but its root.
            init_process.signal_init(init, reboot=True)
            # libvirt does not always see that it has ended: then the next run does.
            wait_for(lambda: node.one(plain).error is None and init_of(node, vm) not in (init, None), "its new start")
            assert not node.one(plain).changed


@in_world
def test_paths_of_a_container_lead_nowhere_but_into_itself() -> None:
    with a_container_node() as node:
        plain = node.vm(6)
        vm, inside = with_disks(plain, volatile(2, "/srv/there/data")), Inside(node, plain)
        with nothing_left(node, vm):
            assert node.one(plain).error is None
            node.wait_for_line(plain, "nebula-guest: ready")
            outside = f"{node.root}/outside"
            inside(f"mkdir -p /srv{node.root} /srv/x; ln -s {node.root} /srv/there; mkdir -p {node.root}")
            assert node.one(vm, refitted=True).error is None
            assert not os.path.lexists(outside) and not os.path.lexists(f"{node.root}/data")
            assert inside(f"grep -c ' {node.root}/data ' /proc/mounts") == "1"


@in_world
def test_a_data_image_is_mounted_as_a_copy_or_in_place_and_saved() -> None:
    with a_container_node() as node:
        place = Path(node.root, "datastores", "1")
        place.mkdir(parents=True, mode=0o711)
        source, kept = place / "data", place / "kept"
        tree = place / "tree"
        tree.mkdir()
        (tree / "file").write_text("from the image")
        source.touch()
        os.truncate(source, 16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-d", str(tree), str(source)], check=True)
        shutil.rmtree(tree)
        shutil.copy(source, kept)
        for path in (source, kept):
            shutil.chown(path, "root", "kvm")
        source.chmod(0o440)
        kept.chmod(0o660)
        before = source.read_bytes()
        image = Disk(2, "/media/one-disk.2", image="data", image_uuid="d", source=str(source), driver="raw", size=16)
        own = replace(image, disk_id=3, target="/srv", image="kept", source=str(kept), clone=False, save=True)
        shown = replace(image, disk_id=4, target="/opt/data", readonly=True)
        vm = with_disks(node.vm(7), image, own, shown)
        inside = Inside(node, vm)
        with nothing_left(node, vm):
            assert node.one(vm).error is None
            node.wait_for_line(vm, "nebula-guest: ready")
            paths = ("/media/one-disk.2", "/srv", "/opt/data")
            assert [inside(f"cat {path}/file") for path in paths] == ["from the image"] * 3
            assert inside("stat -c %u:%g /srv/file") == "0:0"
            inside("echo changed > /media/one-disk.2/file; echo changed > /srv/file; chown 33 /srv/file")
            assert "Read-only file system" in inside("echo changed > /opt/data/file", status=1)
            target = str(place / "saved")
            task = DiskTask(SAVE_AS, "t1", 2, consistency=CRASH, image_id=1, image="saved", target=target, format="raw")
            refused = node.one(vm, tasks=(task,)).error
            assert refused is not None and "copy_disk" in refused["found"] + refused["asked"]
            (saved,) = node.one(vm, "POWEROFF", tasks=(task,), shutdown_timeout=20).tasks
            assert (saved.error, saved.format) == (None, "raw")
        assert source.read_bytes() == before

        def read(path: str) -> str:
            done = subprocess.run(["debugfs", "-R", "cat /file", path], capture_output=True, text=True, check=True)
            return done.stdout.strip()

        assert (read(target), read(str(kept))) == ("changed", "changed")
        assert (
            "User:    33"
            in subprocess.run(
                ["debugfs", "-R", "stat /file", str(kept)], capture_output=True, text=True, check=True
            ).stdout
        )
        # A container with other users reads the same of it.
        other = with_disks(node.vm(8), replace(own, disk_id=2))
        with nothing_left(node, other):
            assert node.one(other).error is None
            node.wait_for_line(other, "nebula-guest: ready")
            assert Inside(node, other)("cat /srv/file; stat -c %u /srv/file").split() == ["changed", "33"]


@in_world
def test_a_disk_that_is_made_larger_has_room_for_more() -> None:
    with a_container_node() as node:
        place = Path(node.root, "datastores", "1")
        place.mkdir(parents=True, mode=0o711)
        source = place / "data"
        subprocess.run(["truncate", "--size", "16M", str(source)], check=True)
        subprocess.run(["mkfs.ext3", "-q", str(source)], check=True)
        shutil.chown(source, "root", "kvm")
        source.chmod(0o440)
        before = source.read_bytes()
        copy = Disk(5, "/copy", image="data", image_uuid="d", source=str(source), driver="raw", size=24)
        disks = (volatile(2, "/ext4"), volatile(3, "/ext2", fs="ext2"), volatile(4, "/xfs", fs="xfs", size=320), copy)
        vm = with_disks(node.vm(13), *disks)
        inside = Inside(node, vm)

        def sizes() -> list[int]:
            return [int(inside(f"df -m {disk.target} | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2")) for disk in disks]

        with nothing_left(node, vm):
            outcome = node.one(vm)
            assert outcome.error is None, outcome
            node.wait_for_line(vm, "nebula-guest: ready")
            made = sizes()
            # A copy that is larger than its image has a file system as large as that.
            assert made[3] > 18, made
            for disk in disks:
                inside(f"echo kept > {disk.target}/file; chown 33:34 {disk.target}/file")
            larger = with_disks(vm, *(replace(disk, size=disk.size + 48) for disk in disks))
            numbers = tuple(disk.disk_id for disk in disks)
            # While it runs they stay.
            assert node.one(larger, grown=numbers).fitted is False and sizes() == made
            outcome = node.one(larger, "POWEROFF", grown=numbers, shutdown_timeout=20)
            assert (outcome.error, outcome.fitted) == (None, True), outcome
            assert devices(node) == []
            assert not node.carry_out(node.plan(larger, wanted="POWEROFF", grown=numbers))[0].changed
            assert node.one(larger).error is None
            assert all(now >= had + 40 for had, now in zip(made, sizes())), (made, sizes())
            for disk in disks:
                assert inside(f"cat {disk.target}/file; stat -c %u:%g {disk.target}/file").split() == ["kept", "33:34"]
            # A run that was killed when the file had grown and its file system had not.
            assert node.one(larger, "POWEROFF", shutdown_timeout=20).error is None
            killed = with_disks(vm, *(replace(disk, size=disk.size + 80) for disk in disks))
            for disk in killed.disks[1:]:
                os.truncate(node.directory(vm) / f"disk.{disk.disk_id}", disk.size << 20)
            assert node.one(killed, "POWEROFF", grown=numbers).changed
            assert node.one(killed).error is None
            assert all(now >= had + 70 for had, now in zip(made, sizes())), (made, sizes())
            # One that can't stays as it was, and its machine says so; the others go on.
            assert node.one(killed, "POWEROFF", shutdown_timeout=20).error is None
            file = node.directory(vm) / "disk.2"
            kept = file.read_bytes()
            with file.open("r+b") as handle:
                # Its descriptors of groups: whatever is made of them, it is not for a program to decide.
                handle.seek(2048)
                handle.write(b"\xff" * 1024)
            more = with_disks(vm, replace(killed.disks[1], size=killed.disks[1].size + 16), *killed.disks[2:])
            outcome = node.one(more, "POWEROFF", grown=(2,))
            assert outcome.error is not None and outcome.error["kind"] == "Unsupported", outcome
            assert "disk 2" in outcome.error["asked"] and "file system as large as the disk" in outcome.error["asked"]
            assert "e2fsck ended with" in outcome.error["found"], outcome.error
            assert file.stat().st_size == len(kept) and devices(node) == []
            file.write_bytes(kept)
            assert node.one(killed).error is None
        assert source.read_bytes() == before


@in_world
def test_what_has_no_file_system_is_refused_and_leaves_nothing() -> None:
    with a_container_node() as node:
        source = Path(node.root, "plain")
        source.write_bytes(b"\0" * (1 << 20))
        shutil.chown(source, "root", "kvm")
        source.chmod(0o440)
        disk = Disk(3, "/srv", image="plain", image_uuid="p", source=str(source), driver="raw", size=1)
        vm = with_disks(node.vm(9), volatile(2), disk)
        with nothing_left(node, vm):
            outcome = node.one(vm)
            assert outcome.error is not None and outcome.state == "BOOT_FAILURE"
            assert (
                "disk 3: its file system: it has none as a whole"
                in f"{outcome.error['asked']}: {outcome.error['found']}"
            )
            assert devices(node) == [] and not Path(mounted_disks.PLACE, vm.uuid).exists()


def libvirtd_starts_anew(node: LxcNode) -> None:
    stop_libvirtd()
    # What it is to start it starts once in each boot of a host, and keeps here that it has.
    Path("/run/libvirt/lxc/autostarted").unlink(missing_ok=True)
    start_libvirtd(node)


@in_world
def test_a_host_that_boots_starts_containers_with_their_disks() -> None:
    with a_container_node() as node:
        changes = Changes(False)
        LxcDriver.prepare(changes, lambda facts: facts(NodeFile()))
        hook = str(disk_hook.PROGRAM.path)
        assert hook in changes.after
        again = Changes(False)
        LxcDriver.prepare(again, lambda facts: facts(NodeFile()))
        assert not again.after
        vm = with_disks(node.vm(11), volatile(2, "/srv"), volatile(3, fs="xfs", size=320, readonly=True))
        inside = Inside(node, vm)
        try:
            with nothing_left(node, vm):
                assert node.one(vm).error is None
                node.wait_for_line(vm, "nebula-guest: ready")
                inside("echo kept > /srv/file; chown 33 /srv/file")
                # As a power cut leaves it: nothing runs, and nothing is mounted.
                node.domain(vm).destroy()
                node.driver.let_go(Mark(node.catalog, vm.vm_id, vm.uuid))
                assert devices(node) == []
                libvirtd_starts_anew(node)
                wait_for(lambda: node.states() == {11: "RUNNING"}, "its start")
                found = inside("cat /srv/file; stat -c %u /srv/file; grep -c ' /media/one-disk.3 xfs ro,' /proc/mounts")
                assert found.split() == ["kept", "33", "1"]
                assert {"nodev", "nosuid"} <= set(inside("grep ' /srv ' /proc/mounts").split()[3].split(","))
                assert len(devices(node)) == 2
                assert node.one(vm).error is None
                assert not node.one(vm).changed
                # While it is here, the program stays.
                LxcDriver.give_back(Changes(False), NodeFile())
                assert os.path.exists(hook)
            LxcDriver.give_back(Changes(False), NodeFile())
            assert not os.path.exists(hook)
        finally:
            for path in (disk_hook.PROGRAM.path, start_hook.PROGRAM.path, veth_link.PATH):
                path.unlink(missing_ok=True)
            libvirtd_starts_anew(node)
