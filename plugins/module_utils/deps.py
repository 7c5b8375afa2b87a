# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that a target's interpreter may lack: a clear message for a miss, or an interpreter that has them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from .errors import MissingDependency

# library → package of Debian and its kin, package of Fedora and its kin
PACKAGES = {
    "libvirt": ("python3-libvirt", "python3-libvirt"),
    "libvirt_qemu": ("python3-libvirt", "python3-libvirt"),
    "pycdlib": ("python3-pycdlib", "python3-pycdlib"),
    "ovs": ("python3-openvswitch", "python3-openvswitch"),
}
# Those that the distribution's packages install for; version managers' come first in PATH and have nothing.
SYSTEM_INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python", "/usr/local/bin/python3")


def require(name: str) -> Any:
    """Return the library as a module object. Raise MissingDependency, which names the packages that bring it."""
    try:
        return _IMPORTS[name]()
    except ImportError as error:
        debian, fedora = PACKAGES[name]
        packages = debian if debian == fedora else f"{debian} (Debian) or {fedora} (Fedora)"
        raise MissingDependency(
            f"Python library {name}",
            f"{sys.executable} can't import it ({error})",
            f"Install the package {packages}, or set ansible_python_interpreter to an interpreter that has it",
        ) from error


def missing(*names: str) -> list[str]:
    """Return those of the libraries that this interpreter can't import."""
    return [name for name in names if not _importable(name)]


def _importable(name: str) -> bool:
    try:
        _IMPORTS[name]()
    except ImportError:
        return False
    return True


def _libvirt() -> Any:
    import libvirt

    return libvirt


def _libvirt_qemu() -> Any:
    import libvirt_qemu

    return libvirt_qemu


def _pycdlib() -> Any:
    import pycdlib

    return pycdlib


def _ovs() -> Any:
    import ovs.jsonrpc
    import ovs.poller
    import ovs.stream

    return ovs


_IMPORTS = {"libvirt": _libvirt, "libvirt_qemu": _libvirt_qemu, "pycdlib": _pycdlib, "ovs": _ovs}


def respawn_if_missing(module: Any, names: list[str]) -> None:
    """Go on in a system interpreter that has the libraries, if this one lacks any.
    module: the AnsibleModule, its arguments parsed. Returns when nothing is missing, or when no interpreter has
    them: then require() says so. Does not return otherwise: the other interpreter's result is this one's."""
    if not missing(*names):
        return
    from ansible.module_utils.common import respawn

    if respawn.has_respawned():
        return
    # By name: a virtual environment's python is a link to the system's, and sees other libraries.
    others = [path for path in SYSTEM_INTERPRETERS if path != sys.executable]
    with _nowhere():
        interpreter = respawn.probe_interpreters_for_module(others, ", ".join(names))
        if interpreter is None:
            return
        module.debug(f"respawn in {interpreter}: {sys.executable} lacks {', '.join(names)}")
        with _pipe_without_limit():
            respawn.respawn_module(interpreter)


@contextlib.contextmanager
def _nowhere() -> Iterator[None]:
    """Work in the directory /.

    An interpreter that is asked by -c, or reads its program from a pipe, looks for modules in the working directory
    first, and anybody may own that directory."""
    try:
        before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        # It is gone, or may not be read.
        before = None
    os.chdir("/")
    try:
        yield
    finally:
        if before is not None:
            os.fchdir(before)
            os.close(before)


@contextlib.contextmanager
def _pipe_without_limit() -> Iterator[None]:
    """Let the next pipe hold any amount.

    Ansible writes the module's arguments into a pipe before the one who reads it is there. A pipe holds 64 KiB; a plan
    or a thousand contexts are more, and the module would wait for ever. Memory that looks like a file does not block.
    """
    pipe = os.pipe

    def once() -> tuple[int, int]:
        os.pipe = pipe
        memory = os.memfd_create("arguments")
        # A descriptor of its own, so that reading begins at the start.
        return os.open(f"/proc/self/fd/{memory}", os.O_RDONLY), memory

    os.pipe = once
    try:
        yield
    finally:
        os.pipe = pipe
