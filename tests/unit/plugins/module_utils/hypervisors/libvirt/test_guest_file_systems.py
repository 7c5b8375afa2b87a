# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's agent is asked once a disk is larger, and what is told of its answers, also of those of one that lies.
A real agent in a guest that runs is asked in tests/integration/test_disk_frozen.py."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from libvirt_stand_in import Clock, LibvirtError, install, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import guest_file_systems

CHANNEL = '<channel><target type="virtio" name="org.qemu.guest_agent.0" state="{}"/></channel>'
RUNNING = f"<domain><devices>{CHANNEL}</devices></domain>"
ROOT, OTHER = ("/", "vda1", "ext4", ["vda"]), ("/data", "vdb", "xfs", ["vdb"])


def ended(status: Any = 0, error: str = "") -> dict[str, Any]:
    return {"exited": True, "exitcode": status, "err-data": base64.b64encode(error.encode()).decode()}


class Guest:
    """Stands in for a running domain whose agent answers as it is told."""

    def __init__(self, answers: dict[str, Any], mounted: Any = (ROOT, OTHER), state: str = "connected") -> None:
        self.answers, self.mounted, self.state = answers, mounted, state
        self.asked: list[dict[str, Any]] = []

    def XMLDesc(self, _flags: int) -> str:
        return RUNNING.format(self.state)

    def name(self) -> str:
        return "one-1"

    def fsInfo(self, _flags: int) -> Any:
        if isinstance(self.mounted, Exception):
            raise self.mounted
        return list(self.mounted)

    def agentSetResponseTimeout(self, _seconds: int) -> None:
        pass

    def ask(self, _domain: Any, text: str, _patience: int, _flags: int) -> str:
        question = json.loads(text)
        self.asked.append(question)
        answer = self.answers[question["execute"]]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps({"return": answer})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(guest_file_systems, "time", clock)
    return clock


@pytest.fixture
def why(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Callable[..., str]:
    def why(guest: Guest, target: str = "vda") -> str:
        install(monkeypatch, libvirt(), libvirt_qemu=SimpleNamespace(qemuAgentCommand=guest.ask))
        return guest_file_systems.grow(libvirt(), guest, target, 64 << 20)

    return why


def test_the_file_system_at_the_end_of_that_disk_grows(why: Callable[..., str]) -> None:
    guest = Guest({"guest-exec": {"pid": 7}, "guest-exec-status": [{"exited": False}, ended()]})
    assert why(guest) == ""
    execute, first, second = guest.asked
    assert execute["arguments"]["arg"][2:] == ["sh", "vda1", "/", "ext4", "131072"]
    assert first == second == {"execute": "guest-exec-status", "arguments": {"pid": 7}}


@pytest.mark.parametrize(
    ("guest", "says"),
    [
        (Guest({}, state="disconnected"), "no guest agent answers"),
        (
            Guest({}, mounted=LibvirtError("agent error: \x1b[31mno", 86)),
            "its guest agent does not tell what is mounted: ",
        ),
        (Guest({}, mounted=(("/", "vda1", "btrfs", ["vda", "vdb"]),)), "its guest says: it is on several disks"),
        (Guest({}, mounted=(OTHER,)), "none is mounted at its end that could grow"),
        (Guest({"guest-exec": LibvirtError("disabled", 1)}), "its guest agent may not run programs (guest-exec)"),
        (Guest({"guest-exec": {"pid": "7"}}), "its guest agent may not run programs (guest-exec)"),
        (Guest({"guest-exec": LibvirtError("not responding", 86)}), "not responding"),
        (Guest({"guest-exec": "{"}), "its answer to guest-exec can't be read"),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": ended(127, "one\nresize2fs: not \x1bfound\n\n")}),
            "its guest says: resize2fs: not ",
        ),
        (Guest({"guest-exec": {"pid": 7}, "guest-exec-status": ended(5)}), "its guest says: exit status 5"),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": dict(ended(5), **{"err-data": "\xff="})}),
            "its guest says: exit status 5",
        ),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": ended("0")}),
            "its guest says: exit status -1",
        ),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": ended(3)}),
            "none is mounted at its end that could grow",
        ),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": 3}),
            "its guest agent does not tell what becomes of its programs",
        ),
        (
            Guest({"guest-exec": {"pid": 7}, "guest-exec-status": {"exited": False}}),
            "its guest agent was not ready after 60 s, and may go on with it",
        ),
    ],
)
def test_what_did_not_grow_is_told_with_the_reason(why: Callable[..., str], guest: Guest, says: str) -> None:
    found = why(guest)
    assert found.startswith(says)
    assert found.isprintable()
    assert len(found) < 300


