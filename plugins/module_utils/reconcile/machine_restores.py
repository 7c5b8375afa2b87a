# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides how machines are restored from backups: in their places, as images, or as new machines. Whatever stands
against it is found before anything is touched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..arguments import parse_json
from ..dataclass import replace
from ..engines.base import Engine, named
from ..engines.ports import VmRecord
from ..engines.registry import open_engine
from ..errors import Conflict, InUse, InvalidValue, NebulaError, NotFound, Unsupported, WrongState
from ..host.files import make_directory, remove_file, settle
from ..model.dataclass_json import to_plain
from ..model.datastore import DatastoreType
from ..model.disk import TAR
from ..model.image import Image
from ..model.installation_marks import MARK
from ..model.machine_backup import FRONTEND, IN_DATASTORE, NVRAM, QCOW2, TPM, BackupPassage, MachineBackup
from ..model.machine_backup import TAR as STORED_TAR
from ..model.machine_restore import MachineToRestore
from ..model.meeting import leads_to_itself, read_places
from ..model.move import MeetingPlace
from ..model.object_names import check_name, did_you_mean, nearest_word
from ..model.restored_template import OfSite, RestoredTemplate, Substitutes, is_wanted, restored, template_of
from ..model.stated_secrets import complete, of_item
from ..model.states import ImageType
from ..model.template import Template
from ..model.template_secrets import join
from ..model.vm import Vm
from ..storage import (
    backup_files,
    backup_manifests,
    backup_search,
    backup_secrets,
    restored_disks,
    root_backups,
    uploads,
)
from ..storage.backup_place import MachineDirectory, Place
from ..storage.backup_search import LIST, KnownMachine, OwnMachine
from ..storage.datastore_layout import MIB, image_directory
from ..sync import Result
from ..text.variable_substitution import expressions
from . import named_machines

# The attribute of images and templates that says of which backup they are.
ORIGIN = "RESTORED_FROM"
# Front-end and host act in one task.
_HOSTS_OF_A_PASSAGE = 2
_UNCHANGED = ". Nothing was changed"


def listed(params: Mapping[str, Any]) -> Result:
    """Return the backups in a directory, the newest of each machine first. name: names and patterns of machines, ""
    for all. Raise NotFound for one that names none, unless it may be on another host, or be what can't be read."""
    try:
        place = backup_search.open_place(_directory(params), "", params["root"])
    except NotFound:
        # A node may never have had a machine.
        if params["at"] == FRONTEND or params["backups_datastore"]:
            raise
        return Result(payload={"backups": []})
    known = list(backup_search.machines(place))
    # Of what can't be read nobody knows which machine's it is.
    nameless = [each for each in known if not each.backups and each.unreadable]
    meant, problem = _meant(known, params["name"] or "", place)
    elsewhere = params["at"] != FRONTEND and not params["backups_datastore"]
    if problem and not nameless and not elsewhere:
        raise NotFound("the backups to be shown", problem)
    shown = [each for each in known if each in meant or each in nameless]
    rows = [_row(each, backup) for each in shown for backup in reversed(each.backups)]
    warnings = [f"backup: {error}" for each in shown for error in each.unreadable]
    if problem and not elsewhere:
        warnings.insert(0, f"{problem}. It may be of those that can't be read")
    return Result(payload={"backups": rows}, warnings=warnings)


def _meant(known: Sequence[KnownMachine], name: str, place: Place) -> tuple[Sequence[KnownMachine], str]:
    """Return the machines that are named, and what is wrong with the name, or ""."""
    if not name:
        return known, ""
    names = sorted({each.name for each in known if each.name})
    missing = f"there are no backups of a machine of that name in {place.directory}"
    found, problem = named_machines.named(names, name, [each.place for each in known], missing)
    return [each for each in known if each.name in found or each.place in found], problem


