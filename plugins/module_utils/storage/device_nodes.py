# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the device nodes of a root that was unpacked from an archive. Who unpacks it can't (storage/root_unpacking.py):
the kernel lets nobody make them in a user namespace. So that process only says which there are, and what it says is as
much a stranger's as the archive: the host's root makes nodes and nothing else, below the open tree, behind no link."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ImageRefused
from ..host import untrusted_directories
from ..host.files import closing_fd, explain
from ..model.container_user_ids import IdRange
from . import tree_walk
from .tar_reader import CHARACTER, DEVICE, Entry, printable_name

# In one root, and bytes of their names and attributes: the whole /dev of a distribution that makes each beforehand.
MOST, MOST_BYTES = 16384, 1 << 20
# A list of who may do what, as its attribute has it: version 2, then entries of tag, rights and id, which only the
# entries of users and groups that it names have.
_VERSION, _ENTRY, _NAMING = struct.pack("<I", 2), struct.Struct("<HHI"), (0x02, 0x08)
_KINDS = {CHARACTER: stat.S_IFCHR, DEVICE: stat.S_IFBLK}
_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def described(entry: Entry) -> dict[str, Any]:
    """Return a device node as JSON has it."""
    return {
        "name": entry.name.decode("latin-1"),
        "kind": entry.kind,
        "numbers": [entry.major, entry.minor],
        "mode": entry.mode,
        "owner": [entry.uid, entry.gid],
        "mtime": entry.mtime,
        "xattrs": {key.decode("latin-1"): value.hex() for key, value in entry.xattrs.items()},
    }


def make(tree: str, nodes: Sequence[Mapping[str, Any]], ids: IdRange, what: str) -> None:
    """Make the nodes in a tree that nobody else can get at yet. Raise ImageRefused for one that can't be there.
    nodes: as described() has them. ids: the host's, of the machine's users. what: the words that errors begin with."""
    if not nodes:
        return
    with closing_fd(os.open(tree, untrusted_directories.DIRECTORY)) as top:
        for node in nodes:
            name = str(node["name"]).encode("latin-1")
            try:
                _make(top, name, node, ids)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                    raise explain(error, what) from error
                raise ImageRefused(
                    what,
                    f"its device node {printable_name(name)} can't be made: {error.strerror}",
                    "Remove it there, or what else has its name",
                ) from error


def _make(top: int, name: bytes, node: Mapping[str, Any], ids: IdRange) -> None:
    place, _slash, last = os.fsdecode(name).rpartition("/")
    if last in ("", ".", ".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    owner = [ids.start + int(number) for number in node["owner"]]
    if len(owner) != 2 or not all(map(ids.holds, owner)):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    major, minor = map(int, node["numbers"])
    attributes = {key.encode("latin-1"): bytes.fromhex(value) for key, value in node["xattrs"].items()}
    if tree_walk.ACCESS in attributes:
        attributes[tree_walk.ACCESS] = _of_host(attributes[tree_walk.ACCESS], ids)
    with closing_fd(untrusted_directories.open_directory(top, place)) as directory:
        before = os.fstat(directory)
        os.mknod(last, _KINDS[node["kind"]] | 0o600, os.makedev(major, minor), dir_fd=directory)
        with closing_fd(os.open(last, _NODE, dir_fd=directory)) as fd:
            made = f"/proc/self/fd/{fd}"
            # Of what its directory gives to new files it has nothing: the archive says who may use it.
            try:
                os.removexattr(made, tree_walk.ACCESS)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
            os.chown(made, *owner)
            os.chmod(made, int(node["mode"]) & 0o7777)
            for key, value in attributes.items():
                os.setxattr(made, key, value)
        times = (int(node["mtime"]),) * 2
        os.utime(last, ns=times, dir_fd=directory, follow_symlinks=False)
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _of_host(listed: bytes, ids: IdRange) -> bytes:
    """Return the list with the host's ids of the machine's users and groups: the kernel shifts none for the host's
    root. It refuses itself what is no such list."""
    found = [_VERSION]
    if listed[: len(_VERSION)] != _VERSION or (len(listed) - len(_VERSION)) % _ENTRY.size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    for tag, rights, number in _ENTRY.iter_unpack(listed[len(_VERSION) :]):
        if tag in _NAMING:
            if not ids.holds(ids.start + number):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            found.append(_ENTRY.pack(tag, rights, ids.start + number))
        else:
            found.append(_ENTRY.pack(tag, rights, number))
    return b"".join(found)
