# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node made ready for machines, and given back as it was found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..deps import missing
from ..errors import ForeignObject, InUse, InvalidValue, MissingDependency, NebulaError
from ..host import accelerator, kvm_device, node, services
from ..host.command import PACKAGES, find
from ..host.files import make_directory, remove_file
from ..hypervisors.batch import read_record
from ..hypervisors.registry import open_driver
from ..storage.datastore import SYSTEM, image_directory
from ..sync import Item, Result

PROGRAMS = (accelerator.EMULATOR, "qemu-img", "libvirtd", "virtlogd")
# The directories of a node below its root, outermost first.
DIRECTORIES = ("", "datastores", f"datastores/{SYSTEM}")


@dataclass
class _Work:
    """What was done, or in check mode would be."""

    root: str
    check_mode: bool
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def did(self, what: str, before: Any, after: Any) -> None:
        if before != after:
            self.before[what], self.after[what] = before, after

    def result(self, shown: Mapping[str, Any]) -> Result:
        item = Item("node", self.before, self.after)
        return Result([item], {"node": dict(shown)}, self.warnings)


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Directories, /dev/kvm, daemons, and whether KVM works. Missing software is an error, in check mode a forecast."""
    work = _Work(params["root"], check_mode)
    lacking = _lacking()
    if lacking and not check_mode:
        raise MissingDependency(
            "a node that runs machines",
            f"it lacks {', '.join(lacking)}",
            f"Install {', '.join(sorted({_package(name) for name in lacking}))}: role nebula.provision.node does",
        )
    known = node.read(work.root)
    if params["catalog"] and known.catalog not in ("", params["catalog"]):
        raise ForeignObject(
            f"node for catalog {params['catalog']}",
            f"{os.path.join(work.root, node.NAME)} says that it follows catalog {known.catalog}",
            "Use that catalog's front-end, tear its machines down there first, or give this one another nebula_root",
        )
    if not lacking:
        # Before the daemons: libvirtd asks its emulators as soon as it is asked itself.
        known = _device(work, known)
    made = _directories(work)
    started = _daemons(work) if params["manage_services"] else ()
    chosen = {"accelerator": "", "reason": "not known before its packages are installed", "key": ""}
    if not lacking:
        chosen = accelerator.choose(params["accelerator"], known.accelerator)
        if accelerator.is_emulation(chosen) and params["accelerator"] == "auto":
            work.warnings.append(f"Machines are emulated, which is slow: {chosen['reason']}")
    _remember(work, known, made, started, chosen)
    work.did("accelerator", known.accelerator.get("accelerator", ""), chosen["accelerator"])
    return work.result(dict(_shown(params, chosen, started), catalog=known.catalog or _marked(work.root)))


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Refused while machines of ours are here. What was started is ended, what was changed is put back."""
    work = _Work(params["root"], check_mode)
    known = node.read(work.root)
    catalog = params["catalog"] or known.catalog
    if params["catalog"] and known.catalog not in ("", params["catalog"]):
        raise ForeignObject(
            f"node of catalog {params['catalog']}", f"it follows catalog {known.catalog}", "Name that catalog"
        )
    left = _machines(work.root, catalog)
    if left:
        raise InUse(
            "giving the node back",
            f"machines of catalog {catalog} are here: {', '.join(left)}",
            "End them first: playbook nebula.provision.teardown does",
        )
    for daemon in reversed(known.daemons):
        if check_mode or services.stop(daemon):
            work.did(daemon.name, "running", "stopped")
    if known.kvm_device and os.path.exists(accelerator.DEVICE):
        work.did(accelerator.DEVICE, _access(kvm_device.current()), _access(known.kvm_device))
        if not check_mode:
            kvm_device.apply(known.kvm_device)
    path = os.path.join(work.root, node.NAME)
    if os.path.exists(path):
        work.did(path, "present", "absent")
        if not check_mode:
            remove_file(path)
    for directory in reversed(known.directories):
        if check_mode:
            work.did(directory, "present", "absent if empty")
            continue
        # One that holds something, images for one, is somebody's.
        with contextlib.suppress(OSError):
            os.rmdir(directory)
            work.did(directory, "present", "absent")
    return work.result({"hypervisor": params["hypervisor"]})


