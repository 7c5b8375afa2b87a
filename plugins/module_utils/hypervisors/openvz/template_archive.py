# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the archive of an OS template before vzctl gets it.

vzctl unpacks it by tar, as root. Its scripts work on some files of the new root from outside of it, as root too,
and follow links: an image could have them read, change or make files of the host (postcreate.sh of vzctl 4.11 was
seen to do each of these). Archives that would lead them out are refused; so are those that are not whole, or unpack
to more than a host is to take. Device nodes stay: a container's control group keeps it from them."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from ...errors import ImageRefused
from ...host.files import closing_fd, explained
from ...storage import decompression, file_blocks, tar_writer
from ...storage.datastore_layout import MIB, RESERVE
from ...storage.free_space_watch import Room
from ...storage.roots import Limits
from ...storage.tar_reader import CHARACTER, DEVICE, DIRECTORY, FIFO, HARD_LINK, LINK, Entry, Reader, printable_name

# Links and special files of one image: each is remembered.
MOST_LINKS = 500_000
# Bytes of a path that tar unpacks; to what is longer it says "File name too long", in the middle of vzctl's work.
LONGEST_PATH = 4095
# Links that are followed one after the other: as many as Linux follows.
_LONGEST_WAY = 40
# What vzctl's scripts write to, and where vzctl mounts, from outside.
_WRITTEN = (b"etc/crontab", b"etc/passwd", b"etc/hosts", b"dev")
_RESOLVER, _JOBS = b"etc/resolv.conf", b"etc/cron.d"
# What they give capabilities to.
_CAPABLE = (
    b"bin/ping", b"bin/ping6", b"usr/bin/arping", b"usr/bin/traceroute6.iputils", b"usr/bin/systemd-detect-virt",
    b"usr/libexec/pt_chown", b"usr/sbin/suexec", b"usr/sbin/arping", b"usr/sbin/clockdiff",
)  # fmt: skip
# What they only read, for which a pipe would never end.
_READ = (b"etc/os-release", b"etc/debian_version", b"etc/redhat-release", b"etc/fedora-release")
# Names of files that they make beside others, by the number of a process.
_BESIDE = re.compile(rb"(crontab|passwd)\.\d+")
# They take a name with a blank in it for two.
_JOB = re.compile(rb"[A-Za-z0-9_.~+@%,=:-]+")
# At most an empty file of that name is made there, where the host has that directory.
_USUAL_RESOLVER = re.compile(rb"/(var/)?run/(?!.*\.\.(/|$))[A-Za-z0-9_./-]*resolv\.conf")
# Links of Alpine's; only in systems of others is a capability given to what they lead to.
_PING, _BUSYBOX = (b"bin/ping", b"bin/ping6"), b"/bin/busybox"
_OUT = "vzctl would follow it on the host, as root"
_REMEDY = "Make it a file, or a link that stays in the image, and pack it anew"


def check_archive(path: str, what: str, output: BinaryIO | None = None) -> int:
    """Read the archive to its end and return the bytes of its files. Raise ImageRefused for what must not get to
    vzctl. output: where it is written anew, packed by gzip; the room that has to be left there is left."""
    with _open_archive(path, what) as reader:
        contents = Contents(what, Limits())
        if output is None:
            for entry in reader:
                contents.add(entry)
        else:
            _write(reader, contents, output, what)
        contents.check()
    return contents.size


@contextlib.contextmanager
def _open_archive(path: str, what: str) -> Iterator[Reader]:
    with explained(path), closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as fd:
        packing = decompression.detect(os.pread(fd, decompression.MAGIC_LENGTH, 0))
        stream = file_blocks.read(fd)
        blocks = decompression.unpack(packing, stream, what) if packing else stream
        with contextlib.closing(blocks):
            yield Reader(lambda _size: next(blocks, b""), what)


def _write(reader: Reader, contents: Contents, output: BinaryIO, what: str) -> None:
    room, size = Room(what, output.fileno(), RESERVE), 0
    # Without a name and a time the same image makes the same file.
    with gzip.GzipFile(filename="", mode="wb", fileobj=output, compresslevel=1, mtime=0) as packed:
        for entry in reader:
            contents.add(entry)
            head = tar_writer.header(entry)
            packed.write(head)
            for piece in reader.content():
                room.take(len(piece))
                packed.write(piece)
            tail = tar_writer.padding(entry.size)
            packed.write(tail)
            size += len(head) + entry.size + len(tail)
        packed.write(tar_writer.end(size))


