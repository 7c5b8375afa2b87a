# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives /dev/kvm the owner and mode that udev would give it, where there is no udev. A QEMU user that can't open it
makes libvirt forget at each call what its emulators can do and ask them again: 8 to 12 s, each time."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Mapping

from ..dataclass import replace
from .kvm_probe import DEVICE
from .node_file import Changes, NodeFile, Remember

GROUP = "kvm"
MODE = 0o660
UDEV = "/run/udev/control"


def wanted(device: str = DEVICE) -> dict[str, int]:
    """Return {uid, gid, mode} that the device should have and has not; empty if all is well, or not ours to decide."""
    try:
        found = os.stat(device)
        gid = grp.getgrnam(GROUP).gr_gid
    except (OSError, KeyError):
        return {}
    if os.path.exists(UDEV) or not stat.S_ISCHR(found.st_mode):
        return {}
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o006 == 0o006 or (found.st_gid == gid and mode & 0o060 == 0o060):
        return {}
    return {"uid": found.st_uid, "gid": gid, "mode": MODE}


def current(device: str = DEVICE) -> dict[str, int]:
    found = os.stat(device)
    return {"uid": found.st_uid, "gid": found.st_gid, "mode": stat.S_IMODE(found.st_mode)}


def apply(access: Mapping[str, int], device: str = DEVICE) -> None:
    os.chown(device, access["uid"], access["gid"])
    os.chmod(device, access["mode"])


def take(changes: Changes, remember: Remember) -> None:
    """Give the device the owner and mode that it lacks, after its former ones are remembered."""
    access = wanted()
    if not access:
        return
    found = current()
    changes.did(DEVICE, _access_text(found), _access_text(access))
    changes.warnings.append(
        f"{DEVICE} {'is' if changes.check_mode else 'was'} {_access_text(found)}, as no udev sets it: "
        f"{'would become' if changes.check_mode else 'now it is'} {_access_text(access)}. "
        "With the former, each call of libvirt takes 10 s"
    )
    if not changes.check_mode:
        # What it was at first: a second run must not remember its own work.
        remember(lambda before: before if before.kvm_device else replace(before, kvm_device=found))
        apply(access)


def give_back(changes: Changes, known: NodeFile) -> bool:
    """Give the device its owner and mode of before take(). Return whether they are known and the device is still
    there."""
    if not known.kvm_device or not os.path.exists(DEVICE):
        return False
    changes.did(DEVICE, _access_text(current()), _access_text(known.kvm_device))
    if not changes.check_mode:
        apply(known.kvm_device)
    return True


def _access_text(access: Mapping[str, int]) -> str:
    return f"{access['mode']:04o} {access['uid']}:{access['gid']}"
