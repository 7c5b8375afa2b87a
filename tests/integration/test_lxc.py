# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans carried out on a real libvirtd with its LXC driver: the life of containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import init_process
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import RANGES, id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CRASH, SAVE_AS, DiskTask, VmOutcome
from ansible_collections.nebula.provision.tests.integration.lxc_node import a_container_node
from ansible_collections.nebula.provision.tests.tools.exchanging import exchanging, hostile_pair


def fine(outcome: VmOutcome) -> None:
    assert outcome.error is None, outcome


@in_world
def test_created_again_ended_and_ended_again() -> None:
    with a_container_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(3)]
        plan = node.plan(*vms)
        outcomes = node.apply(plan)
        assert [(o.vm_id, o.state, o.changed, o.error) for o in outcomes] == [
            (i, "RUNNING", True, None) for i in range(3)
        ]
        again = node.apply(plan)
        assert [(o.state, o.changed, o.error) for o in again] == [("RUNNING", False, None)] * 3
        for vm in vms:
            node.wait_for_line(vm, f"nebula-guest: hostname={vm.name}")
            node.wait_for_line(vm, "nebula-guest: ready")
            root = node.directory(vm) / "disk.0"
            assert root.stat().st_uid == (root / "bin/busybox").stat().st_uid == id_range(vm.vm_id).start
        observed = node.observed()
        assert {seen.vm_id: (seen.state, seen.uuid, seen.generation) for seen in observed.vms} == {
            vm.vm_id: ("RUNNING", vm.uuid, 1) for vm in vms
        }
        end = node.plan(*vms, wanted="DONE", hard=True)
        assert [(o.state, o.changed) for o in node.apply(end)] == [("DONE", True)] * 3
        assert [(o.state, o.changed) for o in node.apply(end)] == [("DONE", False)] * 3
        assert os.listdir(Path(node.root, "datastores", "0")) == []
        assert node.observed().vms == ()


@in_world
def test_two_containers_of_a_host_never_have_the_same_users() -> None:
    with a_container_node() as node:
        vm, twin = node.vm(2), node.vm(2 + RANGES)
        node.one(vm)
        outcome = node.one(twin)
        assert outcome.state == "PROLOG_FAILURE" and outcome.error is not None
        assert "machine 2 is on this host, and has the same" in outcome.error["found"]
        for each in (twin, vm):
            fine(node.one(each, "DONE", hard=True))
        assert node.one(twin).state == "RUNNING"
        node.one(twin, "DONE", hard=True)


@in_world
def test_off_on_and_rebooted() -> None:
    with a_container_node() as node:
        vm = node.vm(4)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        (node.directory(vm) / "disk.0/etc/kept").touch()
        fine(node.one(vm, "POWEROFF", shutdown_timeout=60))
        assert node.states() == {4: "POWEROFF"}
        fine(node.one(vm))
        node.wait_for_line(vm, "nebula-guest: ready", 2)
        fine(node.one(vm, operation="reboot", shutdown_timeout=60))
        node.wait_for_line(vm, "nebula-guest: ready", 3)
        assert (node.directory(vm) / "disk.0/etc/kept").exists()
        fine(node.one(vm, "DONE", shutdown_timeout=60))


@in_world
def test_a_console_that_a_killed_run_left_unread_is_read_by_the_next() -> None:
    with a_container_node() as node:
        vm = node.vm(12)
        node.one(vm, "POWEROFF")
        # As far as a run gets that is killed once libvirt has started the container.
        node.domain(vm).create()
        node.domain(vm).setAutostart(1)
        assert node.console(vm) == ""
        outcome = node.one(vm)
        assert (outcome.state, outcome.error) == ("RUNNING", None)
        node.wait_for_line(vm, "nebula-guest: ready")
        node.one(vm, "DONE", hard=True)


