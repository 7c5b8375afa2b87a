# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places OS templates in the cache of vzctl, one for each image, once, and never over somebody else's."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from ...errors import Conflict, ImageRefused, NotFound
from ...host.files import (
    clone,
    content_digest,
    explained,
    lock,
    make_directory,
    read_limited,
    remove_file,
    sync_directory,
    write_atomically,
)
from ...storage import decompression
from ...storage.datastore_layout import MIB, require_space
from . import template_archive, vzctl

# Beside a template of ours: whose it is, and what was placed there.
_MARK = ".{name}.nebula"
_LOCK = ".nebula.lock"
_BLOCK = 1 << 20
# By how a file is packed: the ending by which vzctl finds it. What it can't read is packed anew.
_PACKED = {"gz": ".gz", "bz2": ".bz2", "xz": ".xz"}
_ANEW, _ENDING_ANEW = "zst", ".gz"
ENDINGS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
_USTAR = 257
LOCK_SECONDS = 600.0


def place(source: str, name: str, owner: str) -> Path:
    """Place the image's tar as the OS template of that name, and return its path. It is copied if it is not there yet,
    and packed anew where vzctl can't read it. Raise Conflict if a file of that name holds something else and is not
    ours, ImageRefused for an image that must not get to vzctl. owner: whose template it is from then on."""
    directory = vzctl.cache()
    make_directory(str(directory), 0o755)
    with lock(str(directory / _LOCK), LOCK_SECONDS):
        packing = _packing(source)
        target = directory / f"{name}.tar{_PACKED.get(packing, _ENDING_ANEW if packing else '')}"
        what = f"OS template {name}: {source}"
        mark = directory / _MARK.format(name=name)
        known = _read_mark(mark)
        if known.get("source") == _stamp(source) and known.get("target") == _stamp(str(target)):
            return target
        digest, replaced = _digest(source), list[str]()
        for there in (directory / f"{name}{ending}" for ending in ENDINGS):
            if not os.path.lexists(there):
                continue
            same = there == target and stat.S_ISREG(there.lstat().st_mode) and _digest(str(there)) == digest
            ours = known.get("target") == _stamp(str(there)) and known.get("name") == there.name
            if same:
                _write_mark(mark, owner, target, source, digest, ours, template_archive.check_archive(source, what))
                return target
            if not ours or known.get("owner") != owner:
                raise Conflict(
                    f"OS template {name}: {there}",
                    "a file of that name is there, and is another than the image's"
                    + (f": it is that of catalog {known['owner']}" if ours else ""),
                    "Move that file away, or give the image another name",
                )
            replaced.append(str(there))
        new = f"{directory}/.{target.name}.tmp"
        try:
            size = _write(source, new, packing, what)
            for path in replaced:
                remove_file(path)
            # First, as the file keeps all by which it is known again: a run that is killed in between has to know that
            # what is there is its own.
            _write_mark(mark, owner, target, source, digest, True, size, _stamp(new, str(target)))
            with explained(str(target)):
                os.rename(new, target)
                sync_directory(str(directory))
        finally:
            remove_file(new)
    return target


def give_back() -> bool:
    """Remove the templates that were placed here, no others. Return whether anything was removed."""
    directory, changed = vzctl.cache(), False
    if not directory.is_dir():
        return False
    for entry in sorted(os.listdir(directory)):
        if not (entry.startswith(".") and entry.endswith(".nebula")):
            continue
        known = _read_mark(directory / entry)
        target = directory / str(known.get("name") or "")
        if known.get("made") and known.get("name") and known.get("target") == _stamp(str(target)):
            remove_file(str(target))
        changed = remove_file(str(directory / entry)) or changed
    return remove_file(str(directory / _LOCK)) or changed


def size_of(name: str) -> int:
    """Return the bytes of the files in the template that was placed under that name; 0 if they are not known."""
    found = _read_mark(vzctl.cache() / _MARK.format(name=name)).get("size")
    return found if isinstance(found, int) else 0


def _packing(source: str) -> str:
    """Return how the image's tar is packed, "" if it is not. Raise ImageRefused if it is no tar."""
    with explained(source), Path(source).open("rb") as file:
        head = file.read(_USTAR + 5)
    packing = decompression.detect(head)
    if packing in (*_PACKED, _ANEW) or (not packing and head[_USTAR:] == b"ustar"):
        return packing
    raise ImageRefused(
        f"OS template {source}",
        "it is no tar: known are plain ones, gzip, bzip2, xz and zstd",
        "Pack the root file system again: tar --numeric-owner -czf",
    )


def _digest(path: str) -> str:
    with explained(path), Path(path).open("rb") as file:
        return content_digest(file)


def _write(source: str, new: str, packing: str, what: str) -> int:
    """Write the template, whole and synced to the disk. Return the bytes of the files in it."""
    require_space(os.path.dirname(new), os.path.getsize(source) + MIB, what)
    remove_file(new)
    anew = packing == _ANEW
    size = 0 if anew else template_archive.check_archive(source, what)
    with explained(new):
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as output, Path(source).open("rb") as file:
            if anew:
                size = template_archive.check_archive(source, what, output)
            elif not clone(file.fileno(), output.fileno()):
                while block := file.read(_BLOCK):
                    output.write(block)
            output.flush()
            os.fsync(output.fileno())
    return size


def _write_mark(
    mark: Path, owner: str, target: Path, source: str, digest: str, made: bool, size: int, stamp: str = ""
) -> None:
    """Write the mark beside the template. stamp: of the target, if it does not have its name yet."""
    text = json.dumps(
        {
            "owner": owner,
            "name": target.name,
            "sha256": digest,
            "source": _stamp(source),
            "target": stamp or _stamp(str(target)),
            "made": made,
            "size": size,
        }
    )
    write_atomically(str(mark), text + "\n", mode=0o600)


def _read_mark(mark: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_limited(str(mark), 1 << 16, follow=False))
    except (NotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path: str, name: str = "") -> str:
    """Return what a file is recognized by without being read. name: the path that it is to have."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{name or path}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