def _row(machine: KnownMachine, backup: MachineBackup) -> dict[str, Any]:
    stored = sum(file.size for file in backup_manifests.files_of(backup))
    return {
        "machine": backup.name,
        "vm_id": backup.vm_id,
        "id": backup.id,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(backup.time)),
        "kind": backup.kind,
        "size": -(-stored // MIB),
        "disks": ", ".join(f"{disk.disk_id}: {-(-disk.size // MIB)}" for disk in backup.disks),
        "consistency": backup.consistency,
        "rests_on": backup.parent,
        "encrypted": backup.encrypted,
        "host": backup.host,
        "place": machine.place,
    }


def planned(params: Mapping[str, Any]) -> Result:
    """Return what is to be done: what the machine's host is asked for, or lists for roles image, template and vm."""
    _refuse_two_ways(params)
    params = {**params, "directory": _directory(params)}
    if params["backups_datastore"]:
        params["at"] = FRONTEND
    way = _as_machine if params["new_name"] else _as_image if params["image"] else _in_place
    result = way(params)
    result.payload["directory"] = params["directory"]
    return result


def _directory(params: Mapping[str, Any]) -> str:
    """Return where the backups are."""
    name = params["backups_datastore"]
    if not name:
        return str(params["directory"])
    with contextlib.closing(open_engine(params, check_mode=True)) as engine, engine.session():
        datastore = engine.datastores.info(name)
    if datastore.type is not DatastoreType.IMAGE or datastore.id is None:
        raise InvalidValue(
            f"nebula_machine_backup_datastore {name}",
            f"it is a datastore of type {datastore.type.name}",
            "Name one of type IMAGE",
        )
    return os.path.join(image_directory(params["root"], datastore.id), IN_DATASTORE)


def _refuse_two_ways(params: Mapping[str, Any]) -> None:
    if params["new_name"] and params["image"]:
        raise InvalidValue(
            "nebula_machine_restore_as and nebula_machine_restore_image",
            "a machine is restored in one way at a time",
            "Give one of them",
        )
    if not params["name"]:
        raise InvalidValue("the machine to be restored", "it is not said which", "Give its name: -e vm=web-0")


# -- in place ----------------------------------------------------------------------------------------------------------


def _in_place(params: Mapping[str, Any]) -> Result:
    name = params["name"]
    asked = f"virtual machine {name}: restoring its disks"
    with contextlib.closing(open_engine(params, check_mode=True)) as engine, engine.session():
        record = next(iter(engine.vms.pool(names=[name])), None)
        if record is None or record.id is None:
            raise _not_here(params, engine, asked)
        vm = engine.vms.described([record.id])[record.id]
        _require_at_rest(engine, record, vm, asked)
        catalog = engine.catalog()
    request = MachineToRestore(
        catalog,
        _bare(vm),
        record.generation,
        params["directory"],
        params["backup"],
        None if params["disks"] is None else tuple(params["disks"]),
    )
    requests = {record.host: request}
    if params["at"] == FRONTEND:
        # What the host is going to find is looked at now, before anything else is done.
        place = backup_search.open_place(params["directory"], catalog, params["root"])
        if (record.id, catalog) not in place.machines():
            raise _of_others(place, name)
        with place.machine(record.id, catalog, params["key"] or "") as held:
            backup = backup_search.chosen(held, params["backup"])
            backup_search.require_uuid(backup, vm.uuid, name)
            if params["frontend"] and record.host != params["frontend"]:
                requests = _passage(params, request, record.host, held, backup, asked)
    shown = {host: json.dumps(to_plain(each)) for host, each in requests.items()}
    # The key itself Ansible would mask.
    keepers = [host for host, each in requests.items() if each.directory]
    return Result(payload={"requests": shown, "need_key": keepers, "host": record.host, "way": "place"})


