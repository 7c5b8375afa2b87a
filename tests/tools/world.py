#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command on a node of its own: namespaces with their own libvirtd, which end with everything in them.

    world.py [--no-daemons] [--] COMMAND [ARGUMENT…]        (as root)

    tests/tools/world.py .venv/bin/pytest tests/integration/test_kvm.py
    tests/tools/world.py bash

The command sees the machine's files, and besides:
- a network namespace with nothing but `lo`: traffic reaches nobody, bridges and nftables rules are the world's own;
- a PID namespace whose init reaps at once (libvirt waits for that whenever it ends a QEMU);
- /run, /var/lib/libvirt, /var/log/libvirt, /var/cache/libvirt empty, /etc/libvirt with the machine's *.conf files only,
  cgroups and a /dev/kvm of its own, with the owner and mode that udev gives it;
- libvirtd and virtlogd running in it (not with --no-daemons);
- NEBULA_WORLD: a directory on disk, 0711, for whatever is too big for /run; TMPDIR is in it. Removed at the end.

The exit status is the command's, 128 + N after signal N. However it ends, by itself, by Ctrl-C, a signal, its caller's
death, every process of the world dies with it: domains, daemons, mounts, links. What a world that was itself killed
left on disk, the next one removes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import grp
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1

PARENT = Path("/var/tmp")
PREFIX = "nebula-world-"
HOSTNAME = "world"
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"
DAEMON_SECONDS = 60
# In a world's directory: its cgroups, one on each line.
CGROUPS = "cgroups"
# Of libvirt's own packages; owners and modes are taken from the machine.
EMPTIED = ("/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
# Options that cgroup mounts show besides.
NOT_CONTROLLERS = ("rw", "ro", "nsdelegate", "xattr", "release_agent", "clone_children")

libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--no-daemons", action="store_true", help="start neither virtlogd nor libvirtd")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command is given")
    if os.geteuid() != 0:
        parser.error("a world needs root: it mounts, and makes namespaces")
    with directory_of_its_own() as directory, cgroups_of_its_own(directory) as cgroups:
        return in_namespaces(command, directory, cgroups, daemons=not options.no_daemons)


