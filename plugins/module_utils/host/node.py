# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers between runs (nebula.node), and what it has: memory, processors, ports."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

from ..errors import CatalogError, ForeignObject, InvalidValue, StalePlan
from ..model.plain import from_plain, to_plain
from .files import lock, write_atomically

NAME = "nebula.node"
LOCK_SECONDS = 60
# Ports of graphics start here: display 0 of VNC.
FIRST_PORT = 5900
_LISTEN = "0A"


@dataclass(frozen=True)
class Daemon:
    """A daemon that we started where no service manager is. start: its start time in clock ticks since boot, which
    with the boot id makes the pid unmistakable."""

    name: str
    pid: int
    start: int
    boot_id: str


@dataclass(frozen=True)
class NodeFile:
    """catalog, plan: whose plans this node follows, and the highest number it accepted.
    accelerator: {accelerator, reason, key} as probed. kvm_device: {uid, gid, mode} of /dev/kvm before we changed it.
    directories: those that we made, in the order of their making."""

    catalog: str = ""
    plan: int = 0
    accelerator: Mapping[str, str] = field(default_factory=dict)
    daemons: tuple[Daemon, ...] = ()
    kvm_device: Mapping[str, int] = field(default_factory=dict)
    directories: tuple[str, ...] = ()


@dataclass
class Changes:
    """What was done to a node, or in check mode would be: what a diff shows, by the things' names."""

    check_mode: bool
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def did(self, what: str, before: Any, after: Any) -> None:
        if before != after:
            self.before[what], self.after[what] = before, after


def read(root: str) -> NodeFile:
    """An empty one if there is none."""
    path = os.path.join(root, NAME)
    try:
        return from_plain(NodeFile, json.loads(Path(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return NodeFile()
    except (ValueError, TypeError, AttributeError, InvalidValue) as error:
        raise CatalogError(
            f"file {path}", f"it can't be read: {error}", "Put back what it was, or remove it if no machine runs here"
        ) from error


def update(root: str, change: Callable[[NodeFile], NodeFile]) -> NodeFile:
    """Change the file under its lock; the result is on disk when this returns."""
    with lock(root, LOCK_SECONDS):
        before = read(root)
        after = change(before)
        if after != before or not os.path.exists(os.path.join(root, NAME)):
            text = json.dumps(to_plain(after), indent=1, sort_keys=True) + "\n"
            write_atomically(os.path.join(root, NAME), text, mode=0o600)
        return after


def accept(root: str, catalog: str, number: int) -> NodeFile:
    """Let the plan in, unless a newer one was seen (StalePlan) or the node belongs to another catalog (ForeignObject).

    The same number again is the same plan.
    """

    def change(node: NodeFile) -> NodeFile:
        check(node, root, catalog, number)
        return replace(node, catalog=catalog, plan=number)

    return update(root, change)


def check(node: NodeFile, root: str, catalog: str, number: int) -> None:
    if node.catalog not in ("", catalog):
        raise ForeignObject(
            f"plan {number} of catalog {catalog}",
            f"{os.path.join(root, NAME)} says that this node follows catalog {node.catalog}",
            "Use that catalog's front-end, tear its machines down there first, or give this one another nebula_root",
        )
    if number < node.plan:
        raise StalePlan(
            f"plan {number}",
            f"this node has accepted plan {node.plan} already",
            "Run again: a new plan holds all that is unfinished",
        )


def is_current(root: str, catalog: str, number: int) -> bool:
    """Whether no newer plan was accepted since."""
    node = read(root)
    return node.catalog in ("", catalog) and node.plan <= number


def memory() -> int:
    """MiB of this host."""
    for text in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, value = text.split(":", 1)
        if name == "MemTotal":
            return int(value.split()[0]) // 1024
    return 0


def processors() -> int:
    """Those that this process may use: a container may have been given fewer than there are."""
    return len(os.sched_getaffinity(0))


def cpu_shares() -> int:
    """What one whole processor weighs in this host's cgroups; 0 if they can't weigh any (hypervisors.base.Site)."""
    base = "/sys/fs/cgroup"
    try:
        return 100 if "cpu" in Path(f"{base}/cgroup.controllers").read_text(encoding="ascii").split() else 0
    except OSError:
        found = any(os.path.exists(f"{base}/{name}/cpu.shares") for name in ("cpu", "cpu,cpuacct"))
        return 1024 if found else 0


def listening_ports(paths: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> frozenset[int]:
    """TCP ports from 5900 up that something listens on, on any address."""
    ports = set()
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for text in lines:
            _number, local, _remote, state = text.split()[:4]
            port = int(local.rsplit(":", 1)[1], 16)
            if state == _LISTEN and port >= FIRST_PORT:
                ports.add(port)
    return frozenset(ports)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_time(pid: int) -> Optional[int]:
    """Of a process, in clock ticks since boot; None: there is none, or it has ended."""
    try:
        # The name in brackets may hold anything, spaces and brackets too.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def facts(node: NodeFile) -> dict[str, Any]:
    """What a poll tells of the node beside its machines."""
    return {"accelerator": node.accelerator.get("accelerator", ""), "reason": node.accelerator.get("reason", "")}
