# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends large files from the control node to a host in chunks; a broken upload goes on from what arrived."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable

MIB = 1024 * 1024
# One module run per chunk, so not too small; what breaks is sent again, and each is once more on the disks of both
# sides, so not too large. The first has this size, the others what passes in some seconds.
CHUNK = 64 * MIB
SMALLEST, LARGEST = 8 * MIB, 256 * MIB
QUICK, SLOW = 4.0, 16.0
BLOCK = MIB
SAY_SECONDS = 2.0


class LocalFileError(Exception):
    """Says what is wrong with a file of the control node."""


@dataclass(frozen=True)
class LocalFile:
    """Describes a file of the control node. identity: a digest of name, size and time of change, which tells this
    content from others without reading it."""

    path: str
    size: int
    identity: str

    @classmethod
    def of(cls, path: str) -> LocalFile:
        try:
            found = os.stat(path)
        except OSError as error:
            raise LocalFileError(f"{error.strerror} on the control node") from error
        if not stat.S_ISREG(found.st_mode):
            raise LocalFileError("it is not a regular file on the control node")
        text = json.dumps([os.path.abspath(path), found.st_size, found.st_mtime_ns])
        return cls(path, found.st_size, hashlib.sha256(text.encode()).hexdigest())


class Sender:
    """Sends files by way of the module's hidden option `_upload`."""

    def __init__(self, action: Any, module: str, root: Any, task_vars: Any) -> None:
        self._action = action
        self._module = module
        self._arguments = {} if root is None else {"root": root}
        self._task_vars = task_vars

    def send(self, name: str, file: LocalFile, received: int) -> dict[str, Any] | None:
        """Send what is not there yet. Return None, or the module's result if it failed."""
        action = self._action
        shell = action._connection._shell
        offset, wanted = received, CHUNK
        began = now = time.monotonic()
        due = began + SAY_SECONDS
        with Path(file.path).open("rb") as source:
            while offset < file.size or file.size == 0:
                last = now
                if shell.tmpdir is None:
                    action._make_tmp_path()
                remote = shell.join_path(shell.tmpdir, "chunk")
                with tempfile.NamedTemporaryFile(dir=C.DEFAULT_LOCAL_TMP) as chunk:
                    length = _copy(source, offset, chunk, wanted)
                    if length == 0 and file.size:
                        raise AnsibleActionFail(f"image {name}: path {file.path}: it changed while it was sent")
                    action._transfer_file(chunk.name, remote)
                action._fixup_perms2([shell.tmpdir, remote])
                step = {"identity": file.identity, "offset": offset, "chunk": remote}
                arguments = dict(self._arguments, _upload=json.dumps(step))
                result = action._execute_module(
                    module_name=self._module, module_args=arguments, task_vars=self._task_vars
                )
                if result.get("failed"):
                    return dict(result)
                offset = result["received"]
                now = time.monotonic()
                wanted = next_chunk_size(wanted, now - last)
                if now >= due:
                    speed = (offset - received) / MIB / (now - began)
                    sent = f"{name} {100 * offset // file.size} % sent at {speed:.0f} MB/s"
                    Display().display(printable(f"nebula_image: {sent}", ONE_LINE))
                    due = now + SAY_SECONDS
                if file.size == 0:
                    break
        return None


def next_chunk_size(size: int, seconds: float) -> int:
    """Return the size of the chunk after a chunk of `size` bytes that took so many seconds."""
    if seconds < QUICK:
        return min(2 * size, LARGEST)
    return max(size // 2, SMALLEST) if seconds > SLOW else size


def _copy(source: Any, offset: int, target: Any, wanted: int) -> int:
    source.seek(offset)
    left = wanted
    while left:
        block = source.read(min(BLOCK, left))
        if not block:
            break
        target.write(block)
        left -= len(block)
    target.flush()
    return wanted - left
