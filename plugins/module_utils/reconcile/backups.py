# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the catalog to a backup, and makes it again from a backup."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.catalog_copies import copies_of
from ..engines.registry import engine_of, open_engine
from ..errors import InvalidValue, NotFound
from ..host.files import lock, remove_file, require_absolute
from ..model.catalog_backup import Manifest, RestoreResult, UnknownMachine
from ..model.dataclass_json import to_plain
from ..model.plan import Observed, Plan, PlannedVm
from ..model.vm import Vm
from ..storage import backup_directory
from ..storage.datastore_layout import IMAGES, prepare_directories
from ..sync import Item, Result
from .vms.nodes_answers import polls_of, refused_answers

# The copy, below nebula_root, while it is made.
COPYING = ".nebula.db.copying"


def backup(params: Mapping[str, Any], check_mode: bool) -> Result:
    directory, keep = params["directory"], params["keep"]
    if keep < 0:
        raise InvalidValue(f"keep {keep}", "it is below zero", "0 keeps all of them")
    require_absolute(directory, f"nebula_backup_directory {directory!r}")
    if not engine_of(params).begun(params):
        raise NotFound(
            f"the catalog below {params['root']}",
            "there is none to be copied",
            "If it was lost, restore it: playbook nebula.provision.restore; else set nebula_root to where it is",
        )
    with contextlib.closing(open_engine(params, check_mode=True)) as engine:
        if check_mode:
            catalog = engine.catalog()
            forecast = {"path": "", "manifest": "", "catalog": catalog}
            return Result([Item("backup", None, {"catalog": catalog}, changed=True)], {"backup": forecast})
        with (
            backup_directory.locked(directory),
            lock(os.path.join(params["root"], COPYING), backup_directory.LOCK_SECONDS) as held,
        ):
            # The copy is made where SQLite works: the directory of backups may be on a network file system.
            temporary = os.path.join(params["root"], COPYING)
            try:
                os.ftruncate(held, 0)
                copy = copies_of(params).take(engine, temporary)
                moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                name = backup_directory.name_of(copy.catalog, copy.plan, moment)
                path = os.path.join(directory, name)
                result = Result()
                # Images come first, as they take long: the catalog's copy is without its manifest for moments only.
                files = (
                    backup_directory.copy_images(directory, copy.images, result.warnings)
                    if params["images"]
                    else [backup_directory.image_entry(image) for image in copy.images]
                )
                backup_directory.copy_file(temporary, path)
            finally:
                remove_file(temporary)
            size, sha256 = os.path.getsize(path), backup_directory.sha256_of(path)
            manifest = Manifest(
                name, copy.catalog, copy.plan, copy.schema, moment, size, sha256, copy.machines, tuple(files)
            )
            written = backup_directory.write(directory, manifest)
            gone = backup_directory.prune(directory, keep, copy.catalog)
    shown: dict[str, Any] = {
        "path": path,
        "manifest": written,
        "catalog": copy.catalog,
        "plan": copy.plan,
        "sha256": sha256,
        "size": size,
        "machines": copy.machines,
        "images": len(files),
        "copied_images": sum(bool(image.copy) for image in files),
        "removed": gone,
    }
    result.items = [Item("backup", None, shown)]
    result.payload = {"backup": shown}
    return result


def restore(params: Mapping[str, Any], check_mode: bool) -> Result:
    root = params["root"]
    if params["file"]:
        require_absolute(params["file"], f"nebula_backup {params['file']!r}")
    require_absolute(params["directory"], f"nebula_backup_directory {params['directory']!r}")
    observed = polls_of(params["observed"] or [])
    _refuse_silence(observed, params["force"])
    result = Result()
    path, manifest = "", None
    if not params["new_catalog"]:
        path = params["file"] or backup_directory.newest(
            params["directory"], {node.catalog for node in observed if node.catalog}
        )
        manifest = _manifest(path, result.warnings)
        if manifest is not None:
            backup_directory.check(path, manifest)
        copies_of(params).look_at(path)
    if not check_mode:
        prepare_directories(root, IMAGES)
    restored, changed, aside = copies_of(params).restore(params, check_mode, path, observed, params["force"])
    images = _images(path, manifest, check_mode)
    shown = {
        "file": path,
        "catalog": restored.catalog,
        "plan": restored.plan,
        "next_id": restored.next_id,
        "replaced": aside,
        "raised": list(restored.raised),
        "missing": list(restored.missing),
        "unknown": [_shown(each, params["unknown"]) for each in restored.strangers],
        "held": list(restored.held),
        "images": images,
    }
    result.warnings += _warnings(restored, images, params["unknown"])
    result.items = [Item("catalog", None, {"catalog": restored.catalog, "plan": restored.plan}, changed=changed)]
    refused = refused_answers(observed)
    result.warnings += refused.values()
    plans = _plans(restored, params["unknown"])
    result.payload = {"restored": shown, "plans": plans, "refused_answers": refused}
    return result


