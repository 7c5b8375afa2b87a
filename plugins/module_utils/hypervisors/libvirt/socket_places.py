# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes directories in which a QEMU has its sockets, below libvirt's own: AppArmor's profiles of libvirt admit it to
none elsewhere."""

from __future__ import annotations

import os
import pwd
import stat

from ...errors import HypervisorError
from ...host.files import explained


def make(place: str, owner: int, asked: str) -> None:
    """Make a directory for sockets, for nobody but root and the owner, below one through which everybody passes. Raise
    HypervisorError, before anything is made, where the owner could not get there.
    owner: the number of the user as whom QEMU runs. asked: how errors begin"""
    above = os.path.dirname(place)
    _require_way(os.path.dirname(above), owner, asked)
    with explained(place):
        os.makedirs(above, 0o711, exist_ok=True)
        os.chmod(above, 0o711)
        os.mkdir(place, 0o700)
        os.chown(place, owner, -1)


def _require_way(place: str, owner: int, asked: str) -> None:
    groups = _groups_of(owner) if owner else set()
    while owner and place != "/":
        try:
            found = os.stat(place)
        except FileNotFoundError:
            place = os.path.dirname(place)
            continue
        of_group = stat.S_IXGRP if found.st_gid in groups else stat.S_IXOTH
        if not found.st_mode & (stat.S_IXUSR if found.st_uid == owner else of_group):
            raise HypervisorError(
                asked,
                f"the user of its QEMU (number {owner}) can't get through {place}, whose mode is "
                f"{stat.S_IMODE(found.st_mode):04o}: some program has made it before libvirt's own units did",
                f"chmod 0755 {place}, then run again",
            )
        place = os.path.dirname(place)


def _groups_of(owner: int) -> set[int]:
    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        return set()
    return {*os.getgrouplist(user.pw_name, user.pw_gid)}
