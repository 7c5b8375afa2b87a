# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs programs that libvirt calls whenever it starts a container, and removes them when no container of any
catalog needs them. libvirt looks at their directory when it starts, and finds a new program only after that."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...dataclass import dataclass
from ...errors import ForeignObject, NotFound
from ...host import processes
from ...host.files import explained, make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from ...host.node_file import Changes

# Since libvirt 6.5 all programs in this directory are called, whosever they are.
HOOKS = Path("/etc/libvirt/hooks/lxc.d")
DEFINED = Path("/etc/libvirt/lxc")
LARGEST = 1 << 20
_PYTHON = "/usr/bin/python3"
# A file for each container that a run starts at this moment, by its UUID, with the number of the run's process in the
# first line and its start time in the second: its number may be another process's once it was killed.
STARTING = "/run/nebula-provision-starts"
# It is a program of sh first: what libvirt's profile of AppArmor lets it do as another program (mount) it can't do as
# this one. And sh is quick, where Python would have to begin for each of the five moments of a container's life.
_FIRST = """#!/bin/sh
''':'
case "$2/$3" in @STEPS@) ;; *) exit 0 ;; esac
xml=$(cat)
case "$xml" in *"@NEEDED_BY@"*) ;; *) exit 0 ;; esac
uuid=${xml#*<uuid>}
run=@STARTING@/${uuid%%<*}
runs() {
    { read -r process && { read -r began || began=; }; } <"$1" || return 1
    read -r known <"/proc/$process/stat" || return 1
    # The 20th word behind the name, which may hold anything, is the start time. Earlier versions kept none.
    set -- ${known##*) }
    [ -z "$began" ] || [ "${20}" = "$began" ]
} 2>/dev/null
[ -f "$run" ] && runs "$run" && exit 0
printf '%s\\n' "$xml" | @PYTHON@ -I -S "$0" "$@"
exit
' '''
@MARK@
"""


@dataclass(frozen=True)
class Program:
    """Describes a program of ours.
    name: of its file.
    does: what it does, in a few words.
    needed_by: the words by which the definition of a container says that it needs the program."""

    name: str
    does: str
    needed_by: str

    @property
    def mark(self) -> str:
        """Return the line in the file that says whose it is."""
        return f"# Written by nebula.provision: it {self.does}."

    @property
    def path(self) -> Path:
        return HOOKS / self.name


def text(program: Program, steps: str, body: str) -> str:
    """Return the file. A run that starts a container has done all of its work itself, or does it next.
    steps: the moments at which it does something, as libvirt calls them, in the form of `case`.
    body: what Python does then, with the container's definition as its input."""
    words = {
        "STEPS": steps,
        "NEEDED_BY": program.needed_by,
        "STARTING": STARTING,
        "PYTHON": python(),
        "MARK": program.mark,
    }
    found = _FIRST
    for name, value in words.items():
        found = found.replace(f"@{name}@", value)
    return found + body


@contextlib.contextmanager
def announce_start(uuid: str) -> Iterator[None]:
    """Say while it lasts that this process starts the container. The file of a killed process says nothing."""
    make_directory(STARTING, 0o700)
    _forget_killed()
    path = os.path.join(STARTING, uuid)
    with explained(path):
        write_atomically(path, f"{os.getpid()}\n{processes.start_time(os.getpid())}\n", mode=0o600)
    try:
        yield
    finally:
        remove_file(path)


def _forget_killed() -> None:
    """Remove what killed runs left. libvirt's programs only see whether a process of that number began then."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(STARTING):
            path = Path(STARTING, name)
            with contextlib.suppress(OSError, ValueError):
                number, *began = map(int, path.read_text(encoding="ascii").split())
                if not processes.is_of_root(number, began=began[0] if began else None):
                    remove_file(str(path))


def python() -> str:
    """Return what runs a program of Python on this host, also when nothing of Ansible is there."""
    return _PYTHON if os.access(_PYTHON, os.X_OK) else sys.executable


def prepare(program: Program, text: str, changes: Changes) -> None:
    """Install the program. Raise ForeignObject if a file of its name is not ours."""
    if not changes.check_mode:
        _forget_killed()
    before = _read_text(program.path)
    if before == text:
        return
    if before is not None and program.mark not in before:
        raise ForeignObject(
            f"program {program.path}", "one of this name is there that is not ours", "Rename or remove it"
        )
    changes.did(str(program.path), "not there" if before is None else "of another version", program.does)
    if not changes.check_mode:
        make_directory(str(HOOKS), 0o755)
        write_atomically(str(program.path), text, mode=0o755)


def give_back(program: Program, changes: Changes) -> bool:
    """Remove the program if it is ours and no container that is defined here needs it; containers of the catalog that
    leaves have ended. Return whether it was removed."""
    before = _read_text(program.path)
    if before is None or program.mark not in before:
        return False
    if any(program.needed_by in (_read_text(path) or "") for path in DEFINED.glob("one-*.xml")):
        return False
    changes.did(str(program.path), program.does, "not there")
    if not changes.check_mode:
        remove_file(str(program.path))
        remove_empty_directory(str(HOOKS))
        remove_empty_directory(STARTING)
    return True


def _read_text(path: Path) -> str | None:
    try:
        return read_limited(str(path), LARGEST, follow=False).decode("utf-8", "replace")
    except NotFound:
        return None
