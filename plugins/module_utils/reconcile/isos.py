# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the context ISOs of a list to what their items want on this host."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arguments import parse_json
from ..context import cloud_init_warnings, iso9660, nocloud_and_configdrive
from ..context.files_attribute import context_file
from ..context.variables import start_script
from ..dataclass import dataclass
from ..errors import ForeignObject, InvalidValue, MissingDependency, NebulaError, NotFound
from ..host.files import content_digest, explained, group_id, remove_file, user_id
from ..model.context import ContextFile
from ..model.instantiate import truncated_host_names
from ..model.template import Template
from ..model.whole_numbers import file_mode, whole
from ..sync import Item
from ..text import context_sh

KEYS = ("dest", "context", "files", "format", "owner", "group", "mode", "state")
# chown() takes the largest number for "leave it as it is".
_NO_ACCOUNT = 0xFFFFFFFF


@dataclass(frozen=True)
class Wanted:
    """Describes an ISO as it was asked for. owner, group: names, numbers, or None to leave them as they are."""

    dest: str
    variables: Mapping[str, str]
    files: Sequence[ContextFile]
    format: str
    mode: int
    owner: str | int | None
    group: str | int | None


def apply(item: Mapping[str, Any], check_mode: bool, warnings: list[str]) -> Item:
    """Carry the item out. Return it with its error, if any."""
    dest = str(item.get("dest") or "")
    try:
        if not dest.startswith("/"):
            raise InvalidValue(f"dest {dest!r}", "it is not an absolute path", "Name the ISO from / on")
        state = item.get("state") or "present"
        if state == "absent":
            return _absent(dest, check_mode)
        if state != "present":
            raise InvalidValue(f"ISO {dest}: state {state!r}", "no such state", "Known are present and absent")
        wanted = _wanted(dest, item)
        return _present(wanted, check_mode, warnings)
    except NebulaError as error:
        return Item(dest or "?", error=error, changed=False)


def refuse_twins(items: Iterable[Mapping[str, Any]]) -> None:
    """Raise InvalidValue if two items have one dest: the last would win, and each run would change it. An item without
    a dest is refused elsewhere."""
    seen: set[str] = set()
    for item in items:
        if not item.get("dest"):
            continue
        dest = os.path.normpath(str(item["dest"]))
        if dest in seen:
            raise InvalidValue(f"option isos: dest {dest}", "two ISOs have it", "Give each a file of its own")
        seen.add(dest)


def view(item: Item) -> dict[str, Any]:
    """Return an item as results show it."""
    after = item.after or {}
    return {"dest": item.name, "size": after.get("size"), "sha256": after.get("sha256"), "changed": item.is_changed}


def _wanted(dest: str, item: Mapping[str, Any]) -> Wanted:
    context = item.get("context")
    if isinstance(context, str):
        context = parse_json(context, "context")
    template = Template.from_mapping({"CONTEXT": {} if context is None else context}, f"ISO {dest}")
    if not template.vectors("CONTEXT"):
        raise InvalidValue(f"ISO {dest}: context", "it is not a dict", "Give variables and their values")
    format = str(item.get("format") or nocloud_and_configdrive.DEFAULT)
    nocloud_and_configdrive.format_of_name(format, f"ISO {dest}: format")
    variables = template.vector("CONTEXT")
    context_sh.refuse_names(variables, f"ISO {dest}: context")
    variables.update(start_script(variables))
    return Wanted(
        dest,
        variables,
        [_file(dest, file) for file in item.get("files") or ()],
        format,
        _mode(dest, item.get("mode")),
        _account(item.get("owner")),
        _account(item.get("group")),
    )


def _file(dest: str, file: Any) -> ContextFile:
    if isinstance(file, str):
        return context_file(file, attribute=f"ISO {dest}: files")
    if isinstance(file, Mapping) and set(file) in ({"src"}, {"src", "target"}):
        return context_file(str(file["src"]), str(file.get("target") or ""), f"ISO {dest}: files")
    raise InvalidValue(f"ISO {dest}: files", f"{file!r} is no file", "Give a path, or a dict with src and target")


def _mode(dest: str, mode: Any) -> int:
    if mode is None:
        return iso9660.MODE
    number = file_mode(mode, 0o777)
    if number is None:
        raise InvalidValue(
            f"ISO {dest}: mode {mode!r}", "it is no octal number up to 0777", 'Write it in quotes, as "0640"'
        )
    return number


def _account(name: Any) -> str | int | None:
    if name is None:
        return None
    number = whole(name)
    return str(name) if number is None or number >= _NO_ACCOUNT else number


