# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attaches and detaches disks of a running container, of which libvirt knows nothing: it attaches no file systems.

What is mounted on the node is mounted once more inside the container, by a process that goes into it first.
Whatever the container has made of its own paths, they lead to nothing but its own files there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import HypervisorError, InUse
from ...host import kernel_calls, loop_devices, mounts
from ...host.files import closing_fd
from ...model.container_user_ids import IdRange
from ...storage import mounted_disks
from ...storage.datastore_layout import disk_path
from ...storage.mounted_disks import MountedDisk
from ..libvirt.domain_xml import MARK_PATH, attribute_of

_TIMEOUT = 60
# All of it is standard library. Arguments: a process of the container, "mount" with a descriptor of a mount and a path,
# or "unmount" with paths. It becomes the container's root, who could do no less. From then on it imports nothing: it
# would be the container's files, and this process still has the network of the host.
PROGRAM = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result, path):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
init, verb, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
spaces = [os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY) for name in ("user", "mnt")]
try:
    for handle, flag in zip(spaces, (1 << 28, 1 << 17)):
        check(libc.setns(handle, flag), f"namespace of {init}")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.umask(0o022)
    if verb == "mount":
        os.makedirs(rest[1], exist_ok=True)
        check(libc.syscall(429, int(rest[0]), b"", -100, os.fsencode(rest[1]), ctypes.c_uint(4)), rest[1])
    else:
        for path in rest:
            check(libc.umount2(os.fsencode(path), 8), path)
except OSError as error:
    os.write(2, f"{error.errno} {error.filename}: {error.strerror}".encode("utf-8", "replace"))
    os._exit(1)
except BaseException:
    os._exit(2)
os._exit(0)
"""
_BUSY = "16 "


@dataclass(frozen=True)
class LiveDisk:
    """Holds a disk of a definition that is mounted in the container at `target`."""

    disk: MountedDisk
    target: str


def disks_of(text: str) -> dict[int, LiveDisk]:
    """Return the disks of a definition that are mounted in the container, by id."""
    domain = ET.fromstring(text)
    own = domain.find(MARK_PATH)
    ids = domain.find("idmap/uid")
    found: dict[int, LiveDisk] = {}
    if own is None or ids is None:
        return found
    shown = IdRange(int(ids.get("target", "0")), int(ids.get("count", "0")))
    for each in domain.iterfind("devices/filesystem"):
        target, point = each.find("target"), attribute_of(each, "source", "dir")
        uuid, disk_id = mounted_disks.parse_mount_point(point)
        if not uuid or target is None:
            continue
        file = disk_path(own.get("directory", ""), disk_id)
        disk = MountedDisk(file, point, shown, each.find("readonly") is not None)
        found[disk_id] = LiveDisk(disk, target.get("dir", ""))
    return found


def attach(init: int, live: LiveDisk, asked: str) -> bool:
    """Mount the disk in the container. Return False if it is there. init: the container's, by the host's number."""
    devices = loop_devices.devices_of(os.path.realpath(live.disk.file))
    if mounts.mount_points_of(devices, f"/proc/{init}/mountinfo"):
        return False
    mounted_disks.mount(live.disk, asked)
    with closing_fd(kernel_calls.open_tree(live.disk.point)) as tree:
        _run_inside(init, ("mount", str(tree), live.target), asked, (tree,))
    return True


def detach(init: int, point: str, asked: str) -> bool:
    """Unmount what is mounted at `point` from the container and from this host. Return False if nothing is. Raise
    InUse if the container uses it."""
    places = _places_inside(init, point)
    if places:
        # What was mounted last may lie above the others.
        _run_inside(init, ("unmount", *reversed(places)), asked)
    return mounted_disks.unmount(point) or bool(places)


def _places_inside(init: int, point: str) -> list[str]:
    device = mounted_disks.device_of(point)
    if device is None:
        return []
    return mounts.mount_points_of({f"{os.major(device)}:{os.minor(device)}"}, f"/proc/{init}/mountinfo")


def _run_inside(init: int, words: Sequence[str], asked: str, handles: Sequence[int] = ()) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(init), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        pass_fds=handles,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode == 0:
        return
    found = done.stderr.decode("utf-8", "replace").strip() or f"what was to do it ended with {done.returncode}"
    if found.startswith(_BUSY):
        raise InUse(asked, found, "End what uses it in the container (fuser -vm names it there), then run again")
    raise HypervisorError(asked, found, "Power the machine off: the disk comes or goes then")