def _refuse_silence(observed: Sequence[Observed], force: bool) -> None:
    refused = refused_answers(observed)
    silent = [
        node.host for node in observed if node.host not in refused and (not node.reached or node.inventory is None)
    ]
    partly = [f"{node.host}: {text}" for node in observed if node.inventory for text in node.inventory.unseen]
    partly = [*refused.values(), *partly]
    if (silent or partly) and not force:
        found = [f"{', '.join(silent)} did not answer"] if silent else []
        raise InvalidValue(
            "restoring the catalog",
            f"{'; '.join(found + partly)}. What they have seen is not known",
            "Make them answer, or go on without them by nebula_restore_force: true. Nothing was changed",
        )


def _manifest(path: str, warnings: list[str]) -> Manifest | None:
    if os.path.exists(path + backup_directory.MANIFEST):
        return backup_directory.read(path + backup_directory.MANIFEST)
    warnings.append(f"backup {path} has no manifest beside it: neither its hash nor the files of images were compared")
    return None


def _images(path: str, manifest: Manifest | None, check_mode: bool) -> dict[str, str]:
    """Return what became of each image whose file was not simply there."""
    directory = os.path.dirname(path)
    found = {
        image.name: backup_directory.bring_back(directory, image, check_mode)
        for image in (manifest.images if manifest is not None else ())
        if image.size is not None
    }
    return {name: note for name, note in found.items() if note}


def _shown(stranger: UnknownMachine, unknown: str) -> dict[str, Any]:
    inner = ("hypervisor", "macs", "files", "known", "elsewhere")
    shown = {key: value for key, value in to_plain(stranger).items() if key not in inner}
    return {**shown, "removed": "yes" if _is_to_go(stranger, unknown) else "no"}


def _warnings(restored: RestoreResult, images: Mapping[str, str], unknown: str) -> list[str]:
    notes = [
        f"host {each.host} has {each.name} (id {each.vm_id}, {each.state}), which this catalog "
        + (_elsewhere_text(each) if each.elsewhere else "does not know: ")
        + ("removed" if _is_to_go(each, unknown) else _left_text(each))
        for each in restored.strangers
    ]
    notes += [
        f"{name} is not there: state: running makes it anew from its image, state: absent forgets it"
        for name in restored.missing
    ]
    notes += restored.rested
    return notes + [f"image {name}: {note}" for name, note in images.items()]


def _is_to_go(stranger: UnknownMachine, unknown: str) -> bool:
    """Return whether the machine is to be removed. A machine of the catalog that gave way stays: its disks are
    somebody's work of today. So does a machine that the catalog has on another host."""
    return unknown == "remove" and not stranger.known and not stranger.elsewhere


def _elsewhere_text(stranger: UnknownMachine) -> str:
    return (
        f"has on host {stranger.elsewhere}. If that host is {stranger.host} by now, set nebula_renamed_from: "
        f"{stranger.elsewhere} for it and run playbook nebula.provision.site; it is "
    )


def _left_text(stranger: UnknownMachine) -> str:
    why = " (the catalog that gave way has it)" if stranger.known else ""
    return f"left as it is{why}{f'. To end it: {stranger.forget}' if stranger.forget else ''}"


def _plans(restored: RestoreResult, unknown: str) -> dict[str, str]:
    """Return what each host follows from now on, and no longer a plan of a run that decided before. It ends the
    machines that the catalog does not know, if they are to go."""
    by_host: dict[str, list[PlannedVm]] = {host: [] for host in restored.hosts}
    for each in restored.strangers:
        if not _is_to_go(each, unknown):
            continue
        name = each.name if each.state != "no domain" else f"one-{each.vm_id}"
        vm = Vm(vm_id=each.vm_id, uuid=each.uuid, name=name, hypervisor=each.hypervisor, cpu=0.0, memory=0)
        by_host.setdefault(each.host, []).append(PlannedVm(vm, each.generation + 1, "DONE", hard=True))
    return {
        host: json.dumps(to_plain(Plan(restored.catalog, restored.plan, host, tuple(vms), proof=restored.proof)))
        for host, vms in by_host.items()
    }
