# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor's daemons: by systemd where it is process 1, else started and ended by ourselves."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import CommandFailed, HypervisorError, MissingDependency, TimedOut
from . import node
from .command import find, run

SYSTEMD = "/run/systemd/system"
START_SECONDS = 30
STOP_SECONDS = 20
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"


@dataclass(frozen=True)
class Service:
    """sockets: any of them answering means that it runs. units: the first that systemd has is enabled and started."""

    name: str
    program: str
    sockets: tuple[str, ...]
    units: tuple[str, ...]


# In the order of their start: libvirtd asks virtlogd for the consoles' logs.
LIBVIRT = (
    Service("virtlogd", "virtlogd", ("/run/libvirt/virtlogd-sock",), ("virtlogd.socket",)),
    Service(
        "libvirtd",
        "libvirtd",
        (LIBVIRT_SOCKET, "/run/libvirt/virtqemud-sock"),
        ("libvirtd.socket", "virtqemud.socket", "libvirtd.service"),
    ),
)


def has_systemd() -> bool:
    return os.path.isdir(SYSTEMD)


def is_running(service: Service) -> bool:
    return peer(service) is not None


def peer(service: Service) -> Optional[int]:
    """The pid of the daemon that answers on the service's socket (0: not of our pid namespace), None if none does.

    A socket's file outlives its daemon, as pid files do: only one that takes a connection counts.
    """
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


def missing(services: Sequence[Service]) -> list[Service]:
    return [service for service in services if not is_running(service)]


def libvirt_version() -> str:
    """ "9.0.0", or "" where it is not installed."""
    try:
        found = re.search(r"(\d+(\.\d+)+)", run(["libvirtd", "--version"], timeout=START_SECONDS).stdout)
    except MissingDependency:
        return ""
    return found.group(1) if found else ""


def start(service: Service) -> Optional[node.Daemon]:
    """Start it and wait until it answers. The daemon to stop later, if it is on us; None where systemd keeps it."""
    if has_systemd():
        _enable(service)
        _wait(service)
        return None
    # The daemon makes it with the mode of its packages' units; in a fresh /run there is none.
    os.makedirs(os.path.dirname(service.sockets[0]), mode=0o755, exist_ok=True)
    program = find(service.program)
    with tempfile.TemporaryFile() as said:
        # Nothing of this task is inherited: not its umask, its directory, its pipes or its environment.
        done = subprocess.run(
            [program, "-d"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            umask=0o022,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            timeout=START_SECONDS,
            check=False,
        )
        said.seek(0)
        words = said.read(4096).decode("utf-8", "replace").strip()
    if done.returncode != 0 and not is_running(service):
        raise HypervisorError(
            f"starting {service.name}",
            words or f"it ended with code {done.returncode}",
            f"Run `{program}` by hand to see what is wrong",
        )
    pid = _wait(service)
    started = node.start_time(pid)
    return None if started is None else node.Daemon(service.name, pid, started, node.boot_id())


def stop(daemon: node.Daemon) -> bool:
    """End a daemon that we started, and no other that has its pid now; True if it was there."""
    if daemon.boot_id != node.boot_id():
        return False
    try:
        handle = os.pidfd_open(daemon.pid)
    except OSError:
        return False
    try:
        # After the handle is taken, so that the process it stands for is the one looked at.
        if node.start_time(daemon.pid) != daemon.start:
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(STOP_SECONDS * 1000):
            raise TimedOut(
                f"stopping {daemon.name} (process {daemon.pid})",
                f"it still runs after {STOP_SECONDS} s",
                "See what it waits for, end it by hand, then run again",
            )
        return True
    finally:
        os.close(handle)


def _enable(service: Service) -> None:
    failed: Optional[CommandFailed] = None
    for unit in service.units:
        try:
            run(["systemctl", "enable", "--now", unit], timeout=START_SECONDS)
            return
        except CommandFailed as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _wait(service: Service) -> int:
    limit = time.monotonic() + START_SECONDS
    while True:
        pid = peer(service)
        if pid is not None:
            return pid
        if time.monotonic() > limit:
            raise TimedOut(
                f"service {service.name}",
                f"its socket {service.sockets[0]} does not answer after {START_SECONDS} s",
                f"See the log of {service.name}",
            )
        time.sleep(0.05)