def in_namespaces(command: list[str], directory: Path, cgroups: list[Path], daemons: bool) -> int:
    # Only what is forked from here on is in the new PID namespace, its first process as init.
    unshare(CLONE_NEWPID)
    ended_by: list[int] = []
    init = os.fork()
    if init == 0:
        be_init(command, directory, cgroups, daemons)

    def end(number: int, _frame: object) -> None:
        ended_by.append(number)
        # An init takes its whole namespace with it; waitpid returns when all of it is gone.
        os.kill(init, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    _pid, status = os.waitpid(init, 0)
    return 128 + ended_by[0] if ended_by else exit_status(status)


def be_init(command: list[str], directory: Path, cgroups: list[Path], daemons: bool) -> NoReturn:
    status = 125
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        enter(cgroups)
        unshare(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
        furnish(directory)
        if daemons:
            start_daemons(directory)
        temporary = directory / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        child = subprocess.Popen(command, env=dict(os.environ, NEBULA_WORLD=str(directory), TMPDIR=str(temporary)))
        while True:
            pid, ended = os.wait()
            if pid == child.pid:
                status = exit_status(ended)
                break
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def exit_status(status: int) -> int:
    """As a shell tells it: 128 + N for a process that signal N ended."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def unshare(flags: int) -> None:
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)} (a world needs CAP_SYS_ADMIN)")


# --- what the command sees --------------------------------------------------------------------------------------------


def furnish(directory: Path) -> None:
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "proc", "/proc")
    socket.sethostname(HOSTNAME)
    run("ip", "link", "set", "lo", "up")
    remount_sysfs()
    for path in EMPTIED:
        if Path(path).is_dir():
            cover(path, empty_copy(Path(path), directory / path.strip("/").replace("/", "-")))
    if Path("/etc/libvirt").is_dir():
        cover("/etc/libvirt", configuration(directory / "etc-libvirt"))
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/lock").mkdir(mode=0o1777)
    device_as_udev_makes_it(Path("/dev/kvm"), "kvm")


def remount_sysfs() -> None:
    """Show the links of this network namespace and the cgroups below this world's own."""
    mounts = cgroup_mounts()
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    if not any(point == Path("/sys/fs/cgroup") for point, _type, _options in mounts):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for point, kind, options in mounts:
        point.mkdir(exist_ok=True)
        run("mount", "-t", kind, *(("-o", options) if kind == "cgroup" else ()), kind, str(point))


def empty_copy(source: Path, target: Path) -> Path:
    """The directory and those directly in it, with owners and modes, without a file."""
    target.mkdir()
    for original in (source, *(entry for entry in source.iterdir() if entry.is_dir() and not entry.is_symlink())):
        copy = target / original.relative_to(source)
        copy.mkdir(exist_ok=True)
        found = original.stat()
        os.chown(copy, found.st_uid, found.st_gid)
        copy.chmod(stat.S_IMODE(found.st_mode))
    return target


def configuration(target: Path) -> Path:
    target.mkdir()
    for file in Path("/etc/libvirt").glob("*.conf"):
        shutil.copy2(file, target)
    # Two hosts of one UUID can't migrate between each other.
    with (target / "libvirtd.conf").open("a", encoding="utf-8") as file:
        file.write(f'\nhost_uuid = "{uuid.uuid4()}"\n')
    return target


def device_as_udev_makes_it(device: Path, group: str) -> None:
    """0660, of its group: libvirt probes its emulators anew at each call (8 to 12 s) if QEMU's user can't open it."""
    try:
        number, owner = device.stat().st_rdev, grp.getgrnam(group).gr_gid
    except (FileNotFoundError, KeyError):
        return
    node = Path("/run") / f"world-{device.name}"
    os.mknod(node, stat.S_IFCHR, number)
    os.chown(node, 0, owner)
    node.chmod(0o660)
    cover(str(device), node)


def start_daemons(directory: Path) -> None:
    for name in ("virtlogd", "libvirtd"):
        with (directory / f"{name}.log").open("wb") as log:
            daemon = subprocess.Popen([name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + DAEMON_SECONDS
    while not answers(LIBVIRT_SOCKET):
        if daemon.poll() is not None or time.monotonic() > deadline:
            said = (directory / "libvirtd.log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"libvirtd does not answer on {LIBVIRT_SOCKET}:\n{said[-2000:]}")
        time.sleep(0.05)


def answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def cover(path: str, by: Path) -> None:
    run("mount", "--bind", str(by), path)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


# --- what lies outside, and must not stay -----------------------------------------------------------------------------


@contextlib.contextmanager
def directory_of_its_own() -> Iterator[Path]:
    """Locked as long as it is in use. What worlds left that were themselves killed is removed."""
    with locked(PARENT):
        # Nobody else takes a directory for left behind that was made and is not locked yet.
        remove_left_behind()
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory)
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def cgroups_of_its_own(directory: Path) -> Iterator[list[Path]]:
    """One in each hierarchy, below that of this process: domains of two worlds may have the same name."""
    made = [parent / directory.name for parent in own_cgroups()]
    (directory / CGROUPS).write_text("".join(f"{group}\n" for group in made), encoding="utf-8")
    try:
        for group in made:
            group.mkdir()
            for inherited in ("cpuset.cpus", "cpuset.mems"):
                # In version 1 nobody can enter a cpuset that was given no processors.
                if (group / "cgroup.clone_children").exists() and (group / inherited).exists():
                    (group / inherited).write_text(
                        (group.parent / inherited).read_text(encoding="ascii"), encoding="ascii"
                    )
        yield made
    finally:
        for group in made:
            remove_cgroup(group)


def enter(cgroups: list[Path]) -> None:
    for group in cgroups:
        # The kernel knows the writer; a number would be read as one of another PID namespace.
        (group / "cgroup.procs").write_text("0", encoding="ascii")


def own_cgroups() -> list[Path]:
    paths: dict[str, str] = {}
    for text in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _number, controllers, path = text.split(":", 2)
        paths[controllers] = path
    found = []
    for point, kind, options in cgroup_mounts():
        controllers = "" if kind == "cgroup2" else options
        if controllers in paths:
            found.append(point / paths[controllers].lstrip("/"))
    return found


def cgroup_mounts() -> list[tuple[Path, str, str]]:
    """Mount point, type (cgroup or cgroup2), controllers as /proc/self/cgroup writes them; in the order of mounting."""
    # By place: in a world within a world those that it covered are still listed, earlier.
    found: dict[Path, tuple[Path, str, str]] = {}
    for text in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, after = text.split(" - ", 1)
        kind, _source, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            named = [option for option in options.split(",") if option.split("=")[0] not in NOT_CONTROLLERS]
            point = Path(before.split()[4])
            found[point] = (point, kind, ",".join(named))
    return list(found.values())


def remove_cgroup(group: Path) -> None:
    for directory, _directories, _files in os.walk(group, topdown=False):
        deadline = time.monotonic() + 5
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                # The kernel still counts processes that have just ended.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def remove_left_behind() -> None:
    for directory in PARENT.glob(f"{PREFIX}*"):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            with contextlib.suppress(FileNotFoundError):
                for path in (directory / CGROUPS).read_text(encoding="utf-8").splitlines():
                    remove_cgroup(Path(path))
            shutil.rmtree(directory)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
