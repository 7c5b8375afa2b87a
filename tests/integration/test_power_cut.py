# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power goes: what a module reported as done is on the disk, and what it had begun is begun again.

nebula_root is on an ext4 in a file that nothing flushes by time. A copy of that file is what the disk would hold if the
power went at that moment: it is repaired as at boot, mounted (which replays the journal), and looked at."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent_here
from faults import Faults, unsettled
from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, RUN, Flow

TORTURE = bool(os.environ.get("NEBULA_TORTURE"))
# The sample is the same each time, so that what fails fails again; the whole tries others each time.
SEED = int(os.environ.get("NEBULA_SEED") or (uuid.uuid4().int % 10**6 if TORTURE else 1))
CUTS = 100 if TORTURE else 5
SIZE = 256 << 20
# Nobody is told that these are there: logs, which must not cost a sync for each line, and SQLite's index, made anew
# by the next who opens it.
NOT_PROMISED = ("vm.log", "console.log", "-shm", "-wal")


class Disk:
    """An ext4 of its own, mounted in this world only: gone with it."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True)
        self.file = place / "disk"
        self.point = place / "mounted"
        self.point.mkdir()
        self.copies = 0
        with self.file.open("wb") as file:
            file.truncate(SIZE)
        run("mkfs.ext4", "-q", "-F", "-J", "size=8", str(self.file))
        self.mount(self.file, self.point)

    def mount(self, file: Path, point: Path) -> None:
        run("mount", "-o", "loop,commit=600", str(file), str(point))

    def cut(self) -> Path:
        """What the disk would hold now."""
        self.copies += 1
        copy = self.file.with_name(f"copy-{self.copies}")
        run("cp", "--sparse=always", str(self.file), str(copy))
        # 1: the journal was replayed.
        assert subprocess.run(["e2fsck", "-p", str(copy)], check=False, capture_output=True).returncode in (0, 1)
        return copy

    @contextlib.contextmanager
    def after_a_cut(self) -> Iterator[Path]:
        """The disk as it would come up again, beside the real one."""
        copy, point = self.cut(), self.point.with_name("after")
        point.mkdir(exist_ok=True)
        self.mount(copy, point)
        try:
            yield point
        finally:
            run("umount", str(point))
            copy.unlink()

    def go_on_with(self, copy: Path) -> None:
        run("umount", str(self.point))
        self.file.unlink()
        self.file = copy
        self.mount(self.file, self.point)

    def close(self) -> None:
        run("umount", str(self.point))
        shutil.rmtree(self.point.parent)


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Everything that a module promises below the root: mode, and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.name.endswith(NOT_PROMISED):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            content = os.readlink(path)
        elif path.name == "nebula.db":
            content = catalog(path)
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(root))] = (mode, content)
    return found


def catalog(path: Path) -> str:
    """What it says, and that it is whole."""
    if not path.stat().st_size:
        return ""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return json.dumps([db.execute("PRAGMA integrity_check").fetchall(), *db.iterdump()])


def lost(flow: Flow, disk: Disk) -> list[str]:
    """What a power cut would take or change now."""
    with disk.after_a_cut() as point:
        there, here = tree(point / flow.root.name), tree(flow.root)
        return sorted(path for path in {*there, *here} if there.get(path) != here.get(path))


@contextlib.contextmanager
def on_a_disk(name: str) -> Iterator[tuple[Flow, Disk, Faults]]:
    place = Path(os.environ["NEBULA_WORLD"], f"{name}-{uuid.uuid4().hex[:8]}")
    disk = Disk(place)
    try:
        flow = Flow(disk.point / "nebula", place / "sources")
        yield flow, disk, Faults(flow.root, flow.place)
    finally:
        end_domains()
        subprocess.run(["ip", "link", "delete", "nbr0"], check=False, capture_output=True)
        disk.close()


def end_domains(defined: bool = True) -> None:
    listed = subprocess.run(["virsh", "list", "--all", "--name"], capture_output=True, text=True, check=True)
    for domain in listed.stdout.split():
        subprocess.run(["virsh", "destroy", domain], check=False, capture_output=True)
        if defined:
            subprocess.run(["virsh", "undefine", domain], check=False, capture_output=True)


# What a running machine gets: an empty disk and a NIC more, and a larger disk.
MORE = {
    "disks": [
        {"IMAGE": "base", "DEV_PREFIX": "vd"},
        {"TYPE": "FS", "FORMAT": "qcow2", "FS": "ext4", "SIZE": 12, "DEV_PREFIX": "vd"},
        {"TYPE": "SWAP", "SIZE": 4, "DEV_PREFIX": "vd"},
        {"TYPE": "FS", "SIZE": 4, "DEV_PREFIX": "vd"},
    ],
    "nics": [{"NETWORK": "Public"}, {"NETWORK": "Public"}],
    "vcpu": 2,
}
# What is taken while the machine runs, whose guest keeps it.
FEWER = {"disks": MORE["disks"][:1], "nics": MORE["nics"][:1], "detach": True}


# What a running machine gets and loses by a start that its list asks for.
LESS = {
    "disks": MORE["disks"][:1],
    "nics": MORE["nics"][:1],
    "memory": 48,
    "state": "rebooted",
    "hard": True,
    "detach": True,
}


def scenes(flow: Flow) -> Iterator[tuple[str, Any]]:
    """What is done, one after the other; each is a module that reports its end."""
    for step in flow.begin():
        yield step.module, lambda step=step: flow.take(step)
    web = {"name": "web-%i", "count": 2, "template": "web"}
    yield "nebula_vm", lambda: flow.decide(web)
    yield "nebula_deploy", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record", flow.record
    more = {**web, **MORE}
    yield "nebula_vm, attach", lambda: flow.decide(more)
    yield "nebula_deploy, attach", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record, attach", flow.record
    suspended = {"name": "web-1", "state": "suspended"}
    yield "nebula_vm, suspend", lambda: flow.decide(suspended)
    yield "nebula_deploy, suspend", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record, suspend", flow.record
    yield "nebula_vm, resume", lambda: flow.decide(more)
    yield "nebula_deploy, resume", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record, resume", flow.record
    less = {**more, **LESS}
    yield "nebula_vm, restart", lambda: flow.decide(less)
    yield "nebula_deploy, restart", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record, restart", flow.record
    gone = {**less, "state": "absent", "hard": True}
    yield "nebula_vm, end", lambda: flow.decide(gone)
    yield "nebula_deploy, end", lambda: flow.run("nebula_deploy", **(flow.plan() or {}))
    yield "nebula_vm_record, end", flow.record
    absent = [{"name": image["name"], "state": "absent"} for image in flow.images()]
    yield "nebula_template, remove", lambda: flow.run("nebula_template", name="web", state="absent")
    yield "nebula_image, remove", lambda: flow.run("nebula_image", images=json.dumps(absent[:2]))
    leave = {"manage_services": False, "state": "absent"}
    yield "nebula_node, remove", lambda: flow.run("nebula_node", **leave)
    yield "nebula_frontend, remove", lambda: flow.run("nebula_frontend", state="absent")


@pytest.mark.timeout(900)
@in_world
def test_what_was_reported_as_done_survives() -> None:
    """For each scene: what a cut right after its report would take, by the disk and by the order of its calls."""
    wrong = {}
    with on_a_disk("reported") as (flow, disk, faults):
        for name, act in scenes(flow):
            flow.environment = faults.environment()
            act()
            flow.environment = {}
            order = [text for text in unsettled(faults.calls) if not text.endswith(NOT_PROMISED)]
            if found := lost(flow, disk) + order:
                wrong[name] = found
        assert not flow.root.exists()
    assert not wrong, json.dumps(wrong, indent=1)


@in_world
def without_syncs(lies: str) -> dict[str, list[str]]:
    """The same with syncs that do nothing: "/" all of them, "/." those of files under a temporary name."""
    wrong = {}
    with on_a_disk("lied") as (flow, disk, faults):
        for name, act in scenes(flow):
            flow.environment = faults.environment(lies=lies)
            act()
            flow.environment = {}
            wrong[name] = lost(flow, disk) + unsettled(faults.calls)
            if name == "nebula_vm_record":
                break
            # Only this step's own syncs are in question.
            os.sync()
        flow.bring({"name": "web-%i", "state": "absent", "hard": True})
    return wrong


@pytest.mark.parametrize(
    ("lies", "module", "file"),
    [
        ("/", "nebula_frontend", "nebula.db"),
        ("/", "nebula_image", "nebula.db"),
        ("/", "nebula_vm", "nebula.db"),
        ("/", "nebula_deploy", "datastores/0/0/disk.0"),
        ("/.", "nebula_deploy", "datastores/0/0/deployment.0"),
        # ext4 itself waits for the content of a file that is replaced; others do not.
        ("/.", "nebula_deploy", "content of /datastores/0/0/vm.json"),
    ],
)
def test_the_test_notices_what_is_not_synced(lies, module, file):
    # One run for all that lie alike.
    if lies not in _WITHOUT:
        _WITHOUT[lies] = without_syncs(lies=lies)
    assert file in _WITHOUT[lies][module], _WITHOUT[lies]


_WITHOUT: dict[str, dict[str, list[str]]] = {}


@pytest.mark.timeout(1200)
@in_world
def test_power_cut_anywhere() -> None:
    """Power that goes in the middle of a module: after it is back the catalog is whole, no image is READY that is not,
    and the same commands converge."""
    chance = random.Random(SEED)
    with on_a_disk("anywhere") as (flow, disk, faults):
        for step in flow.begin():
            flow.take(step)
        for number in range(CUTS):
            kind = tuple(CALLS)[number % len(CALLS)]
            growing = {"attributes": {"VCPU_MAX": "2"}}
            wanted: dict[str, Any] = {"name": f"cut-{number}", "template": "web", **growing}
            images = {
                "images": json.dumps([{**image, "name": f"{image['name']}-{number}"} for image in flow.images()[1:]])
            }
            module, arguments = "nebula_image", images
            if kind in ("attach", "restart", "detach"):
                flow.bring(wanted)
                wanted |= MORE
            if kind in ("restart", "detach"):
                flow.bring(wanted)
                wanted |= LESS if kind == "restart" else FEWER
            if kind != "nebula_image":
                flow.decide(wanted)
                module, arguments = "nebula_deploy", {**(flow.plan() or {}), "detach_timeout": 1}
            at = chance.randrange(1, CALLS[kind])
            try:
                disk.go_on_with(cut_at(flow, disk, faults, at, module, arguments))
                flow.check_catalog()
                if kind != "nebula_image":
                    (vm,) = flow.bring(wanted)["vms"]
                    assert vm["state"] == "RUNNING"
                    if kind != "nebula_deploy":
                        assert (len(vm["disks"]), len(vm["nics"])) == ((4, 2) if kind == "attach" else (1, 1)), vm
                    assert (vm["memory"], vm["waits"]) == (48 if kind == "restart" else 32, []), vm
                    assert kind == "nebula_deploy" or vm["vcpu"] == 2, vm
                    flow.bring({**wanted, "state": "absent", "hard": True})
                else:
                    flow.run("nebula_image", **images)
                    assert not flow.run("nebula_image", **images)["changed"]
                flow.check_catalog()
                assert flow.left_behind() == []
                assert_consistent_here(str(flow.root), {HOST: str(flow.root)})
            except AssertionError as error:
                raise AssertionError(f"seed {SEED}: {module} cut at {at}, {faults.calls[-1:]}\n{error}") from error
    print(f"{CUTS} cuts")


# How many calls of its own each makes, at least.
CALLS = {"nebula_image": 130, "nebula_deploy": 160, "attach": 60, "restart": 60, "detach": 40}


def cut_at(flow: Flow, disk: Disk, faults: Faults, at: int, module: str, arguments: dict[str, Any]) -> Path:
    """The disk at the moment of the module's call number `at`, after which nothing goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, module],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=flow.surroundings(faults.environment(at, 0)),
        start_new_session=True,
    )
    if process.stdin is None:
        raise RuntimeError("no pipe")
    process.stdin.write(flow.told_to(module, arguments).encode())
    process.stdin.close()
    try:
        # Other threads go on until the signal reaches them: the call need not be among the last.
        wait_for(lambda: faults.reached or process.poll() is not None, "the call", 120)
        return disk.cut()
    finally:
        for pid in faults.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        end_domains(defined=False)