def _passage(
    params: Mapping[str, Any],
    request: MachineToRestore,
    host: str,
    held: MachineDirectory,
    backup: MachineBackup,
    asked: str,
) -> dict[str, MachineToRestore]:
    """Return what the front-end and the machine's host are asked for, where the backup is on the one and the disks on
    the other. The host gets neither the key nor what the machine's template was."""
    from ..host.run_certificates import key_pair

    frontend = params["frontend"]
    place = _meeting_place(params, host, asked)
    wanted = [disk for disk in backup.disks if request.disks is None or disk.disk_id in request.disks]
    found = [restored_disks.disk_of(held, backup, disk.disk_id) for disk in wanted]
    room = {str(each.disk.disk_id): restored_disks.measured(each, held.key) for each in found}
    token, (our_key, ours), (their_key, theirs) = secrets.token_hex(16), *(key_pair("nebula restore") for _side in "ab")
    receives = BackupPassage(token, True, frontend, "", place.port, ours, theirs, their_key)
    brings = BackupPassage(token, False, host, place.address, place.port, theirs, ours, our_key)
    bare = replace(backup, template={}, secrets=(), secrets_file=None, by_hand=(), seal="")
    theirs_part = replace(request, directory="", backup=backup.id, passage=receives, brought=bare, room=room)
    return {frontend: replace(request, backup=backup.id, passage=brings), host: theirs_part}


def _meeting_place(params: Mapping[str, Any], host: str, asked: str) -> MeetingPlace:
    """Return where the front-end meets the host. Raise InvalidValue where they can't act in one task."""
    frontend, found = params["frontend"], f"the backups are on the front-end {params['frontend']}"
    if params["forks"] < _HOSTS_OF_A_PASSAGE:
        raise InvalidValue(
            asked,
            f"{found}, it and host {host} have to act at the same time, and Ansible acts on {params['forks']} host at "
            "a time",
            "Set forks to 2 or more (ansible-playbook --forks 2)",
        )
    if not params["frontend_acts"]:
        raise InvalidValue(
            asked, f"{found}, which is not part of this run", f"Name {frontend} in --limit, too, or see that it answers"
        )
    places = read_places(parse_json(params["meeting_places"], "meeting_places") if params["meeting_places"] else {})
    place = places.get(host)
    if place is None or leads_to_itself(place.address):
        raise InvalidValue(
            asked,
            f"{found}, and nothing says where it is to meet host {host}",
            f"Set nebula_move_address of {host} to an address by which the front-end reaches it",
        )
    return place


def _of_others(place: Place, name: str) -> NotFound:
    """Return the error for a machine of which there are no backups."""
    others = [each.place for each in backup_search.machines(place) if each.name == name]
    asked = f"backups of machine {name} in {place.directory}"
    if not others:
        return NotFound(asked, "there are none of it", LIST)
    return NotFound(
        asked,
        f"there are none of this machine; of others that were called so: {', '.join(others)}",
        "What another machine had is restored as an image or as a new machine (nebula_machine_restore_image, "
        "nebula_machine_restore_as), with one of these names as vm",
    )


def _require_at_rest(engine: Engine, record: VmRecord, vm: Vm, asked: str) -> None:
    if record.moving:
        raise InUse(asked, f"it moves to host {record.moving}", "Let the move end: run playbook nebula.provision.site")
    installing = {image.name for image in engine.images.pool() if image.unfinished}
    if vm.attributes.get(MARK, "") in installing:
        raise InUse(asked, f"image {vm.attributes[MARK]} is being installed in it", "Wait for the installation to end")
    if record.runs_elsewhere:
        raise InUse(asked, record.runs_elsewhere)
    if record.state == "SUSPENDED":
        raise WrongState(
            asked,
            "it is SUSPENDED, and what is in its memory belongs to the disks that it has",
            "Start it and power it off first",
        )
    if record.state == "RUNNING" or record.wanted == "RUNNING":
        raise WrongState(
            asked,
            f"it is {record.state}, and is to run",
            f"Power it off first: playbook nebula.provision.machine with -e vm={record.name} -e do=stop",
        )
    if record.state != "POWEROFF" or not record.settled or record.recreates:
        raise WrongState(
            asked,
            f"it is {record.state}" + ("" if record.settled else ", and what was decided about it is not done yet"),
            "Run playbook nebula.provision.site first",
        )


