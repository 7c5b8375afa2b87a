# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an appliance of libguestfs: it answers the commands of guestfish(1), in the form that its manual
tells, out of directories that stand for file systems. The tests below tests/integration ask the real one."""

from __future__ import annotations

import errno
import fnmatch
import io
import itertools
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open.guestfish import LIMIT, Session

DISK = "/dev/sda"
Key = Mapping[str, object]


@dataclass
class Device:
    """told: what blkid tells of it. place: the directory that is its file system, or None where it can't be mounted.
    sector: its first. subvolumes: of btrfs, name → directory."""

    told: Mapping[str, str] = field(default_factory=dict)
    place: Path | None = None
    sector: bytes = bytes(512)
    subvolumes: Mapping[str, Path] = field(default_factory=dict)


class Appliance(Session):
    """A session whose answers come from here. asked: all commands, in their order. owners: path → (uid, gid), as no
    ordinary user can give a file away. fails: command → what it says in place of an answer. hives: path of a hive →
    its keys, nested dicts; a value is (type, bytes). prints: what the program says that `sh` starts."""

    def __init__(self, devices: Mapping[str, Device], volumes: Mapping[str, list[str]] | None = None) -> None:
        self.devices = devices
        self.volumes = volumes or {}
        self.asked: list[tuple[str, ...]] = []
        self.mounted: dict[str, Path] = {}
        self.owners: dict[str, tuple[int, int]] = {}
        self.fails: dict[str, str] = {}
        self.hives: dict[str, Key] = {}
        self.prints = ""
        self.uploaded: dict[str, bytes] = {}
        self.size = 8 << 30
        self._nodes: list[tuple[str, object]] = []

    def read(self, *words: str, limit: int = LIMIT) -> bytes:
        self.asked.append(words)
        verb, *arguments = words
        if verb in self.fails:
            raise CommandFailed(f"guestfish: {verb}", self.fails[verb])
        try:
            answer = getattr(self, "_" + verb.replace("-", "_"))(*arguments)
        except OSError as error:
            raise CommandFailed(f"guestfish: {verb}", f"{verb}: {error.strerror}") from error
        data = answer if isinstance(answer, bytes) else os.fsencode(str(answer if answer is not None else ""))
        if len(data) > limit:
            raise CommandFailed(f"guestfish: {verb}", f"the answer is longer than {limit} bytes")
        return data

    def verbs(self) -> list[str]:
        return [words[0] for words in self.asked]

    # --- devices

    def _list_partitions(self) -> str:
        return "".join(f"{name}\n" for name in self.devices if re.fullmatch(DISK + r"\d+", name))

    def _lvs(self) -> str:
        return "".join(f"{name}\n" for name in self.volumes.get("lvs", []))

    def _list_md_devices(self) -> str:
        return "".join(f"{name}\n" for name in self.volumes.get("md", []))

    def _blkid(self, device: str) -> str:
        if device not in self.devices:
            raise OSError(errno.ENOENT, "No such file or directory")
        return "".join(f"{key}: {value}\n" for key, value in self.devices[device].told.items())

    def _blockdev_getsize64(self, _device: str) -> str:
        return f"{self.size}\n"

    def _pread_device(self, device: str, count: str, offset: str) -> bytes:
        return self.devices[device].sector[int(offset) :][: int(count)]

    def _mount(self, device: str, point: str) -> None:
        place = self.devices[device].place if device in self.devices else None
        if place is None:
            raise OSError(errno.EINVAL, "wrong fs type, bad superblock")
        self.mounted[point] = place

    _mount_ro = _mount

    def _mount_options(self, options: str, device: str, point: str) -> None:
        name = options.removeprefix("subvol=").removesuffix(",ro")
        if name not in self.devices[device].subvolumes:
            raise OSError(errno.ENOENT, "No such file or directory")
        self.mounted[point] = self.devices[device].subvolumes[name]

    def _umount(self, point: str) -> None:
        del self.mounted[point]

    def _umount_all(self) -> None:
        self.mounted.clear()

    # --- files

    def _place(self, path: str, follow: bool = True) -> Path:
        """Where that file of the guest lies; its links lead to where they do in the guest."""
        done = ""
        names = [name for name in path.split("/") if name]
        links = 0
        while names:
            name = names.pop(0)
            found = self._plain(f"{done}/{name}")
            if found.is_symlink() and (names or follow):
                links += 1
                if links > 40:
                    raise OSError(errno.ELOOP, "Too many levels of symbolic links")
                target = os.readlink(found)
                done = "" if target.startswith("/") else done
                names = [part for part in target.split("/") if part] + names
            elif name == "..":
                done = done.rpartition("/")[0]
            else:
                done = f"{done}/{name}"
        return self._plain(done or "/")

    def _plain(self, path: str) -> Path:
        if "/" not in self.mounted:
            raise OSError(errno.EIO, "you must call 'mount' first to mount the root filesystem")
        point = max((each for each in self.mounted if f"{path}/".startswith(f"{each.rstrip('/')}/")), key=len)
        return self.mounted[point] / path[len(point) :].lstrip("/")

    def _is_file(self, path: str, option: str = "") -> str:
        place = self._place(path, follow=bool(option))
        return f"{str(place.is_file() and not place.is_symlink()).lower()}\n"

    def _is_dir(self, path: str, option: str = "") -> str:
        place = self._place(path, follow=bool(option))
        return f"{str(place.is_dir() and not place.is_symlink()).lower()}\n"

    def _exists(self, path: str) -> str:
        return f"{str(os.path.lexists(self._place(path, follow=False))).lower()}\n"

    def _filesize(self, path: str) -> str:
        return f"{self._place(path).stat().st_size}\n"

    def _opened(self, path: str) -> Path:
        """Where a file lies that is opened: of a named pipe or a device the real one would wait for the other end."""
        place = self._place(path)
        assert place.is_file() or place.is_dir() or not place.exists(), f"{path} would be waited for"
        return place

    def _cat(self, path: str) -> bytes:
        return self._opened(path).read_bytes()

    def _download(self, path: str, _to: str) -> bytes:
        return self._cat(path)

    def _download_offset(self, path: str, to: str, offset: str, size: str) -> None:
        Path(to).write_bytes(self._cat(path)[int(offset) :][: int(size)])

    def _upload(self, source: str, path: str) -> None:
        place = self._opened(path)
        place.write_bytes(Path(source).read_bytes())
        self.uploaded[path] = place.read_bytes()

    def _rm_f(self, path: str) -> None:
        place = self._place(path, follow=False)
        if place.is_dir() and not place.is_symlink():
            raise OSError(errno.EISDIR, "Is a directory")
        place.unlink(missing_ok=True)

    def _rm(self, path: str) -> None:
        self._place(path, follow=False).unlink()

    def _rm_rf(self, path: str) -> None:
        place = self._place(path, follow=False)
        if place.is_dir() and not place.is_symlink():
            for name in list(place.iterdir()):
                self._rm_rf(f"{path}/{name.name}")
            place.rmdir()
        else:
            place.unlink(missing_ok=True)

    def _mkdir_mode(self, path: str, mode: str) -> None:
        place = self._place(path)
        place.mkdir()
        place.chmod(int(mode, 8))

    def _chown(self, uid: str, gid: str, path: str) -> None:
        self.owners[path] = (int(uid), int(gid))

    def _chmod(self, mode: str, path: str) -> None:
        self._place(path).chmod(int(mode, 8))

    def _touch(self, path: str) -> None:
        self._place(path).touch()

    def _truncate(self, path: str) -> None:
        os.truncate(self._opened(path), 0)

    def _ln_s(self, target: str, path: str) -> None:
        self._place(path, follow=False).symlink_to(target)

    def _ls(self, path: str) -> str:
        return "".join(f"{name}\n" for name in sorted(os.listdir(self._place(path))))

    def _case_sensitive_path(self, path: str) -> str:
        """What it does of the last part: that need not be there."""
        done = ""
        names = [name for name in path.split("/") if name]
        for number, name in enumerate(names):
            there = {each.lower(): each for each in os.listdir(self._place(done or "/"))}
            if name.lower() not in there and number < len(names) - 1:
                raise OSError(errno.ENOENT, "No such file or directory")
            done = f"{done}/{there.get(name.lower(), name)}"
        return f"{done}\n"

    def _statns(self, path: str) -> str:
        return self._status(path, self._place(path).stat())

    def _lstatns(self, path: str) -> str:
        return self._status(path, self._place(path, follow=False).lstat())

    def _status(self, path: str, found: os.stat_result) -> str:
        uid, gid = self.owners.get(path, (0, 0))
        told = {"st_dev": 2049, "st_ino": found.st_ino, "st_mode": found.st_mode, "st_nlink": 1, "st_uid": uid,
                "st_gid": gid, "st_rdev": 0, "st_size": found.st_size}  # fmt: skip
        return "".join(f"{key}: {value}\n" for key, value in told.items())

    def _lstatlist(self, directory: str, names: str) -> str:
        lines = []
        for number, name in enumerate(names.split()):
            place = self._place(f"{directory}/{name}", follow=False)
            found = place.lstat() if os.path.lexists(place) else None
            mode, size = (found.st_mode, found.st_size) if found is not None else (0, 0)
            lines.append(f"[{number}] = {{\n  dev: 2049\n  ino: 12\n  mode: {mode}\n  nlink: 1\n  uid: 0\n  gid: 0\n"
                         f"  rdev: 0\n  size: {size}\n  blksize: 4096\n}}\n")  # fmt: skip
        return "".join(lines)

    def _glob_expand(self, pattern: str) -> str:
        if not pattern.startswith("/"):
            raise OSError(errno.EINVAL, "path must start with a / character")
        found: list[str] = []
        for each in _braces(pattern):
            found += sorted(self._matching("", [part for part in each.split("/") if part]))
        return "".join(f"{path}\n" for path in found)

    def _matching(self, directory: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            place = self._place(directory, follow=False)
            yield directory + ("/" if place.is_dir() and not place.is_symlink() else "")
            return
        form, rest = parts[0], parts[1:]
        place = self._place(directory or "/")
        names = os.listdir(place) if place.is_dir() else []
        for name in names:
            # As a shell has it: a star is no leading dot.
            if fnmatch.fnmatchcase(name, form) and (not name.startswith(".") or form.startswith(".")):
                yield from self._matching(f"{directory}/{name}", rest)

    def _tar_out(self, directory: str, _to: str, _excludes: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:") as archive:
            archive.add(self._place(directory), arcname=".")
        return buffer.getvalue()

    def _sh(self, _script: str) -> str:
        return self.prints

    # --- hives: a handle is a number

    def _handle(self, name: str, value: object) -> int:
        self._nodes.append((name, value))
        return len(self._nodes)

    def _node(self, handle: str) -> tuple[str, object]:
        return self._nodes[int(handle) - 1]

    def _keys(self, handle: str) -> Key:
        found = self._node(handle)[1]
        return found if isinstance(found, dict) else {}

    def _hivex_open(self, path: str) -> None:
        self._opened(path)
        if path not in self.hives:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        self._nodes = [("", self.hives[path])]

    def _hivex_root(self) -> str:
        return "1\n"

    def _hivex_close(self) -> None:
        self._nodes = []

    def _hivex_node_name(self, handle: str) -> str:
        return f"{self._node(handle)[0]}\n"

    def _hivex_node_get_child(self, handle: str, name: str) -> str:
        for key, value in self._keys(handle).items():
            if key.lower() == name.lower() and isinstance(value, dict):
                return f"{self._handle(key, value)}\n"
        return "0\n"

    def _hivex_node_children(self, handle: str) -> str:
        found = [self._handle(key, value) for key, value in self._keys(handle).items() if isinstance(value, dict)]
        return "".join(f"[{number}] = {{\n  hivex_node_h: {each}\n}}\n" for number, each in enumerate(found))

    def _hivex_node_values(self, handle: str) -> str:
        found = [self._handle(key, value) for key, value in self._keys(handle).items() if isinstance(value, tuple)]
        return "".join(f"[{number}] = {{\n  hivex_value_h: {each}\n}}\n" for number, each in enumerate(found))

    def _hivex_value_key(self, handle: str) -> str:
        return f"{self._node(handle)[0]}\n"

    def _hivex_value_type(self, handle: str) -> str:
        return f"{self._node(handle)[1][0]}\n"  # type: ignore[index]

    def _hivex_value_value(self, handle: str) -> bytes:
        data = self._node(handle)[1][1]  # type: ignore[index]
        return bytes(data)


def _braces(pattern: str) -> list[str]:
    """As a shell expands {a,b}, one within the other too."""
    told = re.search(r"\{([^{}]*)\}", pattern)
    if told is None:
        return [pattern]
    return list(itertools.chain.from_iterable(
        _braces(pattern[: told.start()] + word + pattern[told.end() :]) for word in told[1].split(",")
    ))  # fmt: skip


def made(place: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """A directory with these files: text or bytes, None for a directory, "-> target" for a link."""
    place.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        at = place / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            at.mkdir(exist_ok=True)
        elif isinstance(content, str) and content.startswith("-> "):
            at.symlink_to(content[3:])
        else:
            at.write_bytes(content.encode() if isinstance(content, str) else content)
            at.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
    return place
