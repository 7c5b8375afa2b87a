# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which files are written into a machine's own disk when that is made: INJECT = [ PATH, CONTENT or SRC … ]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from ..errors import Ambiguous, InvalidValue
from .context import ContextFile
from .item_reader import check_keys
from .object_names import known_are
from .template import Template
from .whole_numbers import whole

VIAS = ("auto", "guestfs", "nbd", "loop")
KEYS = ("path", "content", "src", "mode", "owner", "group", "disk", "partition")
# Tags that may name a partition, as in fstab.
NAMES = ("LABEL", "UUID", "PARTLABEL", "PARTUUID")
# The partition of a disk that has none: the whole disk.
WHOLE_DISK = "0"
# The most bytes of a content that stands in a template.
LARGEST = 1 << 20
_MODE = re.compile(r"[0-7]{3,4}")
_VOLUME = re.compile(r"/dev/[^/\s]+/[^/\s]+")


@dataclass(frozen=True)
class Injected:
    """Describes a file that is written into a disk.
    path: absolute in the guest, or in the partition if one is named.
    content: what it is to hold, unless file says where that is read.
    mode: -1 for 0644, or 0755 of a file that is executable where it is read.
    partition: number in digits, WHOLE_DISK, NAME=value with one of NAMES, or /dev/GROUP/VOLUME; "" for the guest's
    root."""

    path: str
    content: str = field(default="", repr=False)
    file: Optional[ContextFile] = None
    mode: int = -1
    uid: int = 0
    gid: int = 0
    partition: str = ""


def read_inject(template: Template, where: str) -> tuple[tuple[int | None, Injected], ...]:
    """Return what is to be written, each with the disk's number (None for the disk that the machine boots from)."""
    found: list[tuple[int | None, Injected]] = []
    for index, vector in enumerate(template.vectors("INJECT")):
        here = f"{where}: INJECT {index}"
        number = vector.get("DISK", "").strip()
        disk = whole(number) if number else None
        if number and disk is None:
            raise InvalidValue(f"{here}: DISK = {number}", "it is no number of a disk", "They count from 0")
        entry = _read_entry(vector, here)
        if (disk, entry.partition, entry.path) in [(known, each.partition, each.path) for known, each in found]:
            raise Ambiguous(f"{here}: PATH = {entry.path}", "it is there twice", "Give each file one entry")
        found.append((disk, entry))
    read_inject_via(template, where)
    return tuple(found)


def read_inject_via(template: Template, where: str) -> str:
    word = template.get("INJECT_VIA").strip().lower()
    if word and word not in VIAS:
        raise InvalidValue(f"{where}: INJECT_VIA = {word}", "no such way", known_are(word, VIAS, "{}"))
    return word or VIAS[0]


def vectors_of(items: Any, where: str) -> list[dict[str, str]]:
    """Return the option `inject` of a machine as vectors of the attribute INJECT."""
    if not isinstance(items, (list, tuple)):
        raise InvalidValue(f"{where}: inject", f"it is a {type(items).__name__}", "Give a list of dicts")
    found = []
    for index, item in enumerate(items):
        here = f"{where}: inject {index}"
        check_keys(item, KEYS, here)
        vector = {}
        for key, value in item.items():
            if value is None:
                continue
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if is_number and key in ("owner", "group", "disk", "partition"):
                value = str(value)  # noqa: PLW2901
            if not isinstance(value, str):
                raise InvalidValue(
                    f"{here}: {key}", f"YAML read it as a {type(value).__name__}", 'Write it in quotes: mode: "0644"'
                )
            vector[key.upper()] = value
        found.append(vector)
    return found


def _read_entry(vector: Mapping[str, str], where: str) -> Injected:
    path = vector.get("PATH", "")
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise InvalidValue(
            f"{where}: PATH = {path!r}", "it is not an absolute path without . and ..", "Write it as /etc/motd"
        )
    if ("CONTENT" in vector) == bool(vector.get("SRC")):
        raise InvalidValue(
            f"{where}: {path}",
            "it has both CONTENT and SRC" if vector.get("SRC") else "it has neither CONTENT nor SRC",
            "Give what it is to hold, or the path of a file on the front-end",
        )
    if len(vector.get("CONTENT", "").encode("utf-8", "replace")) > LARGEST:
        raise InvalidValue(f"{where}: {path}", f"its CONTENT has more than {LARGEST} bytes", "Put it into a file: SRC")
    mode = vector.get("MODE", "").strip()
    if mode and not _MODE.fullmatch(mode):
        raise InvalidValue(f"{where}: MODE = {mode}", "it is no mode", "Write it in octal digits: 0644")
    return Injected(
        path,
        content=vector.get("CONTENT", ""),
        file=ContextFile(vector["SRC"], parts[-1]) if vector.get("SRC") else None,
        mode=int(mode, 8) if mode else -1,
        uid=_number(vector, "OWNER", where),
        gid=_number(vector, "GROUP", where),
        partition=_partition(vector.get("PARTITION", "").strip(), where),
    )


def _partition(text: str, where: str) -> str:
    number = whole(text)
    if number is not None:
        return str(number)
    name, equals, value = text.partition("=")
    if equals and name.upper() in NAMES and value:
        return f"{name.upper()}={value}"
    if not text or _VOLUME.fullmatch(text):
        return text
    raise InvalidValue(
        f"{where}: PARTITION = {text}",
        "it names no partition",
        f"Give its number, counted from 1, or {WHOLE_DISK} for a disk without partitions; "
        f"{', '.join(f'{name}=…' for name in NAMES)}; or a logical volume: /dev/GROUP/VOLUME",
    )


def _number(vector: Mapping[str, str], key: str, where: str) -> int:
    text = vector.get(key, "").strip()
    number = 0 if text in ("", "root") else whole(text)
    if number is None or number >= 1 << 32:
        raise InvalidValue(
            f"{where}: {key} = {text}", "the guest's names are not known here", "Give the number, or root"
        )
    return number
