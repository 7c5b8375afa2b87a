# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds which backup is meant, by a machine's name, and by a backup's id or a time; whoever made the directory."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Sequence

from ..dataclass import dataclass
from ..errors import Ambiguous, Conflict, NebulaError, NotFound
from ..model.machine_backup import MachineBackup
from ..model.object_names import did_you_mean, nearest_word
from .backup_manifests import ID
from .backup_place import MachineDirectory, Place

LATEST = "latest"
LIST = "See which ones there are: -e nebula_machine_restore=list"
# Names that a message lists.
_LISTED = 20
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d)(?::?(\d\d))?Z?)?", re.ASCII)


@dataclass(frozen=True)
class OwnMachine:
    """Says which machine of the catalog has the name that was asked for."""

    vm_id: int
    uuid: str


@dataclass(frozen=True)
class KnownMachine:
    """Describes a machine of which there are backups, the oldest first.
    unreadable: why further ones can't be used.
    by_key: they were read with the user's key."""

    vm_id: int
    catalog: str
    backups: Sequence[MachineBackup]
    unreadable: Sequence[NebulaError]
    by_key: bool = False

    @property
    def place(self) -> str:
        """Return the name of its directory, by which it is known where several machines had one name."""
        return f"{self.vm_id}-{self.catalog}"

    @property
    def name(self) -> str:
        """Return what it was called last. Where the key has sealed any, the others have no say in it."""
        sealed = [each for each in self.backups if each.seal] if self.by_key else []
        return (sealed or self.backups)[-1].name if self.backups else ""


def open_place(directory: str, catalog: str, root: str) -> Place:
    """Return a directory of backups that is only read."""
    return Place.open(directory, catalog, for_writing=False, root=root, in_datastore=True)


def machines(place: Place, key: str = "") -> Iterator[KnownMachine]:
    """Yield all machines of which there are backups. One of whose directory nothing can be read has none.
    key: the user's. What it has not sealed is unreadable where it says that it is encrypted."""
    for vm_id, catalog in place.machines():
        try:
            with place.machine(vm_id, catalog, key) as held:
                yield KnownMachine(vm_id, catalog, held.backups(), tuple(held.unreadable), bool(key))
        except NebulaError as error:
            yield KnownMachine(vm_id, catalog, (), (error,), bool(key))


def machine_of(place: Place, name: str, key: str = "", own: OwnMachine | None = None) -> KnownMachine:
    """Return the machine that was called so; or whose directory is, where several were. Raise an error where manifests,
    which strangers may have written, leave open which is meant.
    own: the machine that is called so in the place's own catalog. Then none but its own backups are meant."""
    known = list(machines(place, key))
    for each in known:
        if each.place == name:
            return each
    same = [each for each in known if each.name == name]
    asked = f"backups of machine {name} in {place.directory}"
    remedy = "Give one of these in the place of its name, once you know that it is the right one"
    names = ", ".join(each.place for each in same)
    if own is not None:
        for each in known:
            if (each.vm_id, each.catalog) == (own.vm_id, place.catalog):
                return each
        if same:
            found = f"there are none of machine {own.vm_id}, which is called so here; of others that say so: {names}"
            raise NotFound(asked, found, remedy)
    if len(same) > 1:
        raise Ambiguous(asked, f"several machines were called so: {names}", remedy)
    if same:
        return same[0]
    if key:
        _raise_of_key(place, name, known)
    there = sorted({each.name for each in known if each.name})
    names = ", ".join(there[:_LISTED]) + (f" and {len(there) - _LISTED} more" if len(there) > _LISTED else "")
    found = f"there are none of it; there are of {names}" if names else "there are none"
    raise NotFound(asked, found, did_you_mean(nearest_word(name, there)) + LIST)


def _raise_of_key(place: Place, name: str, known: Sequence[KnownMachine]) -> None:
    """Raise why the key does not open what says, without it, that it is of a machine of that name."""
    claiming = {each.place for each in machines(place) if name in {backup.name for backup in each.backups}}
    for each in known:
        if each.place in claiming and each.unreadable:
            raise each.unreadable[-1]


def require_meant(backup: MachineBackup, name: str, own: OwnMachine | None = None) -> None:
    """Raise Conflict for a backup of another machine than the one that was asked for.
    name: as machine_of() has it. own: as there."""
    if name == f"{backup.vm_id}-{backup.catalog}":
        return
    if own is not None:
        require_uuid(backup, own.uuid, name)
    elif backup.name != name:
        raise Conflict(
            f"backup {backup.id} of machine {name}",
            f"it is of a machine that was called {backup.name}",
            f"If that is the one, give {backup.vm_id}-{backup.catalog} in the place of its name",
        )


def require_uuid(backup: MachineBackup, uuid: str, name: str) -> None:
    """Raise Conflict for a backup of a machine that only has the number of this one. Ours always say whose they are."""
    if backup.uuid and backup.uuid != uuid:
        raise Conflict(
            f"backup {backup.id} of machine {name}",
            f"it is of machine {backup.uuid}, and this one is {uuid}",
            "Restore it as an image or a new machine (nebula_machine_restore_image, nebula_machine_restore_as), with "
            f"vm={backup.vm_id}-{backup.catalog}",
        )


def chosen(held: MachineDirectory, wanted: str) -> MachineBackup:
    """Return the backup that is meant. wanted: its id, LATEST, or a time: then the last one that was made until then.
    Raise the error of one that can't be used: none is taken in its place."""
    # What it was called last, where that can be read.
    name = next((each.name for each in reversed(held.backups())), "") or str(held.vm_id)
    asked = f"backup {wanted[:80]} of machine {name}"
    if re.fullmatch(ID, wanted):
        is_unreadable = any(wanted in error.asked or wanted in error.found for error in held.unreadable)
        if not is_unreadable and wanted not in {each.id for each in held.backups()}:
            raise NotFound(asked, f"there is none in {held.directory}", LIST)
        return held.get(wanted)
    moment = None if wanted in ("", LATEST) else _moment(wanted)
    if moment is None and wanted not in ("", LATEST):
        raise NotFound(
            asked,
            "it is neither the id of a backup nor a time",
            "Give an id, latest, or a time as 2026-11-30T04:00:00Z",
        )
    until = [each for each in held.backups() if moment is None or each.time <= moment]
    for error in held.unreadable:
        id = re.search(ID, os.path.basename(error.asked.split("file ")[0]))
        is_later = id is None or not until or id[0][:16] >= until[-1].id[:16]
        if is_later and (moment is None or id is None or id[0][:16] <= _text_of(moment)):
            raise error
    if not until:
        found = "there is none" if moment is None else "there is none from then or before"
        raise NotFound(asked, f"{found} in {held.directory}", LIST)
    held.refuse_unsealed(until[-1])
    return until[-1]


def _text_of(moment: int) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def _moment(text: str) -> int | None:
    """Return the last second that is meant; None for what is no time."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second = (int(each) if each is not None else None for each in parts.groups())
    last = (23 if hour is None else hour, 59 if minute is None else minute, 59 if second is None else second)
    try:
        when = datetime.datetime(year or 0, month or 0, day or 0, *last, tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    return int(when.timestamp())
