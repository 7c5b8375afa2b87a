# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full, over quota, or fails, at each call that needs it: told clearly, nothing half done called done,
and once it is mended the same command converges and leaves nothing behind.

Each `make test` tries a sample of the calls of every module; NEBULA_TORTURE=1 tries them all. NEBULA_SEED repeats one.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import web_server
from faults import Faults
from in_world import in_bare_world, in_world

from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, TEMPLATE, Flow, Step

TORTURE = bool(os.environ.get("NEBULA_TORTURE"))
SEED = int(os.environ.get("NEBULA_SEED") or uuid.uuid4().int % 10**6)
# Of each module's calls, for each way of failing.
SAMPLE = 1
# All calls of all modules take long.
LIMIT = 4 * 3600 if TORTURE else 900
# Module, way and call that once left something wrong: tried in each run.
FOUND = (
    ("nebula_frontend", "EIO", "create /nebula.db-journal"),
    ("nebula_node", "ENOSPC", "fsync /datastores"),
    ("nebula_image", "ENOSPC", "fdatasync /nebula.db-wal"),
)
CHUNK = 256 << 10
# How the disk fails → with what, whether that stays, what users are told.
FULL = ("ENOSPC", True, "NoSpace")
WAYS = (FULL, ("EDQUOT", True, "NoSpace"), ("EIO", False, "StorageFailed"))
RUNNING = {"generation": 1, "state": "RUNNING", "changed": True, "error": None, "log": []}
REMEDIES = ("Make room", "dmesg")


def new_flow(name: str) -> tuple[Flow, Faults]:
    place = Path(os.environ["NEBULA_WORLD"], f"{name}-{uuid.uuid4().hex[:8]}")
    flow = Flow(place / "nebula", place / "sources")
    return flow, Faults(flow.root, flow.place)


def chosen(calls: list[str], count: int) -> list[int]:
    """Numbers of calls to fail: all, or some of each kind of file."""
    able = [n for n, call in enumerate(calls, 1) if call.split(" ")[0] not in ("unlink", "rmdir")]
    return able if TORTURE else sorted(random.Random(SEED).sample(able, min(count, len(able))))


def check_told(result: dict[str, Any], kind: str, root: Path) -> None:
    for error in [result["error"]] if "error" in result else result["errors"]:
        text = json.dumps(error)
        assert error["kind"] == kind, text
        assert any(remedy in error["remedy"] for remedy in REMEDIES), text
        assert str(root) in error["asked"], text
    for words in ("sqlite", "Traceback", "database", "Errno", "fault of nebula.provision"):
        assert words not in result["msg"], result["msg"]


def put(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target, symlinks=True)


def broken(
    flow: Flow, faults: Faults, step: Step, changes: bool = False, before_again: Callable[[], None] = lambda: None
) -> int:
    """The step, failing at many of its calls, each time from the same state; how often. changes: also done again.
    before_again: what somebody else does before it is done again."""
    arguments, before = step.arguments(), flow.place / "before"
    put(flow.root, before)
    flow.environment = faults.environment()
    flow.run(step.module, **arguments)
    calls, times = faults.calls, 0
    for name, stays, kind in WAYS:
        known = [at for at, call in enumerate(calls, 1) if (step.module, name, call) in FOUND]
        for at in sorted({*chosen(calls, SAMPLE), *known}):
            put(before, flow.root)
            flow.environment = faults.environment(at, getattr(errno, name), stays)
            what = f"seed {SEED}: {step.module} with {name} at {at}, {calls[at - 1]}"
            try:
                result = flow.attempt(step.module, **arguments)
                times += 1
                flow.environment = {}
                if result.get("failed"):
                    check_told(result, kind, flow.root)
                flow.check_catalog()
                before_again()
                flow.run(step.module, **arguments)
                flow.check_catalog()
                assert flow.left_behind() == []
                assert flow.run(step.module, **arguments)["changed"] == changes
            except AssertionError as error:
                raise AssertionError(f"{what}\n{error}") from error
    put(before, flow.root)
    flow.environment = {}
    flow.run(step.module, **arguments)
    return times


