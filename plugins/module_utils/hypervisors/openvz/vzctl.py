# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the programs of OpenVZ on this node, `vzctl` and `vzlist`, and reads what they print."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...dataclass import dataclass
from ...errors import CommandFailed, HypervisorError, MissingDependency, NebulaError, TimedOut, Unsupported
from ...host.command import Completed, find, last_lines, run
from ...host.files import read_limited
from ...model.container_user_ids import IdRange
from . import container_config
from .exit_codes import error_of_code

PROGRAM, LISTER = "vzctl", "vzlist"
BRIDGING, DEVICE = "brctl", "venet0"
QUOTA = "vzquota"
SETTINGS = Path("/etc/vz/vz.conf")
CONFIGURATIONS = Path("/etc/vz/conf")
DISTRIBUTIONS = Path("/etc/vz/dists")
NAMES = Path("/etc/vz/names")
# Kernels of OpenVZ alone have it: they have venet, and quota for a directory.
KERNEL = Path("/proc/vz")
# What a host's administrator gives all containers of ours that do not say it themselves.
DEFAULTS = CONFIGURATIONS / "ve-nebula.conf-sample"
LARGEST = 1 << 20
# What says from which id of the host on its users are, and its groups.
LOCAL = ("LOCAL_UID", "LOCAL_GID")
SECONDS = 120
# As many users as vzctl gives a container that has ids of its own (UID_GID_RANGE), and as the kernel has.
LOCAL_USERS, USERS = 100_000, (1 << 32) - 1
SHOWN = 4
_STATUS = re.compile(r"^(?:CTID|VEID|CT) (?P<ctid>\d+) (?P<words>[a-z ]+)$", re.MULTILINE)
_LISTED = re.compile(r"^\s*(\d+)\s+([a-z]+)\s*$", re.MULTILINE)
_VERSION = re.compile(r"\b(\d+(?:\.\d+)+)")
# Where vzctl tells on which kernel it believes itself to be: said of each command, and no cause of anything.
_NOISE = ("assuming non-OpenVZ kernel", "Warning: ")


@dataclass(frozen=True)
class Status:
    """Holds what `vzctl status` says.
    exists: its private area and its configuration are there.
    suspended: there is a dump of it where vzctl keeps them."""

    exists: bool
    mounted: bool
    running: bool
    suspended: bool = False


def ask(asked: str, *words: str, timeout: float = SECONDS) -> Completed:
    """Run vzctl. Raise its error in words if it ends with one."""
    try:
        done = run([PROGRAM, *words], timeout=timeout, check=False)
    except TimedOut as error:
        raise TimedOut(
            asked,
            f"vzctl {words[0]} did not end within {timeout:g} s",
            "See what it waits for, and end it if it hangs: it holds the container's lock",
        ) from error
    if done.returncode != 0:
        raise error_of_code(asked, done.returncode, last_output(done))
    return done


def last_output(done: Completed) -> str:
    """Return the last lines of what vzctl printed, without lines that tell no cause."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not any(word in line for word in _NOISE)]
    return last_lines("\n".join(lines), SHOWN)


def status(ctid: int) -> Status:
    asked = f"asking for container {ctid}"
    done = ask(asked, "status", str(ctid))
    found = _STATUS.search(done.stdout)
    if found is None:
        raise HypervisorError(
            asked, f"vzctl status printed {done.stdout.strip()[:200]!r}", "Install vzctl 4.0 or later"
        )
    words = found["words"].split()
    return Status("exist" in words, "mounted" in words, "running" in words, "suspended" in words)


def states_by_ctid() -> Mapping[int, str]:
    """Return the state of each container that the kernel knows: running, stopped, mounted or suspended. Kernels
    without OpenVZ's own interface tell nothing: then each container has to be asked for."""
    try:
        done = run([LISTER, "-a", "-H", "-o", "ctid,status"], timeout=SECONDS, check=False)
    except (MissingDependency, TimedOut, CommandFailed):
        return {}
    return {int(ctid): word for ctid, word in _LISTED.findall(done.stdout)}


