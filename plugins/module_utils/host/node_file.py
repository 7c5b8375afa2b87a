# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what a node remembers between runs (nebula.node), and finds out what it has: memory, processors, ports."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Callable

from ..dataclass import dataclass, replace
from ..errors import CatalogError, ForeignObject, InvalidValue, NebulaError, NotFound, StalePlan
from ..model import defaults
from ..model.dataclass_json import from_plain, json_value, to_plain
from .files import explained, lock, read_limited, remove_file, write_atomically

NAME = "nebula.node"
LOCK_SECONDS = 60
# For what a host has once, whatever nebula_root is: daemons, bridges, nftables rules.
HOST_LOCK = "/run/nebula.lock"
HOST_LOCK_SECONDS = 300
# Bytes; a node has a few daemons and directories.
LARGEST = 1024 * 1024
# Ports of graphics start here: display 0 of VNC.
FIRST_PORT = defaults.FIRST_GRAPHICS_PORT
_LISTEN = "0A"
# Of cgroups, in version 2 and 1. The host's own root has none, or one beyond its memory.
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Daemon:
    """Describes a daemon that we started where no service manager is.
    start: its start time in clock ticks since boot, which with the boot id makes the pid unmistakable."""

    name: str
    pid: int
    start: int
    boot_id: str


@dataclass(frozen=True)
class Unit:
    """Describes what was switched on of a service that systemd keeps.
    enabled: links below /etc/systemd/system.
    started: units that did not run before."""

    name: str
    enabled: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    boot_id: str = ""


@dataclass(frozen=True)
class NodeFile:
    """Holds what a node remembers.
    catalog, plan, proof: whose plans this node follows, the highest number it accepted, and the proof of that plan.
    accelerator: {accelerator, reason, key} as probed.
    kvm_device: {uid, gid, mode} of /dev/kvm before we changed it.
    directories: those that we made or are about to make, in this order.
    given_back: it is no node any more; what we started and changed here is still being undone.
    done: the highest plan that was carried out to its end.
    networks: when the list was made, by the front-end's clock, for which a bridge was last made.
    secrets: a digest of each encrypted disk's secret, by UUID.
    user: whether the account that the front-end logs in to was made by us.
    mark: by which the catalog knows this host; the first that its front-end gave it, under whatever name it is
    asked later."""

    catalog: str = ""
    plan: int = 0
    proof: str = field(default="", repr=False)
    done: int = 0
    networks: float = 0.0
    accelerator: Mapping[str, str] = field(default_factory=dict)
    daemons: tuple[Daemon, ...] = ()
    units: tuple[Unit, ...] = ()
    kvm_device: Mapping[str, int] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    given_back: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: bool = False
    mark: str = ""


@dataclass
class Changes:
    """Lists what was done to a node, or in check mode would be, by the objects' names, for a diff."""

    check_mode: bool
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def did(self, what: str, before: Any, after: Any) -> None:
        if before != after:
            self.before[what], self.after[what] = before, after


Remember = Callable[[Callable[[NodeFile], NodeFile]], NodeFile]
"""update(), for a root that is known already."""


def read(root: str) -> NodeFile:
    """Return the node's file; an empty one if there is none."""
    path = os.path.join(root, NAME)
    try:
        return from_plain(NodeFile, json_value(read_limited(path, LARGEST, follow=False).decode()))
    except NotFound:
        return NodeFile()
    except (ValueError, InvalidValue) as error:
        raise CatalogError(
            f"file {path}", f"it can't be read: {error}", "Put back what it was, or remove it if no machine runs here"
        ) from error


def update(root: str, change: Callable[[NodeFile], NodeFile]) -> NodeFile:
    """Change the file under its lock; the result is on disk when this returns."""
    with _locked(root):
        _remove_unfinished(root)
        before = read(root)
        after = change(before)
        if after != before or not os.path.exists(os.path.join(root, NAME)):
            text = json.dumps(to_plain(after), indent=1, sort_keys=True) + "\n"
            write_atomically(os.path.join(root, NAME), text, mode=0o600)
        return after


def _remove_unfinished(root: str) -> None:
    """Remove what a killed run was about to make the file. This is called under the file's lock."""
    for name in os.listdir(root):
        if name.startswith(f".{NAME}.") and name.endswith(".tmp"):
            remove_file(os.path.join(root, name))


@contextlib.contextmanager
def _locked(root: str, shared: bool = False) -> Iterator[None]:
    # The slash: a root that is gone must not come back as a file to be locked.
    with explained(root), lock(os.path.join(root, ""), LOCK_SECONDS, shared):
        yield


def accept(root: str, catalog: str, number: int, proof: str = "") -> NodeFile:
    """Accept the plan. Raise StalePlan if a newer one was seen or this is no node any more, ForeignObject if the node
    belongs to another catalog.

    The same number again is the same plan. proof: of this plan, as it came with it."""
    if not os.path.isdir(root):
        raise _no_node(root, f"plan {number}")

    def change(node: NodeFile) -> NodeFile:
        # Else the plan of a killed run, which comes late, would bring back what a teardown has ended.
        if node.given_back or not os.path.exists(os.path.join(root, NAME)):
            raise _no_node(root, f"plan {number}")
        check(node, root, catalog, number)
        return replace(node, catalog=catalog, plan=number, proof=proof)

    return update(root, change)


