# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down the commands by which a person restores a backup's disks without this collection."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from ..model.machine_backup import LUKS, TAR, MachineBackup, StoredFile
from . import backup_files
from .backup_files import ChainFile

# One command for a shell, whether it is pasted or piped: it ends with the first step that fails, and a terminal stays.
_BEGIN = (
    "(  # All of it is one command, up to the last line. Run it in the backup's own directory",
    "set -e; umask 077",
    "trap 'test $? = 0 || echo \"STOPPED: the step above has failed. What is in $TO is not whole\" >&2' EXIT",
    'mkdir -p "${TO:=/var/tmp/restored}"  # TO: where the disks go',
    'test -O "$TO" || { echo "$TO is somebody else\'s: set TO to another directory" >&2; exit 1; }',
)
_END = ('echo "All of it is in $TO"', ")")
_KEY_FILE = ': "${KEY_FILE:=/root/backup.key}"  # KEY_FILE: holds the key, and no line feed behind it'
# A container's own root is open to all, and the directory in which it is unpacked stays closed.
_CLOSED = " --no-overwrite-dir"
# The form in which manifests have them that were written before there was a first and a last line.
_EARLIER_PLACE = (
    'mkdir -p "${TO:=/var/tmp/restored}"  # TO: where the disks go; run all this in the backup\'s own directory'
)
_SECRET = '--object secret,id=key,file="$KEY_FILE"'


def commands(lineage: Sequence[MachineBackup]) -> tuple[str, ...]:
    """Return the commands, for a shell that stands in the directory of the files.
    lineage: the backup and all on which it rests, the newest first"""
    return (*_BEGIN, *(line for step in _steps(lineage[0], lineage) for line in step), *_END)


def are_of(by_hand: Sequence[str], lineage: Sequence[MachineBackup]) -> bool:
    """Return whether these commands of a manifest are those that follow from it, by this version or an earlier one."""
    earlier = (" && ".join(step).replace(_CLOSED, "") for step in _steps(lineage[0], lineage))
    return tuple(by_hand) in (commands(lineage), (_EARLIER_PLACE, *earlier))


def disk_chain(directory: str, lineage: Sequence[MachineBackup], disk_id: int) -> list[ChainFile]:
    """Return the files that together hold a disk, the newest first."""
    found: list[ChainFile] = []
    for backup in lineage:
        for disk in backup.disks:
            if disk.disk_id == disk_id and (not found or disk.file.name == found[-1].below):
                path = os.path.join(directory, disk.file.name)
                found.append(ChainFile(path, disk.stored, disk.file.size, disk.file.sha256, disk.below, disk.size))
        if found and not found[-1].below:
            break
    return found


def _steps(backup: MachineBackup, lineage: Sequence[MachineBackup]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of each step."""
    own = [*(disk.file for disk in backup.disks), *backup.files.values()]
    if backup.secrets_file is not None or any(map(_is_encrypted, own)):
        yield (_KEY_FILE,)
    for disk in backup.disks:
        chain = disk_chain("", lineage, disk.disk_id)
        for each in chain:
            yield (_comparison(StoredFile(each.path, each.size, each.sha256)),)
        name, target = shlex.quote(disk.file.name), f'"$TO"/disk.{disk.disk_id}'
        if disk.stored == TAR:
            place = f'"$TO"/root.{disk.disk_id}'
            if _is_encrypted(disk.file):
                plain = f'"$TO"/root.{disk.disk_id}.tar.zst'
                yield (_decryption(disk.file.name, plain),)
                name = plain
            unpack = "zstd -dc" if ".zst" in disk.file.name else "cat"
            words = f"tar -x -p --numeric-owner --xattrs --xattrs-include='*'{_CLOSED} -f -"
            yield (f"mkdir -p {place}", f"{unpack} {name} | {words} -C {place}")
        elif disk.stored == LUKS:
            node = shlex.quote(backup_files.text_of(backup_files.chain_node(chain, resolved=False)))
            yield (f"qemu-img convert {_SECRET} -O {disk.format} {node} {target}",)
        else:
            yield (f"qemu-img convert -f qcow2 -O {disk.format} {name} {target}",)
    for what, file in sorted(backup.files.items()):
        yield (_comparison(file),)
        target = f'"$TO"/{what}'
        if _is_encrypted(file):
            yield (_decryption(file.name, target), f"truncate -s {file.holds} {target}")
        else:
            yield (f"cp {shlex.quote(file.name)} {target}",)
    if backup.secrets_file:
        yield (_comparison(backup.secrets_file),)
        yield (_decryption(backup.secrets_file.name, '"$TO"/secrets.json'),)


def _is_encrypted(file: StoredFile) -> bool:
    return file.name.endswith(".luks")


def _comparison(file: StoredFile) -> str:
    return f"echo {shlex.quote(f'{file.sha256}  {file.name}')} | sha256sum --check -"


def _decryption(name: str, target: str) -> str:
    node = backup_files.text_of(backup_files.container_node(name))
    return f"qemu-img convert {_SECRET} -O raw {shlex.quote(node)} {target}"