def _lacking() -> list[str]:
    programs = []
    for program in PROGRAMS:
        try:
            find(program)
        except MissingDependency:
            programs.append(program)
    return [*programs, *(f"Python library {name}" for name in missing("libvirt", "pycdlib"))]


def _package(name: str) -> str:
    library = name.rpartition(" ")[2]
    return PACKAGES.get(name) or (f"python3-{library}" if " " in name else name)


def _device(work: _Work, known: node.NodeFile) -> node.NodeFile:
    access = kvm_device.wanted()
    if not access:
        return known
    found = kvm_device.current()
    work.did(accelerator.DEVICE, _access(found), _access(access))
    work.warnings.append(
        f"{accelerator.DEVICE} {'is' if work.check_mode else 'was'} {_access(found)}, as no udev sets it: "
        f"{'would become' if work.check_mode else 'now it is'} {_access(access)}. "
        "With the former, each call of libvirt takes 10 s"
    )
    if not work.check_mode:
        kvm_device.apply(access)
    # What it was at first: a second run must not remember its own work.
    return known if known.kvm_device else replace(known, kvm_device=found)


def _access(access: Mapping[str, int]) -> str:
    return f"{access['mode']:04o} {access['uid']}:{access['gid']}"


def _directories(work: _Work) -> tuple[str, ...]:
    made = []
    for name in DIRECTORIES:
        path = os.path.join(work.root, name).rstrip("/")
        if os.path.isdir(path):
            _check_directory(path)
            continue
        made.append(path)
        work.did(path, "absent", "present")
        if not work.check_mode:
            make_directory(path, 0o711)
    return tuple(made)


def _check_directory(path: str) -> None:
    """QEMU's user has to get through, and nobody else may put files there."""
    found = os.stat(path)
    if not found.st_mode & 0o001 or found.st_mode & 0o022 or found.st_uid != 0:
        raise InvalidValue(
            f"directory {path}",
            f"its mode is {found.st_mode & 0o7777:04o} and its owner {found.st_uid}",
            "It has to be root's, passable for all and writable for root only: chown root, chmod 0711",
        )


def _daemons(work: _Work) -> tuple[node.Daemon, ...]:
    started = []
    for service in services.missing():
        work.did(service.name, "stopped", "running")
        if work.check_mode:
            continue
        daemon = services.start(service)
        if daemon is not None:
            started.append(daemon)
    return tuple(started)


def _remember(
    work: _Work,
    known: node.NodeFile,
    made: tuple[str, ...],
    started: tuple[node.Daemon, ...],
    chosen: Mapping[str, str],
) -> None:
    if work.check_mode:
        return

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

    node.update(work.root, change)


def _shown(params: Mapping[str, Any], chosen: Mapping[str, str], started: tuple[node.Daemon, ...]) -> dict[str, Any]:
    return {
        "hypervisor": params["hypervisor"],
        "accelerator": chosen["accelerator"],
        "reason": chosen["reason"],
        "memory": node.memory(),
        "cpu": float(node.processors()),
        "qemu": accelerator.qemu_version(),
        "libvirt": services.libvirt_version(),
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


def _machines(root: str, catalog: str) -> list[str]:
    """Names of our domains, and of directories of machines that have none."""
    names: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        names.update(f"one-{name}" for name in os.listdir(image_directory(root, SYSTEM)) if name.isdigit())
    if catalog:
        try:
            with contextlib.closing(open_driver("kvm")) as driver:
                names.update(f"one-{seen.vm_id}" for seen in driver.survey(catalog).vms)
        except (MissingDependency, NebulaError):
            # No libvirt that answers: the directories alone tell.
            pass
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))
