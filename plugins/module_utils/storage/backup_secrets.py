# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a backup's secrets, or any other file of it, in a LUKS container under the user's key. On disks they are never
in the clear."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ..errors import ImageRefused
from ..host.files import closing_fd
from ..model.dataclass_json import json_value
from ..model.machine_backup import StoredFile
from . import backup_files
from .qemu_img import MIB

_SECTOR = 512
# Bytes of all secrets of a machine.
LONGEST = 16 * MIB


def store_secrets(directory: str, name: str, secrets: Mapping[str, str], key: str, what: str = "") -> StoredFile:
    """Store the secrets as the file `name`. It gets its name when it is whole and on its disk."""
    data = json.dumps(dict(secrets), sort_keys=True).encode()
    if len(data) > LONGEST:
        raise ImageRefused(what or f"secrets {name}", f"they have {len(data)} bytes", "Leave the largest out")
    directory = os.path.realpath(directory)
    with backup_files.new_file(directory, name, what or f"secrets {name}") as new:
        fd = os.memfd_create("secrets", os.MFD_CLOEXEC)
        with closing_fd(fd):
            # A container holds whole sectors, and JSON ends where its blanks begin.
            os.write(fd, data + b" " * (-len(data) % _SECTOR))
            backup_files.encrypt("", new, key, what or f"secrets {name}", fd)
        size, digest = backup_files.settled_digest(new)
    return StoredFile(name, size, digest)


def read_secrets(directory: str, name: str, key: str, what: str = "") -> dict[str, str]:
    """Return the secrets that are in the file `name`."""
    what = what or f"secrets {name}"
    path = os.path.realpath(os.path.join(directory, name))
    found = backup_files.decrypted(path, key, LONGEST, what)
    try:
        secrets = json_value(found.decode())
        if not isinstance(secrets, dict) or not all(isinstance(each, str) for each in secrets.values()):
            raise ValueError("they are no names with texts")
    except ValueError as error:
        raise ImageRefused(what, f"{path} holds no secrets: {error}", "Use another backup") from error
    return secrets
