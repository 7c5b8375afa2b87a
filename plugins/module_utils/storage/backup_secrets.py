# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the secrets that were left out of a backup's template: in its own file, given by name, or as the machine's item
says them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ForeignObject, InvalidValue
from ..host.files import read_limited
from ..host.sandbox import NEW, READ
from ..model.dataclass_json import json_value
from . import backup_files, backup_search, qemu_img
from .backup_search import Found

# Bytes of a container of secrets, with its header, and of what is in it.
_LARGEST = 64 << 20
_LARGEST_CONTENT = 16 << 20


def read(found: Found, key: str, asked: str) -> dict[str, str]:
    """Return the secrets of a backup by name, from its file; nothing without one, or without a key."""
    file = found.backup.secrets_file
    if file is None or not key:
        return {}
    if file.size > _LARGEST:
        raise ForeignObject(asked, f"file {file.name} of its secrets has {file.size} bytes", "Take another backup")
    backup_search.compare(found, file, f"{asked}: secrets")
    with tempfile.TemporaryDirectory(prefix="nebula-restore-") as directory:
        os.chmod(directory, 0o711)
        new = os.path.join(os.path.realpath(directory), "secrets")
        text = _opened(os.path.realpath(found.path(file.name)), new, key, asked)
    try:
        value = json_value(text.decode().rstrip("\0 \n"))
    except ValueError:
        value = None
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ForeignObject(f"{asked}: secrets", "its file holds something else", "Take another backup")
    return {str(name): text for name, text in value.items()}


def _opened(path: str, new: str, key: str, asked: str) -> bytes:
    node = {"driver": "luks", "key-secret": backup_files.KEY, "file": {"driver": "file", "filename": path}}
    words = ("convert", "-q", "-O", "raw", backup_files.text_of(node), new)
    files, keys = {path: READ, new: NEW}, {backup_files.KEY: key}
    done = qemu_img.run_program(qemu_img.PROGRAM, *words, files=files, keys=keys, size=_LARGEST, check=False)
    backup_files.require_success(done, asked)
    return read_limited(new, _LARGEST_CONTENT, follow=False)


def of_item(item: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what an item of nebula_vms says of a machine's context and other attributes, by the names of secrets."""
    found: dict[str, str] = {}
    for name, vector in {"CONTEXT": (item or {}).get("context"), **((item or {}).get("attributes") or {})}.items():
        if isinstance(vector, Mapping):
            found.update({f"{str(name).upper()}/{str(key).upper()}": str(text) for key, text in vector.items()})
        elif isinstance(vector, str):
            found[str(name).upper()] = vector
    return found


def complete(
    needed: Sequence[str], given: Mapping[str, str], further: Sequence[Mapping[str, str]], asked: str
) -> dict[str, str]:
    """Return the secrets that are needed. Raise InvalidValue that names all which are missing."""
    found: dict[str, str] = {}
    missing = []
    for name in needed:
        short = name.rpartition("/")[2]
        for source in (given, *further):
            value = source.get(name, source.get(short) if source is given else None)
            if value is not None:
                found[name] = value
                break
        else:
            missing.append(name)
    if missing:
        raise InvalidValue(
            asked,
            f"the backup was made without the values of {', '.join(missing)}",
            "Give them: nebula_machine_restore_secrets: {"
            + ", ".join(f"{name}: …" for name in missing)
            + "}, or the machine's item in nebula_vms. Nothing was changed",
        )
    return found
