# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the QEMU of libguestfs in a sandbox: as a user of its own that sees the appliance and its disk, and none of
this host.
libguestfs starts whatever LIBGUESTFS_HV names: a script of ours, which finds the files of the appliance and the
socket of guestfish in the words for QEMU. The disk, and all that it rests on, are opened before the privileges go,
and QEMU gets the open files: whoever owns them, and wherever they lie, it has their names nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from ...errors import ImageRefused, NebulaError
from ...host import command, files, sandbox, unsandboxed_programs
from ...model.disk import DiskFiles
from ...storage import qcow2_header, qemu_img

VARIABLE = "LIBGUESTFS_HV"
# How a result calls it.
NAME = "QEMU of libguestfs"
# Where the appliance boots by the firmware of a PC: elsewhere, QEMU writes to a file of that, too.
MACHINES = ("x86_64",)
# What the appliance writes to its own root, which is thrown away.
SCRATCH = "1g"
RESOLV = "/etc/resolv.conf"
# A file that the script makes where it does not know the words by which it is called.
UNKNOWN = "unknown-words"
_TIMEOUT = 60.0
# Descriptors of a shell have one digit: two for the disk, one for each file below it.
_MOST_BELOW = 5
# How QEMU calls open files that it was given; its disk is the first.
_OPEN = "/dev/fdset/"
_SCRIPT = """#!/bin/sh
# @IDENTITY@
set -eu
umask 022
kernel= initrd= root= socket= disk= before=
for word in "$@"; do
    case $before:$word in
        -kernel:*) kernel=$word ;;
        -initrd:*) initrd=$word ;;
        -chardev:socket,path=*,id=channel0) socket=${word#socket,path=} socket=${socket%,id=channel0} ;;
        -drive:"file=$NEBULA_DISK",*) disk=$word ;;
        -drive:file=*,snapshot=on,id=appliance,*) root=${word#file=} root=${root%%,snapshot=on,id=appliance,*} ;;
    esac
    before=$word
done
# A number that no other process has: it can do nothing to any other.
user=$((@USER@ + $$))
if [ ! "$kernel" ]; then
    # It is asked what it can do.
    set -- -- setpriv --reuid "$user" @DROPPED@ @PROGRAM@ "$@"
elif [ ! "$disk" ] || [ ! -S "$socket" ] || [ ! -f "$initrd" ] || [ ! -f "$root" ]; then
    : > "$NEBULA_UNKNOWN"
    exec @PROGRAM@ "$@"
else
    left=$#
    while [ "$left" -gt 0 ]; do
        word=$1 left=$((left - 1))
        shift
        [ "$word" != "$disk" ] || word=file=$NEBULA_NAMED,${word#"file=$NEBULA_DISK,"}
        set -- "$@" "$word"
    done
    number=1 next=5
    for fd in $NEBULA_OPEN; do
        file=/proc/$NEBULA_PROCESS/fd/$fd
        if [ "$number" = 1 ]; then
            exec 3<>"$file" 4<"$file"
            set -- "$@" -add-fd fd=3,set=1 -add-fd fd=4,set=1
        else
            eval "exec $next"'<"$file"'
            set -- "$@" -add-fd "fd=$next,set=$number"
            next=$((next + 1))
        fi
        number=$((number + 1))
    done
    chown "$user" "$socket"
    case $kernel in @CACHE@/*) chmod a+r "$kernel" "$initrd" "$root" ;; esac
    set -- file "$kernel" @READ@ file "$initrd" @READ@ file "$root" @READ@ file "$socket" @FILE@ \\
        -- setpriv --reuid "$user" @DROPPED@ @PROGRAM@ "$@"
fi
exec env -i PATH="$PATH" LC_ALL=C TMPDIR=/var/tmp QEMU_AUDIO_DRV=none @BEGUN@ "$@"
"""


def why_unconfined() -> str:
    """Return why QEMU runs without a sandbox on this host; "" if it runs in one."""
    if not sandbox.why_unavailable() and platform.machine() not in MACHINES:
        return f"it is not known how libguestfs starts one on {platform.machine()}"
    return sandbox.why_unavailable()


def may_use(device: str) -> bool:
    """Return whether QEMU in its sandbox can open this device of KVM."""
    return bool(why_unconfined()) or _groups_for(device) is not None


def _groups_for(device: str) -> list[int] | None:
    """Return the groups by which a user of its own may use a device; None if it may not."""
    try:
        found = os.stat(device)
    except OSError:
        return None
    if not stat.S_ISCHR(found.st_mode):
        return None
    if found.st_mode & 0o006 == 0o006:
        return []
    # The group of root is no group for it.
    return [found.st_gid] if found.st_mode & 0o060 == 0o060 and found.st_gid else None


