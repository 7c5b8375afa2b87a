# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings files of this host to another and fetches files from it, by rsync over ssh: broken off, they go on where they
were.

The other side lets this key do nothing but exchange files below one directory (rrsync), and is known by its host
keys before the first connection."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Sequence

from ..dataclass import dataclass
from ..errors import CommandFailed, InvalidValue, NebulaError, NoSpace, StorageFailed, TimedOut
from ..model.endpoint import bracketed
from .command import Completed, find, run
from .files import explained, make_directory, read_limited, remove_file, write_atomically

KEY, KNOWN = "id_ed25519", "known_hosts"
# Directories beside these, while something is sent.
SENDING = "sending."
USER = "nebula"
CONNECT_SECONDS = 20
# Without a byte for so long, the other side is taken for dead.
STALL_SECONDS = 120
LARGEST = 1 << 16
# A file of any size at 1 MB/s, and no less than an hour.
LEAST_SPEED = 1_000_000
# The other side lets one exchange in at a time. One that a killed run began is at its end there when no byte has come
# for STALL_SECONDS.
_TAKEN = "Another instance of rrsync"
TAKEN_SECONDS = 600
STEP, LONGEST_STEP = 0.2, 5.0
# rsync's own exit codes.
_SSH, _STALLED, _SOCKET_IO, _FILE_IO, _PARTIAL = 255, 30, 10, 11, 23
# Newer ones say of an ssh that did not get through only that nothing came.
_OF_SSH = ("ssh: ", "kex_exchange_identification: ", "Connection closed by ", "Connection reset by ")
# What ssh says of a connection that it had, and lost.
_LOST = ("client_loop: ", "ssh_dispatch_run_fatal: ", "Timeout, server ")
# What rsync says of a file that reached its limit.
_TOO_LARGE = "File too large"
_BLOCK = 512
# What rsync says where its other half is gone.
_GONE = ("connection unexpectedly closed", "Broken pipe", "Connection reset")


@dataclass(frozen=True)
class Peer:
    """Describes a host as this one reaches it.
    user: "" for USER.
    keys: lines of its public host keys, `type base64 …`; without any, those that were stated last count."""

    name: str
    address: str
    port: int = 22
    user: str = ""
    keys: Sequence[str] = ()


def key(directory: str) -> str:
    """Return the public half of the key that files are exchanged by. Make one if there is none."""
    path = os.path.join(directory, KEY)
    if not os.path.exists(path + ".pub"):
        make_directory(directory, 0o700)
        for end in ("", ".pub"):
            # Half of a pair is none.
            if os.path.lexists(path + end):
                os.unlink(path + end)
        run([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "nebula.provision", "-f", path], timeout=60)
    return read_limited(path + ".pub", LARGEST, follow=False).decode("ascii").strip()


