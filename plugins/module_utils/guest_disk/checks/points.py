# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether an image is fit for a cloud: each point, what decides it, and what to do about it. Pure, of what was
found.

The points are the lists of the OpenStack image guide, for Linux and for Windows, and what makes two machines of one
image take each other for the same. Offline points are decided by what is in the image, live points by what a guest
of it said; a point that nobody asked is not tested, and never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from . import linux, live, windows
from .facts import FAIL, LINUX, NOT_APPLICABLE, NOT_TESTED, PASS, WINDOWS, Answer, Facts, unasked
from .live import GuestReport

RESULTS = (PASS, FAIL, NOT_APPLICABLE, NOT_TESTED)
_ALL = (LINUX, WINDOWS)
_NOT_LIVE = "no machine was booted from it"
_ASK_LIVE = "Check it with mode: live"
_NO_SHELL = "what asks a guest is a shell script, which Windows does not run"


@dataclass(frozen=True)
class Point:
    """Describes one point. Either look (offline) or hear (live) decides it; neither: nothing here can.

    name: its key in results.
    title: as a heading.
    systems: the operating systems of which it is asked.
    """

    name: str
    title: str
    systems: tuple[str, ...]
    look: Callable[[Facts], Answer] | None = None
    hear: Callable[[Facts, GuestReport], Answer] | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Finding:
    point: str
    title: str
    result: str
    why: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        return dict(vars(self))


def _linux(name: str, title: str, look: Callable[[Facts], Answer]) -> Point:
    return Point(name, title, (LINUX,), look)


def _windows(name: str, title: str, look: Callable[[Facts], Answer]) -> Point:
    return Point(name, title, (WINDOWS,), look)


POINTS = (
    Point("file-systems", "File systems can be read", _ALL, linux.file_systems),
    Point("partitions", "The root is the last partition", _ALL, linux.partitions),
    _linux("growth", "The root grows by itself", linux.growth),
    Point("boot-loader", "Boot loader in MBR or EFI partition", _ALL, linux.boot_loader),
    _linux("virtio", "Virtio drivers for disk and network", linux.virtio),
    _linux("serial-console", "Serial console on the kernel's command line", linux.serial_console),
    _linux("mac-addresses", "No hard-coded MAC address", linux.mac_addresses),
    _linux("dhcp", "Addresses by DHCP or context", linux.addresses),
    _linux("context", "cloud-init or context scripts", linux.context),
    _linux("ssh-server", "SSH server at boot", linux.ssh_server),
    _linux("ssh-keys", "Login by SSH key", linux.ssh_keys),
    _linux("firewall", "The firewall lets SSH in", linux.firewall),
    _linux("fstab", "Clean fstab", linux.fstab),
    _linux("timezone", "Time zone", linux.timezone),
    _linux("machine-id", "No machine id", linux.machine_id),
    _linux("host-keys", "No SSH host keys", linux.host_keys),
    _linux("random-seed", "No random seed", linux.random_seed),
    _linux("passwords", "No password that all machines share", linux.passwords),
    _linux("personal", "Nobody's keys and histories", linux.personal),
    _linux("leases", "No DHCP leases", linux.leases),
    _linux("context-state", "No state of a former context", linux.context_state),
    _linux("tmp", "/tmp is empty", linux.tmp),
    _linux("logs", "No logs of a former life", linux.logs),
    _windows("virtio-disk", "Virtio driver for disks", windows.virtio_disk),
    _windows("virtio-net", "Virtio driver for the network", windows.virtio_net),
    _windows("remote-desktop", "Remote desktop", windows.remote_desktop),
    _windows("ssh-server", "SSH server at boot", windows.ssh_server),
    _windows("context", "cloudbase-init or context scripts", windows.context),
    _windows("firewall", "The firewall lets remote desktop or SSH in", windows.firewall),
    _windows("dhcp", "Addresses by DHCP", windows.addresses),
    _windows("mac-addresses", "No hard-coded MAC address", windows.mac_addresses),
    _windows("network-prompt", "No question for the kind of network", windows.network_prompt),
    _windows("serial-console", "Serial console (EMS)", windows.serial_console),
    _windows("sysprep", "Generalised by sysprep", windows.sysprep),
    _windows("disk-cleanup", "Disk cleaned up", windows.disk_cleanup),
    Point("updates", "Updates", (WINDOWS,), why_not="only Windows Update in the running guest knows"),
    Point("licence", "Licence", (WINDOWS,), why_not="only the running guest and its owner know"),
    Point("console-log", "Boot log on the serial console", _ALL, hear=live.console_log),
    Point("context-ran", "The context was taken", _ALL, hear=live.context_ran),
    Point("host-name", "Host name as told", _ALL, hear=live.host_name),
    Point("key-login", "Login with a key that it was told", _ALL, hear=live.key_login),
    Point("file-injection", "Injected files", _ALL, hear=live.file_injection),
    Point("root-grown", "The root took a larger disk", _ALL, hear=live.root_grown),
    Point("attached-storage", "A second disk can be used", _ALL, hear=live.attached_storage),
    Point("snapshot", "Snapshot of a running machine", _ALL, hear=live.snapshot),
)


def judge(facts: Facts, report: GuestReport | None = None, looked: bool = True, why_not: str = "") -> list[Finding]:
    """Return a finding for every point of the image's operating system, in the order of POINTS.

    report: what a guest of the image reported, None if no guest was started.
    looked: whether the image itself was looked into.
    why_not: why no guest was started.
    """
    if facts.os == WINDOWS:
        report, why_not = None, _NO_SHELL
    unheard = unasked(why_not) if why_not else unasked(_NOT_LIVE, _ASK_LIVE)
    return [
        _finding(point, _answer(point, facts, report, looked, unheard)) for point in POINTS if facts.os in point.systems
    ]


def _answer(point: Point, facts: Facts, report: GuestReport | None, looked: bool, unheard: Answer) -> Answer:
    if point.look is not None:
        return point.look(facts) if looked else unasked("the image was not looked into", "Check it with mode: offline")
    if point.hear is None:
        return unasked(point.why_not)
    return unheard if report is None else point.hear(facts, report)


def _finding(point: Point, answer: Answer) -> Finding:
    return Finding(point.name, point.title, answer.result, answer.why, answer.remedy)
