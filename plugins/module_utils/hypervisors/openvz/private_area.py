# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Works on the root file system of a container on its host (VE_PRIVATE): its context is written into it before it
starts, it is saved as a tar, and it goes to another host and comes from there. Whatever links its guest has made in it,
nothing outside of it is read or written."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...context import iso9660
from ...errors import HypervisorError, InvalidValue, NotFound
from ...guest_disk import guest_tree
from ...guest_disk.guest_tree import Entry
from ...host import untrusted_directories, untrusted_trees
from ...host.command import run
from ...host.files import (
    closing_fd,
    explained,
    make_directory,
    read_limited,
    remove_file,
    sync_directory,
    write_atomically,
)
from ...model.container_user_ids import IdRange
from ...model.dataclass_json import json_value
from ...storage import roots, tar_reader, tar_writer
from ...storage.datastore_layout import MIB, require_space

SCRIPT = "init.sh"
BEGIN, END = "# nebula-context: begin", "# nebula-context: end"
UNIT = "/etc/systemd/system/nebula-context.service"
WANTED = "/etc/systemd/system/multi-user.target.wants/nebula-context.service"
# Where a root with systemd has it; of the others the first rc.local is that of Red Hat's kin, and OpenVZ's own example.
_SYSTEMD = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")
_RC = (("/etc/rc.d", "/etc/rc.d/rc.local"), ("/etc", "/etc/rc.local"))
# Beside the private area: what of a context was written into it.
WRITTEN = "context.json"
LARGEST = 1 << 20
_MOST_PATHS, _LONGEST_PATH = 4096, 4096
SAVE_SECONDS = 6 * 3600


def write_context(private: str, iso: str, to: str) -> None:
    """Write the files of the context into the directory `to` of a container that does not run; its init.sh runs at
    each boot. What an earlier context had there is removed."""
    contents = iso9660.files_of_iso(iso)
    what = f"the context in {private}"
    with _open_root(private) as root:
        owner = _owner(root)
        entries = [
            Entry(f"{to}/{path}", content, 0o700 if runs or path == SCRIPT else 0o600, *owner)
            for path, content, runs in contents
        ]
        script = next((entry.path for entry in entries if entry.path == f"{to}/{SCRIPT}"), None)
        try:
            for path in sorted(set(_written_paths(private)) - {entry.path for entry in entries}):
                guest_tree.remove(root, path)
            # First: a run that is killed in between must know what there may be.
            paths = sorted(entry.path for entry in entries)
            write_atomically(_record_file(private), json.dumps(paths) + "\n", mode=0o600)
            for entry in entries:
                if not guest_tree.is_there(root, entry, True):
                    guest_tree.put(root, entry, True, directories=owner)
            _run_at_boot(root, script, owner)
        except OSError as error:
            raise HypervisorError(
                what,
                f"{error.filename or ''} {error.strerror or error}".strip(),
                "See what the image has in that place",
            ) from error


def _run_at_boot(root: int, script: str | None, owner: tuple[int, int]) -> None:
    """Make the script run when the container boots: by a unit where its init is systemd, else by rc.local."""
    systemd = any(_is_file(root, path) for path in _SYSTEMD)
    rc = next(path for directory, path in _RC if _is_directory(root, directory) or path == _RC[-1][1])
    text = (guest_tree.get(root, rc, LARGEST) or b"").decode("utf-8", "surrogateescape")
    wanted = _with_our_lines(text, None if systemd else script)
    if wanted != text:
        found = guest_tree.mode_of(root, rc)
        mode = (stat.S_IMODE(found.st_mode) if found is not None and stat.S_ISREG(found.st_mode) else 0o644) | 0o111
        guest_tree.put(
            root, Entry(rc, wanted.encode("utf-8", "surrogateescape"), mode, *owner), True, directories=owner
        )
    if systemd and script is not None:
        entry = Entry(UNIT, _unit(script).encode(), 0o644, *owner)
        if not guest_tree.is_there(root, entry, True):
            guest_tree.put(root, entry, True, directories=owner)
        guest_tree.link(root, WANTED, UNIT, directories=owner)
    elif guest_tree.mode_of(root, UNIT) is not None:
        guest_tree.remove(root, WANTED)
        guest_tree.remove(root, UNIT)


