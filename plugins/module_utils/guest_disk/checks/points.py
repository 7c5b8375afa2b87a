# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether an image is fit for a cloud: each point, what decides it, and what to do about it. Pure, of what was
found.

The points are the lists of the OpenStack image guide, for Linux and for Windows, and what makes two machines of one
image take each other for the same. Offline points are decided by what is in the image, live points by what a guest
of it said; a point that nobody asked is not tested, and never a pass."""

from __future__ import annotations

from typing import Callable

from ...dataclass import dataclass
from . import linux_points, live_points, windows_points
from .image_facts import FAIL, LINUX, NOT_APPLICABLE, NOT_TESTED, PASS, WINDOWS, Answer, Facts, not_tested
from .live_points import GuestReport

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
    systems: the operating systems of which it is asked."""

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
    Point("file-systems", "File systems can be read", _ALL, linux_points.file_systems),
    Point("partitions", "The root is the last partition", _ALL, linux_points.partitions),
    _linux("growth", "The root grows by itself", linux_points.growth),
    Point("boot-loader", "Boot loader in MBR or EFI partition", _ALL, linux_points.boot_loader),
    _linux("virtio", "Virtio drivers for disk and network", linux_points.virtio),
    _linux("serial-console", "Serial console on the kernel's command line", linux_points.serial_console),
    _linux("mac-addresses", "No hard-coded MAC address", linux_points.mac_addresses),
    _linux("dhcp", "Addresses by DHCP or context", linux_points.addresses),
    _linux("context", "cloud-init or context scripts", linux_points.context),
    _linux("ssh-server", "SSH server at boot", linux_points.ssh_server),
    _linux("ssh-keys", "Login by SSH key", linux_points.ssh_keys),
    _linux("firewall", "The firewall lets SSH in", linux_points.firewall),
    _linux("fstab", "Clean fstab", linux_points.fstab),
    _linux("timezone", "Time zone", linux_points.timezone),
    _linux("machine-id", "No machine id", linux_points.machine_id),
    _linux("host-keys", "No SSH host keys", linux_points.host_keys),
    _linux("random-seed", "No random seed", linux_points.random_seed),
    _linux("passwords", "No password that all machines share", linux_points.passwords),
    _linux("personal", "Nobody's keys and histories", linux_points.personal),
    _linux("leases", "No DHCP leases", linux_points.leases),
    _linux("context-state", "No state of a former context", linux_points.context_state),
    _linux("tmp", "/tmp is empty", linux_points.tmp),
    _linux("logs", "No logs of a former life", linux_points.logs),
    _windows("virtio-disk", "Virtio driver for disks", windows_points.virtio_disk),
    _windows("virtio-net", "Virtio driver for the network", windows_points.virtio_net),
    _windows("remote-desktop", "Remote desktop", windows_points.remote_desktop),
    _windows("ssh-server", "SSH server at boot", windows_points.ssh_server),
    _windows("context", "cloudbase-init or context scripts", windows_points.context),
    _windows("firewall", "The firewall lets remote desktop or SSH in", windows_points.firewall),
    _windows("dhcp", "Addresses by DHCP", windows_points.addresses),
    _windows("mac-addresses", "No hard-coded MAC address", windows_points.mac_addresses),
    _windows("network-prompt", "No question for the kind of network", windows_points.network_prompt),
    _windows("serial-console", "Serial console (EMS)", windows_points.serial_console),
    _windows("sysprep", "Generalised by sysprep", windows_points.sysprep),
    _windows("disk-cleanup", "Disk cleaned up", windows_points.disk_cleanup),
    Point("updates", "Updates", (WINDOWS,), why_not="only Windows Update in the running guest knows"),
    Point("licence", "Licence", (WINDOWS,), why_not="only the running guest and its owner know"),
    Point("console-log", "Boot log on the serial console", _ALL, hear=live_points.console_log),
    Point("context-ran", "The context was taken", _ALL, hear=live_points.context_ran),
    Point("host-name", "Host name as told", _ALL, hear=live_points.host_name),
    Point("key-login", "Login with a key that it was told", _ALL, hear=live_points.key_login),
    Point("file-injection", "Injected files", _ALL, hear=live_points.file_injection),
    Point("root-grown", "The root took a larger disk", _ALL, hear=live_points.root_grown),
    Point("attached-storage", "A second disk can be used", _ALL, hear=live_points.attached_storage),
    Point("snapshot", "Snapshot of a running machine", _ALL, hear=live_points.snapshot),
)


def judge(facts: Facts, report: GuestReport | None = None, looked: bool = True, why_not: str = "") -> list[Finding]:
    """Return a finding for every point of the image's operating system, in the order of POINTS.
    report: what a guest of the image reported, None if no guest was started.
    looked: whether the image itself was looked into.
    why_not: why no guest was started."""
    if facts.os == WINDOWS:
        report, why_not = None, _NO_SHELL
    unheard = not_tested(why_not) if why_not else not_tested(_NOT_LIVE, _ASK_LIVE)
    return [
        _finding(point, _answer(point, facts, report, looked, unheard)) for point in POINTS if facts.os in point.systems
    ]


def _answer(point: Point, facts: Facts, report: GuestReport | None, looked: bool, unheard: Answer) -> Answer:
    if point.look is not None:
        return (
            point.look(facts) if looked else not_tested("the image was not looked into", "Check it with mode: offline")
        )
    if point.hear is None:
        return not_tested(point.why_not)
    return unheard if report is None else point.hear(facts, report)


def _finding(point: Point, answer: Answer) -> Finding:
    return Finding(point.name, point.title, answer.result, answer.why, answer.remedy)