class Exchange:
    """Exchanges files with one host. directory: where the key is."""

    def __init__(self, directory: str, peer: Peer) -> None:
        self.peer = peer
        self._directory = directory
        self._shell = ""

    def push(self, path: str, name: str) -> None:
        """Copy the file `path` to `name`, below a directory, on the other side."""
        # rrsync gives rsync a descriptor for a file that is there, and that can't be replaced: the directory is named,
        # and the file has the name here that it is to have there.
        with explained(path):
            size = os.path.getsize(path)
        with tempfile.TemporaryDirectory(prefix=SENDING, dir=self._directory) as directory:
            link = os.path.join(directory, os.path.basename(name))
            os.symlink(os.path.abspath(path), link)
            self._run(
                f"copying {path} to", ["--copy-links", link, self._remote_path(os.path.dirname(name) + "/")], size
            )

    def pull(self, name: str, path: str, size: int = 0, most: int = 0) -> None:
        """Copy `name` from the other side to the file `path`.
        size: bytes, 0 if that is not known.
        most: bytes that it may have, 0 for any number; where more come, it is ended, and what came is removed
        (StorageFailed)."""
        self._run(f"copying {name} from", [self._remote_path(name), path], size, most)

    def release(self, name: str, path: str, most: int = 0) -> None:
        """Remove `name` on the other side once the file `path` is the same; copy it first if it is not. most: as in
        pull()."""
        self._run(f"removing {name} on", ["--remove-source-files", self._remote_path(name), path], 0, most)

    def has(self, name: str) -> bool:
        """Return whether the other host has the file. name: below a directory that is there."""
        directory, base = os.path.split(name)
        what = f"looking for {name} on"
        # Of the directory: each version of rrsync has its own word for a file that is not there.
        done = self._call(what, ["--list-only", "--dirs", self._remote_path(f"{directory}/")], 0)
        if done.returncode:
            raise self._failed(f"{what} host {self.peer.name}", done.returncode, done.stderr)
        return any(line.split()[-1:] == [base] for line in done.stdout.splitlines())

    def _remote_path(self, name: str) -> str:
        return f"{self._user}@{bracketed(self.peer.address)}:{name}"

    @property
    def _user(self) -> str:
        return self.peer.user or USER

    def _run(self, what: str, words: Sequence[str], size: int, most: int = 0) -> None:
        # Never in place: what a killed run left behind must not go on writing to what got another name meanwhile.
        options = ["--times", "--sparse", "--partial", "--compress", "--compress-level=1", "--chmod=F600"]
        done = self._call(what, [*options, *words], size, most)
        if done.returncode and most and _TOO_LARGE in done.stderr:
            _remove_part(words[-1])
            raise StorageFailed(
                f"{what} host {self.peer.name}",
                f"more than {most} bytes came, and it may have no more. It was ended, and what came was removed",
                "Find out who else has power over that host before what it has is used",
            )
        if done.returncode:
            raise self._failed(f"{what} host {self.peer.name}", done.returncode, done.stderr)

    def _call(self, what: str, words: Sequence[str], size: int, most: int = 0) -> Completed:
        argv = [find("rsync"), f"--timeout={STALL_SECONDS}", f"--rsh={self._ssh()}", *words]
        limit, step = time.monotonic() + TAKEN_SECONDS, STEP
        while True:
            try:
                done = run(argv, timeout=3600 + size / LEAST_SPEED, check=False, before=_limited(most))
            except TimedOut as error:
                error.asked = f"{what} host {self.peer.name}"
                raise
            if done.returncode == 0 or _TAKEN not in done.stderr or time.monotonic() > limit:
                return done
            time.sleep(step)
            step = min(step * 1.5, LONGEST_STEP)

    def _ssh(self) -> str:
        if not self._shell:
            known = os.path.join(self._directory, f"{KNOWN}.{self.peer.name}")
            if not self.peer.keys and not os.path.isfile(known):
                raise InvalidValue(
                    f"host {self.peer.name}: exchanging files over ssh",
                    "its host keys are not known",
                    "Run playbook nebula.provision.site, or role nebula.provision.node for it: it reads them",
                )
            if self.peer.keys:
                lines = "".join(f"{self.peer.name} {line}\n" for line in self.peer.keys)
                write_atomically(known, lines.encode(), mode=0o600)
            options = [
                "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f'UserKnownHostsFile="{known}"',
                "GlobalKnownHostsFile=/dev/null", f"HostKeyAlias={self.peer.name}", "ControlPath=none",
                f"ConnectTimeout={CONNECT_SECONDS}", "ServerAliveInterval=15", "ServerAliveCountMax=4",
            ]  # fmt: skip
            key_file = os.path.join(self._directory, KEY)
            words = [find("ssh"), "-F", "/dev/null", "-i", key_file, "-p", str(self.peer.port)]
            words += [word for option in options for word in ("-o", option)]
            # rsync splits it by itself, and knows quotes.
            self._shell = shlex.join(words)
        return self._shell

    def _failed(self, asked: str, code: int, text: str) -> NebulaError:
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("rsync error")]
        found = "; ".join(lines[-3:]) or f"rsync ended with {code}"
        if _TAKEN in text:
            return TimedOut(
                asked,
                f"another exchange with it has been at work for {TAKEN_SECONDS} s",
                "Let the other run end, then run again",
            )
        if "No space left" in text or "Disk quota exceeded" in text:
            return NoSpace(asked, found, "Make room there, then run again: it goes on where it was")
        if "REMOTE HOST IDENTIFICATION" in text or "Host key verification failed" in text:
            return StorageFailed(
                asked,
                f"{self.peer.address} port {self.peer.port} has other host keys than host {self.peer.name} told",
                "See whether that address is this host's: nebula_transfer_address and nebula_transfer_port say where",
            )
        lost = any(line.startswith(_LOST) or "closed by remote host" in line for line in lines)
        refused = any(line.startswith(_OF_SSH) or "Permission denied (" in line for line in lines)
        if refused or (code == _SSH and not lost):
            return StorageFailed(
                asked,
                found,
                f"The front-end has to reach sshd at {self.peer.address} port {self.peer.port} as {self._user}: "
                "see nebula_transfer_address, nebula_transfer_port, and AllowUsers in that sshd's configuration",
            )
        if code == _STALLED:
            return StorageFailed(asked, f"no byte came for {STALL_SECONDS} s", "Run again: it goes on where it was")
        lost = lost or any(word in line for line in lines for word in _GONE)
        remedy = "Run again: it goes on where it was" if lost or code in (_SOCKET_IO, _FILE_IO, _PARTIAL) else ""
        return CommandFailed(asked, found, remedy)


def _limited(most: int) -> list[str]:
    """Return the words before a program that may write no file of more bytes; none without a limit. The kernel keeps
    the limit, whatever the other side announces. The signal is ignored, so that rsync says what happened."""
    if not most:
        return []
    return ["sh", "-c", f'trap "" XFSZ; ulimit -f {-(-most // _BLOCK)} && exec "$@"', "sh"]


def _remove_part(path: str) -> None:
    """Remove what came of a file, under its name or the name that rsync gives it while it is copied."""
    directory, base = os.path.split(path)
    for name in os.listdir(directory):
        if name == base or name.startswith(f".{base}."):
            remove_file(os.path.join(directory, name))
