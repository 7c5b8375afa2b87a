# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which network block device is taken, who serves one, and how long is waited for it; nothing is connected here.

Only root has such devices: what the kernel would show below /sys/block, and the devices below /dev, are files of a
directory, to which Path, os.open and os.path.exists, the seams to the operating system, lead."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    InUse,
    InvalidValue,
    MissingDependency,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import nbd

SLEEP = shutil.which("sleep")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with sys, dev, and bin, whose programs are found first."""
    for name in ("sys", "dev", "bin"):
        (tmp_path / name).mkdir()
    real_open, real_exists = os.open, os.path.exists

    def moved(path: object) -> str:
        text = str(path)
        for there, here in (("/sys/block", "sys"), ("/dev/nbd", "dev/nbd")):
            if text.startswith(there):
                return str(tmp_path / here) + text[len(there) :]
        return text

    monkeypatch.setattr(nbd, "Path", lambda *parts: Path(moved(Path(*parts))))
    monkeypatch.setattr(os, "open", lambda path, *more, **options: real_open(moved(path), *more, **options))
    monkeypatch.setattr(os.path, "exists", lambda path: real_exists(moved(path)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def device(host: Path, number: int, pid: int | None = None, size: int = 0, node: bool = True) -> None:
    """One that the kernel shows. pid: of what serves it. node: it is below /dev too."""
    place = host / "sys" / f"nbd{number}"
    place.mkdir()
    (place / "size").write_text(f"{size}\n")
    if pid is not None:
        (place / "pid").write_text(f"{pid}\n")
    if node:
        (host / "dev" / f"nbd{number}").write_bytes(b"")


def program(host: Path, name: str, text: str) -> None:
    path = host / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the name qemu-nbd that does nothing."""
    path = tmp_path / "server" / "qemu-nbd"
    path.parent.mkdir()
    shutil.copy(SLEEP, path)
    # Called sleep, as some are one program with many names.
    with subprocess.Popen(["sleep", "60"], executable=path) as process:
        # The kernel gives it its name a little after Popen() has heard that it runs.
        while Path(f"/proc/{process.pid}/comm").read_text() != "qemu-nbd\n":
            pass
        yield process
        process.kill()


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each pause be as long as all that is waited: the clock is the seam."""
    passed = [0.0]

    def sleep(_seconds: float) -> None:
        passed[0] += nbd.TIMEOUT + 1

    monkeypatch.setattr(nbd, "time", types.SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep))


# -- whether this host can -------------------------------------------------------------------------------------------


def test_a_host_with_the_program_and_the_module_has_no_obstacle(host):
    device(host, 0)
    program(host, "qemu-nbd", "")
    assert nbd.why_unusable() == ""


def test_the_module_is_loaded_if_it_can_be(host):
    program(host, "qemu-nbd", "")
    program(host, "modprobe", f'echo "$@" > {host}/told; mkdir {host}/sys/nbd0')
    assert nbd.why_unusable() == "" and (host / "told").read_text() == "--quiet nbd\n"


def test_a_kernel_without_the_module_is_named(host):
    program(host, "qemu-nbd", "")
    program(host, "modprobe", "exit 1")
    release = os.uname().release
    assert nbd.why_unusable() == f"the kernel of this host ({release}) has no network block devices (module nbd)"


def test_a_host_without_the_program_is_told_the_other_way(host, monkeypatch):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "qemu-nbd" else real(name, **more))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(host, "sfdisk", "")
    with pytest.raises(MissingDependency) as caught, nbd.connect("/x", "raw", str(host), "image demo"):
        pytest.fail("nothing was connected")
    assert caught.value.asked == "image demo: connecting it by qemu-nbd"
    assert caught.value.found == "program qemu-nbd is not on this host" and "via: guestfs" in caught.value.remedy


def test_only_root_connects_a_disk(host, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidValue, match=r"only root can mount. Run this task with become: true"):  # noqa: SIM117
        with nbd.connect("/x", "raw", str(host), "image demo"):
            pytest.fail("nothing was connected")


# -- a device that is free -------------------------------------------------------------------------------------------


def test_the_first_free_device_is_taken_and_held(host):
    device(host, 10)
    device(host, 0, pid=1)
    device(host, 1, size=2048)
    device(host, 2, node=False)
    device(host, 3)
    with nbd._free_device("x") as first:
        assert first == "/dev/nbd3"
        with nbd._free_device("x") as second:
            assert second == "/dev/nbd10"
            with pytest.raises(InUse, match=r"^x: .*all of this host's /dev/nbd\* are in use. Wait, then run again"):  # noqa: SIM117
                with nbd._free_device("x"):
                    pytest.fail("none is free")
    with nbd._free_device("x") as again:
        assert again == "/dev/nbd3"


def test_a_device_that_another_run_holds_is_left_to_it(host):
    device(host, 0)
    device(host, 1)
    with (host / "dev" / "nbd0").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with nbd._free_device("x") as found:
            assert found == "/dev/nbd1"


# -- who serves one --------------------------------------------------------------------------------------------------


def test_the_process_of_a_device_is_that_of_the_thread_it_names(host):
    """The kernel tells the number of the thread that serves it."""
    begun, done, known = threading.Event(), threading.Event(), []

    def serve() -> None:
        known.append(threading.get_native_id())
        begun.set()
        done.wait(5)

    thread = threading.Thread(target=serve)
    thread.start()
    begun.wait(5)
    try:
        device(host, 0, pid=known[0])
        assert known[0] != os.getpid() and nbd._process(host / "sys/nbd0") == str(os.getpid())
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("pid", [None, 1 << 30])
def test_a_device_without_a_process(host, pid):
    device(host, 0, pid=pid)
    assert nbd._process(host / "sys/nbd0") == ""


def test_the_devices_of_a_file_are_those_whose_process_has_it_open(host):
    device(host, 0)
    device(host, 1, pid=os.getpid())
    device(host, 2, pid=1 << 30)
    disk = host / "disk"
    disk.write_bytes(b"")
    assert list(nbd.users(str(disk))) == []
    with disk.open("rb"):
        assert list(nbd.users(str(disk))) == ["/dev/nbd1"]
        disk.unlink()
        assert list(nbd.users(str(disk))) == ["/dev/nbd1"]


def test_only_a_qemu_nbd_that_runs_counts(server):
    """A number may be another process's by now; one that has ended waits to be asked for its end."""
    numbers = (server.pid, os.getpid(), 1 << 30)
    assert [nbd._is_running(str(number)) for number in numbers] == [True, False, False]
    server.kill()
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    assert not nbd._is_running(str(server.pid))


