# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OS templates in the cache of vzctl: one for each image, placed once, and never in the place of somebody else's."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from ...errors import Conflict, ImageRefused, NotFound
from ...host.files import (
    clone,
    explained,
    lock,
    make_directory,
    read_limited,
    remove_file,
    sync_directory,
    write_atomically,
)
from ...storage.datastore import MIB, require_space
from . import vzctl

# Beside a template of ours: whose it is, and what was placed there.
_MARK = ".{name}.nebula"
_LOCK = ".nebula.lock"
_BLOCK = 1 << 20
# How a tar begins that vzctl can read, with the ending by which it finds the file.
_KINDS = ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\0", ".xz"))
ENDINGS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
_USTAR = 257
LOCK_SECONDS = 600.0


def place(source: str, name: str, owner: str) -> Path:
    """The image's tar as the OS template of that name, copied if it is not there yet. owner: whose template it is, from
    then on. Conflict where a file of that name holds something else and is not ours."""
    directory = vzctl.cache()
    make_directory(str(directory), 0o755)
    with lock(str(directory / _LOCK), LOCK_SECONDS):
        target = directory / f"{name}.tar{_ending(source)}"
        mark = directory / _MARK.format(name=name)
        known = _known(mark)
        if known.get("source") == _stamp(source) and known.get("target") == _stamp(str(target)):
            return target
        digest = _digest(source)
        for there in (directory / f"{name}{ending}" for ending in ENDINGS):
            if not os.path.lexists(there):
                continue
            same = there == target and _is_file(there) and _digest(str(there)) == digest
            ours = known.get("target") == _stamp(str(there)) and known.get("name") == there.name
            if same:
                _note(mark, owner, target, source, digest, ours)
                return target
            if not ours or known.get("owner") != owner:
                raise Conflict(
                    f"OS template {name}: {there}",
                    "a file of that name is there, and is another than the image's"
                    + (f": it is that of catalog {known['owner']}" if ours else ""),
                    "Move that file away, or give the image another name",
                )
            remove_file(str(there))
        _copy(source, target)
        _note(mark, owner, target, source, digest, True)
    return target


def give_back() -> bool:
    """Remove the templates that were placed here; those that were there before stay."""
    directory, changed = vzctl.cache(), False
    if not directory.is_dir():
        return False
    for entry in sorted(os.listdir(directory)):
        if not (entry.startswith(".") and entry.endswith(".nebula")):
            continue
        known = _known(directory / entry)
        target = directory / str(known.get("name") or "")
        if known.get("made") and known.get("name") and known.get("target") == _stamp(str(target)):
            remove_file(str(target))
        changed = remove_file(str(directory / entry)) or changed
    return remove_file(str(directory / _LOCK)) or changed


def _ending(source: str) -> str:
    with explained(source), Path(source).open("rb") as file:
        head = file.read(_USTAR + 5)
    for magic, ending in _KINDS:
        if head.startswith(magic):
            return ending
    if head[_USTAR:] == b"ustar":
        return ""
    raise ImageRefused(
        f"OS template {source}",
        "it is no tar that vzctl can read: it knows plain ones, gzip, bzip2 and xz",
        "Pack the root file system again: tar --numeric-owner -czf",
    )


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with explained(path), Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _copy(source: str, target: Path) -> None:
    new = f"{target.parent}/.{target.name}.tmp"
    remove_file(new)
    require_space(str(target.parent), os.path.getsize(source) + MIB, f"OS template {target.name}")
    try:
        with explained(str(target)):
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as output, Path(source).open("rb") as file:
                if not clone(file.fileno(), output.fileno()):
                    while block := file.read(_BLOCK):
                        output.write(block)
                output.flush()
                os.fsync(output.fileno())
            os.rename(new, target)
            sync_directory(str(target.parent))
    finally:
        remove_file(new)


def _note(mark: Path, owner: str, target: Path, source: str, digest: str, made: bool) -> None:
    text = json.dumps(
        {
            "owner": owner,
            "name": target.name,
            "sha256": digest,
            "source": _stamp(source),
            "target": _stamp(str(target)),
            "made": made,
        }
    )
    write_atomically(str(mark), text + "\n", mode=0o600)


def _known(mark: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_limited(str(mark), 1 << 16, follow=False))
    except (NotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path: str) -> str:
    """By which a file is known again without being read."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{path}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