@in_world
def test_its_share_of_processors_changes_while_it_runs() -> None:
    with a_container_node() as node:
        vm = node.vm(13, cpu=0.5, cpu_limit=50)
        fine(node.one(vm))
        pid = node.domain(vm).ID()
        place = next(
            line.rpartition(":")[2]
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            if "cpu" in line.split(":")[1].split(",")
        )
        for cpu, limit, expected in ((0.5, 50, "50000"), (0.25, 20, "20000"), (1.0, 0, "-1")):
            outcome = node.one(replace(vm, cpu=cpu, cpu_limit=limit))
            fine(outcome)
            shown = Path("/sys/fs/cgroup/cpu" + place)
            assert (shown / "cpu.cfs_quota_us").read_text().strip() == expected
            assert int((shown / "cpu.shares").read_text()) == int(1024 * cpu) or cpu == 0.5, (cpu, limit)
            assert node.domain(vm).ID() == pid
        fine(node.one(vm, "DONE", hard=True))


@in_world
def test_its_memory_changes_while_it_runs() -> None:
    with a_container_node() as node:
        vm = node.vm(14)
        fine(node.one(vm))
        node.wait_for_line(vm, "nebula-guest: ready")
        pid = node.domain(vm).ID()
        place = next(
            line.rpartition(":")[2]
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            if "memory" in line.split(":")[1].split(",")
        )
        group = Path("/sys/fs/cgroup/memory" + place)

        def limits() -> list[int]:
            names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            return [int((group / name).read_text()) >> 20 for name in names]

        unlimited = limits()[1]
        assert limits() == [64, unlimited]
        for memory, swap, expected in (
            (256, "", [256, unlimited]),
            (256, "32", [256, 288]),
            (512, "32", [512, 544]),
            (48, "16", [48, 64]),
            (64, "", [64, unlimited]),
            (96, "0", [96, 96]),
        ):
            changed = replace(vm, memory=memory, container={"LXC_SWAP": swap} if swap else {})
            outcome = node.one(changed)
            fine(outcome)
            assert outcome.changed and limits() == expected and node.domain(vm).ID() == pid, (memory, swap)
            assert not node.one(changed).changed
            assert [seen.memory for seen in node.observed().vms] == [memory]
        # Its own view of it, and what it takes is more than it would have.
        inside = [
            "nsenter",
            "-t",
            str(init_process.init_of_controller(pid)),
            "-a",
            "-S",
            "0",
            "-G",
            "0",
            "/bin/sh",
            "-c",
        ]
        shown = subprocess.run([*inside, "grep MemTotal /proc/meminfo"], capture_output=True, text=True, check=True)
        assert int(shown.stdout.split()[1]) == 96 << 10, shown.stdout
        fill = "mkdir -p /full; mount -t tmpfs tmpfs /full && dd if=/dev/zero of=/full/x bs=1M count=48 2> /dev/null"
        # As a process of its own, whose memory is the container's.
        join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        subprocess.run(["sh", "-c", join, "sh", *inside, fill], check=True)
        small = replace(vm, memory=16, container={"LXC_SWAP": "0"})
        outcome = node.one(small)
        assert outcome.error is not None and "more than that in use" in outcome.error["remedy"], outcome
        assert limits() == [96, 96] and node.states() == {14: "RUNNING"}
        subprocess.run([*inside, "umount /full"], check=True)
        fine(node.one(small))
        assert limits() == [16, 16]
        # Its reboot is another start, with what it was given.
        fine(node.one(small, operation="reboot", shutdown_timeout=30))
        assert [seen.memory for seen in node.observed().vms] == [16]
        fine(node.one(vm, "DONE", hard=True))


@in_world
def test_what_a_container_has_written_becomes_an_image_of_others() -> None:
    with a_container_node() as node:
        vm = node.vm(7)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        written = node.directory(vm) / "disk.0/etc/kept"
        written.write_text("by the first")
        os.chown(written, id_range(7).start + 33, id_range(7).start)
        target = f"{node.root}/datastores/1/saved"
        os.makedirs(os.path.dirname(target), mode=0o711)
        task = DiskTask(SAVE_AS, "t1", 0, consistency=CRASH, image_id=1, image="saved", target=target, format="tar")
        (refused,) = node.one(vm, tasks=(task,)).tasks
        assert refused.error is not None and "Power it off first" in refused.error["remedy"]
        (saved,) = node.one(vm, "POWEROFF", tasks=(task,), shutdown_timeout=60).tasks
        assert (saved.error, saved.format) == (None, "tar")
        disk = replace(vm.disks[0], source=target, size=saved.size)
        other = node.vm(8, disks=(disk,))
        fine(node.one(other))
        node.wait_for_line(other, "nebula-guest: hostname=web-8")
        kept = node.directory(other) / "disk.0/etc/kept"
        assert (kept.read_text(), kept.stat().st_uid) == ("by the first", id_range(8).start + 33)
        for each in (vm, other):
            node.one(each, "DONE", hard=True)