def test_a_device_is_disconnected_when_its_process_has_ended(host, server):
    device(host, 0, pid=server.pid)
    program(host, "qemu-nbd", f'echo "$@" > {host}/told; kill {server.pid}')
    nbd.disconnect("/dev/nbd0")
    assert (host / "told").read_text() == "--disconnect /dev/nbd0\n" and server.wait(5)


def test_a_process_that_does_not_end_is_told(host, server, monkeypatch):
    device(host, 0, pid=server.pid)
    program(host, "qemu-nbd", "")
    hasty(monkeypatch)
    with pytest.raises(TimedOut, match=r"^/dev/nbd0: qemu-nbd: it did not end within 60 s"):
        nbd.disconnect("/dev/nbd0")


def test_a_device_that_nobody_serves_is_disconnected_at_once(host):
    device(host, 0)
    program(host, "qemu-nbd", "")
    nbd.disconnect("/dev/nbd0")


# -- until it is there -----------------------------------------------------------------------------------------------

TABLE = """{{
   "partitiontable": {{
      "label": "gpt",
      "device": "{0}",
      "partitions": [
         {{"node": "{0}p1", "start": 2048, "size": 4096}},
         {{"node": "{0}p15", "start": 8192, "size": 4096}},
         {{"node": "{0}1", "start": 16384, "size": 4096}}
      ]
   }}
}}"""


@pytest.fixture
def served(host: Path, server) -> str:
    """A device that has its disk, with a table of partitions."""
    device(host, 0, pid=server.pid, size=2048)
    (host / "table").write_text(TABLE.format("/dev/nbd0"))
    program(host, "blockdev", f'echo "$@" > {host}/told')
    program(host, "sfdisk", f"cat {host}/table")
    return "/dev/nbd0"


def test_a_disk_is_there_when_its_partitions_are(host, served, server):
    for name in ("nbd0p1", "nbd0p15"):
        (host / "dev" / name).write_bytes(b"")
    nbd._wait_for_disk(served, server, "x")
    # Before the disk was there, the kernel may have read an empty table.
    assert (host / "told").read_text() == "--rereadpt /dev/nbd0\n"


def test_a_disk_without_a_table_has_no_partitions_to_wait_for(host, served, server):
    program(host, "sfdisk", "exit 1")
    nbd._wait_for_disk(served, server, "x")


def test_a_partition_that_does_not_come_is_told(host, served, server, monkeypatch):
    (host / "dev" / "nbd0p1").write_bytes(b"")
    hasty(monkeypatch)
    with pytest.raises(TimedOut, match=r"^x: partition /dev/nbd0p15: the kernel does not show it. Set via: guestfs"):
        nbd._wait_for_disk(served, server, "x")


@pytest.mark.parametrize(("pid", "size"), [(None, 2048), (1, 0)])
def test_a_disk_that_does_not_come_is_told(host, server, monkeypatch, pid, size):
    device(host, 0, pid=pid, size=size)
    hasty(monkeypatch)
    with pytest.raises(TimedOut, match=r"^x: qemu-nbd: /dev/nbd0 has no disk after 60 s"):
        nbd._wait_for_disk("/dev/nbd0", server, "x")


def test_a_qemu_nbd_that_ends_instead_says_why(host):
    device(host, 0)
    said = "echo 'qemu-nbd: Failed to get \"write\" lock' >&2; exit 1"
    with subprocess.Popen(["sh", "-c", said], stderr=subprocess.PIPE) as process:
        with pytest.raises(CommandFailed) as caught:
            nbd._wait_for_disk("/dev/nbd0", process, "image demo")
        assert caught.value.asked == "image demo: connecting it by qemu-nbd"
        assert caught.value.found == 'qemu-nbd: Failed to get "write" lock'


def test_a_partition_that_comes_a_moment_later_is_waited_for(host, served, server, monkeypatch):
    (host / "dev" / "nbd0p1").write_bytes(b"")
    passed = [1000.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds
        (host / "dev" / "nbd0p15").write_bytes(b"")

    monkeypatch.setattr(nbd, "time", types.SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep))
    nbd._wait_for_disk(served, server, "x")
    assert passed[0] == 1000.0 + nbd._PAUSE
