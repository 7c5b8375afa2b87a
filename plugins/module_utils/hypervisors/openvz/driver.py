# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives containers of OpenVZ by `vzctl`.

What a container is stands where OpenVZ's administrators keep it, /etc/vz/conf/CTID.conf; its first line says whose
it is. vzctl writes values back into that file and keeps comments. Its root is unpacked into the machine's directory
when it is started for the first time, and stays there until it is removed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...dataclass import dataclass, replace
from ...errors import (
    ForeignObject,
    HypervisorError,
    ImageRefused,
    NebulaError,
    NoSpace,
    NotFound,
    TimedOut,
    Unsupported,
    WrongState,
)
from ...host import untrusted_trees
from ...host.command import run
from ...host.files import make_directory, read_limited, remove_file, write_atomically
from ...host.node_file import Changes, NodeFile
from ...imported_by_name import file_named
from ...model.audit import Domain
from ...model.disk import TAR, Disk, DiskFiles
from ...model.plan import ObservedVm
from ...model.vm import Vm
from ...storage.datastore_layout import MIB, disk_path, require_space
from ..base import (
    AgentAnswer,
    BackUp,
    Departure,
    Deployment,
    Driver,
    Mark,
    Receiver,
    RunningBackup,
    Site,
    Survey,
    domain_name,
    label_of,
    refuse_other,
)
from ..standing_still import Pausing
from . import container_config, moving_marks, openvz_declaration, venet_firewall, vzctl
from .container_config import Container, ctid_of, vm_id_of

CREATE_SECONDS = 3600
START_SECONDS = 600
SAVE_SECONDS = 1800
AGENT_SECONDS = 30
_FILE = re.compile(r"([1-9]\d{0,9})\.conf")
# What keeps its values: what the host itself says of a container that runs already.
_LIVE = (("CPUUNITS", "--cpuunits"), ("CPULIMIT", "--cpulimit"), ("CPUS", "--cpus"))
_ADDRESS = re.compile(r"^\d+: \S+\s+inet6? (\S+?)/\d+ ", re.MULTILINE)


# What makes roots of containers comes with modules that do (shipped_with_plans.py): most only look.
def _private_area() -> Any:
    return file_named("hypervisors.openvz.private_area")


def _template_cache() -> Any:
    return file_named("hypervisors.openvz.template_cache")


def _migration() -> Any:
    return file_named("hypervisors.openvz.container_migration")


@dataclass(frozen=True)
class Definition:
    """Holds a container's file in /etc/vz/conf. container: what it says, whoever's it is."""

    path: Path
    text: str
    container: Container


