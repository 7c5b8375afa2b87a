# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes the record of a machine in its directory (vm.json), and tells whose a machine's directory is."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import field

from ..dataclass import dataclass
from ..errors import ForeignObject, NebulaError, NotFound
from ..host import node_file
from ..host.files import read_limited, write_atomically
from ..model.dataclass_json import from_plain, json_value, to_plain
from ..model.installation_marks import MARK
from ..model.plan import PlannedVm, TaskOutcome
from ..model.whole_numbers import id_in
from ..storage.datastore_layout import vm_directory

RECORD = "vm.json"
CHECKPOINT = "checkpoint"
_MOST = (1 << 31) - 1
# A checkpoint while it is written: only its name says that the saved machine and its disks belong together.
PARTIAL = "checkpoint.partial"


@dataclass(frozen=True)
class Record:
    """Holds vm.json of a machine's directory: whose the machine is, and what was last done with it.
    generation: the last decision that was acted on.
    operated: the generation whose reboot, reset or recreation was done.
    definition, context: digests of what the machine has; they cover secrets, so this file is as closed as the
    deployment file.
    tasks: the outcomes of disk tasks that were done, as long as plans name them.
    started: for a machine that installs, the generation whose start was last begun; -1 if there was none.
    images: the node's copies of images that the machine rests on, by PlannedImage.local.
    closed: when the machine was last started here, its graphics had a password.
    devices: what the log last said of its disks, NICs and the like, by their names; empty where an earlier release
    said nothing.
    exact: the context is filled in as those of new machines are; no context of an earlier release was.
    waits: some of it changes at its next start: what names the run since which that is so; "" if nothing does.
    coming: the token of the move by which it comes here, until it has left its old host: its files are a copy.
    unchained, unchained_at: why what was written to its disks since a backup is not known any more, a sentence, and
    when that happened, in seconds since 1970; "" and 0 for never.
    chained: the places of backups that have one since then, by what their checkpoints' names begin with, each with the
    unchained_at of that."""

    catalog: str
    vm_id: int
    uuid: str
    generation: int = 0
    operated: int = 0
    definition: str = ""
    context: str = ""
    port: int = 0
    tasks: tuple[TaskOutcome, ...] = ()
    started: int = -1
    images: tuple[str, ...] = ()
    closed: bool = False
    devices: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    waits: str = ""
    coming: str = ""
    unchained: str = ""
    unchained_at: int = 0
    chained: Mapping[str, int] = field(default_factory=dict)


def is_left_behind(name: str) -> bool:
    """Return whether a killed run left this file before it had its own name: a file of write_atomically(), or of a
    disk that was being made, whose file system is made in a raw file beside it (storage.disk_creation.create_empty)."""
    return name.startswith(".") and name.endswith((".tmp", ".tmp.raw"))


def read_record(directory: str) -> Record | None:
    """Return the record; None if there is none, or only an empty one that a power cut left. Raise ForeignObject if it
    can't be read."""
    path = os.path.join(directory, RECORD)
    try:
        text = read_limited(path, node_file.LARGEST, follow=False).decode()
        record = from_plain(Record, json_value(text)) if text.strip() else None
        if record is not None and not all(
            -1 <= number <= _MOST for number in (record.generation, record.operated, record.started, record.port)
        ):
            raise ValueError("it has a number that nothing of it has")
        return record
    except NotFound:
        return None
    except (ValueError, NebulaError) as error:
        raise ForeignObject(
            f"file {path}", f"it can't be read: {error}", "Put back what it was, or move the directory away"
        ) from error


def images_in_use(root: str) -> set[str]:
    """Return the names of this node's copies of images that its machines rest on."""
    found: set[str] = set()
    place = os.path.dirname(vm_directory(root, 0))
    for name in os.listdir(place):
        if id_in(name) is not None:
            record = read_record(os.path.join(place, name))
            found.update(record.images if record is not None else ())
    return found


def foreign_directories(root: str, catalog: str) -> frozenset[int]:
    """Return the ids of machines whose directories hold something, but no mark of this catalog."""
    found = set()
    place = os.path.dirname(vm_directory(root, 0))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        # An id that no catalog gives is nobody's machine.
        for name in filter(re.compile(r"0|[1-9]\d{0,8}").fullmatch, os.listdir(place)):
            try:
                record = read_record(os.path.join(place, name))
                ours = record.catalog == catalog if record else not holds_unmarked(os.path.join(place, name))
            except (NebulaError, OSError):
                ours = False
            found |= set() if ours else {int(name)}
    return frozenset(found)


def holds_unmarked(directory: str) -> bool:
    return any(name != RECORD and not is_left_behind(name) for name in os.listdir(directory))


def write_record(directory: str, record: Record) -> None:
    """Replace vm.json atomically. It is synced, so that a power cut leaves the old record or the new one."""
    text = json.dumps(to_plain(record), indent=1, sort_keys=True) + "\n"
    write_atomically(os.path.join(directory, RECORD), text, mode=0o600)


def was_started(planned: PlannedVm, record: Record | None, state: str | None) -> bool:
    """Return whether a machine that installs was started by this very decision and has ended since.

    Any run carries out what is unfinished, even if nobody has recorded its outcome: the installer would run a
    second time, over what it has installed."""
    installs = planned.wanted == "RUNNING" and MARK in planned.vm.attributes
    return installs and state == "POWEROFF" and record is not None and record.started >= planned.generation
