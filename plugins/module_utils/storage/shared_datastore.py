# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the mark in a node's system datastore by which it is known where several hosts see it: the catalog's UUID,
and a word that no other datastore has."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from shlex import quote

from ..errors import NebulaError, NotFound
from ..host import mounts
from ..host.files import explained, read_limited, remove_file, sync_directory, write_atomically
from ..model.datastore import SHARED_MARK, mark_anew
from ..model.plan import PlannedDatastore
from .datastore_layout import SYSTEM, image_directory

# Bytes. Other hosts write there as well.
LARGEST = 256
_MARK = re.compile(r"[0-9a-f-]{1,64}\.[0-9a-f]{32}")


def path(root: str) -> str:
    return os.path.join(image_directory(root, SYSTEM), SHARED_MARK)


def seen(root: str) -> str:
    """Return the mark in the system datastore, "" if there is none that can be read."""
    try:
        text = read_limited(path(root), LARGEST, follow=False).decode("ascii").strip()
    except (NebulaError, OSError, UnicodeDecodeError):
        return ""
    return text if _MARK.fullmatch(text) else ""


def is_mounted(root: str) -> bool:
    """Return whether the system datastore is on another mount than the root."""
    return mounts.file_system(image_directory(root, SYSTEM))[0] != mounts.file_system(root)[0]


def begin(root: str, catalog: str) -> bool:
    """Write a new mark, unless there is one by now. Return whether it was written."""
    mark = f"{catalog}.{secrets.token_hex(16)}"
    # Another host may do the same: the file that gets the name first counts, and it is never half written.
    temporary = f"{path(root)}.{mark.rpartition('.')[2]}.tmp"
    write_atomically(temporary, mark + "\n", mode=0o444)
    try:
        with explained(path(root)), contextlib.suppress(FileExistsError):
            os.link(temporary, path(root))
            sync_directory(os.path.dirname(temporary))
            return True
        return False
    finally:
        remove_file(temporary)


def remove_last(root: str) -> bool:
    """Remove the mark from a datastore that has nothing else. Return whether it was removed."""
    with contextlib.suppress(OSError):
        if os.listdir(image_directory(root, SYSTEM)) == [SHARED_MARK]:
            remove_file(path(root))
            return True
    return False


def require(root: str, host: str, datastore: PlannedDatastore | None) -> None:
    """Raise NotFound unless the system datastore is the one that the host is to have."""
    if datastore is None:
        return
    found = seen(root)
    if not datastore.mark or found != datastore.mark:
        anew = f". {mark_anew(datastore.mark, quote(path(root)))}" if datastore.mark else ""
        raise NotFound(
            f"host {host}: shared datastore {datastore.name}",
            f"{image_directory(root, SYSTEM)} "
            + ("has no mark of a shared datastore" if not found else "has the mark of another datastore")
            + ": nothing is started or removed there",
            "Mount the datastore there and run playbook nebula.provision.site again, or take the host out of its hosts"
            + anew,
        )