@in_world
def test_frozen_with_its_memory_and_thawed() -> None:
    with a_container_node() as node:
        vm = node.vm(10)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        init = init_process.init_of_controller(node.domain(vm).ID())
        for changed in (True, False):
            outcome = node.one(vm, "SUSPENDED")
            assert (outcome.state, outcome.changed, outcome.error) == ("SUSPENDED", changed, None)
        (seen,) = node.observed().vms
        # It takes of its host what it took before, and its host starts it anew only if it is wanted.
        assert (seen.state, seen.memory) == ("SUSPENDED", 64) and not node.domain(vm).autostart()
        node.assert_consistent()
        assert init is not None and frozen(init)
        kept = DiskTask(SAVE_AS, "t1", 0, consistency=CRASH, image_id=1, image="saved", target="", format="tar")
        kept = replace(kept, target=f"{node.root}/datastores/1/saved")
        os.makedirs(os.path.dirname(kept.target), mode=0o711)
        (saved,) = node.one(vm, "SUSPENDED", tasks=(kept,)).tasks
        assert saved.error is None and Path(kept.target).stat().st_size > 1 << 20
        outcome = node.one(vm)
        assert (outcome.state, outcome.changed, outcome.error) == ("RUNNING", True, None)
        assert init_process.init_of_controller(node.domain(vm).ID()) == init and not frozen(init)
        assert node.domain(vm).autostart()
        # It is asked to end, and ended, as one that was never frozen.
        for orders in ({"shutdown_timeout": 60}, {"hard": True}):
            fine(node.one(vm, "SUSPENDED"))
            outcome = node.one(vm, "POWEROFF", **orders)
            fine(outcome)
            assert outcome.state == "POWEROFF"
            refused = node.one(vm, "SUSPENDED")
            assert refused.error is not None and "only a running machine" in refused.error["found"]
            fine(node.one(vm))
        fine(node.one(vm, "SUSPENDED"))
        fine(node.one(vm, "DONE", hard=True))


def frozen(pid: int) -> bool:
    """Whether the freezer of cgroups has it."""
    groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
    path = next(line.split(":", 2)[2] for line in groups if "freezer" in line.split(":")[1].split(","))
    return Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text(encoding="ascii").strip() == "FROZEN"


