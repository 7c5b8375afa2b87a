# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a backup's secrets, or any other file of it, in a LUKS container under the user's key. On disks they are never
in the clear."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping

from ..dataclass import replace
from ..errors import ImageRefused, InvalidValue
from ..host.files import NEW_FILE, closing_fd, explained, opened, read_limited
from ..model.dataclass_json import json_value
from ..model.machine_backup import StoredFile
from . import backup_files, backup_manifests
from .qemu_img import MIB

_SECTOR = 512
# Bytes of all secrets of a machine.
LONGEST = 16 * MIB


def store_secrets(directory: str, name: str, secrets: Mapping[str, str], key: str, what: str = "") -> StoredFile:
    """Store the secrets as the file `name`. It gets its name when it is whole and on its disk."""
    data = json.dumps(dict(secrets), sort_keys=True).encode()
    if len(data) > LONGEST:
        raise ImageRefused(what or f"secrets {name}", f"they have {len(data)} bytes", "Leave the largest out")

    def write(fd: int) -> None:
        # A container holds whole sectors, and JSON ends where its blanks begin.
        os.write(fd, data + b" " * (-len(data) % _SECTOR))

    return replace(store_file(directory, name, write, key, what or f"secrets {name}"), holds=0)


def store_file(directory: str, name: str, write: Callable[[int], None], key: str, what: str) -> StoredFile:
    """Store what `write` writes to an open file as the file `name`. It gets its name when it is whole and on its disk.
    key: what is written stays in memory, and is stored in a container; "" stores it as it is"""
    directory, holds = os.path.realpath(directory), 0
    with backup_files.new_file(directory, name, what) as new, contextlib.ExitStack() as held:
        if key:
            fd = held.enter_context(closing_fd(os.memfd_create("stored", os.MFD_CLOEXEC)))
            write(fd)
            holds = os.fstat(fd).st_size
            os.ftruncate(fd, holds + -holds % _SECTOR)
            backup_files.encrypt("", new, key, what, fd)
        else:
            held.enter_context(explained(new))
            write(held.enter_context(opened(new, NEW_FILE | os.O_CLOEXEC)))
        size, digest = backup_files.settled_digest(new)
    return StoredFile(name, size, digest, holds)


def content_of(path: str, file: StoredFile, key: str, longest: int, what: str) -> bytes:
    """Return what was stored as a file, to the last byte. Raise the error for one that has more than `longest`, or is
    not what its manifest says; its checksum was compared."""
    if not file.name.endswith(backup_manifests.CONTAINER):
        return read_limited(path, longest, follow=False)
    if not key:
        raise InvalidValue(what, "it is encrypted", "Give the key that it was made with: nebula_machine_backup_key")
    found = backup_files.decrypted(os.path.realpath(path), key, longest, what)
    if file.holds > longest or len(found) < file.holds or any(found[file.holds + -file.holds % _SECTOR :]):
        raise ImageRefused(what, f"{path} does not hold {file.holds} bytes", "Use another backup")
    return found[: file.holds]


def read_secrets(directory: str, name: str, key: str, what: str = "") -> dict[str, str]:
    """Return the secrets that are in the file `name`."""
    what = what or f"secrets {name}"
    path = os.path.realpath(os.path.join(directory, name))
    found = backup_files.decrypted(path, key, LONGEST, what)
    try:
        secrets = json_value(found.rstrip(b"\0").decode())
        if not isinstance(secrets, dict) or not all(isinstance(each, str) for each in secrets.values()):
            raise ValueError("they are no names with texts")
    except ValueError as error:
        raise ImageRefused(what, f"{path} holds no secrets: {error}", "Use another backup") from error
    return secrets
