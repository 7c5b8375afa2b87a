# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads, writes and removes the state of a machine's TPM, which libvirt keeps beside no file of the machine: in a
directory of the machine's UUID, within which swtpm's user has one of its own. So each step begins at an open directory,
and follows no link."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from ...errors import Conflict, ForeignObject
from ...host import untrusted_trees
from ...host.files import NEW_FILE, explained, opened
from ...model.vm import Tpm
from ..base import StateElsewhere

STATES = "/var/lib/libvirt/swtpm"
# By version: the directory and the file in it, as libvirt and swtpm name them.
_PLACES = {"2.0": ("tpm2", "tpm2-00.permall"), "1.2": ("tpm1.2", "tpm-00.permall")}
# Bytes that a state has at most: swtpm's own memory that lasts has an eighth of that.
MOST = 1 << 20
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class TpmState(StateElsewhere):
    """Reads and writes the state of one machine's TPM."""

    name = "tpm"
    most = MOST

    def __init__(self, uuid: str, tpm: Tpm, states: str = STATES) -> None:
        self._uuid = _checked(uuid)
        self._directory, self._file = _PLACES[tpm.version]
        self._states = states
        self._path = os.path.join(states, self._uuid, self._directory, self._file)

    @contextlib.contextmanager
    def reading(self) -> Iterator[int | None]:
        with contextlib.ExitStack() as held:
            with explained(self._path):
                fd = self._opened(held)
            yield fd

    def _opened(self, held: contextlib.ExitStack) -> int | None:
        try:
            states = held.enter_context(opened(self._states, _DIRECTORY))
            above = held.enter_context(opened(self._uuid, _DIRECTORY, dir_fd=states))
            place = held.enter_context(opened(self._directory, _DIRECTORY, dir_fd=above))
            fd = held.enter_context(opened(self._file, _READ, dir_fd=place))
        except FileNotFoundError:
            # It has never run.
            return None
        found = os.fstat(fd)
        # A second name of somebody else's file would be no link to the kernel.
        is_own = found.st_uid in (0, os.fstat(place).st_uid) and found.st_nlink == 1
        if not stat.S_ISREG(found.st_mode) or not is_own or found.st_size > self.most:
            raise ForeignObject(
                f"state of a TPM: {self._path}",
                f"it is no file of swtpm's own with at most {self.most} bytes",
                "Find out who else has power over that directory before the machine is used again",
            )
        return fd

    @contextlib.contextmanager
    def writing(self) -> Iterator[int]:
        # All of it is root's alone until libvirt gives it to swtpm's user, when it starts the machine.
        with explained(self._path), contextlib.ExitStack() as held:
            os.makedirs(self._states, 0o711, exist_ok=True)
            states = held.enter_context(opened(self._states, _DIRECTORY))
            try:
                os.mkdir(self._uuid, 0o711, dir_fd=states)
            except FileExistsError:
                raise Conflict(
                    f"state of a TPM: {self._path}",
                    f"this host has one of that machine already, in {os.path.join(self._states, self._uuid)}",
                    "Find out whose it is, and move it away first",
                ) from None
            above = held.enter_context(opened(self._uuid, _DIRECTORY, dir_fd=states))
            os.fchmod(above, 0o711)
            os.mkdir(self._directory, 0o700, dir_fd=above)
            place = held.enter_context(opened(self._directory, _DIRECTORY, dir_fd=above))
            fd = held.enter_context(opened(self._file, NEW_FILE, dir_fd=place))
            yield fd
            for each in (fd, place, above, states):
                os.fsync(each)

    def settle(self) -> None:
        with self.reading() as fd:
            if fd is not None:
                os.fsync(fd)

    def forget(self) -> None:
        remove(self._uuid, self._states)


def is_there(uuid: str, states: str = STATES) -> bool:
    """Return whether this host has the state of a TPM of that machine, of whatever version."""
    return os.path.lexists(os.path.join(states, _checked(uuid)))


def remove(uuid: str, states: str = STATES) -> bool:
    """Return whether there was something to remove."""
    name = _checked(uuid)
    try:
        with opened(states, _DIRECTORY) as fd:
            return untrusted_trees.remove_in(fd, name, os.path.join(states, name))
    except FileNotFoundError:
        return False


def _checked(uuid: str) -> str:
    """Return the UUID as libvirt writes it. Raise ForeignObject for what is none: it would lead elsewhere."""
    if not _UUID.fullmatch(uuid.lower()):
        raise ForeignObject(
            f"state of the TPM of machine {uuid[:60]!r}",
            "that is no UUID",
            "Find out who else has power over the front-end",
        )
    return uuid.lower()
