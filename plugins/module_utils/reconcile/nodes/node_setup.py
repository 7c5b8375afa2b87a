# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a node ready for machines, and gives it back as it was found."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from ...arguments import parse_json
from ...context import files_on_node
from ...dataclass import replace
from ...deps import missing
from ...errors import ForeignObject, HypervisorError, InUse, InvalidValue, MissingDependency, NebulaError, Unsupported
from ...host import hypervisor_daemons, kvm_probe, node_file, processes
from ...host.command import PACKAGES, find
from ...host.files import make_directory, refuse_exchangeable, remove_empty_directory, remove_file
from ...hypervisors import directory_modes
from ...hypervisors.base import Driver
from ...hypervisors.machine_record import foreign_directories, read_record
from ...hypervisors.moves import node_moves
from ...hypervisors.moves.node_moves import NodeMove
from ...hypervisors.registry import DRIVERS, open_driver
from ...model.dataclass_json import to_plain
from ...model.move import OVER
from ...model.shared_datastores import named_by
from ...model.transfer import SHARED, SSH
from ...model.whole_numbers import id_in
from ...network import networks_at_boot as network_boot
from ...storage import roots, shared_datastore
from ...storage.datastore_layout import SYSTEM, image_directory
from ...sync import Item, Result
from . import luks_secrets, transfer_user

# What a node needs whatever runs its machines; the driver names the rest.
PROGRAMS = ("qemu-img",)
LIBRARIES = ("pycdlib",)
# The directories of a node below its root, outermost first.
DIRECTORIES = ("", "datastores", f"datastores/{SYSTEM}")


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Make the directories, start the daemons, and do what the driver wants. Raise MissingDependency if software is
    missing; check mode foretells that it comes."""
    with node_file.lock_host(not check_mode):
        return _present(params, check_mode)


def _present(params: Mapping[str, Any], check_mode: bool) -> Result:
    root = params["root"].rstrip("/")
    driver = DRIVERS[params["hypervisor"]]
    changes = node_file.Changes(check_mode)
    lacking = _missing_software(driver)
    if lacking and not check_mode:
        raise MissingDependency(
            "a node that runs machines",
            f"it lacks {', '.join(lacking)}",
            f"Install {', '.join(sorted({_package(name) for name in lacking}))}: role nebula.provision.node does",
        )
    known = node_file.read(root)
    catalog = known.catalog or _catalog_of_machines(root)
    if params["catalog"] and catalog not in ("", params["catalog"]):
        raise ForeignObject(
            "making this host a node",
            f"it carries the marks of catalog {catalog}, and this is catalog {params['catalog']}",
            "Restore that catalog's nebula.db on the front-end, or take the other catalog's machines off this host "
            "(playbook nebula.provision.teardown with its own inventory)",
        )
    known = _make_directories(root, params["catalog"] or "", params.get("mark") or "", changes) or known
    if not lacking:
        # Before the daemons: libvirtd asks its emulators as soon as it is asked itself.
        driver.prepare(changes, lambda facts: node_file.update(root, facts))
        directory_modes.close_directories(driver, root, catalog, changes)
    _mark_datastore(params, driver, params["catalog"] or catalog, changes)
    started = _start_daemons(driver, root, changes) if params["manage_services"] else ()
    chosen = {"accelerator": "", "reason": "not known before its packages are installed", "key": ""}
    if not lacking:
        chosen = driver.choose_accelerator(params["accelerator"], known.accelerator)
        # This is said once: a later run would only repeat it.
        news = known.accelerator.get("accelerator") != chosen["accelerator"]
        if news and kvm_probe.is_emulation(chosen) and params["accelerator"] == "auto":
            changes.warnings.append(f"Machines are emulated, which is slow: {chosen['reason']}")
    if not check_mode:
        _remember(root, driver, chosen)
    if params.get("luks_secrets") is not None:
        _secrets(params, root, changes)
    method = transfer_user.method_of(params.get("transfer") or SHARED, root, params["catalog"] or catalog)
    key = params.get("transfer_key") or ""
    if params.get("transfer") == transfer_user.AUTO and not (check_mode or transfer_user.can_be_found_out(root, key)):
        # A first run without the front-end: what can't be decided yet is decided by a later one.
        method = SHARED
    if method == SSH:
        transfer_user.present(root, key, changes)
    changes.did("accelerator", known.accelerator.get("accelerator", ""), chosen["accelerator"])
    facts = {
        "catalog": catalog,
        "transfer": method,
        "host_keys": transfer_user.host_keys(),
        "mark": known.mark or params.get("mark") or "",
        "machine_id": node_file.machine_id(),
    }
    return _result(changes, {**_shown(params, chosen, started), **facts})


def _mark_datastore(params: Mapping[str, Any], driver: type[Driver], catalog: str, changes: node_file.Changes) -> None:
    """Write the mark of the shared datastore that the host is to have, if it is mounted and has none yet. A host that
    has it on a disk of its own, as an NFS server, finds what another one has written. Raise Unsupported for a
    hypervisor whose machines are not to lie where other hosts write."""
    root, host = params["root"].rstrip("/"), params.get("host") or ""
    name = named_by(params.get("datastores") or (), host)
    if not name:
        return
    if not driver.shares_datastores:
        raise Unsupported(
            f"host {host}: shared datastore {name}",
            f"what machines of {driver.name} have is no plain files",
            "Take the host out of its hosts (nebula_datastores)",
        )
    if catalog and not shared_datastore.seen(root) and shared_datastore.is_mounted(root):
        if not changes.check_mode and not shared_datastore.begin(root, catalog):
            return
        changes.did(shared_datastore.path(root), "absent", "present")


def _secrets(params: Mapping[str, Any], root: str, changes: node_file.Changes) -> None:
    wanted = luks_secrets.wanted_of(parse_json(params["luks_secrets"], "luks_secrets"))
    if not wanted and not (os.path.isdir(root) and node_file.read(root).secrets):
        # Nothing is asked of a hypervisor that may not be there.
        return
    try:
        with contextlib.closing(open_driver(params["hypervisor"])) as driver:
            luks_secrets.set_secrets(driver, root, wanted, changes)
    except (HypervisorError, MissingDependency):
        # An earlier step would have installed or started it.
        if not changes.check_mode:
            raise
        for uuid in wanted:
            changes.did(f"secret {uuid}", "absent", "present")


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Stop what was started, and put back what was changed. Raise InUse while machines of ours are here."""
    with node_file.lock_host(not check_mode):
        return _absent(params, check_mode)