def _not_here(params: Mapping[str, Any], engine: Engine, asked: str) -> NebulaError:
    """Return the error for a machine that the catalog does not have."""
    name = params["name"]
    names = [record.name for record in engine.vms.pool()]
    if several := _several(name, names, asked):
        return several
    known: list[KnownMachine] = []
    if params["at"] == FRONTEND:
        with contextlib.suppress(NotFound):
            place = backup_search.open_place(params["directory"], engine.catalog(), params["root"])
            known = list(backup_search.machines(place, params["key"] or ""))
    found = "the catalog has no machine of that name"
    if any(name in (each.name, each.place) for each in known):
        remedy = "Restore it as a new one: nebula_machine_restore_as, the name that it is to have"
        return NotFound(asked, f"{found}, and there are backups of it", remedy)
    if params["at"] == FRONTEND:
        found += ", and there are no backups of one"
    near = nearest_word(name, [*names, *(each.name for each in known if each.name)])
    return NotFound(asked, found, did_you_mean(near) + LIST)


def _several(name: str, names: Sequence[str], asked: str) -> InvalidValue | None:
    """Return the error for a pattern, or a list, in the place of a machine's name; None for what is none.
    names: of the machines that there are"""
    if name in names or not named_machines.is_pattern(name):
        return None
    found = named_machines.named(names, name)[0][: named_machines.LISTED]
    which = f"this names {', '.join(found)}" if found else "this is not the name of one"
    return InvalidValue(
        asked,
        f"exactly one machine is restored at a time, and {which}",
        f"Give one name: -e vm={(found or ['NAME'])[0]}",
    )


def _bare(vm: Vm) -> Vm:
    """Return what a host has to know of the machine: neither its context, nor its console's password."""
    graphics = replace(vm.graphics, password="") if vm.graphics is not None else None
    context = replace(vm.context, variables={}) if vm.context is not None else None
    disks = tuple(replace(disk, inject=()) for disk in vm.disks)
    return replace(vm, graphics=graphics, context=context, disks=disks)


# -- as images ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _chosen(params: Mapping[str, Any], engine: Engine) -> Iterator[tuple[MachineDirectory, MachineBackup]]:
    """Yield the backup that is meant, in the directory that holds it."""
    if params["at"] != FRONTEND:
        raise Unsupported(
            "restoring as an image or a new machine",
            "images are on the front-end, and the backups on another host",
            "Bring the directory to the front-end, or mount it there",
        )
    place = backup_search.open_place(params["directory"], engine.catalog(), params["root"])
    key, name = params["key"] or "", params["name"]
    if named_machines.is_pattern(name):
        names = [each.name for each in backup_search.machines(place, key) if each.name]
        in_catalog = [record.name for record in engine.vms.pool()]
        error = _several(name, list(dict.fromkeys([*names, *in_catalog])), f"backups of machine {name}")
        if error is not None:
            raise error
    record = next(iter(engine.vms.pool(names=[name])), None)
    own = None if record is None or record.id is None else OwnMachine(record.id, record.uuid)
    machine = backup_search.machine_of(place, name, key, own)
    with place.machine(machine.vm_id, machine.catalog, key) as held:
        backup = backup_search.chosen(held, params["backup"])
        backup_search.require_meant(backup, name, own)
        yield held, backup


def _as_image(params: Mapping[str, Any]) -> Result:
    name = check_name("image", params["image"])
    with (
        contextlib.closing(open_engine(params, check_mode=True)) as engine,
        engine.session(),
        _chosen(params, engine) as (held, backup),
    ):
        own = [disk.disk_id for disk in backup.disks]
        ids = params["disks"] if params["disks"] is not None else own
        if len(ids) != 1:
            raise InvalidValue(
                f"image {name} of backup {backup.id}",
                f"one disk becomes one image, and these are disks {', '.join(map(str, ids)) or 'none'}",
                "Name one of them: nebula_machine_restore_disks: [0]",
            )
        kind = params["image_type"] or ("OS" if ids[0] == min(own, default=0) else "")
        images = [_image(params, engine, held, backup, ids[0], name, kind, bool(params["persistent"]))]
        notes = _in_the_clear(backup, {ids[0]: name})
    return Result(payload={"way": "image", "images": images, "backup": backup.id, "host": "", "notes": notes})


