# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks whether a directory of this host may be given to a guest, which writes there as root."""

from __future__ import annotations

import os
import stat

from ..errors import InvalidValue, NotFound
from ..host.files import explained, refuse_exchangeable


def check(path: str, readonly: bool) -> None:
    """Raise an error unless the guest gets what its list says, and nobody else of this host gets at what it writes.

    A guest makes files of any owner and mode there. So a user of this host who came to them could run one as root, if
    its set-user-id bit counts."""
    if os.path.realpath(path) != path or not os.path.isdir(path):
        found = "there is no such directory"
        if os.path.isdir(path):
            found = f"it leads to {os.path.realpath(path)}"
        raise NotFound(f"directory {path} on this node", found, "Make it, or correct SOURCE of the DISK")
    refuse_exchangeable(os.path.dirname(path))
    harmless = os.ST_NOSUID | os.ST_NODEV
    # The guest opens the directory itself as it likes: it has to be closed above.
    if readonly or os.statvfs(path).f_flag & harmless == harmless or _is_closed(os.path.dirname(path)):
        return
    raise InvalidValue(
        f"directory {path} on this node",
        "other users of this host can come to it, and a guest could put programs and devices there for them",
        f"Close the directory above it (chmod 0700 {os.path.dirname(path)}), or mount it with nosuid and nodev",
    )


def _is_closed(path: str) -> bool:
    """Return whether a directory on the way keeps other users out."""
    place = path
    while place != "/":
        with explained(place):
            if not stat.S_IMODE(os.stat(place).st_mode) & 0o011:
                return True
        place = os.path.dirname(place)
    return False
