# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the code of modules compiled on a target, from one call to the next.

Ansible brings a module as a zip with sources only, so that Python compiles each imported file in each call, which takes
longer than most modules work. Where the call is ours (plugin_utils/module_calls.py), this program is run before the
module; elsewhere modules import this file before the rest of ours. From then on, what a source file was compiled to is
kept below PLACE under the digest of the source, and taken from there by later calls.

It runs as root, so nothing is taken from a directory or file that another user could have written. Whoever is not root,
has its code from elsewhere than a zip, or meets anything odd, imports as ever."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import os
import stat
import sys
import zipimport
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

# On a file system in memory: it goes with the boot, and no power cut leaves half a file.
PLACE = "/run/nebula-provision-code"
NAMES = (__name__.rpartition(".")[0] + ".", "ansible.module_utils.")
# One version of the collection has some 320 files, with those of Ansible; older ones go when there are too many.
MOST, LEFT = 1500, 500
_DIGEST = hashlib.sha256().digest_size


class Kept:
    """Finds and loads what modules come with in a zip (the interfaces of importlib.abc.MetaPathFinder and Loader)."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._zips: dict[str, Any] = {}
        # A compiled file is of use to the same Python only.
        self._python = b" ".join(
            (importlib.util.MAGIC_NUMBER, str(sys.implementation.cache_tag).encode(), b"%d" % sys.flags.optimize)
        )

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        for directory in path or () if name.startswith(NAMES) else ():
            zipped = self._zip(directory)
            spec = zipped and self._spec(name, zipped, os.path.join(directory, name.rpartition(".")[2]))
            if spec:
                return spec
        return None

    def _zip(self, directory: str) -> Any:
        """Return the zip that a directory is in, and None for any other directory."""
        if directory not in self._zips:
            self._zips[directory] = None
            with contextlib.suppress(zipimport.ZipImportError):
                self._zips[directory] = zipimport.zipimporter(directory)
        return self._zips[directory]

    def _spec(self, name: str, zipped: Any, stem: str) -> ModuleSpec | None:
        for origin, is_package in ((f"{stem}.py", False), (os.path.join(stem, "__init__.py"), True)):
            with contextlib.suppress(OSError):
                source = zipped.get_data(origin)
                spec = ModuleSpec(name, self, origin=origin, loader_state=source, is_package=is_package)  # type: ignore[arg-type]
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [stem]
                return spec
        return None

    def create_module(self, _spec: ModuleSpec) -> None:
        """Python makes the module object itself."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is None:
            raise ImportError(f"module {module.__name__} has no spec")
        exec(self._code(spec.loader_state, str(spec.origin)), module.__dict__)

    def get_source(self, name: str) -> str | None:
        """Return the source of a module, which Ansible sends to another interpreter."""
        spec = getattr(sys.modules.get(name), "__spec__", None)
        return importlib.util.decode_source(spec.loader_state) if spec and spec.loader is self else None

    def _code(self, source: bytes, origin: str) -> CodeType:
        name = hashlib.sha256(self._python + b"\n" + source).hexdigest()
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            return _read(os.path.join(self.place, name))
        code: CodeType = compile(source, origin, "exec", dont_inherit=True)
        with contextlib.suppress(OSError, ValueError):
            _write(self.place, name, code)
        return code


def begin() -> None:
    """Take files that are imported from now on from PLACE, if this is root, and this file is no file of a directory."""
    loader = globals().get("__loader__")
    if os.geteuid() != 0 or not (loader is None or isinstance(loader, zipimport.zipimporter) or _is_kept(loader)):
        return
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(PLACE, 0o700)
        if is_own(PLACE) and not any(map(_is_kept, sys.meta_path)):
            sys.meta_path.insert(0, Kept(PLACE))


def _is_kept(loader: Any) -> bool:
    """Return whether this is such a finder, of this file or of the same one in another place."""
    return getattr(loader, "place", None) == PLACE


def is_own(place: str) -> bool:
    """Return whether only the user of this process can have put anything into the directory, or another in its place.

    The directory above it may be root's only."""
    found, above = os.lstat(place), os.lstat(os.path.dirname(place))
    closed = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return closed and stat.S_ISDIR(above.st_mode) and above.st_uid == 0 and not above.st_mode & 0o022


def _read(path: str) -> CodeType:
    """Return the code that is kept in a file. Raise ValueError if the file was not written here, or not completely."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ValueError("another user could have written it")
        kept = file.read()
    # Python reads such bytes without a look: damaged ones could end it.
    if hashlib.sha256(kept[_DIGEST:]).digest() != kept[:_DIGEST]:
        raise ValueError("it is damaged")
    code = marshal.loads(kept[_DIGEST:])
    if not isinstance(code, CodeType):
        raise ValueError("it is no code")
    return code


def _write(place: str, name: str, code: CodeType) -> None:
    body = marshal.dumps(code)
    new = os.path.join(place, f"{name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.rename(new, os.path.join(place, name))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    _drop_old(place)


def _drop_old(place: str) -> None:
    if len(os.listdir(place)) > MOST:
        for path in sorted(_files(place), key=_age)[LEFT:]:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _files(place: str) -> Iterator[str]:
    return (os.path.join(place, name) for name in os.listdir(place))


def _age(path: str) -> float:
    try:
        return -os.lstat(path).st_mtime
    except OSError:
        return 0.0


begin()