def _with_our_lines(text: str, script: str | None) -> str:
    """Return an rc.local with our lines in it, or without: before an `exit` at its end, as Debian's has one."""
    lines = text.split("\n")
    if BEGIN in lines and END in lines[lines.index(BEGIN) :]:
        first = lines.index(BEGIN)
        del lines[first : lines.index(END, first) + 1]
    if script is None:
        return "\n".join(lines)
    if not any(lines):
        lines = ["#!/bin/sh", ""]
    last = len(lines)
    while last and not lines[last - 1].strip():
        last -= 1
    if last and lines[last - 1].split() in (["exit"], ["exit", "0"]):
        last -= 1
    # By its own first line where it has one: the kernel refuses to run a text without.
    block = [BEGIN, f'if head -c 2 "{script}" | grep -q "#!"; then "{script}"; else sh "{script}"; fi', END]
    return "\n".join([*lines[:last], *block, *lines[last:]])


def _unit(script: str) -> str:
    return (
        "[Unit]\nDescription=Context of the virtual machine\nAfter=network.target\n\n"
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f'ExecStart=/bin/sh -c \'if head -c 2 "{script}" | grep -q "#!"; then "{script}"; else sh "{script}"; fi\'\n\n'
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _written_paths(private: str) -> list[str]:
    """Return what an earlier context may have in the root; nothing where the list of it is none that was written here
    or on another host: that comes along, and may be anybody's word."""
    try:
        found = json_value(read_limited(_record_file(private), LARGEST, follow=False).decode())
    except (NotFound, ValueError):
        return []
    return found if isinstance(found, list) and len(found) <= _MOST_PATHS and all(map(_is_path, found)) else []


def _is_path(value: Any) -> bool:
    """Return whether this is the path of a file in the root, as a context has it."""
    if not isinstance(value, str) or value[:1] != "/" or "\0" in value or len(value.encode()) > _LONGEST_PATH:
        return False
    return ".." not in value.split("/")


def _record_file(private: str) -> str:
    return f"{os.path.dirname(private)}/{WRITTEN}"


def is_made(private: str) -> bool:
    """Return whether the private area is there, and more than the empty directory that vzctl puts in its place."""
    try:
        with os.scandir(private) as entries:
            return any(True for _each in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_mounts(private: str, asked: str) -> None:
    """Raise HypervisorError if vzctl would mount outside of the root: it mounts devices on its /dev before the
    container is shut in there, and follows a link as the host does."""
    with _open_root(private) as root:
        found = guest_tree.mode_of(root, "/dev")
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise HypervisorError(
            f"{asked}: {private}/dev",
            "it is no directory (any more), and vzctl mounts there from outside of the container: a link leads it into "
            "the host's own files",
            f"See who changed it in the container; rm {private}/dev && mkdir {private}/dev, or recreate: true",
        )


def clear_unfinished(private: str) -> None:
    """Remove what a killed vzctl left of an unfinished private area, and the empty one that a container has which came
    from another host before it was ever started: vzctl makes none where one is."""
    unfinished = f"{private}.tmp"
    if os.path.isdir(unfinished) and not os.path.islink(unfinished):
        untrusted_trees.remove(unfinished)
    if not is_made(private) and os.path.isdir(private) and not os.path.islink(private):
        with explained(private):
            os.rmdir(private)


def size(private: str, what: str) -> int:
    """Return the bytes that the private area takes, 0 where it was never made. what: the words that errors begin
    with."""
    return roots.size(private, what) if is_made(private) else 0


def pack(private: str, fd: int, ids: IdRange, what: str, timeout: float) -> roots.Saved:
    """Write all of the private area of a container that is off to a pipe, with the owners that its guest sees and its
    device nodes. One that was never made is an empty directory.
    ids: the host's, of the container's users. what: the words that errors begin with. timeout: in seconds."""
    if is_made(private):
        return roots.pack(private, fd, ids, what, timeout, devices=True)
    top = tar_reader.Entry(tar_reader.DIRECTORY, b"./", b"")
    top.mode = 0o755
    header = tar_writer.header(top)
    view = memoryview(header + tar_writer.end(len(header)))
    written = len(view)
    while view:
        view = view[os.write(fd, view) :]
    return roots.Saved(1, written, 0)


def take_in(
    blocks: Generator[bytes, None, None], private: str, ids: IdRange, what: str, timeout: float
) -> roots.Unpacked:
    """Make the private area of what pack() has written on another host, whole or not at all.
    ids: this host's, of the container's users. what: the words that errors begin with. timeout: in seconds."""
    # Its root may hold devices, and programs that run as root: no user of the host gets near these.
    make_directory(os.path.dirname(private), 0o700)
    done = roots.take_in(blocks, private, ids, what, timeout, devices=True)
    sync_directory(os.path.dirname(os.path.dirname(private)))
    return done


def save(private: str, path: str, what: str) -> None:
    """Save all of the root as a tar at `path`, whole or not at all, with the owners that its guest sees."""
    directory = os.path.dirname(path)
    new = f"{directory}/.{os.path.basename(path)}.tmp"
    with _open_root(private) as root:
        shift = _owner(root)
        taken, ids = _count_files(root)
    require_space(directory, taken + MIB, what)
    remove_file(new)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            options = []
            for kind, numbers, base in (("owner", ids[0], shift[0]), ("group", ids[1], shift[1])):
                if base:
                    file = Path(scratch, kind)
                    file.write_text("".join(f"+{n} x:{max(n - base, 0)}\n" for n in sorted(numbers)), encoding="ascii")
                    options.append(f"--{kind}-map={file}")
            with explained(new):
                # Before tar opens it: what is in a root is for nobody else of this host.
                os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            words = ["tar", "--create", "--numeric-owner", "--one-file-system", "--sparse", "--xattrs", *options]
            done = run([*words, "--file", new, "--directory", private, "."], timeout=SAVE_SECONDS, check=False)
        # 1: something changed while it was read, as in a container that runs.
        if done.returncode > 1:
            raise HypervisorError(what, f"tar ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
        with explained(path):
            with closing_fd(os.open(new, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
                os.fsync(fd)
            os.rename(new, path)
            sync_directory(directory)
    finally:
        remove_file(new)


def _count_files(root: int) -> tuple[int, tuple[set[int], set[int]]]:
    """Return the bytes that the files take, and the ids of their users and groups."""
    status = os.fstat(root)
    taken, users, groups = 0, {status.st_uid}, {status.st_gid}
    for _place, _name, found in untrusted_directories.walk(root):
        users.add(found.st_uid)
        groups.add(found.st_gid)
        if stat.S_ISREG(found.st_mode):
            taken += min(found.st_size, found.st_blocks * 512) + 512
        taken += 512
    return taken, (users, groups)


@contextmanager
def _open_root(private: str) -> Iterator[int]:
    try:
        root = os.open(private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"private area {private}", "it is not there", "Make the machine anew (recreate: true)") from None
    except OSError as error:
        raise InvalidValue(f"private area {private}", error.strerror or str(error), "See who put it there") from error
    try:
        yield root
    finally:
        os.close(root)


def _owner(root: int) -> tuple[int, int]:
    """Return the host's ids that the root's files belong to: containers may have ids of their own."""
    found = os.fstat(root)
    return found.st_uid, found.st_gid


def _is_file(root: int, path: str) -> bool:
    found = guest_tree.mode_of(root, path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _is_directory(root: int, path: str) -> bool:
    found = guest_tree.mode_of(root, path)
    return found is not None and stat.S_ISDIR(found.st_mode)