@pytest.mark.timeout(LIMIT)
@in_bare_world
def test_each_module_on_the_front_end() -> None:
    flow, faults = new_flow("front-end")
    try:
        times = sum(broken(flow, faults, step) for step in flow.begin() if step.module != "nebula_node_network")
        with web_server.serve() as site:
            site.files["/disk"] = flow.content
            fetched = {"images": json.dumps([{"name": "fetched", "path": site.url + "/disk"}])}
            times += broken(flow, faults, Step("nebula_image", lambda: fetched))
        times += broken(flow, faults, Step("nebula_image", lambda: {"name": "plain", "state": "absent"}))
        backups = {"directory": str(flow.root / "backups")}
        times += broken(flow, faults, Step("nebula_backup", lambda: backups), changes=True)
        file = flow.answers["nebula_backup"]["backup"]["path"]
        flow.run("nebula_template", name="later", template=TEMPLATE)
        times += broken(flow, faults, Step("nebula_restore", lambda: {"file": file, "observed": []}))
        iso = {"dest": str(flow.root / "extra.iso"), "context": json.dumps({"A": "x" * 10_000})}
        times += broken(flow, faults, Step("nebula_context_iso", lambda: iso))
        wanted = {"vms": json.dumps([{"name": "web-%i", "count": 2, "template": "web"}]), "hosts": [HOST]}
        times += broken(flow, faults, Step("nebula_vm", lambda: wanted))
        came = {"outcomes": [{**RUNNING, "vm_id": vm["id"]} for vm in flow.answers["nebula_vm"]["vms"]]}
        recorded = {"outcomes": json.dumps({HOST: came})}
        print(f"{times + broken(flow, faults, Step('nebula_vm_record', lambda: recorded))} failures")
    finally:
        shutil.rmtree(flow.root.parent)


@pytest.mark.timeout(LIMIT)
@in_bare_world
def test_uploads_from_the_control_node() -> None:
    """What the control node sends in chunks: a chunk that did not fit is sent again, and none is taken for there."""
    flow, faults = new_flow("upload")
    identity = "0" * 64
    for step in flow.begin()[:1]:
        flow.take(step)
    chunks = [flow.content[:CHUNK], flow.content[CHUNK:]]
    for number, chunk in enumerate(chunks):
        file = flow.place / "chunk"
        file.write_bytes(chunk)
        sent = {"_upload": json.dumps({"identity": identity, "offset": number * CHUNK, "chunk": str(file)})}
        flow.environment = faults.environment()
        flow.run("nebula_image", **sent)
        calls = faults.calls
        upload = flow.root / "datastores" / "1" / f".upload-{identity}"
        for name, stays, kind in WAYS:
            for at in chosen(calls, SAMPLE):
                with upload.open("ab") as file:
                    file.truncate(number * CHUNK)
                flow.environment = faults.environment(at, getattr(errno, name), stays)
                result = flow.attempt("nebula_image", **sent)
                flow.environment = {}
                if result.get("failed"):
                    check_told(result, kind, flow.root)
                    assert not upload.exists() or os.path.getsize(upload) == number * CHUNK
                assert flow.run("nebula_image", **sent)["received"] == number * CHUNK + len(chunk)
                assert upload.read_bytes() == flow.content[: number * CHUNK + len(chunk)]
    images = json.dumps([{"name": "sent", "path": "/on/the/control/node"}])
    used = {"images": images, "_upload": json.dumps({"use": {"sent": identity}})}

    def send() -> None:
        """As the action plugin does: what was stored and could not be noted is asked for once more."""
        asked = flow.run("nebula_image", images=images, _upload=json.dumps({"ask": {"sent": identity}}))
        if "sent" in asked.get("missing", ()) and not upload.exists():
            upload.write_bytes(flow.content)

    broken(flow, faults, Step("nebula_image", lambda: used), before_again=send)
    shutil.rmtree(flow.root.parent)


