# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What worlds of tests are made of (world.py, nodes.py): namespaces, mounts, cgroups, daemons, and their end."""

from __future__ import annotations

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
# All but that of processes, which begins with a process of its own.
OWN_VIEW = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
MS_BIND, MS_REC = 0x1000, 0x4000
PR_SET_PDEATHSIG = 1

PARENT = Path("/var/tmp")
PREFIX = "nebula-world-"
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"
DAEMON_SECONDS = 60
# In a world's directory: its cgroups, one on each line.
CGROUPS = "cgroups"
# Of libvirt's own packages; owners and modes are taken from the machine.
LIBVIRTS = ("/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
# Options that cgroup mounts show besides.
NOT_CONTROLLERS = ("rw", "ro", "nsdelegate", "xattr", "release_agent", "clone_children")

libc = ctypes.CDLL(None, use_errno=True)


# --- processes --------------------------------------------------------------------------------------------------------


def in_namespaces(inside: Callable[[], int], begun: Callable[[int], None] = lambda _init: None) -> int:
    """Run it as the init of a new PID namespace; its status, 128 + N after signal N to this process. Everything in the
    namespace ends with it, and it ends with this process. `begun` gets its process id."""
    # Only what is forked from here on is in the new PID namespace, its first process as init.
    unshare(CLONE_NEWPID)
    ended_by: list[int] = []
    init = os.fork()
    if init == 0:
        be_init(inside)

    def end(number: int, _frame: object) -> None:
        ended_by.append(number)
        # An init takes its whole namespace with it; waitpid returns when all of it is gone.
        os.kill(init, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    begun(init)
    _pid, status = os.waitpid(init, 0)
    return 128 + ended_by[0] if ended_by else exit_status(status)


def be_init(inside: Callable[[], int]) -> NoReturn:
    status = 125
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        status = inside()
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def run_to_its_end(command: list[str], directory: Path, **environment: str) -> int:
    """The command's exit status. Whatever else ends meanwhile is reaped."""
    temporary = directory / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    named = {"NEBULA_WORLD": str(directory), "TMPDIR": str(temporary)}
    child = subprocess.Popen(command, env={**os.environ, **named, **environment})
    while True:
        pid, ended = os.wait()
        if pid == child.pid:
            return exit_status(ended)


def exit_status(status: int) -> int:
    """As a shell tells it: 128 + N for a process that signal N ended."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def unshare(flags: int) -> None:
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)} (a world needs CAP_SYS_ADMIN)")


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


# --- what its processes see -------------------------------------------------------------------------------------------


def see(hostname: str) -> None:
    """The processes, the links and the name of these namespaces. No mount made from here on is seen outside."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "proc", "/proc")
    socket.sethostname(hostname)
    run("ip", "link", "set", "lo", "up")
    remount_sysfs()


def see_devices_and_run() -> None:
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/lock").mkdir(mode=0o1777)
    # As systemd has it on a host. What has no huge pages has no such file system.
    if "hugetlbfs" in Path("/proc/filesystems").read_text(encoding="ascii").split():
        Path("/run/hugepages").mkdir()
        run("mount", "-t", "hugetlbfs", "hugetlbfs", "/run/hugepages")
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
    target.mkdir(exist_ok=True)
    for original in (source, *(entry for entry in source.iterdir() if entry.is_dir() and not entry.is_symlink())):
        copy = target / original.relative_to(source)
        copy.mkdir(exist_ok=True)
        found = original.stat()
        os.chown(copy, found.st_uid, found.st_gid)
        copy.chmod(stat.S_IMODE(found.st_mode))
    return target


def configuration(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.glob("*.conf"):
        shutil.copy2(file, target)
    # Two hosts of one UUID can't migrate between each other. The first one counts, and in a world there is one.
    file = target / "libvirtd.conf"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith("host_uuid")]
    file.write_text("\n".join([*kept, f'host_uuid = "{uuid.uuid4()}"', ""]), encoding="utf-8")
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
            output = (directory / "libvirtd.log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"libvirtd does not answer on {LIBVIRT_SOCKET}:\n{output[-2000:]}")
        time.sleep(0.05)


def answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def cover(path: str, by: Path) -> None:
    if libc.mount(os.fsencode(by), os.fsencode(path), None, MS_BIND | MS_REC, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount --rbind: {os.strerror(number)}", str(by), None, path)


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
            # One that is there was left by a process that was killed, in a world that goes on.
            group.mkdir(exist_ok=True)
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
