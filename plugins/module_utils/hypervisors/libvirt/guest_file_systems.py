# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a guest's agent make a file system larger on a disk that was made larger while the guest ran. What the agent
answers is the guest's own word: it decides nothing but what an administrator is told of that guest."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import HypervisorError, NebulaError
from ...host.console.console_log import harmless
from . import guest_agent
from .domains import message_of
from .quiesce import limited_agent_wait

# Seconds that a guest has for the file systems of one disk, and until it is asked again whether it is ready.
LONGEST = 60.0
PAUSE = 0.1
# File systems of one disk that are looked at.
_MOST = 16
_SECTOR = 512
_LONGEST_REASON = 200
# Statuses of the program below: what it was asked about is not at the end of the disk.
_ELSEWHERE = 3
AGENT_CHANNEL = "org.qemu.guest_agent.0"
# Makes a mounted file system ($1 its device, $2 where it is mounted, $3 its kind) as large as the disk, of $4 sectors,
# below it. Of several partitions only the last one can grow. growpart exits with 1 where there is nothing to do.
PROGRAM = r"""
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin LC_ALL=C; export PATH LC_ALL
device=$1 place=$2 kind=$3 sectors=$4 number=
at=/sys/class/block/$device
if [ -r "$at/partition" ]; then
    number=$(cat "$at/partition") disk=$(basename "$(readlink -f "$at/..")") start=$(cat "$at/start")
    for other in /sys/class/block/"$disk"/"$disk"*/start; do
        [ "$(cat "$other")" -le "$start" ] || exit 3
    done
elif [ -e "$at/device" ]; then
    disk=$device
else
    echo "$device is neither a disk nor a partition of one" >&2; exit 2
fi
case $kind in ext2 | ext3 | ext4 | xfs | btrfs) ;; *) echo "it does not grow $kind" >&2; exit 2 ;; esac
for _try in 1 2 3 4 5; do
    [ "$(cat "/sys/class/block/$disk/size")" -lt "$sectors" ] || break
    { echo 1 > "/sys/class/block/$disk/device/rescan"; } 2> /dev/null || :
    sleep 1
done
if [ "$(cat "/sys/class/block/$disk/size")" -lt "$sectors" ]; then
    echo "its kernel does not see the new size of $disk before it boots again" >&2; exit 2
fi
if [ -n "$number" ]; then
    growpart "/dev/$disk" "$number" || { status=$?; [ $status -eq 1 ] || exit $status; }
fi
case $kind in
ext*) resize2fs "/dev/$device" ;;
xfs) xfs_growfs "$place" ;;
btrfs) btrfs filesystem resize max "$place" ;;
esac
"""


def grow(libvirt: Any, domain: Any, target: str, size: int) -> str:
    """Return why the file system at the end of a disk did not become as large as the disk; "" if it did.
    target: of the disk, as libvirt has it.
    size: bytes of the disk."""
    if not has_agent(domain.XMLDesc(0)):
        return "no guest agent answers"
    asked = f"the guest agent of {domain.name()}"
    try:
        with limited_agent_wait(libvirt, domain):
            mounted = domain.fsInfo(0)
    except libvirt.libvirtError as error:
        return f"its guest agent does not tell what is mounted: {harmless(message_of(error))[:_LONGEST_REASON]}"
    reasons = []
    deadline = time.monotonic() + LONGEST
    for place, device, kind, targets in [each for each in mounted if target in each[3]][:_MOST]:
        if len(targets) > 1:
            reasons.append("it is on several disks")
            continue
        try:
            status, reason = _run(libvirt, domain, asked, [device, place, kind, str(size // _SECTOR)], deadline)
        except NebulaError as error:
            return harmless(error.found)[:_LONGEST_REASON]
        if status == 0:
            return ""
        if status != _ELSEWHERE:
            reasons.append(reason or f"exit status {status}")
    return f"its guest says: {reasons[0]}" if reasons else "none is mounted at its end that could grow"


def has_agent(running: str) -> bool:
    """Return whether an agent has opened its channel. running: the definition of the running machine."""
    channels = ET.fromstring(running).iterfind("devices/channel/target")
    return any((each.get("name"), each.get("state")) == (AGENT_CHANNEL, "connected") for each in channels)


def _run(libvirt: Any, domain: Any, asked: str, arguments: list[str], deadline: float) -> tuple[int, str]:
    """Return the exit status of the program in the guest, and the last line of its error output."""
    answer = guest_agent.command(
        libvirt,
        domain,
        asked,
        "guest-exec",
        **{"path": "/bin/sh", "arg": ["-c", PROGRAM, "sh", *arguments], "capture-output": True},
    )
    if not isinstance(answer, Mapping) or not isinstance(answer.get("pid"), int):
        raise HypervisorError(asked, "its guest agent may not run programs (guest-exec)")
    while time.monotonic() < deadline:
        ended = guest_agent.command(libvirt, domain, asked, "guest-exec-status", pid=answer["pid"])
        if not isinstance(ended, Mapping):
            raise HypervisorError(asked, "its guest agent does not tell what becomes of its programs")
        if ended.get("exited"):
            status = ended.get("exitcode")
            return status if isinstance(status, int) else -1, _last_line(ended.get("err-data"))
        time.sleep(PAUSE)
    raise HypervisorError(asked, f"its guest agent was not ready after {LONGEST:g} s, and may go on with it")


def _last_line(data: Any) -> str:
    try:
        lines = base64.b64decode(str(data or "")).decode(errors="replace").split("\n")
    except (ValueError, binascii.Error):
        return ""
    return next((harmless(line.strip())[:_LONGEST_REASON] for line in reversed(lines) if line.strip()), "")
