# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and ends a hypervisor's daemons, by systemd where it is process 1, else by itself."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..dataclass import dataclass
from ..errors import CommandFailed, HypervisorError, MissingDependency, TimedOut
from . import node_file, processes, systemd_units
from .command import find, run
from .files import make_directory, remove_file

START_SECONDS = 60
STOP_SECONDS = 20
# In the environment of a daemon that we started: for which nebula_root. What a run that was killed started is ours too.
MARK = "NEBULA_ROOT"
# Beside it: the daemon began its log anew, so that this goes with it.
_NEW_LOG = b"NEBULA_NEW_LOG=yes"
_LOGS = "/var/log/libvirt"
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"


@dataclass(frozen=True)
class Service:
    """Describes a daemon of a hypervisor.
    sockets: any of them answering means that it runs.
    units: the first that systemd has is started.
    at_boot: one of them has to start with the host, or machines do not; the first that systemd has is enabled.
    family: patterns of all units that may start along."""

    name: str
    program: str
    sockets: tuple[str, ...]
    units: tuple[str, ...]
    at_boot: tuple[str, ...] = ()
    family: tuple[str, ...] = ()


# In the order of their start: libvirtd asks virtlogd for the consoles' logs.
LIBVIRT = (
    Service("virtlogd", "virtlogd", ("/run/libvirt/virtlogd-sock",), ("virtlogd.socket",), family=("virtlogd*",)),
    Service(
        "libvirtd",
        "libvirtd",
        (LIBVIRT_SOCKET, "/run/libvirt/virtqemud-sock"),
        ("libvirtd.socket", "virtqemud.socket", "libvirtd.service"),
        at_boot=("libvirtd.service", "virtqemud.service"),
        family=("libvirtd*", "virtqemud*", "virtlockd*", "virtlogd*"),
    ),
)


def is_running(service: Service) -> bool:
    return daemon_pid(service) is not None


def daemon_pid(service: Service) -> int | None:
    """Return the pid of the daemon that answers on the service's socket (0: not of our pid namespace), None if none
    does.

    A socket's file outlives its daemon, as pid files do: only one that takes a connection counts."""
    for path in service.sockets:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
            client.settimeout(START_SECONDS)
            try:
                client.connect(path)
            except OSError:
                continue
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", credentials)[0])
    return None


def not_running(services: Sequence[Service]) -> list[Service]:
    """Return the services that do not run, or would not after a reboot."""
    return [service for service in services if not is_running(service) or not starts_with_host(service)]


def starts_with_host(service: Service) -> bool:
    """Return whether the service starts with the host; also True where nothing does, for want of a service manager."""
    return not service.at_boot or not systemd_units.has_systemd() or systemd_units.start_with_host(service.at_boot)


def libvirt_version() -> str:
    """Return libvirt's version, as "9.0.0"; "" where it is not installed."""
    try:
        found = re.search(r"(\d+(\.\d+)+)", run(["libvirtd", "--version"], timeout=START_SECONDS).stdout)
    except MissingDependency:
        return ""
    return found.group(1) if found else ""


def start(service: Service, root: str = "") -> node_file.Daemon | node_file.Unit | None:
    """Start the daemon and wait until it answers. Return what to stop() later; None if there is nothing to be undone.
    root: the nebula_root that a daemon is for. It marks the daemon as ours, even if this run is killed before it
    remembers."""
    if systemd_units.has_systemd():
        return _start_unit(service)
    # The units of its packages make it with this mode, and virtlogd by itself with another one. Users of containers and
    # of QEMU go through it, too.
    place = os.path.dirname(service.sockets[0])
    if not os.path.isdir(place) or not os.stat(place).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        make_directory(place, 0o755)
    program = find(service.program)
    marks = {MARK: root}
    if not os.path.exists(_log(service.name)):
        name, _equals, value = _NEW_LOG.decode().partition("=")
        marks[name] = value
    with tempfile.TemporaryFile() as output:
        # Nothing of this task is inherited: not its umask, its directory, its pipes or its environment.
        done = subprocess.run(
            [program, "-d"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            umask=0o022,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **marks},
            start_new_session=True,
            timeout=START_SECONDS,
            check=False,
        )
        output.seek(0)
        words = output.read(4096).decode("utf-8", "replace").strip()
    if done.returncode != 0 and not is_running(service):
        raise HypervisorError(
            f"starting {service.name}",
            words or f"it ended with code {done.returncode}",
            f"Run `{program}` by hand to see what is wrong",
        )
    return _daemon(service, _wait(service))