def _present(wanted: Wanted, check_mode: bool, warnings: list[str]) -> Item:
    found = iso9660.what_is_at(wanted.dest)
    if found and not found.context:
        raise ForeignObject(
            f"ISO {wanted.dest}", "a file that is no context ISO is there", "Name another file, or remove that one"
        )
    # The labels of the other formats are cloud-init's, and many programs make such ISOs.
    if found and not found.ours and found.format != nocloud_and_configdrive.DEFAULT:
        raise ForeignObject(
            f"ISO {wanted.dest}",
            "what is there was not made by nebula.provision",
            "Name another file, or remove that one",
        )
    directory = os.path.dirname(wanted.dest)
    try:
        if not check_mode and not os.path.isdir(directory):
            raise NotFound(f"ISO {wanted.dest}", f"there is no directory {directory}", "Make it first")
        place = directory if os.path.isdir(directory) else None
        written = cloud_init_warnings.written_for_readers(wanted.format, wanted.variables)
        if found and written != wanted.variables:
            # An ISO as a former release wrote it stays while the same is asked for.
            with iso9660.build_iso(wanted.variables, wanted.files, place, format=wanted.format) as iso:
                if _is_there(wanted, iso):
                    return _unchanged(wanted, found, iso)
        with iso9660.build_iso(written, wanted.files, place, format=wanted.format) as iso:
            if found and _is_there(wanted, iso):
                return _unchanged(wanted, found, iso)
            warnings += [f"ISO {wanted.dest}: {text}" for text in cloud_init_warnings.warnings(wanted.format, written)]
            warnings += [f"ISO {wanted.dest}: {cut}" for cut in truncated_host_names.cuts_of_host_name(written)]
            before = _shown(wanted.dest, found.format) if found else None
            if not check_mode:
                iso.save(wanted.dest, wanted.mode, wanted.owner, wanted.group)
            entries = {entry.path: entry.size for entry in iso.entries if not entry.directory}
            after = _facts(wanted.format, iso.size, iso.sha256, wanted.mode, written, entries)
            return Item(wanted.dest, before, after, changed=True)
    except (MissingDependency, NotFound) as error:
        if not check_mode:
            raise
        # Earlier tasks of the same run may be about to bring it.
        warnings.append(f"In check mode, taken as about to come: {error}")
        return Item(wanted.dest, None, {"size": None, "sha256": None}, changed=True)


def _unchanged(wanted: Wanted, found: iso9660.IsoAtPlace, iso: iso9660.Iso) -> Item:
    same = {"size": found.size, "sha256": iso.sha256 if found.size == iso.size else iso.digest}
    return Item(wanted.dest, same, same, changed=False)


def _is_there(wanted: Wanted, iso: iso9660.Iso) -> bool:
    """Return whether the ISO that is wanted is there, with its owner and mode. An ISO without padding, as former
    releases made it, counts: the machine that has it may run."""
    with explained(wanted.dest):
        there = os.stat(wanted.dest)
        uid, gid = user_id(wanted.owner), group_id(wanted.group)
        return (
            stat.S_IMODE(there.st_mode) == wanted.mode
            and uid in (-1, there.st_uid)
            and gid in (-1, there.st_gid)
            and (iso.is_at(wanted.dest) or iso.is_unpadded_at(wanted.dest))
        )


def _absent(dest: str, check_mode: bool) -> Item:
    found = iso9660.what_is_at(dest)
    if found is None:
        return Item(dest, changed=False)
    if not found.ours:
        raise ForeignObject(f"ISO {dest}", "what is there was not made by nebula.provision", "Remove it by hand")
    before = {"size": found.size, "sha256": _sha256(dest)}
    if not check_mode:
        with explained(dest):
            remove_file(dest, sync=True)
    return Item(dest, before, None, changed=True)


def _shown(dest: str, format: str) -> dict[str, Any]:
    """Return what is there, for the diff: names and sizes, no values."""
    with explained(dest):
        there = os.stat(dest)
    try:
        variables, entries = iso9660.read_iso(dest)
    except NebulaError:
        variables, entries = {}, {}
    return _facts(format, there.st_size, _sha256(dest), stat.S_IMODE(there.st_mode), variables, entries)


def _facts(
    format: str, size: int, sha256: str, mode: int, variables: Mapping[str, str], files: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "format": format,
        "size": size,
        "sha256": sha256,
        "mode": f"{mode:04o}",
        "variables": {name: f"{len(value.encode())} bytes" for name, value in variables.items()},
        "files": {name: f"{length} bytes" for name, length in files.items()},
    }


def _sha256(path: str) -> str:
    with explained(path), Path(path).open("rb") as file:
        return content_digest(file)
