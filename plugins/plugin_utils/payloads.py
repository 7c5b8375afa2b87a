# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps payloads of our modules from one run to the next.

Ansible packs each module with all that it imports, once in each run, and looks through every file for that: most of a
second of a processor for one of ours. Ansible writes the payload below the run's own temporary directory. Here it is
kept beside Ansible's other files, or in a directory that the environment names, unchanged, under a digest of all that
it was made of, and given to the next run. If Ansible does this otherwise, or nothing may be kept, every run packs for
itself."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ansible import constants
from ansible.plugins.loader import module_utils_loader
from ansible.release import __version__

# The environment variable that turns the cache off, and its values that do so. An absolute path is where it is.
VARIABLE, NO = "NEBULA_KEEP_PAYLOADS", ("0", "false", "no", "off")
PLACE = "nebula.provision/payloads"
OURS = "ansible_collections.nebula.provision.plugins.modules."
# File in the run's own directory with the names of the payloads that are kept.
KNOWN = "nebula.provision-kept"
# Number of digests whose payloads are kept: the current one, and those of other versions and environments.
KEPT = 4
PLUGINS = Path(__file__).resolve().parents[1]


def bring_payloads() -> None:
    """Put the kept payloads where Ansible looks for them in this run."""
    with contextlib.suppress(OSError):
        run = _of_run()
        # The digest is looked for once in a run; each task of a run is a process of its own.
        if (run / KNOWN).exists():
            return
        place = _place()
        if not _is_own(place):
            return
        run.mkdir(exist_ok=True)
        for file in _payloads(place):
            _put(file, run / file.name)
        _remember(run)


def keep_payloads() -> None:
    """Keep the payloads that this run has packed for later runs."""
    with contextlib.suppress(OSError):
        run = _of_run()
        if not _is_allowed() or not run.is_dir() or not _has_new(run):
            return
        place = _place()
        made = False
        for directory in (*reversed(place.parents[:2]), place):
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                made = True
        if _is_own(place):
            if made:
                _drop_old(place)
            for file in _payloads(run):
                _put(file, place / file.name)
            _remember(run)


def _has_new(run: Path) -> bool:
    """Return whether the run has payloads beside those that were brought to it or are kept already."""
    known = (run / KNOWN).read_text(encoding="utf-8").split() if (run / KNOWN).exists() else []
    return any(file.name not in known for file in _payloads(run))


def _remember(run: Path) -> None:
    (run / KNOWN).write_text("\n".join(file.name for file in _payloads(run)), encoding="utf-8")


def _of_run() -> Path:
    return Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"


def _place() -> Path:
    named = _wanted()
    return (Path(named) if os.path.isabs(named) else Path(constants.ANSIBLE_HOME) / PLACE) / _digest()


def _wanted() -> str:
    return os.environ.get(VARIABLE, "").strip()


def _is_allowed() -> bool:
    return _wanted().lower() not in NO


def _is_own(place: Path) -> bool:
    """Return whether only this user can write there. Payloads run as root on the hosts, and old ones are removed: a
    link could lead to anything."""
    if not _is_allowed():
        return False
    for directory in (place, *place.parents[:2]):
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return False
    return True


def _payloads(directory: Path) -> Iterator[Path]:
    for file in directory.iterdir():
        # Ansible writes a payload under another name first, and renames it when it is complete.
        if file.name.startswith(OURS) and not file.name.endswith(("-part", ".lock", ".new")):
            found = file.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
                yield file


def _put(file: Path, target: Path) -> None:
    if target.exists():
        return
    # A hard link suffices within one file system, since nobody writes into an existing payload.
    with contextlib.suppress(OSError):
        os.link(file, target)
        return
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(file, new)
        new.chmod(0o600)
        new.rename(target)
    finally:
        new.unlink(missing_ok=True)


def _drop_old(place: Path) -> None:
    others = [other for other in place.parent.iterdir() if other != place]
    for other in sorted(others, key=lambda path: path.lstat().st_mtime, reverse=True)[KEPT - 1 :]:
        shutil.rmtree(other, ignore_errors=True)


@functools.cache
def _digest() -> str:
    """Return the digest of all that a payload is made of: our files' content, and Ansible's version and file times."""
    found = hashlib.sha256(f"{__version__} {sys.version} {PLUGINS}".encode())
    for part in ("modules", "module_utils"):
        for file in sorted((PLUGINS / part).rglob("*.py")):
            found.update(f"\n{file.relative_to(PLUGINS)} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    for directory in module_utils_loader._get_paths(subdirs=False):
        for file in sorted(Path(directory).rglob("*.py")):
            known = file.stat()
            found.update(f"\n{file} {known.st_size} {known.st_mtime_ns}".encode())
    return found.hexdigest()[:32]
