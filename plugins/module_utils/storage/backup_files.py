# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes the files of backups: so far, a disk is made of what holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from ..errors import CommandFailed, InvalidValue
from ..host import command, sandbox
from ..host.sandbox import NEW, READ
from ..model.machine_backup import LUKS
from . import qemu_img


def restore_disk(
    chain: Sequence[tuple[str, str]], new_path: str, format: str, key: str, size: int, what: str
) -> None:
    """Make a disk that stands alone.
    chain: path and form of the backup's own file, then of those on which it rests, nearest first.
    size: bytes that it has to have. what: how errors call it."""
    node = _node(chain)
    files = {os.path.realpath(path): READ for path, _stored in chain}
    files[new_path] = NEW
    secret = ["--object", "secret,id=key,file=/dev/stdin"] if key else []
    words = [qemu_img.PROGRAM, "convert", *secret, "-q", "-W", "-m", "8", "-O", format, "json:" + json.dumps(node)]
    done = sandbox.run(
        [*words, new_path],
        files,
        timeout=qemu_img.LONG_TIMEOUT,
        memory=qemu_img.MEMORY,
        cpu=qemu_img.LONG_CPU,
        input=key or None,
        check=False,
    )
    if done.returncode == 0:
        return
    error = command.failure_of(done)
    if isinstance(error, CommandFailed) and "Invalid password" in error.found:
        raise InvalidValue(what, "the key does not open it", "Give that of the backup (nebula_machine_backup_key)")
    raise error


def _node(chain: Sequence[tuple[str, str]]) -> dict[str, Any]:
    (path, stored), below = chain[0], chain[1:]
    file: dict[str, Any] = {"driver": "file", "filename": os.path.realpath(path)}
    if stored == LUKS:
        file = {"driver": "luks", "key-secret": "key", "file": file}
    return {"driver": "qcow2", "file": file, "backing": _node(below) if below else None}