def follow(root: str, catalog: str, number: int, proof: str = "") -> None:
    """Refuse plans older than this number from now on, where this host is a node."""
    known = read(root)
    there = os.path.exists(os.path.join(root, NAME)) and not known.given_back
    if there and (known.catalog, known.plan) != (catalog, number):
        accept(root, catalog, number, proof)


def finished(root: str, catalog: str, number: int) -> None:
    """Note that all of this plan was done: a poll that knows less is older than its outcomes."""
    known = read(root)
    if known.catalog == catalog and known.done < number:
        update(root, lambda node: replace(node, done=max(node.done, number)) if node.catalog == catalog else node)


def networks_made(root: str, as_of: float) -> None:
    """Note that a bridge was made for a list of networks of that time, where this host is a node."""
    if os.path.exists(os.path.join(root, NAME)) and read(root).networks < as_of:
        update(root, lambda node: replace(node, networks=max(node.networks, as_of)))


@contextlib.contextmanager
def lock_host(act: bool) -> Iterator[None]:
    """Hold the lock by which only one run at a time changes objects that the host has once. act: False in check mode,
    which waits for nobody."""
    if not act:
        yield
        return
    with lock(HOST_LOCK, HOST_LOCK_SECONDS):
        try:
            yield
        finally:
            remove_file(HOST_LOCK)


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


def require_node_of(root: str, catalog: str) -> None:
    """Raise StalePlan unless this is a node of the catalog: nobody would ever take away what is made for it now."""
    known = read(root)
    if known.given_back or known.catalog not in ("", catalog) or not os.path.exists(os.path.join(root, NAME)):
        raise _no_node(root, f"networks of catalog {catalog}")


def _no_node(root: str, asked: str) -> StalePlan:
    return StalePlan(
        asked,
        f"this host is no node: there is no {os.path.join(root, NAME)}, or it is being given back",
        "Run playbook nebula.provision.site, or role nebula.provision.node, which make it one; a new plan holds all "
        "that is unfinished",
    )


def stale_plan(asked: str) -> StalePlan:
    """Return the error of a run whose plan is not current any more. asked: the machine, and the plan's number."""
    return StalePlan(
        asked,
        "another run has brought this host a newer plan meanwhile, or has given it back",
        "Wait for that run to end, then run again: its plan holds what this one has left undone",
    )


def is_current(root: str, catalog: str, number: int) -> bool:
    """Return whether the plan that was accepted still counts: no newer one was, and the node was not given back."""
    node = read(root)
    return node.catalog == catalog and node.plan <= number and not node.given_back


@contextlib.contextmanager
def fence(root: str, catalog: str, number: int) -> Iterator[bool]:
    """Yield whether the plan still counts. No newer plan is accepted as long as this is held."""
    if not os.path.isdir(root):
        yield False
        return
    with _locked(root, shared=True):
        yield is_current(root, catalog, number)


def memory(meminfo: str = "/proc/meminfo", limits: tuple[str, ...] = MEMORY_LIMITS) -> int:
    """Return the MiB of this host that machines could have: what it has, or what a container may take of it, without
    what is set aside as huge pages, of which ours take none."""
    found = {}
    for text in Path(meminfo).read_text(encoding="ascii").splitlines():
        name, _colon, value = text.partition(":")
        if name in ("MemTotal", "Hugetlb"):
            found[name] = int(value.split()[0])
    most = (found.get("MemTotal", 0) - found.get("Hugetlb", 0)) // 1024
    for path in limits:
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            most = min(most, int(Path(path).read_text(encoding="ascii")) >> 20)
    return most


def machine_id(path: str = "/etc/machine-id") -> str:
    """Return a digest of the host's machine id, which is not for others; "" if it has none."""
    try:
        found = read_limited(path, 64).decode("ascii").strip()
    except (NebulaError, ValueError):
        return ""
    return hashlib.sha256(f"nebula.provision {found}".encode()).hexdigest()[:32] if found else ""


def processors() -> int:
    """Return how many processors this process may use: a container may have been given fewer than there are."""
    return len(os.sched_getaffinity(0))


def cpu_shares() -> int:
    """Return what one whole processor weighs in this host's cgroups; 0 if they can't weigh any
    (hypervisors.base.Site)."""
    base = "/sys/fs/cgroup"
    try:
        return 100 if "cpu" in Path(f"{base}/cgroup.controllers").read_text(encoding="ascii").split() else 0
    except OSError:
        found = any(os.path.exists(f"{base}/{name}/cpu.shares") for name in ("cpu", "cpu,cpuacct"))
        return 1024 if found else 0


def listening_ports(paths: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> frozenset[int]:
    """Return the TCP ports from 5900 up on which something listens, on any address."""
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


def facts(node: NodeFile) -> dict[str, Any]:
    """Return the facts of the node that a poll reports beside its machines."""
    return {"accelerator": node.accelerator.get("accelerator", ""), "reason": node.accelerator.get("reason", "")}