def machine_broken(flow: Flow, faults: Faults) -> int:
    """A machine made while its node's disk fails; then told, made after all, and ended. How often."""
    flow.bring({"name": "measured", "template": "web"})
    flow.decide({"name": "measured", "state": "absent", "hard": True})
    flow.run("nebula_deploy", **flow.plan())
    flow.record()
    flow.decide({"name": "measured", "template": "web"})
    flow.environment = faults.environment()
    flow.run("nebula_deploy", **flow.plan())
    flow.environment, calls = {}, faults.calls
    flow.record()
    flow.bring({"name": "measured", "state": "absent", "hard": True})
    tries = [(way, at) for way, count in zip(WAYS, (2, 1, 1)) for at in chosen(calls, count)]
    for (name, stays, kind), at in tries:
        wanted = {"name": f"{name.lower()}-{at}", "template": "web"}
        try:
            flow.decide(wanted)
            flow.environment = faults.environment(at, getattr(errno, name), stays)
            result = flow.attempt("nebula_deploy", **flow.plan())
            flow.environment = {}
            told = flow.record()["vms"][0]
            if result.get("failed"):
                check_told(result, kind, flow.root)
                # A plan that was refused as a whole has no outcomes: the node did not answer.
                assert told["error"], told
                told = flow.bring(wanted)["vms"][0]
            assert (told["state"], told["error"]) == ("RUNNING", "")
            assert flow.left_behind() == []
            check_disks(Path(told["directory"]))
            flow.bring({**wanted, "state": "absent", "hard": True})
            assert os.listdir(flow.root / "datastores" / "0") == []
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}: {name} at {at}, {calls[at - 1]}\n{error}") from error
    return len(tries)


def check_disks(directory: Path) -> None:
    for number, kind in ((0, "qcow2"), (1, "qcow2")):
        check = ["qemu-img", "check", "-q", "-U", "-f", kind, str(directory / f"disk.{number}")]
        subprocess.run(check, check=True, capture_output=True)
    assert b"SWAPSPACE2" in (directory / "disk.2").read_bytes()[:4096]
    assert (directory / "disk.3").read_bytes()[0x8001:0x8006] == b"CD001"
    assert "<domain" in (directory / "deployment.0").read_text(encoding="utf-8")


@pytest.mark.timeout(LIMIT)
@in_world
def test_machines_on_a_node() -> None:
    """Overlays, volatile disks, the context, deployment files, records: the node's part, and the decisions about it."""
    flow, faults = new_flow("machines")
    try:
        for step in flow.begin():
            flow.take(step)
        print(f"{machine_broken(flow, faults)} failures")
    finally:
        flow.environment = {}
        subprocess.run(["ip", "link", "delete", "nbr0"], check=False, capture_output=True)
        shutil.rmtree(flow.root.parent)


class Small:
    """A file system in memory, of this size and number of files, mounted in this world only."""

    def __init__(self, flow: Flow, options: str) -> None:
        self.flow = flow
        # nebula_root is below, so that it is made there too.
        self.point = flow.root.parent / f"small-{uuid.uuid4().hex[:8]}"
        self.point.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", str(self.point)], check=True)
        flow.root = self.point / "nebula"

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.point)], check=True)

    def fill(self, left: int) -> Path:
        """A file that leaves so many bytes."""
        found, filler = os.statvfs(self.point), self.point / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - left))
        return filler

    def close(self) -> None:
        subprocess.run(["umount", str(self.point)], check=True)


def all_steps(flow: Flow) -> tuple[int, dict[str, Any] | None]:
    """How many steps went well, and the result of the one that did not."""
    done = 0
    for step in flow.begin():
        if step.module == "nebula_node_network":
            continue
        result = flow.attempt(step.module, **step.arguments())
        if result.get("failed"):
            return done, result
        done += 1
    return done, None