@in_world
def test_each_container_is_held_to_its_own() -> None:
    with a_container_node() as node:
        vm = node.vm(9)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")

        def inside(command: str) -> str:
            init = init_process.init_of_controller(node.domain(vm).ID())
            argv = ["nsenter", "-t", str(init), "-a", "-S", "0", "-G", "0", "-r", "-w"]
            argv += ["/bin/sh", "-c", command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": "/bin"})
            return done.stdout + done.stderr

        assert inside("id -u") == "0\n", inside("id -u")
        # Its context can be read and not written, and no device of the host can be made.
        assert "SET_HOSTNAME='web-9'" in inside("cat /context/context.sh")
        refused = inside("echo x > /context/context.sh")
        assert "Read-only file system" in refused, refused
        refused = inside("mknod /tmp/disk b 254 0")
        assert "Operation not permitted" in refused, refused
        # It sees no process, interface or file of the host.
        assert "libvirtd" not in inside("ps") and inside("ls /sys/class/net").split() == ["lo"]
        assert inside("ls /root").split() == [] and "No such file" in inside("ls /etc/libvirt")
        assert inside("cat /proc/1/uid_map").split() == ["0", str(id_range(9).start), "65536"]
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_context_that_changes_is_there_for_a_container_that_runs() -> None:
    with a_container_node() as node:
        vm = node.vm(5)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        place = node.directory(vm) / "disk.1"
        assert "web-5" in (place / "context.sh").read_text()
        assert (place.stat().st_mode & 0o777, (place / "context.sh").stat().st_mode & 0o777) == (0o550, 0o440)
        other = node.vm(5, context=node.vm(6).context)
        assert node.one(other).changed
        assert "web-6" in (place / "context.sh").read_text()
        node.one(other, "DONE", hard=True)


@in_world
def test_root_of_a_container_changes_nothing_of_its_context_whatever_it_does_to_the_mount() -> None:
    with a_container_node() as node:
        vm = node.vm(9)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        place = node.directory(vm) / "disk.1"
        before = (place / "context.sh").read_bytes()
        init = init_process.init_of_controller(node.domain(vm).ID())

        def inside(command: str, group: str = "0") -> str:
            argv = ["nsenter", "-t", str(init), "-a", "-S", "0", "-G", group, "-r", "-w", "/bin/sh", "-c", command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": "/bin"})
            return done.stdout + done.stderr

        # It can make the mount writable, and has no right to write in what is mounted.
        script = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for name, flag in (("user", 1 << 28), ("mnt", 1 << 17)):
    fd = os.open(f"/proc/{sys.argv[1]}/ns/{name}", os.O_RDONLY)
    spaces = globals().setdefault("spaces", []); spaces.append((fd, flag))
for fd, flag in spaces:
    assert libc.setns(fd, flag) == 0
os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
assert libc.mount(None, b"/context", None, ctypes.c_ulong(0x20 | 0x1000), None) == 0, ctypes.get_errno()
print("writable")
"""
        argv = [sys.executable, "-I", "-S", "-c", script, str(init)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.stdout == "writable\n", done.stderr
        for command in (
            *("echo x > /context/context.sh", "echo x > /context/new", "rm -f /context/context.sh"),
            *("chmod 0777 /context", "chown 0 /context", "mkdir /context/keys", "mv /context/context.sh /context/c"),
        ):
            refused = inside(command)
            assert "ermission denied" in refused or "not permitted" in refused, (command, refused)
        assert (place / "context.sh").read_bytes() == before
        # It reads it all the same, also with another group; its other users do not.
        assert inside("cat /context/context.sh", group="7") == before.decode()
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_context_of_a_version_before_is_taken_from_a_container_that_runs_and_races() -> None:
    with a_container_node() as node:
        vm = node.vm(9)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        number, start = node.domain(vm).ID(), id_range(9).start
        directory, place = node.directory(vm), node.directory(vm) / "disk.1"
        host = Path(node.root, "host")
        host.mkdir(mode=0o700)
        for each in range(100):
            (host / f"file{each}").write_text("host's", encoding="utf-8")
        inode = place.stat().st_ino
        for attempt in range(5):
            # As they were made before.
            directory.chmod(0o711)
            subprocess.run(["setfacl", "-b", "-R", str(place)], check=False, capture_output=True)
            for path in (place, place / "context.sh"):
                os.chown(path, start, start)
            place.chmod(0o700)
            inner, link = hostile_pair(place, host, start)
            with exchanging(inner, link, start):
                changed = node.vm(9, context=node.vm(20 + attempt).context)
                fine(node.one(changed))
            assert sorted(os.listdir(host)) == sorted(f"file{each}" for each in range(100))
            assert all(path.stat().st_uid == 0 for path in host.iterdir())
            assert os.listdir(place) == ["context.sh"] and place.stat().st_uid == 0
            assert f"web-{20 + attempt}" in (place / "context.sh").read_text(encoding="utf-8")
        # The same container with the same directory; and that of the machine is closed again.
        assert (node.domain(vm).ID(), place.stat().st_ino) == (number, inode)
        found = directory.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o710, 0, start)
        node.one(vm, "DONE", hard=True)


@in_world
def test_other_users_of_the_host_get_nowhere_in_a_machines_directory() -> None:
    with a_container_node() as node:
        vm = node.vm(9)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        root = node.directory(vm) / "disk.0"
        (root / "open").mkdir()
        (root / "open").chmod(0o777)
        command = f"ls {root}; cat {root}/bin/busybox; touch {root}/open/planted; {root}/bin/busybox id"
        argv = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "sh", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.stdout == "" and done.stderr.count("ermission denied") == 4, done.stderr
        assert os.listdir(root / "open") == []
        # It is started again with its directory closed.
        node.one(vm, "POWEROFF", hard=True)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready", times=2)
        node.one(vm, "DONE", hard=True)


@in_world
def test_an_interface_that_an_earlier_run_left_is_told_with_what_to_do() -> None:
    """libvirt may take it away itself after that."""
    with a_container_node() as node:
        subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
        try:
            subprocess.run(["ip", "link", "add", "one-3-0", "type", "bridge"], check=True)
            vm = node.vm(3, nics=(Nic(0, 0, "net", "nbrtest", "02:00:0a:42:00:01", "10.66.0.1", target="one-3-0"),))
            error = str(node.one(vm).error)
            assert "one-3-0" in error and "ip -details link show one-3-0" in error
            subprocess.run(["ip", "link", "delete", "one-3-0"], check=False, capture_output=True)
            assert node.one(vm).error is None
            node.one(vm, "DONE", hard=True)
        finally:
            subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)


@in_world
def test_nics_come_to_a_container_that_runs_and_go() -> None:
    def nic(nic_id: int) -> Nic:
        mac = f"02:00:0a:42:00:0{nic_id}"
        return Nic(nic_id, 0, "net", "nbrtest", mac, f"10.66.0.{nic_id}", target=f"one-3-{nic_id}")

    def inside() -> set[tuple[str, str]]:
        """Names and addresses of the container's interfaces."""
        init = init_process.init_of_controller(node.domain(vm).ID())
        argv = ["nsenter", f"--net=/proc/{init}/ns/net", "ip", "-json", "link", "show"]
        links = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
        return {(each["ifname"], each["address"]) for each in links if each["link_type"] != "loopback"}

    with a_container_node() as node:
        subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
        try:
            vm = node.vm(3, nics=(nic(0),))
            assert node.one(vm).error is None
            node.wait_for_line(vm, "nebula-guest: ready")
            first = ("eth0", "02:00:0a:42:00:00")
            assert inside() == {first}
            init = init_process.init_of_controller(node.domain(vm).ID())
            more = replace(vm, nics=(nic(0), nic(1), nic(2)))
            outcome = node.one(more, refitted=True)
            assert (outcome.error, outcome.changed, outcome.fitted) == (None, True, True)
            second, third = ("eth1", "02:00:0a:42:00:01"), ("eth2", "02:00:0a:42:00:02")
            assert inside() == {first, second, third}
            for number in range(3):
                assert Path(f"/sys/class/net/one-3-{number}/master").resolve().name == "nbrtest"
            assert not node.one(more).changed
            # What a run left that was killed before it had named the container's end.
            in_it = ["nsenter", f"--net=/proc/{init}/ns/net", "ip", "link", "set", "dev"]
            subprocess.run([*in_it, "eth2", "name", "vnet0"], check=True)
            assert node.carry_out(node.plan(more))[0].changed and third in inside()
            # What the container itself has renamed is its own.
            subprocess.run([*in_it, "eth1", "name", "lan"], check=True)
            assert not node.one(more).changed and ("lan", second[1]) in inside()
            fewer = replace(vm, nics=(nic(2),))
            outcome = node.one(fewer, refitted=True, agreed=True)
            assert (outcome.error, outcome.changed, outcome.fitted) == (None, True, True)
            assert inside() == {third}
            assert init_process.init_of_controller(node.domain(vm).ID()) == init
            # It starts anew with what it has by now.
            assert node.one(fewer, "POWEROFF", hard=True).error is None
            assert node.one(fewer).error is None
            assert inside() == {third}
            node.one(fewer, "DONE", hard=True)
            assert not list(Path("/sys/class/net").glob("one-3-*"))
        finally:
            subprocess.run(["ip", "link", "del", "nbrtest"], check=True)