def version() -> str:
    """Return the version of vzctl, "" if there is none."""
    try:
        done = run([PROGRAM, "--version"], timeout=SECONDS, check=False)
    except NebulaError:
        return ""
    found = _VERSION.search(done.stdout + done.stderr)
    return found[1] if found else ""


def require() -> None:
    """Raise MissingDependency if vzctl or its settings are not here."""
    find(PROGRAM)
    if not SETTINGS.is_file():
        raise MissingDependency(
            f"program {PROGRAM}", f"{SETTINGS} is not there", "Install vzctl whole, from OpenVZ's own repository"
        )


def is_openvz() -> bool:
    return KERNEL.is_dir()


def require_venet(asked: str) -> None:
    """Raise Unsupported where no container can have an address on venet. On kernels that lack it vzctl makes a bridge
    of that name, with a pair of interfaces on it for each container; without brctl it makes the interfaces, and
    either fails with code 34 or leaves the container cut off."""
    if is_openvz():
        return
    try:
        find(BRIDGING)
    except MissingDependency as error:
        raise Unsupported(
            asked,
            f"this host's kernel has no venet, and {BRIDGING}, by which vzctl makes a bridge in its place, is missing",
            "Install the package bridge-utils, or give the NIC MODEL = veth and its network a bridge",
        ) from error


def drop_routes(addresses: Iterable[str]) -> None:
    """Remove the routes to containers that have ended: on kernels without venet vzctl leaves them, and whoever gets
    the address next, on a bridge of this host, would not be reached."""
    for address in () if is_openvz() else addresses:
        words = ["ip", "-6"] if ":" in address else ["ip"]
        # It ends with 2 where there is none.
        run([*words, "route", "del", address.partition("/")[0], "dev", DEVICE], timeout=SECONDS, check=False)


def users(container: Mapping[str, str], asked: str) -> IdRange:
    """Return the ids of this host that the users of a container have, which is off. On kernels that are none of OpenVZ
    they may be other ones than it sees: then vzctl writes from which on into the container's configuration.
    container: what that says, nothing for a container that is new here."""
    if is_openvz():
        return IdRange(0, USERS)
    known = {**settings(), **container}
    first = [known.get(key, "") or "0" for key in LOCAL]
    if first[0] != first[1] or not first[0].isdigit() or int(first[0]) + LOCAL_USERS > USERS:
        raise Unsupported(
            asked,
            f"{' and '.join(f'{key} = {number}' for key, number in zip(LOCAL, first))} by {SETTINGS}",
            "Write the same number into both: it moves with its users and groups as they are",
        )
    return IdRange(int(first[0]), LOCAL_USERS) if int(first[0]) else IdRange(0, USERS)


def drop_quota(ctid: int) -> None:
    """Have the kernel's quota forget a container that is another host's: it would be counted on where it returns."""
    if has_quota():
        # It ends with an error where it knows none.
        run([QUOTA, "drop", str(ctid)], timeout=SECONDS, check=False)


def has_quota() -> bool:
    """Return whether the file system of a container can be limited here."""
    return is_openvz() and settings().get("DISK_QUOTA", "yes").lower() != "no"


def settings() -> Mapping[str, str]:
    """Return what vz.conf says."""
    return container_config.read(_text(SETTINGS)).values


def defaults() -> Mapping[str, str]:
    """Return what this host gives containers whose templates say nothing (OpenNebula: vmm_ssh_ovz.conf)."""
    return container_config.read(_text(DEFAULTS)).values


def distributions() -> list[str]:
    try:
        names = os.listdir(DISTRIBUTIONS)
    except OSError:
        return []
    return sorted(name[: -len(".conf")] for name in names if name.endswith(".conf"))


def cache() -> Path:
    """Return the directory in which vzctl looks for OS templates."""
    return Path(settings().get("TEMPLATE") or "/vz/template") / "cache"


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return read_limited(str(path), LARGEST).decode("utf-8", "replace")