@in_bare_world
def test_less_and_less_room() -> None:
    """Less and less room, down to none; then room again."""
    flow, _faults = new_flow("small")
    reached = []
    for left in (0, 4 << 10, 64 << 10, 256 << 10, 2 << 20, 63 << 20):
        small = Small(flow, "size=160m")
        try:
            filler = small.fill(left)
            done, result = all_steps(flow)
            assert result is not None, left
            check_told(result, "NoSpace", small.point)
            flow.check_catalog()
            filler.unlink()
            assert all_steps(flow)[1] is None
            flow.check_catalog()
            assert flow.left_behind() == []
            reached.append(done)
        finally:
            small.close()
    shutil.rmtree(flow.place.parent)
    assert reached == sorted(reached) and reached[0] == 0 and reached[-1] > 2, reached


@in_bare_world
def test_no_file_more() -> None:
    """Room enough, and no inode for one more file."""
    flow, _faults = new_flow("files")
    reached = []
    for files in range(2, 30, 3):
        small = Small(flow, f"size=160m,nr_inodes={files}")
        try:
            done, result = all_steps(flow)
            reached.append(done)
            if result is None:
                break
            check_told(result, "NoSpace", small.point)
            # Whoever opens a catalog makes files beside it.
            small.remount("nr_inodes=1000")
            flow.check_catalog()
            assert all_steps(flow)[1] is None
            assert flow.left_behind() == []
        finally:
            small.close()
    shutil.rmtree(flow.place.parent)
    assert reached == sorted(reached) and reached[0] == 0 and reached[-1] == 6, reached


@in_bare_world
def test_a_file_system_that_is_read_only() -> None:
    flow, _faults = new_flow("read-only")
    small = Small(flow, "size=160m")
    try:
        small.remount("ro")
        check_told(all_steps(flow)[1] or {}, "StorageFailed", small.point)
        small.remount("rw")
        assert all_steps(flow)[1] is None
        small.remount("ro")
        for module, arguments in (
            ("nebula_network", {"name": "Public", "state": "absent"}),
            ("nebula_image", {"name": "more", "size": 4}),
            ("nebula_template", {"name": "web", "state": "absent"}),
            ("nebula_host", {"name": HOST, "state": "disabled"}),
        ):
            check_told(flow.attempt(module, **arguments), "StorageFailed", flow.root)
        small.remount("rw")
        assert all_steps(flow)[1] is None
    finally:
        small.close()
    shutil.rmtree(flow.place.parent)


@in_bare_world
def test_every_umask_makes_the_same_modes() -> None:
    """Owners and modes below the root, made under each umask; and a root that belongs to somebody else."""
    found = []
    for umask in (0o000, 0o022, 0o077, 0o777):
        flow, _faults = new_flow("umask")
        flow.umask = umask
        assert all_steps(flow)[1] is None
        assert {path.lstat().st_uid for path in [flow.root, *flow.root.rglob("*")]} == {0}
        modes = {re.sub("[0-9a-f]{32}", "image", path): mode for path, mode in flow.modes().items()}
        found.append({**modes, "": stat.S_IMODE(flow.root.stat().st_mode)})
        for owner, wrong in ((65534, 0o711), (0, 0o777), (0, 0o700)):
            os.chown(flow.root, owner, 0)
            flow.root.chmod(wrong)
            result = flow.attempt("nebula_node", accelerator="qemu", manage_services=False)
            assert result.get("failed") and str(flow.root) in result["msg"] and "chmod 0711" in result["msg"], result
        shutil.rmtree(flow.root.parent)
    assert all(modes == found[0] for modes in found), found
    assert found[0][""] == 0o711 and found[0]["nebula.db"] == 0o600 and found[0]["datastores/1/image"] == 0o440