def _in_the_clear(backup: MachineBackup, images: Mapping[int, str]) -> list[str]:
    """Return a sentence for each encrypted disk that becomes an image, which is not. images: their names, by disk id"""
    return [
        f"disk {disk.disk_id} of {backup.name} was encrypted, and image {images[disk.disk_id]} is not: whoever can "
        "read the datastore can read it"
        for disk in backup.disks
        if disk.luks and disk.disk_id in images
    ]


def _image(
    params: Mapping[str, Any],
    engine: Engine,
    held: MachineDirectory,
    backup: MachineBackup,
    disk_id: int,
    name: str,
    kind: str,
    persistent: bool,
) -> dict[str, Any]:
    """Return what is to be an image: the item of a list of images, with the disk that it is of."""
    found = restored_disks.disk_of(held, backup, disk_id)
    origin = f"{_origin(backup)} {disk_id}"
    there: Image | None = named(engine.images.info, name)
    if there is not None and there.attributes.get(ORIGIN) != origin:
        raise Conflict(f"image {name} of {found.what}", "the catalog has an image of that name", "Give another name")
    disk = found.disk
    item: dict[str, Any] = {"name": name, "attributes": {ORIGIN: origin}, "type": kind or "DATABLOCK"}
    if params["datastore"]:
        item["datastore"] = params["datastore"]
    if disk.stored == STORED_TAR:
        item.update(format=TAR, type="OS")
    else:
        item.update(format=disk.format, persistent=persistent)
    is_plain_root = disk.stored == STORED_TAR and not disk.file.name.endswith(root_backups.ENCRYPTED)
    if len(found.chain) == 1 and (is_plain_root or (disk.stored == QCOW2 and disk.format == QCOW2)):
        # It can be stored as it is.
        item.update(path=found.chain[0].path, remote_src=True, checksum=f"sha256:{disk.file.sha256}")
    place = {"vm_id": backup.vm_id, "catalog": backup.catalog, "backup": backup.id}
    size = disk.file.holds or disk.file.size if disk.stored == STORED_TAR else disk.size
    return {"item": item, "disk": disk_id, "size": -(-size // MIB), **place}


def _origin(backup: MachineBackup) -> str:
    return f"{backup.vm_id}-{backup.catalog} {backup.id}"


def imported(
    params: Mapping[str, Any],
    store: Callable[[Sequence[Mapping[str, Any]], Mapping[str, str]], Result],
    check_mode: bool,
) -> Result:
    """Make disks of a backup that stand alone, where images are stored, and have them stored as images.
    store: does that, of items of a list of images and, by name, of uploads that stand for their paths."""
    items, use, made = [], {}, []
    foreseen: dict[str, int] = {}
    try:
        for each in parse_json(params["images"] or "[]", "images"):
            item = dict(each["item"])
            if "path" not in item and check_mode and not _is_stored(params, item):
                # Nothing is made that could be looked at. A path that is to be sent is not looked for.
                item["path"] = os.path.join(params["directory"], each["backup"])
                foreseen[item["name"]] = each["size"]
                if item["format"] != TAR:
                    item["size"] = each["size"]
            elif "path" not in item:
                parts = [each["vm_id"], each["catalog"], each["backup"], each["disk"], item["name"]]
                identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
                item["path"] = path = uploads.path_of(image_directory(params["root"]), identity)
                use[item["name"]] = identity
                if not _is_stored(params, item):
                    made.append(path)
                    _flatten(params, each, path)
            items.append(item)
        result = store(items, use)
        for view in result.payload.get("images", []):
            view["size"] = foreseen.get(view["name"], view.get("size"))
        return result
    finally:
        for path in made:
            remove_file(path)


def _is_stored(params: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Return whether an earlier run has stored the image."""
    with contextlib.closing(open_engine(params, check_mode=True)) as engine, engine.session():
        there = named(engine.images.info, item["name"])
    return there is not None and there.attributes.get(ORIGIN) == item["attributes"][ORIGIN] and bool(there.sha256)


def _flatten(params: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> None:
    key = params["key"] or ""
    place = backup_search.open_place(params["directory"], wanted["catalog"], params["root"])
    with place.machine(wanted["vm_id"], wanted["catalog"], key) as held:
        found = restored_disks.disk_of(held, held.get(wanted["backup"]), wanted["disk"])
        make_directory(os.path.dirname(path), 0o711)
        remove_file(path)
        if found.disk.stored == STORED_TAR:
            root_backups.write_archive(held.directory, found.disk.file, path, found.what, key)
        else:
            restored_disks.require_room([(path, found)], key, found.what)
            restored_disks.make(found, path, found.disk.format, key)
        settle(path)


# -- as a new machine --------------------------------------------------------------------------------------------------


def _as_machine(params: Mapping[str, Any]) -> Result:
    name = check_name("VM", params["new_name"])
    if params["disks"] is not None:
        raise InvalidValue("nebula_machine_restore_disks", "a new machine has all disks of the backup", "Leave it out")
    with (
        contextlib.closing(open_engine(params, check_mode=True)) as engine,
        engine.session(),
        _chosen(params, engine) as (held, backup),
    ):
        asked = f"backup {backup.id} of {backup.name} as machine {name}"
        # All of it is told at once.
        errors = _taken(engine, name, backup, asked)
        hosts = {host.name for host in engine.hosts.pool()}
        if params["new_host"] and params["new_host"] not in hosts:
            remedy = f"Has {', '.join(sorted(hosts))}"
            errors.append(NotFound(f"{asked}: host {params['new_host']}", "the catalog has none", remedy))
        images = []
        for number, disk in enumerate(sorted(backup.disks, key=lambda disk: disk.disk_id)):
            image = f"{name}-disk-{disk.disk_id}"
            try:
                images.append(_image(params, engine, held, backup, disk.disk_id, image, "" if number else "OS", False))
            except Conflict as error:
                errors.append(error)
        if not backup.disks:
            raise Unsupported(asked, "it holds no disk", "Take another one")
        of_images = {disk.disk_id: f"{name}-disk-{disk.disk_id}" for disk in backup.disks}
        template, warnings = _template(params, engine, held, backup, of_images, asked, errors)
        _refuse(errors, asked)
    item: dict[str, Any] = {"name": name, "template": name, "state": params["new_state"]}
    if params["new_host"]:
        item["host"] = params["new_host"]
    mapping = {**template.to_mapping(), ORIGIN: _origin(backup)}
    payload = {
        "way": "machine",
        "images": images,
        "templates": [{"name": name, "template": mapping}],
        "vms": [item],
        "backup": backup.id,
        "host": "",
        "notes": [*warnings, *_in_the_clear(backup, of_images), *_left_behind(backup, asked)],
    }
    return Result(payload=payload)


def _left_behind(backup: MachineBackup, asked: str) -> list[str]:
    """Return a sentence if the backup has what belongs to the machine that it is of, and to no other."""
    names = {NVRAM: "the variables of UEFI", TPM: "the state of its TPM"}
    found = [names.get(each, each) for each in backup.files]
    return [f"{asked}: it begins anew with {' and '.join(found)}, which the backup has"] if found else []


def _template(
    params: Mapping[str, Any],
    engine: Engine,
    held: MachineDirectory,
    backup: MachineBackup,
    images: Mapping[int, str],
    asked: str,
    errors: list[NebulaError],
) -> tuple[Template, list[str]]:
    """Return the template of the new machine, and warnings. errors: gets what the template lacks."""
    template = template_of(backup)
    needed = [secret for secret in backup.secrets if is_wanted(secret)]
    key = params["key"] or ""
    if needed:
        given = parse_json(params["secrets"], "secrets") if params["secrets"] else {}
        if not isinstance(given, Mapping):
            raise InvalidValue("nebula_machine_restore_secrets", "it is no dict", "Give {NAME: value}")
        own = _secrets_of(held, backup, asked) if key else {}
        item = parse_json(params["item"], "item") if params["item"] else None
        stated = {str(name).upper(): str(value) for name, value in given.items()}
        try:
            template = join(template, complete(needed, stated, [own, of_item(item)], asked))
        except InvalidValue as error:
            errors.append(error)
    disks = [(disk, images[disk.disk_id]) for disk in sorted(backup.disks, key=lambda disk: disk.disk_id)]
    site = OfSite(
        frozenset(network.name for network in engine.networks.pool()),
        frozenset(image.name for image in engine.images.pool() if image.type is ImageType.CDROM),
        {group.id: group.name for group in engine.security_groups.pool() if group.id is not None},
    )
    substitutes = Substitutes(
        _texts(params["networks"]),
        _texts(params["security_groups"]),
        believed=bool(key and backup.seal),
        own=backup.catalog == engine.catalog(),
    )
    made = restored(template, disks, backup.name, site, substitutes, _of_networks)
    errors += _without_substitutes(made, site, asked)
    warnings = []
    if made.left_out:
        warnings.append(f"{asked}: what does not come from a backup was left out: {', '.join(made.left_out)}")
    return made.template, warnings


def _texts(given: Mapping[Any, Any] | None) -> dict[str, str]:
    return {str(old): str(new) for old, new in (given or {}).items()}


def _of_networks(text: str) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in expressions(text) if each.name == "NETWORK" and each.is_vector]


def _refuse(errors: Sequence[NebulaError], asked: str) -> None:
    """Raise the error, or one of the first's kind that tells all of them."""
    if len(errors) < 2:
        for error in errors:
            raise error
        return
    stated = []
    for number, error in enumerate(errors, 1):
        where = "" if error.asked == asked else f"{error.asked}: "
        stated.append(f"({number}) {where}{error.found}. {error.remedy.removesuffix(_UNCHANGED)}")
    raise type(errors[0])(
        asked, f"{len(errors)} things stand against it: {'; '.join(stated)}", _UNCHANGED.removeprefix(". ")
    )


def _without_substitutes(made: RestoredTemplate, site: OfSite, asked: str) -> Iterator[NebulaError]:
    """Yield the errors where nothing of here stands for networks and security groups that the backup names."""
    if made.missing:
        shown = ", ".join(each or "(by its id)" for each in made.missing)
        yield NotFound(
            asked,
            f"its NICs are in networks that are not here: {shown}; there are "
            + (", ".join(sorted(site.networks)) or "none"),
            "Say which networks of here stand for them: nebula_machine_restore_networks: {"
            + ", ".join(f"{each or 'NAME'}: …" for each in made.missing)
            + "}. Nothing was changed",
        )
    if made.unnamed:
        yield InvalidValue(
            asked,
            f"no key that was given has sealed it, and it puts NICs into networks of here: {', '.join(made.unnamed)}",
            "If it is to be there, say so: nebula_machine_restore_networks: {"
            + ", ".join(f"{each}: {each}" for each in made.unnamed)
            + "}; or give the key that it was made with (nebula_machine_backup_key). Nothing was changed",
        )
    if made.groups:
        yield NotFound(
            asked,
            f"its NICs have security groups for which none of here is named: {', '.join(made.groups)}; there are "
            + ", ".join(sorted(site.groups.values())),
            "Say which groups of here stand for them: nebula_machine_restore_security_groups: {"
            + ", ".join(f"{each}: …" for each in made.groups)
            + "}. Nothing was changed",
        )


def _secrets_of(held: MachineDirectory, backup: MachineBackup, asked: str) -> dict[str, str]:
    file = backup.secrets_file
    if file is None:
        return {}
    backup_files.refuse_altered_file(held.path(file.name), file.size, file.sha256, f"{asked}: secrets")
    return backup_secrets.read_secrets(held.directory, file.name, held.key, f"{asked}: secrets")


def _taken(engine: Engine, name: str, backup: MachineBackup, asked: str) -> list[NebulaError]:
    """Return the errors of a machine and a template of that name that this very restore has not made."""
    template = named(engine.templates.info, name)
    is_ours = template is not None and template.template.get(ORIGIN) == _origin(backup)
    found = []
    if template is not None and not is_ours:
        found.append("template")
    if engine.vms.pool(names=[name]) and not is_ours:
        found.append("machine")
    if not found:
        return []
    kinds = " and a ".join(found)
    return [Conflict(asked, f"the catalog has a {kinds} of that name", "Give another name (nebula_machine_restore_as)")]
