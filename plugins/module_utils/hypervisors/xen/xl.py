# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `xl`, Xen's tool on this node, reads what it prints, and explains its errors. xm.py does so for `xm`."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from pathlib import Path
from typing import BinaryIO

from ...dataclass import dataclass
from ...errors import CommandFailed, HypervisorError, MissingDependency, NebulaError, NoCapacity, TimedOut
from ...host import lock_files
from ...host.command import Completed, find, last_lines, run
from . import xenstore
from .xl_logs import LOGS

PROGRAMS = ("xl", "xm")
CAPABILITIES = Path("/proc/xen/capabilities")
# Held by an xl that makes a domain, or gives memory to one: there is one at a time.
LOCK = Path("/var/lock/xl")
LOCK_SECONDS = 120
SECONDS = 60
STEP = 0.1
SHOWN = 5
# What xl shows of a domain whose name it does not find in xenstore: one at its end, or all where xenstored has ended.
NAMELESS = "(null)"
# xl writes this first into a saved machine.
SAVED = b"Xen saved domain, xl format\n \0 \r"
# Name, id, MiB, VCPUs, state, seconds; with -v its UUID. A name may hold blanks.
_LINE = re.compile(
    r"(?P<name>\S.*?)\s+(?P<id>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+(?P<flags>[-rbpscd]{6})\s+(?P<seconds>[\d.]+)"
    r"(?:\s+(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b.*)?"
)
# What xl or the hypervisor say, and what to do about it.
LESS_MEMORY = "Ask for less MEMORY, end another machine, or give dom0 less (dom0_mem, xl mem-set 0)"
_LEFT = (
    "The host has an interface with the name of one of its NICs: a machine that ended badly left it, or it is somebody "
    "else's. See what it is (ip -details link show). If nothing needs it, remove it (ip link delete), then run again"
)
# As guests do that use a disk, and those that do not answer.
KEPT = (
    "Its guest still uses it, or does not answer: take it out of use there (umount, or the interface down), or power "
    "the machine off first (state: poweroff)"
)
REMEDIES = (
    # What follows is of the other host, which got nothing.
    ("enable logdirty", "This Xen can't follow what a PV machine writes meanwhile: move it cold (move: cold)"),
    # It was made while ours was.
    ("Domain with name", "End or rename the one that is there (xl rename): it will not be touched"),
    ("segment kernel too large", "Give it more MEMORY: its kernel does not fit into what it has"),
    ("segment ramdisk too large", "Give it more MEMORY: its initrd does not fit into what it has"),
    ("not enough memory for initial mapping", "Give it more MEMORY: its kernel and initrd do not fit into what it has"),
    ("failed to free memory", LESS_MEMORY),
    ("Out of memory", LESS_MEMORY),
    ("Cannot allocate memory", LESS_MEMORY),
    ("dom0_min_mem", LESS_MEMORY),
    ("Not enough free memory", LESS_MEMORY),
    ("Not enough memory", LESS_MEMORY),
    ("connect to xend", "Start xend, which does all that xm is asked: service xend start"),
    # Of an interface of Xen's script, and of one of its QEMU.
    (" name one-", _LEFT),
    ("answers: File exists", _LEFT),
    ("-emu): Device or resource busy", _LEFT),
    ("bridge", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("is not a block device", "The file is a link, or not there: make the machine anew (recreate: true)"),
    ("block device type", "Check DRIVER of its disks: leave it out, or use raw or qcow2"),
    ("mounted", "End the other domain, or whatever else has the file open (losetup -a)"),
    ("already in use", "End the other domain, or whatever else has the file open (losetup -a)"),
    ("pygrub", "See whether a boot loader's menu is on its first disk: pygrub -n FILE"),
    ("bootloader", "See whether a boot loader's menu is on its first disk: pygrub -n FILE"),
    ("Boot loader", "See whether a boot loader's menu is on its first disk: pygrub -n FILE"),
    ("unable to read kernel", "Check OS KERNEL"),
    ("xc_dom_parse_image", "Check OS KERNEL: it has to be one for Xen (CONFIG_XEN_PV, or CONFIG_XEN_PVH for PVH)"),
    ("failed to stat", "A disk's file is gone: make the machine anew (recreate: true)"),
    ("hotplug", "See what its script wrote in /var/log/xen/xen-hotplug.log"),
    ("exited with error status", "A script of the host failed: see /var/log/xen/xen-hotplug.log"),
    ("domain builder", "Check OS KERNEL: it has to be one for Xen (CONFIG_XEN_PV, or CONFIG_XEN_PVH for PVH)"),
    ("device model", "Install the package qemu-system-xen; its own words are in /var/log/xen/qemu-dm-NAME.log"),
    ("config parsing error", "Check RAW: all else in its deployment file is ours"),
    ("Too many VCPUs", "Ask for fewer VCPU"),
    ("max_vcpus", "Ask for fewer VCPU"),
)


# Where libxl is in its code, before its words; and what it says of every domain that it could not make, after that.
_CODE = re.compile(
    r"^(?:ended with code \d+: )?(?:libxl|xc): error: (?:panic: )?(?:[\w.]+:\d+: ?\w+: )?(?:Domain \d+:)?"
)
_AFTER = (
    "Non-existant domain", "Unable to destroy guest", "Destruction of domain failed", "cannot (re-)build domain",
    "cannot make domain",
)  # fmt: skip
_DOMAIN = re.compile(r"\bDomain (\d+):")


@dataclass(frozen=True)
class ListedDomain:
    """Holds a domain as `xl list` shows it.
    memory: MiB.
    flags: running, blocked, paused, shut down, crashed, dying; a dash for each that it is not.
    uuid: "" where that is not told."""

    name: str
    domid: int
    memory: int
    vcpus: int
    flags: str
    seconds: float
    uuid: str = ""


def program() -> str:
    """Return the name of the tool that is there."""
    for name in PROGRAMS:
        with contextlib.suppress(MissingDependency):
            find(name)
            return name
    find(PROGRAMS[0])
    return PROGRAMS[0]


def require_dom0() -> None:
    """Raise HypervisorError if this is no host of Xen, or its kernel was booted without Xen."""
    try:
        if "control_d" in CAPABILITIES.read_text(encoding="ascii"):
            return
        found = "it is a machine of Xen itself, and no dom0"
    except OSError:
        found = f"its kernel was booted without Xen: there is no {CAPABILITIES}"
    raise HypervisorError(
        "running machines with Xen on this host",
        found,
        "Boot the entry of GRUB that starts Xen (package xen-system-amd64), or set nebula_hypervisor to what it runs",
    )


def parse_list(text: str) -> list[ListedDomain]:
    """Return the domains that `xl list` shows."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match:
            found.append(
                ListedDomain(
                    name=match["name"],
                    domid=int(match["id"]),
                    memory=int(match["memory"]),
                    vcpus=int(match["vcpus"]),
                    flags=match["flags"],
                    seconds=float(match["seconds"]),
                    uuid=match["uuid"] or "",
                )
            )
    return found


def information(text: str) -> dict[str, str]:
    """Return what `xl info` prints, as a dict."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def blocks(text: str) -> set[int]:
    """Return the numbers of the devices that `xl block-list` shows."""
    return {int(line.split()[0]) for line in text.splitlines()[1:] if line.split()[:1] and line.split()[0].isdigit()}


def macs(text: str) -> set[str]:
    """Return the addresses that `xl network-list` shows."""
    return {words[2].lower() for words in map(str.split, text.splitlines()[1:]) if len(words) > 2}


class Tool:
    """Runs xl. Callers use xl's words; Xm, a subclass, translates them into its own. Every call is a process, and may
    be made from several threads.
    log: where more is said than it prints.
    emulators: where Debian has Xen's QEMU, and where Xen's own installation and other distributions have it;
    patterns of glob."""

    name = "xl"
    log = str(LOGS)
    emulators: tuple[str, ...] = (
        "/usr/libexec/xen-qemu-system-i386",
        "/usr/lib/xen/bin/qemu-system-i386",
        "/usr/local/lib/xen/bin/qemu-system-i386",
        "/usr/lib64/xen/bin/qemu-system-i386",
        "/usr/libexec/xen/bin/qemu-system-i386",
    )
    emulator_package = "qemu-system-xen"

    def listed(self) -> list[ListedDomain]:
        """Return all domains, dom0 included. Raise HypervisorError where Xen's tools do not know even dom0's name:
        then nothing they say of names counts, and what runs must not be taken for off."""
        asked = "listing the machines of this node"
        found = parse_list(self.ask(asked, "list", "-v").stdout)
        if any(domain.name == NAMELESS and domain.domid == 0 for domain in found):
            raise HypervisorError(
                asked,
                "xenstore knows the name of no domain, not even dom0's: xenstored was ended, or started anew",
                "What Xen's tools know of running machines goes with xenstored: shut their guests down, and reboot",
            )
        return found

    def named(self, name: str) -> ListedDomain | None:
        """Return the domain of this name, if there is one."""
        # To list them takes a hundred times as long.
        if not xenstore.is_named(name):
            return None
        return next((domain for domain in self.listed() if domain.name == name), None)

    def information(self) -> dict[str, str]:
        return information(self.ask("asking Xen what this host has", "info").stdout)

    def blocks(self, asked: str, name: str) -> set[int]:
        """Return the numbers of the domain's disks."""
        return blocks(self.ask(asked, "block-list", name).stdout)

    def macs(self, asked: str, name: str) -> set[str]:
        """Return the addresses of the domain's NICs."""
        return macs(self.ask(asked, "network-list", name).stdout)

    def insert(self, asked: str, name: str, device: str, path: str) -> bool:
        """Change the medium of an emulated drive. Return False if the tool can't."""
        # As it is: here xl takes a prefix for a part of the name.
        self.ask(asked, "cd-insert", name, device, path)
        return True

    def require_migration(self, asked: str) -> None:
        """Raise Unsupported where the tool does not move what runs over a connection that it is given."""

    def written(self, text: str) -> str:
        """Return a deployment file in the form that the tool reads."""
        return text

    def refuse(self, asked: str, text: str) -> None:
        """Raise Unsupported for a deployment file with something that the tool does not have."""

    def emulator(self) -> str:
        """Return the path of Xen's QEMU, "" if there is none."""
        found = (path for pattern in self.emulators for path in glob.glob(pattern) if os.access(path, os.X_OK))
        return next(found, "")

    def is_saved(self, file: BinaryIO) -> bool:
        """Return whether the file holds all of a saved machine."""
        return is_complete(file, SAVED)

    def ask(self, asked: str, *words: str, timeout: float = SECONDS) -> Completed:
        """Run the tool with these words. Raise its error, with what is usually done about it."""
        try:
            return run([self.name, *words], timeout=timeout)
        except CommandFailed as error:
            problem = error_of_xl(asked, error.found)
            if words[0] in ("block-detach", "network-detach") and "unable to remove device" in error.found:
                raise TimedOut(asked, problem.found, KEPT) from error
            raise problem from error
        except TimedOut as error:
            holder = lock_holder()
            found = f"{self.name} {words[0]} did not end within {timeout:g} s"
            if holder:
                found += f"; process {holder} ({_argv(holder)}) holds {LOCK}"
            raise TimedOut(asked, found, self._lock_remedy(holder)) from error

    def wait_for_lock(self, asked: str, timeout: float = LOCK_SECONDS) -> None:
        """Wait for the tools' lock. Raise TimedOut if another xl keeps it for longer: it may hang."""
        limit = time.monotonic() + timeout
        while holder := lock_holder():
            if time.monotonic() > limit:
                raise TimedOut(
                    asked,
                    f"process {holder} ({_argv(holder)}) has held the lock of Xen's tools, {LOCK}, for {timeout:g} s",
                    self._lock_remedy(holder),
                )
            time.sleep(STEP)

    def _lock_remedy(self, holder: int) -> str:
        return (
            f"See what that process waits for; end it if it hangs: kill {holder}"
            if holder
            else f"See whether xenstored runs (service xen status), and {self.name}'s log in {self.log}"
        )


def is_complete(file: BinaryIO, first: bytes) -> bool:
    """Return whether the file holds all of a machine that libxl saved, behind what its caller wrote first."""
    if file.read(len(first)) != first:
        return False
    # The record that ends the stream: of type 0, and of no length.
    file.seek(-8, os.SEEK_END)
    return file.read(8) == bytes(8)


def lock_holder() -> int:
    """Return the number of the process that has the toolstack's lock; 0 if nobody has it."""
    try:
        file = os.open(LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return lock_files.record_holder(file)
    finally:
        os.close(file)


def _argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except OSError:
        return "ended meanwhile"


def error_of_xl(asked: str, text: str) -> NebulaError:
    """Return the error that xl's words mean."""
    pattern, remedy = next((each for each in REMEDIES if each[0].lower() in text.lower()), ("", ""))
    kind = NoCapacity if remedy == LESS_MEMORY else HypervisorError
    lines = [_CODE.sub("", line.strip()) for line in text.splitlines()]
    lines_before = [line for line in lines if not any(words in line for words in _AFTER)] or lines
    cause = [line for line in lines_before[:-SHOWN] if pattern and pattern.lower() in line.lower()][-1:]
    return kind(asked, last_lines("\n".join([*cause, *lines_before[-SHOWN:]]), SHOWN + 1), remedy)


def lines_of_hypervisor(text: str, log: str) -> list[str]:
    """Return what Xen itself wrote in its log (`xl dmesg`) about the domains that xl's words are about."""
    domains = set(_DOMAIN.findall(text))
    if not domains:
        return []
    about = re.compile(rf"\b(?:d|dom|domain |Domain |Dom)(?:{'|'.join(sorted(domains))})(?:v\d+)?\b")
    return [line.strip() for line in log.splitlines() if about.search(line)]