def _absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    root = params["root"].rstrip("/")
    changes = node_file.Changes(check_mode)
    known = node_file.read(root)
    catalog = params["catalog"] or known.catalog
    if params["catalog"] is not None and known.catalog not in ("", params["catalog"]):
        raise ForeignObject(
            f"giving back a node of catalog {params['catalog'] or '(none: the front-end has no catalog)'}",
            f"it follows catalog {known.catalog}",
            "Use that catalog's front-end and inventory; if it was lost: playbook nebula.provision.restore",
        )

    def closed(before: node_file.NodeFile) -> node_file.NodeFile:
        _refuse_machines(root, catalog, params["hypervisor"])
        return replace(before, given_back=True)

    driver = DRIVERS[params["hypervisor"]]
    path = os.path.join(root, node_file.NAME)
    if check_mode:
        try:
            _refuse_machines(root, catalog, params["hypervisor"])
        except InUse as error:
            # An earlier task would have ended them.
            changes.warnings.append(f"{error.found}; taken as ended in check mode")
    elif not os.path.exists(path):
        _refuse_machines(root, catalog, params["hypervisor"])
    else:
        # From here on no plan is accepted, and an accepted plan stops: a killed run may have left it at work.
        known = node_file.update(root, closed)
    # Secrets are removed before the hypervisor that keeps them is stopped.
    try:
        with contextlib.closing(open_driver(params["hypervisor"])) as opened:
            luks_secrets.remove_all(opened, root, changes)
    except (HypervisorError, MissingDependency) as error:
        # If the hypervisor was given no secrets, nothing has to be undone.
        if known.secrets and not check_mode:
            raise luks_secrets.error_of_secrets_left(error, root, known.secrets) from error
        if known.secrets:
            changes.warnings.append(str(luks_secrets.error_of_secrets_left(error, root, known.secrets)))
    for name in network_boot.catalogs(root):
        boot = network_boot.Boot(root, name)
        changes.did(boot.unit, "present", "absent")
        boot.remove(not check_mode)
    # In check mode the machines of this node are still there.
    ours = _machines(root, catalog, params["hypervisor"]) if check_mode else ()
    _stop_services(driver, root, known, changes, ours)
    driver.give_back(changes, known)
    if not check_mode:
        files_on_node.remove(root)
        node_moves.give_back(root)
        roots.prune(root)
        shared_datastore.remove_last(root)
    transfer_user.absent(root, known, changes)
    _remove_directories(root, known, changes)
    return _result(changes, {"hypervisor": params["hypervisor"]})