@contextlib.contextmanager
def sandbox_environment(
    disk: str, format: str, directory: str, place: str, *, network: bool = False, device: str = ""
) -> Iterator[dict[str, str]]:
    """Yield what guestfish has to have in its environment, so that its QEMU runs in a sandbox; nothing where there can
    be no sandbox.
    disk: one of ours, by an absolute path.
    directory: for this session alone.
    place: the directory of appliances, which nobody but root can enter.
    device: that of KVM, if it may be used."""
    why = why_unconfined() or _obstacle(place)
    if why:
        unsandboxed_programs.note(NAME, why)
        yield {}
        return
    with contextlib.ExitStack() as stack:
        opened: list[int] = []
        chain = _open_chain(disk, format, opened, stack)
        if chain is None:
            # A trusted image decides what is opened.
            yield {}
            return
        unknown = os.path.join(directory, UNKNOWN)
        sets = [f"{_OPEN}{number}" for number in range(1, len(chain) + 1)]
        below = tuple((name, kind) for name, (_path, kind) in zip(sets[1:], chain[1:]))
        yield {
            VARIABLE: _script(place, network, device),
            "NEBULA_DISK": _escaped(os.path.realpath(disk)),
            "NEBULA_NAMED": _escaped(qemu_img.block_node(DiskFiles(sets[0], format, below))),
            "NEBULA_PROCESS": str(os.getpid()),
            "NEBULA_OPEN": " ".join(map(str, opened)),
            "NEBULA_UNKNOWN": unknown,
        }
        if os.path.exists(unknown):
            unsandboxed_programs.note(NAME, "this libguestfs calls it by words that are not known")


def _escaped(word: str) -> str:
    return word.replace(",", ",,")


def _obstacle(place: str) -> str:
    try:
        files.make_own_directory(place)
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return f"no program can be started in {place}, whose file system is mounted with noexec"
        return "" if program() else "guestfish does not tell which one it is"
    except OSError as error:
        return str(files.explain(error, place))


# --- what the disk rests on ------------------------------------------------------------------------------------------


def _open_chain(disk: str, format: str, opened: list[int], stack: contextlib.ExitStack) -> list[tuple[str, str]] | None:
    """Return the disk and what its own header, which was written here, says that it rests on, all of them open; None
    where an image below, which is trusted, says what else is to be opened."""
    chain: list[tuple[str, str]] = []
    node: dict[str, Any] | None = {"driver": format, "file": {"driver": "file", "filename": disk}}
    plain = False
    while node is not None:
        path, format = _path_and_format(node, disk)
        if len(chain) > _MOST_BELOW:
            raise _refused(disk, f"it rests on more than {_MOST_BELOW} files")
        with files.explained(path):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        opened.append(fd)
        chain.append((path, format))
        if format == "raw" or "backing" in node:
            node = node.get("backing")
            continue
        header = qcow2_header.Header(stack.enter_context(files.reader(os.dup(fd), 0)))
        node = None
        if len(chain) == 1 and header.has_backing:
            plain = not header.backing.startswith("json:")
            node = _backing_node(header, disk)
        elif plain:
            qcow2_header.refuse_unexpected(DiskFiles(path, format), f"disk {disk}")
        elif len(chain) > 1 and (header.has_backing or header.incompatible & qcow2_header.DATA_FILE):
            return None
    return chain


def _backing_node(header: qcow2_header.Header, disk: str) -> dict[str, Any]:
    if not header.backing.startswith("json:"):
        return {"driver": header.backing_format, "file": {"driver": "file", "filename": header.backing}}
    try:
        node = json.loads(header.backing[len("json:") :])
    except (ValueError, RecursionError):
        node = None
    if not isinstance(node, dict):
        raise _refused(disk, "what it rests on can't be read")
    return node


def _path_and_format(node: Any, disk: str) -> tuple[str, str]:
    """Return path and format of a node of QEMU, in the form that is written here."""
    try:
        path, format, kind = node["file"]["filename"], node["driver"], node["file"]["driver"]
    except (TypeError, KeyError):
        path, format, kind = "", "", ""
    if kind != "file" or format not in ("raw", "qcow2") or not isinstance(path, str) or not path.startswith("/"):
        raise _refused(disk, f"it says that it rests on {json.dumps(node)}")
    return path, format


def _refused(disk: str, found: str) -> ImageRefused:
    return ImageRefused(f"disk {disk}", found, "Make it anew over one image of format raw or qcow2")


# --- the script ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def program() -> str:
    """Return the path of the QEMU that libguestfs would start; "" if it is not known."""
    environment = {"HOME": os.devnull, "LIBGUESTFS_BACKEND": "direct"}
    try:
        done = command.run(["guestfish", "get-hv"], env=environment, timeout=_TIMEOUT)
        return os.path.realpath(command.find(done.stdout.strip()))
    except NebulaError:
        return ""


def _script(place: str, network: bool, device: str) -> str:
    """Write the script and return its path: each text has a file of its own, as libguestfs keeps what it has learned
    of a QEMU by size and time of that file."""
    groups = _groups_for(device) if device else None
    devices = ["/dev/urandom", *([device] if groups is not None else [])]
    text = script(program(), place, network=network, devices=devices, groups=groups or ())
    path = os.path.join(place, f"qemu-{hashlib.sha256(text.encode()).hexdigest()[:16]}")
    files.write_atomically(path, text, mode=0o700)
    return path


def script(qemu: str, place: str, *, network: bool, devices: Sequence[str], groups: Sequence[int]) -> str:
    found = os.stat(qemu)
    named = [RESOLV] if network and os.path.exists(RESOLV) else []
    begun = sandbox.sandbox_words_without_processes(
        qemu, network=network, devices=devices, files=named, scratch=SCRATCH
    )
    words = {
        "IDENTITY": f"{qemu!r}, {found.st_size} bytes of {int(found.st_mtime)}",
        "PROGRAM": shlex.quote(qemu),
        "USER": str(sandbox.USER),
        "CACHE": shlex.quote(place),
        "DROPPED": shlex.join(sandbox.setpriv_words(sandbox.USER, groups)),
        "READ": sandbox.FILE_READ,
        "FILE": sandbox.FILE,
        "BEGUN": shlex.join(begun),
    }
    text = _SCRIPT
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text
