# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a disk as a block device of this host, by qemu-nbd and the kernel's network block device; for disks that are
trusted.

What is mounted of it is in a namespace that ends with this process, and so does qemu-nbd, which takes the device
with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ...errors import CommandFailed, InUse, MissingDependency, TimedOut
from ...host import command, sandbox
from ...storage import qcow2_header
from ..customize import context_program
from .kernel_mount import ROOT, TIMEOUT, View, namespace, require

_PAUSE = 0.05


def why_unusable() -> str:
    """Return why this host can't use nbd, "" if it can. The kernel's module is loaded if it is there."""
    if not context_program.present("qemu-nbd"):
        return "program qemu-nbd is not on this host"
    if not os.path.exists("/sys/block/nbd0"):
        with contextlib.suppress(MissingDependency):
            command.run(["modprobe", "--quiet", "nbd"], timeout=TIMEOUT, check=False)
    if not os.path.exists("/sys/block/nbd0"):
        return f"the kernel of this host ({os.uname().release}) has no network block devices (module nbd)"
    return ""


@contextlib.contextmanager
def connect(disk: str, format: str, directory: str, what: str) -> Iterator[View]:
    """Yield the disk as a block device with its partitions. directory: for what is mounted, nobody else's."""
    require(what)
    why = why_unusable()
    if why:
        raise MissingDependency(f"{what}: connecting it by qemu-nbd", why, "Install guestfish, and say via: guestfs")
    qcow2_header.refuse_data_file(disk, format, what)
    os.mkdir(os.path.join(directory, ROOT))
    with _free_device(what) as device:
        # --verbose: it stays the process that was started, and ends with us.
        # Without a network: a header may name what is to be read from one.
        argv = [
            *command.words_to_end_with_us(),
            *sandbox.offline_words(),
            "qemu-nbd",
            "--verbose",
            f"--connect={device}",
            f"--format={format}",
            "--cache=writeback",
        ]
        null = subprocess.DEVNULL
        with command.start([*argv, disk], stdin=null, stdout=null, stderr=subprocess.PIPE) as process:
            try:
                _wait_for_disk(device, process, what)
                with namespace(os.getpid(), View(0, directory, device, block=True)) as view:
                    yield view
            finally:
                # What was written is in the disk once qemu-nbd has ended by itself.
                command.run(["qemu-nbd", "--disconnect", device], timeout=TIMEOUT, check=False)
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                raise TimedOut(f"{what}: qemu-nbd", f"it did not end within {TIMEOUT:g} s") from None


def disconnect(device: str) -> None:
    """End a qemu-nbd that somebody else started; afterwards it no longer has the file open."""
    process = _process(Path("/sys/block", os.path.basename(device)))
    command.run(["qemu-nbd", "--disconnect", device], timeout=TIMEOUT)
    limit = time.monotonic() + TIMEOUT
    while process and _is_running(process):
        if time.monotonic() > limit:
            raise TimedOut(f"{device}: qemu-nbd", f"it did not end within {TIMEOUT:g} s")
        time.sleep(_PAUSE)


def users(path: str) -> Iterator[str]:
    """Yield the devices whose qemu-nbd has this file open."""
    for place in sorted(Path("/sys/block").glob("nbd*")):
        process = _process(place)
        # A file that was removed meanwhile is what a killed run had begun to make.
        if process and not {path, f"{path} (deleted)"}.isdisjoint(_open_files(process)):
            yield f"/dev/{place.name}"


def _process(place: Path) -> str:
    """Return the number of the process that serves the device; "" if there is none."""
    try:
        # The number there is that of a thread, which ends before the process.
        number = (place / "pid").read_text().strip()
        status = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return ""
    return "".join(re.findall(r"^Tgid:\s+(\d+)$", status, re.MULTILINE))


def _open_files(process: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return found


def _is_running(process: str) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status and status.startswith("Name:\tqemu-nbd")


@contextlib.contextmanager
def _free_device(what: str) -> Iterator[str]:
    """Yield a device that nobody uses, held against other runs; udev leaves it alone too."""
    for place in sorted(Path("/sys/block").glob("nbd*"), key=lambda each: int(re.sub("[^0-9]", "", each.name) or 0)):
        device = f"/dev/{place.name}"
        try:
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (place / "pid").exists() and (place / "size").read_text().strip() == "0":
                yield device
                return
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
    raise InUse(f"{what}: connecting it by qemu-nbd", "all of this host's /dev/nbd* are in use", "Wait, then run again")


def _wait_for_disk(device: str, process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until the device shows the disk and its partitions."""
    place = Path("/sys/block", os.path.basename(device))
    limit = time.monotonic() + TIMEOUT
    while not (place / "pid").exists() or (place / "size").read_text().strip() == "0":
        if process.poll() is not None:
            output = process.stderr.read() if process.stderr is not None else b""
            raise CommandFailed(
                f"{what}: connecting it by qemu-nbd", command.last_lines(output.decode("utf-8", "replace"))
            )
        if time.monotonic() > limit:
            raise TimedOut(f"{what}: qemu-nbd", f"{device} has no disk after {TIMEOUT:g} s")
        time.sleep(_PAUSE)
    # Again: the kernel reads the table when the device is opened, which may have been before the disk was there.
    command.run(["blockdev", "--rereadpt", device], timeout=TIMEOUT, check=False)
    done = command.run(["sfdisk", "--json", device], timeout=TIMEOUT, check=False)
    for node in re.findall(rf'"node" *: *"({re.escape(device)}p[0-9]+)"', done.stdout):
        while not os.path.exists(node):
            if time.monotonic() > limit:
                raise TimedOut(f"{what}: partition {node}", "the kernel does not show it", "Set via: guestfs")
            time.sleep(_PAUSE)