def _stop_services(
    driver: type[Driver], root: str, known: node_file.NodeFile, changes: node_file.Changes, ours: Sequence[str]
) -> None:
    """Stop what was started for this node, unless machines of others run there by now and need it."""
    found = {daemon.name: daemon for daemon in (*known.daemons, *_started_for(driver, root))}
    daemons = [found[service.name] for service in reversed(driver.services) if service.name in found]
    others = [name for name in _running(driver) if name not in ours] if known.units or daemons else []
    if others:
        shown = f"{', '.join(others[:10])}{' …' if len(others) > 10 else ''}"
        how = [f"kill {daemon.pid} ({daemon.name})" for daemon in daemons]
        how += [f"systemctl disable --now {unit.name}" for unit in reversed(known.units)]
        changes.warnings.append(
            f"Machines of others run here by what was started for this node: {shown}. So it runs on. Once they have "
            f"ended, end it by: {'; '.join(how)}"
        )
        return
    for unit in reversed(known.units):
        if changes.check_mode or hypervisor_daemons.give_back(unit):
            changes.did(unit.name, "running", "stopped")
    for daemon in daemons:
        if changes.check_mode or hypervisor_daemons.stop(daemon):
            changes.did(daemon.name, "running", "stopped")


def _running(driver: type[Driver]) -> tuple[str, ...]:
    """Return the names of all machines that run here."""
    try:
        with contextlib.closing(driver()) as opened:
            return opened.running()
    except (HypervisorError, MissingDependency):
        # A hypervisor that does not answer runs nothing.
        return ()


def _refuse_machines(root: str, catalog: str, hypervisor: str) -> None:
    left = _machines(root, catalog, hypervisor)
    if left:
        raise InUse(
            "giving the node back",
            f"machines of catalog {catalog} are here: {', '.join(left)}",
            "End them first: playbook nebula.provision.teardown does. "
            "What to do with one that no catalog knows any more, playbook nebula.provision.audit says",
        )


def _remove_directories(root: str, known: node_file.NodeFile, changes: node_file.Changes) -> None:
    """Remove the directories that we made; before the root, the last of them, remove the file that names them."""

    def remove(directory: str) -> None:
        if changes.check_mode:
            changes.did(directory, "present", "absent if empty")
            return
        # A directory that holds something (images, for example) belongs to somebody.
        if remove_empty_directory(directory):
            changes.did(directory, "present", "absent")

    for directory in reversed(known.directories):
        if directory != root:
            remove(directory)
    path = os.path.join(root, node_file.NAME)
    if os.path.exists(path):
        changes.did(path, "present", "absent")
        if not changes.check_mode:
            remove_file(path, sync=True)
    if root in known.directories:
        remove(root)


def _result(changes: node_file.Changes, shown: Mapping[str, Any]) -> Result:
    return Result([Item("node", changes.before, changes.after)], {"node": dict(shown)}, changes.warnings)


def _missing_software(driver: type[Driver]) -> list[str]:
    programs = []
    for program in (*driver.programs, *PROGRAMS):
        names = program.split("|")
        if not any(map(_is_there, names)):
            programs.append(names[0])
    return [*programs, *(f"Python library {name}" for name in missing(*driver.libraries, *LIBRARIES))]


def _is_there(program: str) -> bool:
    try:
        return bool(find(program))
    except MissingDependency:
        return False


def _package(name: str) -> str:
    library = name.rpartition(" ")[2]
    return PACKAGES.get(name) or (f"python3-{library}" if " " in name else name)


def _make_directories(root: str, catalog: str, mark: str, changes: node_file.Changes) -> node_file.NodeFile | None:
    """Make the directories that are missing, and the node's file; return the file, None in check mode. The file names
    them before they are made: a run that is killed must not leave what nobody knows of. A mark that the host has
    stays: it belongs to the host's other name, if the inventory has two for it. No result reports it."""
    missing = []
    ours = node_file.read(root).directories if os.path.isdir(root) else ()
    for name in DIRECTORIES:
        path = os.path.join(root, name).rstrip("/")
        if os.path.isdir(path) and not (_is_unfinished(root) if path == root else path in ours and _is_half_made(path)):
            _check_directory(path)
            continue
        missing.append(path)
        changes.did(path, "absent", "present")
    if changes.check_mode:
        return None
    refuse_exchangeable(root)
    if root in missing:
        if not os.path.isdir(os.path.dirname(root)):
            make_directory(os.path.dirname(root), 0o711)
        make_directory(root, 0o700)

    def change(before: node_file.NodeFile) -> node_file.NodeFile:
        new = [path for path in missing if path not in before.directories]
        directories = tuple(sorted((*before.directories, *new), key=len))
        return replace(
            before,
            catalog=before.catalog or catalog,
            directories=directories,
            given_back=False,
            mark=before.mark or mark,
        )

    written = node_file.update(root, change)
    for path in missing:
        make_directory(path, 0o711)
    return written


def _is_unfinished(root: str) -> bool:
    """Return whether the root is what a run left that was killed while it made it."""
    return os.stat(root).st_mode & 0o777 == 0o700 and all(node_file.NAME in name for name in os.listdir(root))


