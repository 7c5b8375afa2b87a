# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node made ready for machines, and given back as it was found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..deps import missing
from ..errors import ForeignObject, InUse, InvalidValue, MissingDependency, NebulaError
from ..host import accelerator, node, services
from ..host.command import PACKAGES, find
from ..host.files import make_directory, remove_file
from ..hypervisors.base import Driver
from ..hypervisors.batch import read_record
from ..hypervisors.registry import DRIVERS, open_driver
from ..storage.datastore import SYSTEM, image_directory
from ..sync import Item, Result

# What a node needs whatever runs its machines; the driver names the rest.
PROGRAMS = ("qemu-img",)
LIBRARIES = ("pycdlib",)
# The directories of a node below its root, outermost first.
DIRECTORIES = ("", "datastores", f"datastores/{SYSTEM}")


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Directories, daemons, and what the driver wants. Missing software is an error, in check mode a forecast."""
    root = params["root"]
    driver = DRIVERS[params["hypervisor"]]
    changes = node.Changes(check_mode)
    lacking = _lacking(driver)
    if lacking and not check_mode:
        raise MissingDependency(
            "a node that runs machines",
            f"it lacks {', '.join(lacking)}",
            f"Install {', '.join(sorted({_package(name) for name in lacking}))}: role nebula.provision.node does",
        )
    known = node.read(root)
    if params["catalog"] and known.catalog not in ("", params["catalog"]):
        raise ForeignObject(
            f"node for catalog {params['catalog']}",
            f"{os.path.join(root, node.NAME)} says that it follows catalog {known.catalog}",
            "Use that catalog's front-end, tear its machines down there first, or give this one another nebula_root",
        )
    if not lacking:
        # Before the daemons: libvirtd asks its emulators as soon as it is asked itself.
        known = driver.prepare(changes, known)
    made = _directories(root, changes)
    started = _daemons(driver, changes) if params["manage_services"] else ()
    chosen = {"accelerator": "", "reason": "not known before its packages are installed", "key": ""}
    if not lacking:
        chosen = driver.choose_accelerator(params["accelerator"], known.accelerator)
        if accelerator.is_emulation(chosen) and params["accelerator"] == "auto":
            changes.warnings.append(f"Machines are emulated, which is slow: {chosen['reason']}")
    if not check_mode:
        _remember(root, known, made, started, chosen)
    changes.did("accelerator", known.accelerator.get("accelerator", ""), chosen["accelerator"])
    return _result(changes, dict(_shown(params, chosen, started), catalog=known.catalog or _marked(root)))


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Refused while machines of ours are here. What was started is ended, what was changed is put back."""
    root = params["root"]
    changes = node.Changes(check_mode)
    known = node.read(root)
    catalog = params["catalog"] or known.catalog
    if params["catalog"] and known.catalog not in ("", params["catalog"]):
        raise ForeignObject(
            f"node of catalog {params['catalog']}", f"it follows catalog {known.catalog}", "Name that catalog"
        )
    left = _machines(root, catalog, params["hypervisor"])
    if left:
        raise InUse(
            "giving the node back",
            f"machines of catalog {catalog} are here: {', '.join(left)}",
            "End them first: playbook nebula.provision.teardown does",
        )
    for daemon in reversed(known.daemons):
        if check_mode or services.stop(daemon):
            changes.did(daemon.name, "running", "stopped")
    DRIVERS[params["hypervisor"]].give_back(changes, known)
    path = os.path.join(root, node.NAME)
    if os.path.exists(path):
        changes.did(path, "present", "absent")
        if not check_mode:
            remove_file(path)
    for directory in reversed(known.directories):
        if check_mode:
            changes.did(directory, "present", "absent if empty")
            continue
        # One that holds something, images for one, is somebody's.
        with contextlib.suppress(OSError):
            os.rmdir(directory)
            changes.did(directory, "present", "absent")
    return _result(changes, {"hypervisor": params["hypervisor"]})