# -- the program in the guest ------------------------------------------------------------------------------------------


@pytest.fixture
def guest_of(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program where /sys is a directory, and the tools write down that they were called."""
    tools, block = tmp_path / "bin", tmp_path / "sys" / "class" / "block"
    tools.mkdir()
    block.mkdir(parents=True)
    disk = tmp_path / "sys" / "devices" / "vda"
    for path, text in (
        ("size", "131072"),
        ("device/model", ""),
        ("vda1/partition", "1"),
        ("vda1/start", "4096"),
        ("vda14/partition", "14"),
        ("vda14/start", "2048"),
    ):
        (disk / path).parent.mkdir(parents=True, exist_ok=True)
        (disk / path).write_text(f"{text}\n")
    for name in ("vda", "vda/vda1", "vda/vda14"):
        (block / name.rpartition("/")[2]).symlink_to(tmp_path / "sys" / "devices" / name)
    (block / "dm-0").mkdir()

    def run(*arguments: str, growpart: int = 0, resize: int = 0) -> subprocess.CompletedProcess[str]:
        for name, status in (("growpart", growpart), ("resize2fs", resize), ("xfs_growfs", resize), ("btrfs", resize)):
            (tools / name).write_text(f'#!/bin/sh\necho "{name} $*"\nexit {status}\n')
            (tools / name).chmod(0o755)
        program = guest_file_systems.PROGRAM.replace("/sys/", f"{tmp_path}/sys/").replace("PATH=", f"PATH={tools}:", 1)
        command = ["/bin/sh", "-c", program, "sh", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (("vda1", "/", "ext4"), ["growpart /dev/vda 1", "resize2fs /dev/vda1"]),
        (("vda1", "/srv", "xfs"), ["growpart /dev/vda 1", "xfs_growfs /srv"]),
        (("vda", "/a b", "btrfs"), ["btrfs filesystem resize max /a b"]),
    ],
)
def test_partition_and_file_system_grow(
    guest_of: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...], called: list[str]
) -> None:
    # A partition that is as large already is no failure.
    for growpart in (0, 1):
        done = guest_of(*arguments, "131072", growpart=growpart)
        assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, called, "")


@pytest.mark.parametrize(
    ("arguments", "given", "status", "says"),
    [
        (("vda14", "/boot/efi", "vfat"), {}, 3, ""),
        (("vda1", "/", "vfat"), {}, 2, "it does not grow vfat"),
        (("dm-0", "/", "ext4"), {}, 2, "dm-0 is neither a disk nor a partition of one"),
        (("../../x", "/", "ext4"), {}, 2, "../../x is neither a disk nor a partition of one"),
        (("vda1", "/", "ext4"), {"growpart": 2}, 2, ""),
        (("vda1", "/", "ext4"), {"resize": 4}, 4, ""),
    ],
)
def test_what_does_not_grow_has_a_status_of_its_own(
    guest_of: Callable[..., subprocess.CompletedProcess[str]],
    arguments: tuple[str, ...],
    given: dict[str, int],
    status: int,
    says: str,
) -> None:
    done = guest_of(*arguments, "131072", **given)
    assert (done.returncode, done.stderr.strip()) == (status, says)


def test_a_size_that_the_guest_does_not_see_is_no_success(
    guest_of: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sleep").chmod(0o755)
    done = guest_of("vda1", "/", "ext4", "131073")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "its kernel does not see the new size of vda before it boots again\n"
    # It was asked to look again.
    assert (tmp_path / "sys" / "devices" / "vda" / "device" / "rescan").read_text() == "1\n"