def _is_half_made(path: str) -> bool:
    """Return whether a directory that we were to make still has the mode it is made with, and not yet its own."""
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and stat.S_IMODE(found.st_mode) == 0o700


def _check_directory(path: str) -> None:
    """Raise InvalidValue unless the hypervisor's user gets through, and nobody but root may put files there."""
    found = os.stat(path)
    if not found.st_mode & 0o001 or found.st_mode & 0o022 or found.st_uid != 0:
        raise InvalidValue(
            f"directory {path}",
            f"its mode is {found.st_mode & 0o7777:04o} and its owner {found.st_uid}",
            "It has to be root's, passable for all and writable for root only: chown root, chmod 0711",
        )


def _start_daemons(
    driver: type[Driver], root: str, changes: node_file.Changes
) -> tuple[node_file.Daemon | node_file.Unit, ...]:
    started = []
    for service in hypervisor_daemons.not_running(driver.services):
        before = "stopped" if not hypervisor_daemons.is_running(service) else "running, not started with the host"
        changes.did(service.name, before, "running")
        if changes.check_mode:
            continue
        done = hypervisor_daemons.start(service, root)
        if done is not None:
            started.append(done)
        if isinstance(done, node_file.Unit):
            _remember_unit(root, done)
    return tuple(started)


def _remember_unit(root: str, unit: node_file.Unit) -> None:
    node_file.update(root, lambda before: replace(before, units=(*before.units, unit)))


def _started_for(driver: type[Driver], root: str) -> list[node_file.Daemon]:
    """Return the daemons that were started for this node, also by a run that was killed before it could note them."""
    found = (hypervisor_daemons.started_for(service, root) for service in driver.services)
    return [daemon for daemon in found if daemon is not None]


def _remember(root: str, driver: type[Driver], chosen: Mapping[str, str]) -> None:
    started = _started_for(driver, root)

    def change(before: node_file.NodeFile) -> node_file.NodeFile:
        names = {daemon.name for daemon in started}
        # A daemon of ours that somebody has started anew since is not ours any more.
        kept = [d for d in before.daemons if d.name not in names and processes.start_time(d.pid) == d.start]
        return replace(before, daemons=(*kept, *started), accelerator=dict(chosen))

    node_file.update(root, change)


def _shown(
    params: Mapping[str, Any], chosen: Mapping[str, str], started: Sequence[node_file.Daemon | node_file.Unit]
) -> dict[str, Any]:
    driver = DRIVERS[params["hypervisor"]]
    # Without its packages a hypervisor does not tell its capacity.
    memory, cpu = driver.capacity() if chosen["accelerator"] else (node_file.memory(), float(node_file.processors()))
    return {
        "hypervisor": params["hypervisor"],
        "accelerator": chosen["accelerator"],
        "reason": chosen["reason"],
        "memory": memory,
        "overhead": to_plain(driver.overhead(chosen["accelerator"])),
        "hardware": to_plain(driver.hardware()),
        "cpu": cpu,
        "versions": driver.versions(),
        "started": [daemon.name for daemon in started],
        "root": params["root"],
    }


def _catalog_of_machines(root: str) -> str:
    """Return the catalog that machines' directories name, if nebula.node was lost; "" if there are none."""
    place = image_directory(root, SYSTEM)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(place)):
            record = read_record(os.path.join(place, name)) if id_in(name) is not None else None
            if record is not None:
                return record.catalog
    return ""


def _open_moves(root: str, catalog: str) -> list[NodeMove]:
    return [each for each in node_moves.entries(root) if each.catalog == catalog and each.stage not in OVER]


def _machines(root: str, catalog: str, hypervisor: str) -> list[str]:
    """Return the names of our machines that the hypervisor has, and of those that have only a directory."""
    names: set[str] = set()
    foreign = foreign_directories(root, catalog) if catalog else ()
    # In a shared datastore, directories are other hosts' as well: those of this one are of machines that it has.
    is_shared = bool(shared_datastore.seen(root))
    names.update(f"one-{each.vm_id}" for each in _open_moves(root, catalog))
    with contextlib.suppress(FileNotFoundError):
        listed = () if is_shared else os.listdir(image_directory(root, SYSTEM))
        there = map(id_in, listed)
        names.update(f"one-{vm_id}" for vm_id in there if vm_id is not None and vm_id not in foreign)
    if catalog:
        try:
            with contextlib.closing(open_driver(hypervisor)) as driver:
                names.update(f"one-{seen.vm_id}" for seen in driver.survey(catalog).vms)
        except (MissingDependency, NebulaError):
            # No hypervisor answers, so the directories alone tell, if all of them are this node's.
            if is_shared:
                raise
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))