def started_for(service: Service, root: str) -> node_file.Daemon | None:
    """Return the daemon, if it runs and was started by start() for this nebula_root."""
    pid = daemon_pid(service)
    return _daemon(service, pid) if pid and f"{MARK}={root}".encode() in _environment(pid) else None


def _environment(pid: int) -> list[bytes]:
    """Return the environment that a process was started with; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _log(name: str) -> str:
    return os.path.join(_LOGS, f"{name}.log")


def _daemon(service: Service, pid: int) -> node_file.Daemon | None:
    started = processes.start_time(pid)
    return None if started is None else node_file.Daemon(service.name, pid, started, node_file.boot_id())


def give_back(unit: node_file.Unit) -> bool:
    """Switch off what was switched on for us, and return whether there was something."""
    changed = systemd_units.unlink(unit.enabled)
    # What was only started is gone with the boot; if it runs now, somebody else wants it.
    if unit.enabled or unit.boot_id == node_file.boot_id():
        running = sorted(systemd_units.active_units(unit.started) & set(unit.started)) if unit.started else []
        systemd_units.stop(running)
        changed = changed or bool(running)
    return changed


def stop(daemon: node_file.Daemon) -> bool:
    """End a daemon that we started, and no other that has its pid now. Return whether it was there."""
    if daemon.boot_id != node_file.boot_id():
        return False
    try:
        handle = os.pidfd_open(daemon.pid)
    except OSError:
        return False
    try:
        # After the handle is taken, so that the process it stands for is the one looked at.
        if processes.start_time(daemon.pid) != daemon.start:
            return False
        is_new = _NEW_LOG in _environment(daemon.pid)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(STOP_SECONDS * 1000):
            raise TimedOut(
                f"stopping {daemon.name} (process {daemon.pid})",
                f"it still runs after {STOP_SECONDS} s",
                "See what it waits for, end it by hand, then run again",
            )
        if is_new:
            remove_file(_log(daemon.name))
        return True
    finally:
        os.close(handle)


def _start_unit(service: Service) -> node_file.Unit | None:
    before, linked = systemd_units.active_units(service.family), systemd_units.enabled_links()
    if not starts_with_host(service):
        _run_first(["systemctl", "enable"], service.at_boot)
    if not is_running(service):
        _run_first(["systemctl", "start"], service.units)
    _wait(service)
    started = tuple(sorted(systemd_units.active_units(service.family) - before))
    enabled = tuple(sorted(systemd_units.enabled_links() - linked))
    return node_file.Unit(service.name, enabled, started, node_file.boot_id()) if started or enabled else None


def _run_first(argv: Sequence[str], names: Sequence[str]) -> None:
    """Run the command for the first unit that it succeeds with; else raise the first unit's error."""
    failed: CommandFailed | None = None
    for name in names:
        try:
            run([*argv, name], timeout=START_SECONDS)
            return
        except CommandFailed as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _wait(service: Service) -> int:
    limit = time.monotonic() + START_SECONDS
    while True:
        pid = daemon_pid(service)
        if pid is not None:
            return pid
        if time.monotonic() > limit:
            raise TimedOut(
                f"service {service.name}",
                f"its socket {service.sockets[0]} does not answer after {START_SECONDS} s",
                f"See the log of {service.name}",
            )
        time.sleep(0.05)