class Contents:
    """Remembers what an archive has, as far as it could do harm. size: bytes of its files."""

    def __init__(self, what: str, limits: Limits) -> None:
        self.size = self.entries = 0
        self._what, self._limits = what, limits
        self._links: dict[bytes, bytes] = {}
        self._special: set[bytes] = set()
        self._plain_directories = {b""}
        self._jobs: dict[bytes, list[bytes]] = {}
        self._beside: list[bytes] = []
        self._has_capabilities = False

    def add(self, entry: Entry) -> None:
        name = self._place(entry.name, entry.name)
        if len(entry.name) > LONGEST_PATH:
            raise self._refusal(
                f"the path {printable_name(name)} has {len(entry.name)} bytes; tar, by which vzctl unpacks it, "
                f"makes none of more than {LONGEST_PATH}",
                "Leave out what is so deep, or use it for a container of LXC",
            )
        self.entries += 1
        self.size += entry.size
        if self.entries > self._limits.entries or self.size > self._limits.size:
            raise self._refusal(
                f"it has more than {self._limits.entries} entries, or {self._limits.size // MIB} MiB of files",
                "Name a smaller image",
            )
        if not name:
            if entry.kind != DIRECTORY:
                raise self._refusal("its root is no directory")
            return
        parent, _slash, base = name.rpartition(b"/")
        self._check_parents(name, parent)
        if name in self._links:
            raise self._refusal(f"{printable_name(name)} is in it as a link, and once more")
        target = self._links.get(self._place(entry.target, entry.name)) if entry.kind == HARD_LINK else None
        if entry.kind == LINK or target is not None:
            if name in self._plain_directories:
                raise self._refusal(f"{printable_name(name)} is a directory with something in it, and a link")
            self._links[name] = entry.target if target is None else target
        elif entry.kind in (FIFO, CHARACTER, DEVICE):
            self._special.add(name)
        else:
            self._special.discard(name)
        if len(self._links) + len(self._special) > MOST_LINKS:
            raise self._refusal(f"it has more than {MOST_LINKS} links and device nodes", "Name a smaller image")
        if entry.kind == HARD_LINK and self._place(entry.target, entry.name) in self._special:
            self._special.add(name)
        if parent.endswith(b"cron.d"):
            self._jobs.setdefault(parent, []).append(base)
        if _BESIDE.fullmatch(base):
            self._beside.append(name)
        self._has_capabilities = self._has_capabilities or (
            base in (b"debian_version", b"redhat-release", b"fedora-release")
        )

    def check(self) -> None:
        """Raise ImageRefused for a file that vzctl's scripts work on and that leads out of the image."""
        for name in (*_WRITTEN, *_READ, *_CAPABLE, _RESOLVER):
            self._check(name)
        jobs = self._check(_JOBS)
        if jobs.rpartition(b"/")[2] != b"cron.d":
            raise self._refusal(f"{printable_name(_JOBS)} is a link to {printable_name(jobs)}", _REMEDY)
        for job in self._jobs.get(jobs, []):
            if not _JOB.fullmatch(job):
                raise self._refusal(
                    f"{printable_name(jobs + b'/' + job)} has a name that vzctl's scripts take for several", "Rename it"
                )
            self._check(jobs + b"/" + job)
        for name in self._beside:
            if name in self._links or name in self._special:
                raise self._refusal(
                    f"{printable_name(name)} is no file, and vzctl's scripts write to such names", "Leave it out"
                )

    def _check(self, name: bytes) -> bytes:
        """Return where the name leads in the image. Raise ImageRefused if it leads out, or to a device or a pipe."""
        found, link = self._follow(name)
        if found is None:
            target = self._links[link]
            if name == _RESOLVER and _USUAL_RESOLVER.fullmatch(target):
                return name
            if name in _PING and target == _BUSYBOX and not self._has_capabilities:
                return name
            raise self._refusal(
                f"{printable_name(link)} is a link to {printable_name(target)}, which leads out of it; {_OUT}", _REMEDY
            )
        if found in self._special:
            raise self._refusal(
                f"{printable_name(name)} is a device or a pipe, and vzctl's scripts work on it", "Make it a file"
            )
        return found

    def _follow(self, name: bytes) -> tuple[bytes | None, bytes]:
        """Return where a name leads that is followed as the host does it, and the last link on the way. The first is
        None for a way out, or one without an end."""
        rest, done, link, followed = name.split(b"/")[::-1], list[bytes](), b"", 0
        while rest:
            part = rest.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not done:
                    return None, link
                done.pop()
                continue
            place = b"/".join((*done, part))
            target = self._links.get(place)
            if target is None:
                done.append(part)
                continue
            link, followed = place, followed + 1
            if target.startswith(b"/") or followed > _LONGEST_WAY:
                return None, link
            rest += target.split(b"/")[::-1]
        return b"/".join(done), link

    def _check_parents(self, name: bytes, parent: bytes) -> None:
        place = parent
        # The parents of a known directory are known, too: each directory is looked at once, however many files it has.
        while place not in self._plain_directories:
            if place in self._links:
                raise self._refusal(
                    f"{printable_name(name)} is behind {printable_name(place)}, which is a link", "Pack it anew, by tar"
                )
            self._plain_directories.add(place)
            place = place.rpartition(b"/")[0]

    def _place(self, name: bytes, entry: bytes) -> bytes:
        """Return the path from the root of the image, b"" for the root itself. Raise ImageRefused if it leads out."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise self._refusal(
                f"{printable_name(entry)} leads out of where it is ({printable_name(name)})", "Pack it anew, by tar"
            )
        return b"/".join(parts)

    def _refusal(self, found: str, remedy: str = "Have it made anew, by tar") -> ImageRefused:
        return ImageRefused(self._what, found, remedy)