def _result(changes: node.Changes, shown: Mapping[str, Any]) -> Result:
    return Result([Item("node", changes.before, changes.after)], {"node": dict(shown)}, changes.warnings)


def _lacking(driver: type[Driver]) -> list[str]:
    programs = []
    for program in (*driver.programs, *PROGRAMS):
        try:
            find(program)
        except MissingDependency:
            programs.append(program)
    return [*programs, *(f"Python library {name}" for name in missing(*driver.libraries, *LIBRARIES))]


def _package(name: str) -> str:
    library = name.rpartition(" ")[2]
    return PACKAGES.get(name) or (f"python3-{library}" if " " in name else name)


def _directories(root: str, changes: node.Changes) -> tuple[str, ...]:
    made = []
    for name in DIRECTORIES:
        path = os.path.join(root, name).rstrip("/")
        if os.path.isdir(path):
            _check_directory(path)
            continue
        made.append(path)
        changes.did(path, "absent", "present")
        if not changes.check_mode:
            make_directory(path, 0o711)
    return tuple(made)


def _check_directory(path: str) -> None:
    """The hypervisor's user has to get through, and nobody else may put files there."""
    found = os.stat(path)
    if not found.st_mode & 0o001 or found.st_mode & 0o022 or found.st_uid != 0:
        raise InvalidValue(
            f"directory {path}",
            f"its mode is {found.st_mode & 0o7777:04o} and its owner {found.st_uid}",
            "It has to be root's, passable for all and writable for root only: chown root, chmod 0711",
        )


def _daemons(driver: type[Driver], changes: node.Changes) -> tuple[node.Daemon, ...]:
    started = []
    for service in services.missing(driver.services):
        changes.did(service.name, "stopped", "running")
        if changes.check_mode:
            continue
        daemon = services.start(service)
        if daemon is not None:
            started.append(daemon)
    return tuple(started)


def _remember(
    root: str,
    known: node.NodeFile,
    made: tuple[str, ...],
    started: tuple[node.Daemon, ...],
    chosen: Mapping[str, str],
) -> None:
    def change(before: node.NodeFile) -> node.NodeFile:
        names = {daemon.name for daemon in started}
        # One that we started and that somebody started anew since is not ours any more.
        kept = [d for d in before.daemons if d.name not in names and node.start_time(d.pid) == d.start]
        return replace(
            before,
            daemons=(*kept, *started),
            directories=(*before.directories, *(path for path in made if path not in before.directories)),
            kvm_device=known.kvm_device,
            accelerator=dict(chosen),
        )

    node.update(root, change)


def _shown(params: Mapping[str, Any], chosen: Mapping[str, str], started: tuple[node.Daemon, ...]) -> dict[str, Any]:
    return {
        "hypervisor": params["hypervisor"],
        "accelerator": chosen["accelerator"],
        "reason": chosen["reason"],
        "memory": node.memory(),
        "cpu": float(node.processors()),
        "versions": DRIVERS[params["hypervisor"]].versions(),
        "started": [daemon.name for daemon in started],
        "root": params["root"],
    }


def _marked(root: str) -> str:
    """The catalog that machines' directories name, where nebula.node was lost; "" if there are none."""
    place = image_directory(root, SYSTEM)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(place)):
            record = read_record(os.path.join(place, name)) if name.isdigit() else None
            if record is not None:
                return record.catalog
    return ""


def _machines(root: str, catalog: str, hypervisor: str) -> list[str]:
    """Names of our machines that the hypervisor has, and of directories of those that it hasn't."""
    names: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        names.update(f"one-{name}" for name in os.listdir(image_directory(root, SYSTEM)) if name.isdigit())
    if catalog:
        try:
            with contextlib.closing(open_driver(hypervisor)) as driver:
                names.update(f"one-{seen.vm_id}" for seen in driver.survey(catalog).vms)
        except (MissingDependency, NebulaError):
            # No hypervisor that answers: the directories alone tell.
            pass
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))