class OpenvzDriver(Driver):
    name = openvz_declaration.NAME
    capabilities = frozenset(
        ("shutdown", "reboot", "reset", "suspend", "resume", "copy_disk", "ask_agent", "depart", "back_up")
    )
    programs = (vzctl.PROGRAM,)
    shares_datastores = False
    holds_departing_roots = True
    stands_still = True

    def __init__(self) -> None:
        vzctl.require()

    # -- the node -------------------------------------------------------------------------------------------------
    @classmethod
    def access(cls, vm_id: int) -> tuple[int, int]:
        # vzctl is root's, and nobody else gets near the saved root of a container, or its context.
        return 0o700, -1

    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        vzctl.require()
        version, kernel = vzctl.version(), os.uname().release
        return {
            "accelerator": openvz_declaration.NAME,
            "reason": f"this host has vzctl {version} on kernel {kernel}",
            "key": f"{version} {kernel}",
        }

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        given_back: bool = _template_cache().give_back()
        return given_back

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"vzctl": vzctl.version()}

    def site(self, common: Site) -> Site:
        return replace(common, defaults=vzctl.defaults())

    def close(self) -> None:
        pass

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        deployment = container_config.render(vm, site)
        if container_config.read(deployment.text).values.get("IP_ADDRESS"):
            vzctl.require_venet(f"virtual machine {vm.name}: NIC with MODEL = {openvz_declaration.VENET}")
        return deployment

    def survey(self, catalog: str) -> Survey:
        vms: list[ObservedVm] = []
        ids: set[int] = set()
        foreign, listed = 0, vzctl.states_by_ctid()
        for ctid, definition in self._definitions().items():
            container, vm_id = definition.container, vm_id_of(ctid)
            mark = container.mark
            if mark is not None and mark.catalog == catalog and mark.vm_id == vm_id:
                state = self._shown_state(ctid, listed.get(ctid, ""))
                vms.append(
                    ObservedVm(
                        vm_id=mark.vm_id,
                        uuid=mark.uuid,
                        state=state,
                        generation=mark.generation,
                        memory=container.memory if state != "POWEROFF" else 0,
                    )
                )
                continue
            if vm_id is not None:
                ids.add(vm_id)
            if self._state_of(ctid, listed.get(ctid, "")) != "POWEROFF":
                foreign += container.memory
        return Survey(tuple(sorted(vms, key=lambda vm: vm.vm_id)), foreign, frozenset(ids))

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        ours: list[Domain] = []
        others: list[str] = []
        listed = vzctl.states_by_ctid()
        for ctid, definition in self._definitions().items():
            container = definition.container
            if container.mark is None:
                others.append(str(ctid))
                continue
            state = self._shown_state(ctid, listed.get(ctid, ""))
            other = "no" if container.starts_with_host else "yes"
            end = "" if state == "POWEROFF" else f"vzctl stop {ctid} --fast; "
            own = vm_id_of(ctid) == container.mark.vm_id
            # A copy has the name of the machine's container, which leads to that.
            names = f"{vzctl.NAMES}/{container.values.get('NAME', '')}" if own else ""
            ours.append(
                Domain(
                    name=domain_name(container.mark.vm_id) if own else str(ctid),
                    catalog=container.mark.catalog,
                    vm_id=container.mark.vm_id,
                    uuid=container.mark.uuid,
                    state=state,
                    generation=container.mark.generation,
                    directory=container.directory,
                    autostart=container.starts_with_host,
                    macs=container.macs,
                    turn=f"vzctl set {ctid} --onboot {other} --save",
                    undefine=f"{end}rm -f {definition.path} {names}".rstrip(),
                    # Its private area may be that of the machine.
                    forget=f"{end}vzctl destroy {ctid}; rm -f {definition.path} {definition.path}.destroyed {names}"
                    if own
                    else f"{end}rm -f {definition.path}",
                )
            )
        return tuple(sorted(ours, key=lambda each: (each.vm_id, each.name))), tuple(sorted(others))

    def _definitions(self) -> dict[int, Definition]:
        found = {}
        try:
            names = os.listdir(vzctl.CONFIGURATIONS)
        except FileNotFoundError:
            return {}
        for name in names:
            match = _FILE.fullmatch(name)
            definition = self._read(vzctl.CONFIGURATIONS / name) if match else None
            if match is None or definition is None or moving_marks.read(int(match[1])) == moving_marks.LEFT:
                continue
            found[int(match[1])] = definition
        return dict(sorted(found.items()))

    def _read(self, path: Path) -> Definition | None:
        try:
            text = read_limited(str(path), vzctl.LARGEST, follow=False).decode("utf-8", "replace")
        except NotFound:
            return None
        except NebulaError:
            # A link or a directory of that name is somebody's, and not ours.
            return Definition(path, "", Container({}))
        return Definition(path, text, container_config.read(text))

    def _definition(self, mark: Mark, left: bool = False) -> Definition | None:
        """Return the machine's definition or None. Raise ForeignObject if it is not ours, Conflict for another UUID.
        left: also of one that is another host's by now."""
        ctid = ctid_of(mark.vm_id)
        definition = self._read(vzctl.CONFIGURATIONS / f"{ctid}.conf")
        if definition is not None:
            asked, leave = f"{label_of(mark)}: container {ctid}", "Give that container another id, or remove it"
            refuse_other(mark, definition.container.mark, asked, definition.path, leave, "container")
            if not left and moving_marks.read(ctid) == moving_marks.LEFT:
                return None
        return definition

    def _found(self, mark: Mark) -> Definition:
        found = self._definition(mark)
        if found is None:
            raise NotFound(
                label_of(mark),
                f"there is no {vzctl.CONFIGURATIONS}/{ctid_of(mark.vm_id)}.conf",
                "Run again: it is defined anew",
            )
        return found

    def _state_of(self, ctid: int, word: str = "") -> str:
        """Return the container's state. word: what vzlist says of it, "" where it says nothing."""
        if word:
            return "RUNNING" if word == "running" else "POWEROFF"
        return "RUNNING" if vzctl.status(ctid).running else "POWEROFF"

    def _shown_state(self, ctid: int, word: str = "") -> str:
        """Return the state, of a container that stands still for a move neither RUNNING nor POWEROFF."""
        state = self._state_of(ctid, word)
        return "UNKNOWN" if state == "RUNNING" and moving_marks.read(ctid) else state

    def state(self, mark: Mark) -> str | None:
        return None if self._definition(mark) is None else self._shown_state(ctid_of(mark.vm_id))

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        definition = self._read(vzctl.CONFIGURATIONS / f"{ctid_of(mark.vm_id)}.conf")
        if definition is None:
            return False
        found = definition.container.mark
        return (found is None or found.catalog != mark.catalog) and not definition.container.private.startswith(
            f"{directory}/"
        )

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        ctid, text = ctid_of(mark.vm_id), deployment.text
        self._finish_leaving(mark)
        before = self._definition(mark)
        wanted = container_config.read(text)
        if before is not None and "ONBOOT" not in vm.container and before.container.starts_with_host:
            # Which was decided apart from this.
            text = container_config.with_value(text, "ONBOOT", "yes")
        # What vzctl itself has found out about the root when it made it.
        known = before.container.values if before is not None else self._ids_of_arrived(wanted)
        for key in vzctl.LOCAL:
            if key in known and key not in wanted.values:
                text = container_config.with_value(text, key, known[key])
        addresses, passing = venet_firewall.guarded_addresses(vm)
        scripts = {"mount": "", "umount": ""}
        if addresses:
            scripts = {
                "mount": venet_firewall.mount_script(ctid, addresses, passing),
                "umount": venet_firewall.unmount_script(ctid),
            }
        self._refuse_scripts(ctid, scripts, f"defining {label_of(mark)}")
        write_atomically(str(vzctl.CONFIGURATIONS / f"{ctid}.conf"), text, mode=0o600)
        self._set_firewall(ctid, scripts, running=before is not None and self._state_of(ctid) == "RUNNING")
        if before is not None and self._state_of(ctid) == "RUNNING":
            words = [word for key, option in _LIVE if wanted.values.get(key) for word in (option, wanted.values[key])]
            if vzctl.has_quota():
                words += _limits(before.container.values, wanted.values)
            vzctl.ask(f"changing {label_of(mark)} while it runs", "set", str(ctid), *words)

    @staticmethod
    def _ids_of_arrived(wanted: Container) -> Mapping[str, str]:
        """Return what vzctl would have noted of the users of a container whose root came from another host."""
        if vzctl.is_openvz() or not _private_area().is_made(wanted.private):
            return {}
        return {key: text for key, text in vzctl.settings().items() if key in vzctl.LOCAL}

    @staticmethod
    def _refuse_scripts(ctid: int, scripts: Mapping[str, str], asked: str) -> None:
        """Raise ForeignObject for a script of the administrator where ours would be."""
        for kind, text in scripts.items():
            path = vzctl.CONFIGURATIONS / f"{ctid}.{kind}"
            if text and os.path.lexists(path) and not _is_ours(path):
                raise ForeignObject(
                    f"{asked}: {path}", "there is a script of that name already", "Move it away: it will not be touched"
                )

    @staticmethod
    def _set_firewall(ctid: int, scripts: Mapping[str, str], running: bool) -> None:
        """Set the container's firewall, from its next mount on, and at once if it runs."""
        paths = {kind: vzctl.CONFIGURATIONS / f"{ctid}.{kind}" for kind in scripts}
        before = _is_ours(paths["mount"])
        for kind, text in scripts.items():
            if text:
                write_atomically(str(paths[kind]), text, mode=0o700)
        if running and scripts["mount"]:
            run(["sh", str(paths["mount"])], timeout=vzctl.SECONDS)
        elif running and before:
            run(["sh", str(paths["umount"])], timeout=vzctl.SECONDS)
        for kind, text in scripts.items():
            if not text and _is_ours(paths[kind]):
                remove_file(str(paths[kind]))

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        return False

    def starts_with_host(self, mark: Mark) -> bool | None:
        definition = self._definition(mark)
        return None if definition is None else definition.container.starts_with_host

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        definition = self._found(mark)
        text = container_config.with_value(definition.text, "ONBOOT", "yes" if wanted else "no")
        write_atomically(str(definition.path), text, mode=0o600)

    def remove(self, mark: Mark) -> bool:
        definition = self._definition(mark, left=True)
        if definition is None:
            return self._forget_destroyed(mark)
        ctid, asked = ctid_of(mark.vm_id), f"removing {label_of(mark)}"
        self._end(definition, asked)
        status = vzctl.status(ctid)
        if status.mounted:
            vzctl.ask(asked, "umount", str(ctid))
        if _private_area().is_made(definition.container.private):
            # It is vzctl's: it may have quota, and dumps.
            vzctl.ask(asked, "destroy", str(ctid), timeout=CREATE_SECONDS)
        self._forget(definition, mark)
        return True

    def _forget_destroyed(self, mark: Mark) -> bool:
        """Remove what vzctl keeps of a container that it destroyed for a killed run. Return whether there was any."""
        path = vzctl.CONFIGURATIONS / f"{ctid_of(mark.vm_id)}.conf"
        moving_marks.remove(ctid_of(mark.vm_id))
        definition = self._read(path.with_name(f"{path.name}.destroyed"))
        found = definition.container.mark if definition is not None else None
        if definition is None or found is None or (found.catalog, found.vm_id) != (mark.catalog, mark.vm_id):
            return False
        self._forget(replace(definition, path=path), mark)
        return True

    @staticmethod
    def _forget(definition: Definition, mark: Mark) -> None:
        # The definition last: killed in between, the next run still knows that the rest is ours.
        name = vzctl.NAMES / domain_name(mark.vm_id)
        if name.is_symlink() and os.path.basename(os.readlink(name)) == definition.path.name:
            remove_file(str(name))
        ctid = definition.path.stem
        for kind in ("mount", "umount"):
            path = vzctl.CONFIGURATIONS / f"{ctid}.{kind}"
            for each in (path, path.with_name(f"{path.name}.destroyed")):
                if _is_ours(each):
                    # Once more: where it was killed, nobody has unmounted it.
                    if kind == "umount":
                        run(["sh", str(each)], timeout=vzctl.SECONDS, check=False)
                    remove_file(str(each))
        remove_file(f"{definition.path}.destroyed")
        remove_file(str(definition.path))
        moving_marks.remove(int(ctid))

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        ctid, asked = ctid_of(mark.vm_id), f"starting {label_of(mark)}"
        definition = self._found(mark)
        container = definition.container
        stage = moving_marks.read(ctid)
        if self._state_of(ctid) == "RUNNING":
            if stage:
                _migration().go_on(ctid, _verb_of(stage), asked)
            return
        # What stood still has ended with the host.
        moving_marks.remove(ctid)
        self._refuse_name(ctid, asked, mark)
        self._unpack_root(ctid, asked, mark, container)
        self._set_name(ctid, asked, mark)
        _private_area().check_mounts(container.private, asked)
        if container.iso and os.path.exists(container.iso):
            _private_area().write_context(container.private, container.iso, container.context)
        # Of an earlier shutdown: from now on the root is another.
        remove_file(disk_path(container.directory, 0))
        done = vzctl.ask(asked, "start", str(ctid), timeout=START_SECONDS)
        # It ends with 0 where an address could not be given, or where its init has ended at once.
        if self._state_of(ctid) != "RUNNING":
            raise HypervisorError(
                asked,
                f"vzctl said that it starts, and it does not run: {vzctl.last_output(done)}",
                "See whether the image has an init of its own, and LOGFILE of /etc/vz/vz.conf",
            )

    def _unpack_root(self, ctid: int, asked: str, mark: Mark, container: Container) -> None:
        """Unpack the container's root, if it is not there yet."""
        _private_area().clear_unfinished(container.private)
        if _private_area().is_made(container.private):
            return
        name = container.values.get("OSTEMPLATE", "")
        if not os.path.isfile(container.template):
            raise NotFound(
                f"{asked}: OS template {name}", f"{container.template} is not on this host", "Name a tar that is there"
            )
        try:
            _template_cache().place(container.template, name, mark.catalog)
        except ImageRefused as error:
            error.asked = f"{asked}: {error.asked}"
            raise
        self._refuse_too_large(name, asked, container)
        # Its root may hold devices, and programs that run as root: no user of the host gets near these.
        make_directory(os.path.dirname(container.private), 0o700)
        vzctl.ask(asked, "create", str(ctid), timeout=CREATE_SECONDS)
        if not _private_area().is_made(container.private):
            raise HypervisorError(asked, f"vzctl made no {container.private}", "See LOGFILE of /etc/vz/vz.conf")

    @staticmethod
    def _refuse_too_large(name: str, asked: str, container: Container) -> None:
        """Raise NoSpace before tar would find out in the middle."""
        size = _template_cache().size_of(name)
        limit = container.disk_limit
        if limit and size > limit:
            raise NoSpace(
                f"{asked}: OS template {name}",
                f"it unpacks to {-(-size // MIB)} MB, and its file system may have {limit // MIB} (DISKSPACE, SIZE)",
                "Raise SIZE of its DISK",
            )
        require_space(container.directory, size, f"{asked}: OS template {name}")

    @staticmethod
    def _refuse_name(ctid: int, asked: str, mark: Mark) -> None:
        """Raise ForeignObject if vzctl knows another container by this name, which a user would then enter."""
        link = vzctl.NAMES / domain_name(mark.vm_id)
        leads = os.readlink(link) if link.is_symlink() else "it is no link of vzctl's"
        if os.path.lexists(link) and os.path.basename(leads) != f"{ctid}.conf":
            raise ForeignObject(
                f"{asked}: {link}",
                f"the name is another container's: {leads}",
                f"Give that one another name (vzctl set {Path(leads).stem} --name OTHER --save), or remove the link"
                if link.is_symlink()
                else "Move it away: it will not be touched",
            )

    @staticmethod
    def _set_name(ctid: int, asked: str, mark: Mark) -> None:
        """Make the container known to vzctl by its name, too."""
        link = vzctl.NAMES / domain_name(mark.vm_id)
        if not link.is_symlink():
            vzctl.ask(asked, "set", str(ctid), "--name", domain_name(mark.vm_id), "--save")

    def cancel(self, mark: Mark) -> None:
        self._end(self._found(mark), f"ending {label_of(mark)}")

    @staticmethod
    def _end(definition: Definition, asked: str) -> None:
        ctid = int(definition.path.stem)
        stage = moving_marks.read(ctid)
        if stage:
            _migration().wait_for_vzctl(ctid, asked)
            # It may have gone on already, before its run was killed.
            with contextlib.suppress(NebulaError):
                _migration().end(ctid, _verb_of(stage), asked)
        vzctl.ask(asked, "stop", str(ctid), "--fast")
        vzctl.drop_routes(definition.container.addresses)
        if stage and stage != moving_marks.LEFT:
            moving_marks.remove(ctid)

    def _running(self, mark: Mark) -> Definition:
        definition = self._found(mark)
        if self._shown_state(ctid_of(mark.vm_id)) != "RUNNING":
            raise WrongState(label_of(mark), "it does not run", "Start it first")
        return definition

    def shutdown(self, mark: Mark, timeout: int) -> None:
        """Shut the container down and save its root as disk.0, as OpenNebula's drivers for OpenVZ did it."""
        definition = self._running(mark)
        ctid, asked = ctid_of(mark.vm_id), f"shutting {label_of(mark)} down"
        try:
            vzctl.ask(asked, "stop", str(ctid), timeout=max(timeout, 1))
        except TimedOut as error:
            error.remedy = "Raise shutdown_timeout, see its processes (vzctl exec), or set hard: true"
            raise
        if self._state_of(ctid) == "RUNNING":
            raise TimedOut(asked, "it runs on", "Raise shutdown_timeout, or set hard: true")
        container = definition.container
        vzctl.drop_routes(container.addresses)
        _private_area().save(
            container.private, disk_path(container.directory, 0), f"saving the root of {label_of(mark)}"
        )

    def reboot(self, mark: Mark, timeout: int) -> None:
        definition = self._running(mark)
        ctid, asked = ctid_of(mark.vm_id), f"rebooting {label_of(mark)}"
        vzctl.ask(asked, "stop", str(ctid), timeout=max(timeout, 1))
        self._start_again(definition, mark, asked)

    def reset(self, mark: Mark) -> None:
        definition = self._running(mark)
        asked = f"resetting {label_of(mark)}"
        self._end(definition, asked)
        self._start_again(definition, mark, asked)

    def _start_again(self, definition: Definition, mark: Mark, asked: str) -> None:
        """Start the ended container again, not by `vzctl restart`: its context may have changed since its start."""
        if self._state_of(ctid_of(mark.vm_id)) == "RUNNING":
            raise TimedOut(asked, "it did not end", "Set hard: true, or see which of its processes does not end")
        self.start(mark)

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        self._running(mark)
        asked = f"suspending {label_of(mark)}"
        vzctl.ask(asked, "chkpnt", str(ctid_of(mark.vm_id)), "--dumpfile", checkpoint, timeout=SAVE_SECONDS)
        if os.path.isdir(checkpoint):
            # CRIU's, which no run knows how to keep and to remove as a file.
            self.resume(mark, checkpoint)
            untrusted_trees.remove(checkpoint)
            raise Unsupported(
                asked, "this kernel is none of OpenVZ, and containers are saved by CRIU", "Shut it down, it runs on"
            )
        if self._state_of(ctid_of(mark.vm_id)) == "RUNNING" or not os.path.exists(checkpoint):
            raise HypervisorError(asked, f"vzctl said that it is saved, and {checkpoint} is not there, or it runs on")

    def resume(self, mark: Mark, checkpoint: str) -> None:
        self._found(mark)
        ctid, asked = ctid_of(mark.vm_id), f"resuming {label_of(mark)}"
        # The dump does not say whose it is: the container's id goes along.
        done = vzctl.ask(asked, "restore", str(ctid), "--dumpfile", checkpoint, timeout=SAVE_SECONDS)
        if self._state_of(ctid) != "RUNNING":
            raise HypervisorError(asked, f"vzctl said that it goes on, and it does not run: {vzctl.last_output(done)}")

    def checkpoint_complete(self, checkpoint: str) -> bool:
        # vzctl gives a dump its name when it is whole.
        return os.path.isfile(checkpoint) and os.path.getsize(checkpoint) > 0

    def pausing(self, mark: Mark) -> Pausing | None:
        ctid, asked = ctid_of(mark.vm_id), f"having {label_of(mark)} stand still"
        self._found(mark)
        if self._state_of(ctid) != "RUNNING":
            return None
        pausing: Pausing = _migration().pausing(ctid, asked)
        return pausing

    def back_up(
        self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
    ) -> AbstractContextManager[RunningBackup]:
        from ..still_disks import back_up

        return back_up(self, mark, disks, order)

    # -- moves ----------------------------------------------------------------------------------------------------
    def own_roots(self, vm: Vm, directory: str) -> Mapping[int, str]:
        private = f"{directory}/{container_config.PRIVATE}"
        return {disk.disk_id: private for disk in vm.disks if disk.format == TAR}

    def root_size(self, path: str, what: str) -> int:
        size: int = _private_area().size(path, what)
        return size

    def pack_root(self, mark: Mark, path: str, fd: int, what: str, timeout: float) -> int:
        definition = self._definition(mark)
        values = definition.container.values if definition is not None else {}
        left_out: int = _private_area().pack(path, fd, vzctl.users(values, what), what, timeout).left_out
        return left_out

    def take_root(self, path: str, blocks: Generator[bytes, None, None], what: str, timeout: float) -> list[str]:
        done = _private_area().take_in(blocks, path, vzctl.users({}, what), what, timeout)
        warnings: list[str] = done.warnings(what)
        return warnings

    def state_files(self, vm: Vm) -> Mapping[str, int]:
        # What of a context is in its root: another context takes that out again.
        written = f"{os.path.dirname(container_config.PRIVATE)}/{_private_area().WRITTEN}"
        return {written: _private_area().LARGEST}

    def offer(self, mark: Mark) -> str:
        self._running(mark)
        version: str = _migration().version(f"moving {label_of(mark)}")
        return version

    def require_hardware(self, vm: Vm, site: Site, offered: str = "", processor: str = "") -> None:
        if offered:
            _migration().require_version(offered, f"moving virtual machine {vm.vm_id}")

    def accept(self, vm: Vm, site: Site, offered: str) -> str:
        mark = Mark(site.catalog, vm.vm_id, vm.uuid, site.generation)
        ctid, asked = ctid_of(mark.vm_id), f"moving {label_of(mark)}"
        able: str = _migration().processor(asked)
        self._refuse_name(ctid, asked, mark)
        deployment = self.render(vm, site)
        # Whatever its template says: it is a copy until it has left its host.
        text = container_config.with_value(deployment.text, "ONBOOT", "no")
        self.define(vm, replace(deployment, text=text), mark)
        self._set_name(ctid, asked, mark)
        return able

    def receive(self, mark: Mark, token: str, definition: str, disks: Collection[str]) -> Receiver:
        asked, container = f"moving {label_of(mark)}", self._found(mark).container

        def check() -> None:
            _private_area().check_mounts(container.private, asked)

        receiver: Receiver = _migration().DumpReceiver(ctid_of(mark.vm_id), container.directory, check, asked)
        return receiver

    def has_arrived(self, mark: Mark) -> bool:
        return self.state(mark) == "UNKNOWN" and moving_marks.read(ctid_of(mark.vm_id)) == moving_marks.COMING

    def depart(self, vm: Vm, mark: Mark, departure: Departure) -> None:
        ctid, asked = ctid_of(mark.vm_id), f"moving {label_of(mark)}"
        definition = self._running(mark)
        _migration().depart(ctid, definition.container.directory, departure, asked)
        # From here on it is none of this host's, whatever comes: the other one has all of it.
        moving_marks.write(ctid, moving_marks.LEFT)
        # One that does not end stands still, and is ended where what is left of the machine is removed.
        with contextlib.suppress(NebulaError):
            self.disown(mark)

    def settle_departure(self, mark: Mark, token: str) -> str | None:
        ctid, asked = ctid_of(mark.vm_id), f"moving {label_of(mark)}"
        _migration().wait_for_vzctl(ctid, asked)
        stage = moving_marks.read(ctid)
        if stage == moving_marks.LEFT:
            with contextlib.suppress(NebulaError):
                self.disown(mark)
            return None
        if stage == moving_marks.LEAVING:
            self._stay(mark)
        return self.state(mark)

    def _stay(self, mark: Mark) -> None:
        """Have a container go on here that has not left."""
        ctid, asked = ctid_of(mark.vm_id), f"moving {label_of(mark)}"
        definition = self._found(mark)
        if self._state_of(ctid) == "RUNNING":
            _migration().go_on(ctid, _verb_of(moving_marks.LEAVING), asked)
        remove_file(f"{definition.container.directory}/{_migration().DUMP}")
        moving_marks.remove(ctid)

    def _finish_leaving(self, mark: Mark) -> None:
        """End what stands still of a container that has left, before it comes here anew."""
        if moving_marks.read(ctid_of(mark.vm_id)) == moving_marks.LEFT:
            self.disown(mark)

    def disown(self, mark: Mark) -> bool:
        definition = self._definition(mark, left=True)
        if definition is None:
            return self._forget_destroyed(mark)
        ctid, asked = ctid_of(mark.vm_id), f"forgetting {label_of(mark)}, which is another host's"
        self._end(definition, asked)
        if vzctl.status(ctid).mounted:
            vzctl.ask(asked, "umount", str(ctid))
        vzctl.drop_quota(ctid)
        self._forget(definition, mark)
        return True

    def check_saved(self, image: str, asked: str) -> None:
        openvz_declaration.check_saved_name(image, vzctl.distributions(), asked)

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        """Copy the root as it is now, also of a running container: what changes meanwhile may be half of each."""
        asked = f"copying the root of {label_of(mark)}"
        if format != TAR or disk.type == "SWAP":
            raise Unsupported(
                asked, f"disk {disk.disk_id} as {format} is none", "A container's only disk is its root, a tar"
            )
        _private_area().save(self._found(mark).container.private, path, asked)

    def ask_agent(self, mark: Mark) -> AgentAnswer:
        """Return what the container's own kernel and programs tell the host; no agent is needed."""
        self._running(mark)
        ctid, asked = str(ctid_of(mark.vm_id)), f"asking {label_of(mark)}"
        name = vzctl.ask(asked, "exec2", ctid, "cat /proc/sys/kernel/hostname", timeout=AGENT_SECONDS)
        shown = run([vzctl.PROGRAM, "exec2", ctid, "ip -o addr"], timeout=AGENT_SECONDS, check=False)
        addresses = tuple(_ADDRESS.findall(shown.stdout)) if shown.returncode == 0 else None
        hostname = next((line for line in reversed(name.stdout.splitlines()) if line.strip()), "")
        return AgentAnswer(hostname.strip(), addresses)


def _limits(before: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return vzctl's words that resize a running container's file system; none where nothing differs. A file system
    that has no limit any more keeps the old one until it is started anew: vzctl has no word for that."""
    differing = [key for key in openvz_declaration.QUOTAS if wanted.get(key) and wanted[key] != before.get(key)]
    return [word for key in differing for word in (f"--{key.lower()}", wanted[key])]


def _verb_of(stage: str) -> str:
    """Return vzctl's word for what is done to a container that stands still: where it was saved, or restored."""
    return "restore" if stage == moving_marks.COMING else "chkpnt"


def _is_ours(path: Path) -> bool:
    """Return whether the script is ours, and not an administrator's."""
    try:
        return venet_firewall.MARK in read_limited(str(path), vzctl.LARGEST, follow=False).decode("utf-8", "replace")
    except NebulaError:
        return False
