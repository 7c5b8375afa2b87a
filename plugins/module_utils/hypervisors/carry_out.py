# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out on this node, with any driver: fence, lock, disks, context, definition, state. Many machines at
once; what fails is told per machine, and the others go on. Applying a plan twice is the same as once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

from ..context import cache, iso9660
from ..errors import (
    ForeignObject,
    HypervisorError,
    InvalidValue,
    NebulaError,
    NoCapacity,
    NotFound,
    StalePlan,
    TimedOut,
    Unsupported,
    WrongState,
)
from ..guest_disk import inject
from ..host import console, node
from ..host.files import (
    adopt,
    explain,
    explained,
    lock,
    make_directory,
    read_limited,
    remove_file,
    settle,
    sync_directory,
    write_atomically,
)
from ..host.restricted import Rules
from ..host.vmlog import VmLog
from ..install.next_step import MARK, starts_with_host
from ..model import defaults
from ..model.disk import DiskFiles
from ..model.inject import Injected
from ..model.plain import from_plain, json_value, to_plain
from ..model.plan import (
    ADOPT,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    GivenUp,
    Observed,
    ObservedVm,
    Plan,
    PlannedVm,
    TaskOutcome,
    VmOutcome,
)
from ..model.vm import Vm
from ..network import links
from ..storage import arrivals, disks, transfer
from ..storage.datastore import disk_path, vm_directory
from . import disk_tasks, given_up
from .base import Deployment, Driver, Mark, Site
from .bridges import Bridges
from .successors import Successors

RECORD = "vm.json"
CHECKPOINT = "checkpoint"
# A checkpoint while it is written: only its name says that the saved machine and its disks belong together.
PARTIAL = "checkpoint.partial"
LOCK_SECONDS = 600
# Bytes of a file that is written into a disk: what the front-end reads for one machine.
LARGEST_FILE = 1 << 30
# Machines that are worked on at once. More of them wait for guests to obey than are built: building keeps processors
# and disks busy, waiting does not.
WAITING = 32
REMEDY_LOCKED = "Another run works on this machine: wait for it to end, then run again"

Report = Callable[[int, int, int], None]
"""done, failed, total: after each machine."""


@dataclass(frozen=True)
class Record:
    """vm.json in a machine's directory: whose it is, and what was last done with it. generation: of the last decision
    that was acted on. operated: the generation whose reboot, reset or recreation was done. definition, context: digests
    of what the machine has; they cover secrets, so this file is as closed as the deployment file. tasks: those that
    were done, as long as plans name them. started: of machines that install, the generation whose start was last
    begun; -1: of none. images: what it rests on of this node's copies of images, by PlannedImage.local. closed: when it
    was last started here, its graphics had a password."""

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


@dataclass
class _Job:
    """One machine while it is worked on. stage: the failure that an error means now. owned: its directory was found to
    be ours, so that something may be written there. has_room: its memory was taken from what the node has left.
    fitted: it has the disks and NICs that it is to have."""

    planned: PlannedVm
    mark: Mark
    directory: str
    record: Record
    log: VmLog
    stage: str = "PROLOG_FAILURE"
    changed: bool = False
    owned: bool = False
    has_room: bool = False
    fitted: bool = False
    files: dict[int, DiskFiles] = field(default_factory=dict)
    told: list[TaskOutcome] = field(default_factory=list)

    @property
    def vm(self) -> Vm:
        return self.planned.vm

    @property
    def is_fitted(self) -> bool | None:
        """As outcomes have it."""
        planned = self.planned
        return self.fitted if planned.refitted or planned.detached or planned.grown else None

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)


class Batch:
    """threads: how many machines are built at once; 0 or less: as many as this node's processors can keep busy. rules:
    which files of this node machines may boot."""

    def __init__(self, plan: Plan, driver: Driver, root: str, threads: int = 0, rules: Rules | None = None) -> None:
        self._transfer = transfer.of_plan(root, plan)
        self.plan = replace(plan, vms=tuple(map(self._transfer.localized, plan.vms)))
        self.driver = driver
        self.root = root
        self._rules = rules if rules is not None else Rules(own=root)
        threads = threads if threads > 0 else min(max(2 * node.processors(), 2), 8)
        self._building = threading.BoundedSemaphore(threads)
        self._site: Site | None = None
        # MiB left for what this plan starts; None: others hold no more than when it was decided.
        self._room: int | None = None
        # MiB that machines hold which run here as this begins, where room is counted.
        self._occupied: dict[int, int] = {}
        self._filled = cache.Filled()
        self._taking = threading.Lock()
        self._bridges = Bridges(self.plan)
        self._successors = Successors(self.plan, lambda vm: vm.memory + self._overhead(vm.memory, vm.vcpu))

    def apply(self, report: Report | None = None) -> list[VmOutcome]:
        """The outcomes in the plan's order, those of machines that were given up after the others. Raises StalePlan and
        ForeignObject for the plan as a whole, before anything is touched."""
        if not self.plan.vms and not self.plan.given_up:
            return []
        known = node.accept(self.root, self.plan.catalog, self.plan.number)
        self._site = self._survey_site(known)
        self._room = self._room_left()
        self._filled = cache.fill(self.root, self.plan)
        self._transfer.take_in()
        place = os.path.dirname(vm_directory(self.root, 0))
        make_directory(place, 0o711)
        outcomes: dict[int, VmOutcome] = {}
        total = len(self.plan.vms) + len(self.plan.given_up)
        with ThreadPoolExecutor(max_workers=min(total, WAITING), thread_name_prefix="vm") as pool:
            # Those that others wait for come first: all that are worked on could be such as wait.
            futures = [pool.submit(self._done, planned) for planned in self._successors.in_turn()]
            futures += [pool.submit(self._power_off, each) for each in self.plan.given_up]
            for future in as_completed(futures):
                outcome = future.result()
                outcomes[outcome.vm_id] = outcome
                if report is not None:
                    failed = sum(1 for each in outcomes.values() if each.error is not None)
                    report(len(outcomes) - failed, failed, total)
        # The directories that were made and removed: one sync for all of them.
        with explained(place):
            sync_directory(place)
        cache.prune(self.root, self.plan)
        self._transfer.prune(lambda: _images_in_use(self.root))
        node.finished(self.root, self.plan.catalog, self.plan.number)
        ids = [*(planned.vm.vm_id for planned in self.plan.vms), *(each.vm_id for each in self.plan.given_up)]
        return [outcomes[vm_id] for vm_id in ids]

    def _survey_site(self, known: node.NodeFile) -> Site:
        """What all machines of this node have in common."""
        chosen = self.driver.choose_accelerator("", known.accelerator)
        if chosen != dict(known.accelerator):
            node.update(self.root, lambda before: replace(before, accelerator=chosen))
        return self._site_with(chosen)

    def _room_left(self) -> int | None:
        """Others may have started machines here since the plan was decided. QEMU would start all the same, and the host
        kill one of them later."""
        if not self.plan.memory:
            return None
        survey = self.driver.survey(self.plan.catalog)
        if survey.foreign_memory <= self.plan.foreign_memory:
            return None
        # Those that are made anew have ended before they take room again.
        anew = {planned.vm.vm_id for planned in self.plan.vms if self._is_recreated(planned)}
        self._occupied = {
            vm.vm_id: vm.memory + self._overhead(vm.memory, None)
            for vm in survey.vms
            if vm.memory and vm.vm_id not in anew
        }
        return self.plan.memory - survey.foreign_memory - sum(self._occupied.values())

    def _is_recreated(self, planned: PlannedVm) -> bool:
        """Whether it still is to be."""
        if planned.operation != "recreate":
            return False
        try:
            record = read_record(vm_directory(self.root, planned.vm.vm_id))
        except NebulaError:
            return False
        return record is None or planned.is_due(record.operated)

    def _overhead(self, memory: int, vcpu: int | None) -> int:
        accelerator = self._site.accelerator if self._site is not None else ""
        return self.driver.overhead(accelerator).of(memory, vcpu)

    def _take_room(self, job: _Job) -> None:
        if job.has_room:
            return
        if self._successors.wait(job.planned):
            # It may have taken as long as a guest takes to shut down.
            self._check_current(job)
        if self._room is None:
            return
        vm = job.vm
        overhead = self._overhead(vm.memory, vm.vcpu)
        with self._taking:
            if self._room < vm.memory + overhead:
                raise NoCapacity(
                    f"virtual machine {vm.name}: {vm.memory} MiB + {overhead} MiB overhead",
                    f"host {self.plan.host} has {max(0, self._room)} MiB left of {self.plan.memory}: machines that are "
                    "not this catalog's were started since this was decided",
                    "End those machines, or give this one another host or less memory, then run again",
                )
            self._room -= vm.memory + overhead
            job.has_room = True

    def _give_room(self, planned: PlannedVm) -> None:
        with self._taking:
            if self._room is not None:
                self._room += self._occupied.pop(planned.vm.vm_id, 0)

    def _site_with(self, chosen: Mapping[str, str]) -> Site:
        return self.driver.site(
            Site(
                directory="",
                catalog=self.plan.catalog,
                generation=0,
                disks={},
                accelerator=chosen["accelerator"],
                cpu_shares=node.cpu_shares(),
            )
        )

    def would_change(self, planned: PlannedVm) -> bool:
        """Whether a machine that is in the state wanted already has something to be done to it. Nothing is made: what
        can't be told without trying counts as a change."""
        vm = planned.vm
        directory = vm_directory(self.root, vm.vm_id)
        if planned.wanted == "DONE":
            return False
        try:
            record, known = read_record(directory), node.read(self.root)
            if record is None or planned.is_due(record.operated):
                return True
            if {task.token for task in planned.tasks} - {each.token for each in record.tasks}:
                return True
            if any(os.path.lexists(disk_path(directory, disk_id)) for disk_id in planned.detached):
                return True
            if planned.wanted == "SUSPENDED":
                return self.is_astray(planned)
            if not known.accelerator or self.is_astray(planned):
                return True
            deployment, context, files = self.would_be(vm, known)
            if disks.would_grow(vm, files, planned.grown):
                return True
            return (deployment.digest, context) != (record.definition, record.context)
        except NebulaError:
            return True

    def would_be(self, vm: Vm, known: node.NodeFile) -> tuple[Deployment, str, dict[int, DiskFiles]]:
        """The machine's definition, the digest of its context, and where its disks belong. Nothing is made."""
        directory = vm_directory(self.root, vm.vm_id)
        files, context = dict(disks.locate(vm, directory, self._transfer.find)), ""
        if vm.context is not None:
            files[vm.context.disk_id] = DiskFiles(disk_path(directory, vm.context.disk_id), "raw")
            sources = cache.gathered(self.root, self.plan, vm.context.files, cache.foreseen(self.root, self.plan))
            with iso9660.built(vm.context.variables, sources, format=vm.context.format, identity=vm.uuid) as iso:
                context = iso.digest
        site = replace(self._site_with(known.accelerator), directory=directory, disks=files)
        return self.driver.render(vm, site), context, files

    def is_astray(self, planned: PlannedVm) -> bool:
        """Whether a boot of the host would not make of the machine what is wanted."""
        mark = Mark(self.plan.catalog, planned.vm.vm_id, planned.vm.uuid)
        return self.driver.starts_with_host(mark) not in (None, starts_with_host(planned.vm, planned.wanted))

    # -- one machine ----------------------------------------------------------------------------------------------
    def _done(self, planned: PlannedVm) -> VmOutcome:
        successful = False
        try:
            outcome = self._outcome(planned)
            successful = outcome.error is None
            if successful and planned.wanted == "DONE":
                self._give_room(planned)
            return outcome
        finally:
            self._successors.done(planned, successful)

    def _power_off(self, machine: GivenUp) -> VmOutcome:
        try:
            record = read_record(vm_directory(self.root, machine.vm_id))
        except (NebulaError, OSError):
            record = None
        found = (record.catalog, record.vm_id, record.uuid) if record is not None else None
        owned = found == (self.plan.catalog, machine.vm_id, machine.uuid)
        return given_up.power_off(self.plan, machine, self.driver, self.root, LOCK_SECONDS, owned)

    def _outcome(self, planned: PlannedVm) -> VmOutcome:
        """Never raises: what goes wrong with one machine is that machine's outcome."""
        vm = planned.vm
        directory = vm_directory(self.root, vm.vm_id)
        mark = Mark(self.plan.catalog, vm.vm_id, vm.uuid, planned.generation)
        job = _Job(planned, mark, directory, Record(self.plan.catalog, vm.vm_id, vm.uuid), VmLog(directory))
        error: NebulaError | None = None
        state = ""
        try:
            check_supported(planned, self.driver)
            with self._held(job):
                try:
                    state = self._carry_out(job)
                    self._remember(job)
                except NebulaError:
                    self._start_with_host_after_all(job)
                    raise
                finally:
                    if job.owned:
                        job.log.save()
        except NebulaError as problem:
            error = problem
        except OSError as problem:
            error = explain(problem, str(problem.filename or directory))
        except Exception as problem:
            error = HypervisorError(
                f"virtual machine {vm.name}",
                f"{type(problem).__name__}: {problem}",
                "This should not happen: report it with the machine's vm.log",
            )
        if error is None:
            told = next((each.error for each in job.told if each.error is not None), None)
            done = VmOutcome(vm.vm_id, planned.generation, state, job.changed, told, job.log.last(), tuple(job.told))
            return replace(done, fitted=job.is_fitted)
        job.log("LCM", "E", str(error))
        state = self._state_after(job, error)
        job.log("DIM" if state in ("DONE", "POWEROFF", "SUSPENDED") else "LCM", "I", f"New VM state is {state}")
        if job.owned and os.path.isdir(directory):
            job.log.save()
        failed = VmOutcome(vm.vm_id, planned.generation, state, job.changed, error.as_dict(), job.log.last())
        return replace(failed, tasks=tuple(job.told), fitted=job.is_fitted)

    def _state_after(self, job: _Job, error: NebulaError) -> str:
        """What the machine is in after a failure: the hypervisor's word where it says more than the failure does."""
        try:
            state = self.driver.state(job.mark)
        except Exception:
            # Whatever it is, the first error is the one to be told.
            return job.stage
        if state == "RUNNING":
            return state
        if state == "POWEROFF" and os.path.exists(job.path(CHECKPOINT)):
            return "SUSPENDED"
        if isinstance(error, StalePlan):
            return state or "UNKNOWN"
        if isinstance(error, Unsupported) and state is not None:
            return state
        return job.stage

    @contextlib.contextmanager
    def _held(self, job: _Job) -> Iterator[None]:
        """The machine's directory, made if it is wanted, locked, known to be ours, and this plan still the newest."""
        planned = job.planned
        while True:
            if planned.wanted == "DONE" and not os.path.isdir(job.directory):
                self._check_current(job)
                yield
                return
            self._make_directory(job)
            self._refuse_other(job)
            held = contextlib.ExitStack()
            try:
                # The slash: a directory that is gone again must not come back as a file to be locked.
                held.enter_context(lock(job.directory + "/", LOCK_SECONDS))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except TimedOut as error:
                error.remedy = REMEDY_LOCKED
                raise
            with held:
                self._refuse_other(job)
                self._check_current(job)
                self._own(job)
                yield
            return

    def _make_directory(self, job: _Job) -> None:
        # No newer plan is accepted in between: it would find nothing to remove, and the directory would stay for ever.
        with node.fence(self.root, self.plan.catalog, self.plan.number) as current:
            if not current:
                raise self._stale(job)
            with contextlib.suppress(FileExistsError):
                os.mkdir(job.directory, 0o711)
                # Not what the umask left of it: QEMU's user has to get through.
                os.chmod(job.directory, 0o711)

    def _refuse_other(self, job: _Job) -> None:
        """ForeignObject for what is in the place of the directory: it would be waited for to go, for ever."""
        asked = f"virtual machine {job.vm.name}: directory {job.directory}"
        try:
            mode = os.lstat(job.directory).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise ForeignObject(
                asked,
                f"it is a symbolic link, to {os.path.realpath(job.directory)}",
                "Remove the link: what it leads to will not be touched",
            )
        if not stat.S_ISDIR(mode):
            raise ForeignObject(asked, "it is no directory", "Move it away: it will not be touched")

    def _check_current(self, job: _Job) -> None:
        if not node.is_current(self.root, self.plan.catalog, self.plan.number):
            raise self._stale(job)

    def _stale(self, job: _Job) -> StalePlan:
        return StalePlan(
            f"virtual machine {job.vm.name}: plan {self.plan.number}",
            "a newer plan was accepted meanwhile, or the node was given back",
            "Nothing: the newer plan does what is left",
        )

    def _own(self, job: _Job) -> None:
        """The machine's record; a directory that holds something and no mark of ours is not ours."""
        asked = f"virtual machine {job.vm.name}: directory {job.directory}"
        found = read_record(job.directory)
        if found is None:
            if _holds_unmarked(job.directory):
                raise ForeignObject(
                    asked, "it holds files, and no mark of ours", "Move it away: it will not be touched"
                )
            # On the disk before anything else is: after a power cut the rest would be taken for somebody else's.
            self._write_record(job.directory, job.record)
            job.owned = True
            return
        if (found.catalog, found.vm_id, found.uuid) != (self.plan.catalog, job.vm.vm_id, job.vm.uuid):
            raise ForeignObject(
                asked,
                f"it belongs to machine {found.vm_id} ({found.uuid}) of catalog {found.catalog}",
                "Move it away: it will not be touched",
            )
        job.record = found
        job.owned = True
        for name in filter(left_behind, os.listdir(job.directory)):
            remove_file(job.path(name))
        if found.generation > job.planned.generation:
            raise StalePlan(
                f"virtual machine {job.vm.name}: generation {job.planned.generation}",
                f"this node has acted on generation {found.generation} already",
                "Run again: a new plan holds all that is unfinished",
            )

    def _remember(self, job: _Job) -> None:
        if job.planned.wanted == "DONE":
            return
        record = replace(job.record, generation=job.planned.generation, images=self._transfer.used(job.vm))
        if job.vm.graphics is not None:
            record = replace(record, port=job.vm.graphics.port)
        self._write_record(job.directory, record)

    def _write_record(self, directory: str, record: Record) -> None:
        text = json.dumps(to_plain(record), indent=1, sort_keys=True) + "\n"
        write_atomically(os.path.join(directory, RECORD), text, mode=0o600)

    def _carry_out(self, job: _Job) -> str:
        if job.planned.wanted == "DONE":
            return self._end(job)
        state = self.driver.state(job.mark)
        if job.planned.operation == "recreate" and job.planned.is_due(job.record.operated):
            # Before anything of it is gone.
            if job.planned.wanted == "RUNNING":
                self._take_room(job)
                self._bridges.require(job.vm)
            if job.planned.wanted != "SUSPENDED" and job.vm.context is not None:
                cache.gathered(self.root, self.plan, job.vm.context.files, self._filled)
            self._unmake(job, anew=True)
            state = None
            self._operated(job)
        if job.planned.wanted == "SUSPENDED":
            return self._to_suspended(job, state)
        return self._to_poweroff(job, state) if job.planned.wanted == "POWEROFF" else self._to_running(job, state)

    # -- towards RUNNING ------------------------------------------------------------------------------------------
    def _to_running(self, job: _Job, state: str | None) -> str:
        was = state
        if was_started(job.planned, job.record, state):
            job.log("LCM", "I", "It was started, and has ended since: it is not started again")
            return "POWEROFF"
        if state == "RUNNING":
            with self._building:
                self._prolog(job, running=True)
            if MARK in job.vm.attributes:
                job.record = replace(job.record, started=job.planned.generation)
            self._start_with_host(job)
            self._see_to_disks(job, "RUNNING")
        elif self._is_suspended(job, state):
            job.stage = "SUSPENDED"
            self._take_room(job)
            with self._building:
                self._resume(job)
                # What was decided about it while it was saved.
                self._prolog(job, running=True)
            self._start_with_host(job)
            self._see_to_disks(job, "RUNNING")
        else:
            if state != "UNKNOWN":
                self._take_room(job)
            job.log("DIM", "I", "New VM state is ACTIVE")
            job.log("LCM", "I", "New VM state is PROLOG")
            # As large as its memory, and of no use to anybody: a save that was broken off.
            remove_file(job.path(PARTIAL))
            with self._building:
                self._prolog(
                    job,
                    running=False,
                    defined=state is not None,
                    boots=state != "UNKNOWN",
                    paused=state == "UNKNOWN",
                )
                if state != "UNKNOWN":
                    self._see_to_disks(job, "POWEROFF")
                # Before it starts: a host that dies in the next moment comes back with it.
                self._start_with_host(job)
                job.log("LCM", "I", "New VM state is BOOT")
                if state != "UNKNOWN":
                    self._bridges.require(job.vm)
                    self._check_port(job)
                    console.mark_start(job.path(console.NAME))
                    self._fence_start(job)
                    closed = job.vm.graphics is not None and bool(job.vm.graphics.password)
                    job.record = replace(job.record, closed=closed)
                self.driver.start(job.mark)
            self._moved(job, "LCM", "RUNNING")
            if state == "UNKNOWN":
                self._see_to_disks(job, "RUNNING")
        if job.planned.operation in ("reboot", "reset") and job.planned.is_due(job.record.operated):
            # A machine that has just been started has done what either is for.
            if was == "RUNNING":
                self._operate(job)
            self._operated(job)
        return "RUNNING"

    def _fence_start(self, job: _Job) -> None:
        """On the disk before it starts, whatever becomes of this run: see was_started()."""
        if MARK in job.vm.attributes:
            job.record = replace(job.record, started=job.planned.generation)
            self._write_record(job.directory, job.record)

    def _start_with_host(self, job: _Job) -> None:
        """By what is wanted. To be called before a machine is stopped or saved: the host may die at any moment, and one
        that was saved must not be booted over its memory."""
        wanted = starts_with_host(job.vm, job.planned.wanted)
        if self.driver.starts_with_host(job.mark) not in (None, wanted):
            self.driver.set_starts_with_host(job.mark, wanted)
            job.changed = True

    def _start_with_host_after_all(self, job: _Job) -> None:
        """A guest that did not obey, or could not be saved, runs on, and is wanted so from now on."""
        if job.planned.wanted not in ("POWEROFF", "SUSPENDED") or not starts_with_host(job.vm, "RUNNING"):
            return
        # The first error is the one to be told.
        with contextlib.suppress(NebulaError):
            if self.driver.state(job.mark) == "RUNNING" and self.driver.starts_with_host(job.mark) is False:
                self.driver.set_starts_with_host(job.mark, True)

    def _prolog(
        self, job: _Job, running: bool, defined: bool = True, boots: bool = False, paused: bool = False
    ) -> None:
        """Disks, context and definition as they are to be. boots: it is about to be started from its disks. paused: it
        neither runs nor is it off."""
        job.stage = "PROLOG_FAILURE"
        vm, known = job.vm, job.record
        if not running:
            self._refuse_restricted(vm)
        # The digests tell what is new, as what is there already is left as it is.
        self._transfer.require(vm)
        job.files = dict(disks.prepare(vm, job.directory, self._transfer.find, self._content_of))
        is_off = not running and not paused
        if is_off and disks.grow(vm, job.files, job.planned.grown):
            job.changed = True
        context = ""
        if vm.context is not None:
            path = disk_path(job.directory, vm.context.disk_id)
            sources = cache.gathered(self.root, self.plan, vm.context.files, self._filled)
            # What check mode foresees too: something of this machine's was not on this node.
            names = {entry.source for source in sources for entry in source.entries}
            job.changed = job.changed or any(cache.path_of(self.root, new) in names for new in self._filled.new)
            # A machine made by a release that did not pad its ISO keeps that until it boots: a guest may have it
            # mounted, and a machine that nobody touches is not changed.
            context = iso9660.write(
                path,
                vm.context.variables,
                sources,
                format=vm.context.format,
                identity=vm.uuid,
                keep_unpadded=not boots,
            )
            job.files[vm.context.disk_id] = DiskFiles(path, "raw")
        job.stage = "BOOT_FAILURE"
        deployment = self.driver.render(vm, self._site_of(job))
        if deployment.digest != job.record.definition or not defined:
            path = job.path(f"deployment.{job.planned.seq}")
            job.log("VMM", "I", f"Generating deployment file: {path}")
            write_atomically(path, deployment.text, mode=0o600)
            self.driver.define(vm, deployment, job.mark)
            job.record = replace(job.record, definition=deployment.digest)
            job.changed = True
        adjusts = running and "adjust" in self.driver.capabilities
        if adjusts:
            job.changed = self.driver.adjust(vm, self._site_of(job), job.mark) or job.changed
        if is_off or adjusts:
            # What a machine still has while it runs stays until it is off.
            self._take_away(job)
        job.fitted = is_off or (adjusts and not job.planned.grown)
        if context != job.record.context:
            if running and vm.context is not None:
                at_once = self.driver.change_medium(vm, job.mark, disk_path(job.directory, vm.context.disk_id))
                later = "" if at_once else ": the machine has it when it is started the next time"
                job.log("VMM", "I", f"The context was changed{later}")
            job.record = replace(job.record, context=context)
            job.changed = True
        if job.record != known:
            # Before it starts: a run that finishes what a killed one began must not take the medium from a guest that
            # has just begun to boot.
            self._write_record(job.directory, job.record)

    def _refuse_restricted(self, vm: Vm) -> None:
        """What its guest could read from then on. One that runs has it already."""
        for name, path in (("KERNEL", vm.os.kernel), ("INITRD", vm.os.initrd), ("FIRMWARE", vm.os.firmware)):
            # FIRMWARE may be a word.
            if path.startswith("/"):
                self._rules.refuse_medium(f"virtual machine {vm.name}: OS/{name} = {path}", path)

    def _take_away(self, job: _Job) -> None:
        """The files of disks that the machine has no more."""
        there = {disk.disk_id for disk in job.vm.disks} | ({job.vm.context.disk_id} if job.vm.context else set())
        gone = [disk_id for disk_id in job.planned.detached if disk_id not in there]
        if gone:
            given = self._transfer.give_up(job.directory, job.vm, gone)
            job.changed = disks.remove(job.directory, gone) or given or job.changed

    def _content_of(self, entry: Injected) -> inject.Entry:
        if entry.file is None:
            return disks.entry_of(entry, entry.content.encode())
        found = cache.gathered(self.root, self.plan, [entry.file], self._filled)[0].entries
        if len(found) != 1 or found[0].directory:
            raise InvalidValue(
                f"INJECT: SRC = {entry.file.source}", "it is a directory", "Name a file, or give each its own entry"
            )
        return disks.entry_of(entry, read_limited(found[0].source, LARGEST_FILE), found[0].executable)

    def _site_of(self, job: _Job) -> Site:
        if self._site is None:
            raise HypervisorError("a plan", "it is not accepted yet")
        return replace(self._site, directory=job.directory, generation=job.planned.generation, disks=job.files)

    def _check_port(self, job: _Job) -> None:
        """A stranger may have taken the console's port since the plan was made; QEMU would only say that it can't."""
        graphics = job.vm.graphics
        if graphics is None or not graphics.port:
            return
        address = graphics.listen or defaults.GRAPHICS_LISTEN
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            # As QEMU does, so that connections of an ended machine that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, graphics.port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return
                raise NoCapacity(
                    f"virtual machine {job.vm.name}: GRAPHICS port {graphics.port} on {address}",
                    "another program listens on it",
                    "Run again: the next plan takes another port, unless the template sets GRAPHICS PORT itself",
                ) from error

    def _operate(self, job: _Job) -> None:
        console.mark_start(job.path(console.NAME))
        if job.planned.operation == "reset":
            self.driver.reset(job.mark)
        else:
            self.driver.reboot(job.mark, job.planned.shutdown_timeout)
        job.log("VMM", "I", f"Successfully executed: {job.planned.operation}")
        job.changed = True

    def _operated(self, job: _Job) -> None:
        """At once, not with the rest: what fails later must not have it done again."""
        job.record = replace(job.record, operated=job.planned.operated)
        self._write_record(job.directory, job.record)

    # -- disks ----------------------------------------------------------------------------------------------------
    def _see_to_disks(self, job: _Job, state: str) -> None:
        """The plan's tasks, each once. One that fails is told, and the others go on; only a machine whose disk should
        have become another does not start with the one that it has."""
        if not job.planned.tasks:
            return
        tokens = {task.token for task in job.planned.tasks}
        done = {each.token: each for each in job.record.tasks if each.token in tokens}
        files = job.files or disks.locate(job.vm, job.directory, self._transfer.find)
        for task in job.planned.tasks:
            if task.token in done:
                job.told.append(done[task.token])
                continue
            try:
                outcome = disk_tasks.carry_out(task, job.vm, job.mark, files, state, self.driver)
            except (NebulaError, OSError) as problem:
                error = problem if isinstance(problem, NebulaError) else explain(problem, job.directory)
                job.log("VMM", "E", str(error))
                job.told.append(TaskOutcome(task.token, error=error.as_dict()))
                if task.kind == REVERT:
                    job.stage = "POWEROFF" if state == "POWEROFF" else job.stage
                    raise error from problem
                continue
            if task.kind == SAVE_AS:
                self._transfer.saved(task.target)
            job.log("VMM", "I", f"Successfully executed: {task.kind} {task.name or task.image}")
            job.changed = True
            job.told.append(outcome)
            done[task.token] = outcome
            # At once: what is done must not be done again.
            job.record = replace(job.record, tasks=tuple(done.values()))
            self._write_record(job.directory, job.record)
        job.record = replace(job.record, tasks=tuple(done.values()))

    # -- towards SUSPENDED ----------------------------------------------------------------------------------------
    def _is_suspended(self, job: _Job, state: str | None) -> bool:
        return state in (None, "POWEROFF") and os.path.exists(job.path(CHECKPOINT))

    def _to_suspended(self, job: _Job, state: str | None) -> str:
        partial, checkpoint = job.path(PARTIAL), job.path(CHECKPOINT)
        job.stage = state or "PROLOG_FAILURE"
        self._start_with_host(job)
        if self._is_suspended(job, state):
            self._see_to_disks(job, "SUSPENDED")
            return "SUSPENDED"
        if state == "RUNNING":
            job.log("LCM", "I", "New VM state is SAVE_SUSPEND")
            remove_file(partial)
            self.driver.suspend(job.mark, partial)
        elif state != "POWEROFF" or not self.driver.checkpoint_complete(partial):
            raise WrongState(
                f"suspending virtual machine {job.vm.name}",
                f"it is {state or 'not there'}, and only a running machine can be suspended",
                "Start it first",
            )
        # Here too if a killed run got as far as the saving, and no further.
        adopt(partial, 0o600)
        with explained(checkpoint):
            # libvirt does not say whether it waited for the disk, and the machine's memory is nowhere else now.
            settle(partial)
            os.rename(partial, checkpoint)
            sync_directory(job.directory)
        self._moved(job, "DIM", "SUSPENDED")
        self._see_to_disks(job, "SUSPENDED")
        return "SUSPENDED"

    def _resume(self, job: _Job) -> None:
        job.stage = "SUSPENDED"
        checkpoint = job.path(CHECKPOINT)
        if not self.driver.checkpoint_complete(checkpoint):
            raise WrongState(
                f"resuming virtual machine {job.vm.name}",
                f"{checkpoint} is not complete",
                "Power it off hard, which gives its saved memory up, then start it",
            )
        self._check_disks_unchanged(job, checkpoint)
        job.log("LCM", "I", "New VM state is BOOT_SUSPENDED")
        self._bridges.require(job.vm)
        self._check_port(job)
        self.driver.resume(job.mark, checkpoint)
        os.unlink(checkpoint)
        self._moved(job, "LCM", "RUNNING")

    def _check_disks_unchanged(self, job: _Job, checkpoint: str) -> None:
        """Memory that is older than the disks would destroy their file systems."""
        saved = os.stat(checkpoint).st_mtime
        for disk in job.vm.disks:
            path = os.path.realpath(disk_path(job.directory, disk.disk_id))
            if not disk.readonly and os.path.exists(path) and os.stat(path).st_mtime > saved:
                raise WrongState(
                    f"resuming virtual machine {job.vm.name}",
                    f"disk {disk.disk_id} was written after the machine was saved",
                    "Power it off hard, which gives its saved memory up, then start it",
                )

    # -- towards POWEROFF and DONE --------------------------------------------------------------------------------
    def _to_poweroff(self, job: _Job, state: str | None) -> str:
        self._start_with_host(job)
        if self._is_suspended(job, state):
            if job.planned.hard:
                remove_file(job.path(CHECKPOINT))
                self._moved(job, "DIM", "POWEROFF")
            else:
                job.stage = "SUSPENDED"
                self._take_room(job)
                with self._building:
                    self._resume(job)
                state = "RUNNING"
        if state in ("RUNNING", "UNKNOWN"):
            self._stop(job, state, "SHUTDOWN_POWEROFF")
            self._moved(job, "DIM", "POWEROFF")
        with self._building:
            self._prolog(job, running=False, defined=state is not None)
            self._see_to_disks(job, "POWEROFF")
        return "POWEROFF"

    def _stop(self, job: _Job, state: str, on_the_way: str) -> None:
        job.stage = state
        job.log("LCM", "I", f"New VM state is {on_the_way}")
        if job.planned.hard:
            self.driver.cancel(job.mark)
            return
        if state == "UNKNOWN":
            # One that is paused can't obey.
            self.driver.start(job.mark)
        self.driver.shutdown(job.mark, job.planned.shutdown_timeout)

    def _end(self, job: _Job) -> str:
        # A name that somebody else has by now is no reason to keep what is ours.
        elsewhere = self.driver.is_foreign(job.mark, job.directory)
        state = None if elsewhere else self.driver.state(job.mark)
        if state is not None and not job.planned.hard and state in ("RUNNING", "UNKNOWN"):
            self._stop(job, state, "SHUTDOWN")
        job.stage = "EPILOG_FAILURE"
        if state is not None or os.path.isdir(job.directory):
            job.log("LCM", "I", "New VM state is EPILOG")
            self._unmake(job, domain=not elsewhere)
            self._remove_directory(job)
            self._moved(job, "DIM", "DONE")
        return "DONE"

    def _remove_directory(self, job: _Job) -> None:
        """The record goes last: what a run leaves that is killed before that is still known for ours, and the next run
        removes it. No log is written beside a record that is gone, for the same reason."""
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(job.directory)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                elif entry.name != RECORD:
                    remove_file(entry.path)
            job.owned = False
            shutil.rmtree(job.directory)

    def _unmake(self, job: _Job, domain: bool = True, anew: bool = False) -> None:
        """Domain and disks; images stay. anew: both are about to be made again."""
        if domain:
            job.changed = self.driver.remove(job.mark) or job.changed
        if os.path.isdir(job.directory):
            job.changed = self._transfer.give_up(job.directory, job.vm if anew else None) or job.changed
            job.changed = disks.remove(job.directory) or job.changed
            for name in (CHECKPOINT, PARTIAL):
                remove_file(job.path(name))
        job.record = replace(job.record, definition="", context="")

    def _moved(self, job: _Job, component: str, state: str) -> None:
        job.log(component, "I", f"New VM state is {state}")
        job.changed = True


def check_supported(planned: PlannedVm, driver: Driver) -> None:
    """Unsupported if the machine is another hypervisor's, or if this one can't do what the plan asks for."""
    asked = f"virtual machine {planned.vm.name}"
    if planned.operation == ADOPT:
        raise Unsupported(asked, "this plan is for comparing it only", "Run playbook nebula.provision.site")
    if planned.vm.hypervisor != driver.name:
        raise Unsupported(
            f"{asked} for hypervisor {planned.vm.hypervisor}",
            f"this node runs {driver.name}",
            "Set nebula_hypervisor of this host to what it runs, then run again",
        )
    for operation in sorted(_operations(planned) - driver.capabilities):
        raise driver.lacks(operation, f"{asked}: {operation}")


# What is asked of a driver while the machine runs.
_LIVE = {SAVE_AS: "copy_disk", CREATE: "snapshot_disk", DELETE: "delete_disk_snapshot"}


def _operations(planned: PlannedVm) -> set[str]:
    """Those of Driver.OPTIONAL that the plan may come to, told by the plan alone: what is refused is not looked at."""
    found = {planned.operation} & Driver.OPTIONAL
    if planned.wanted == "SUSPENDED":
        found |= {"suspend", "resume"}
    if planned.wanted == "RUNNING":
        found |= {_LIVE[task.kind] for task in planned.tasks if task.kind in _LIVE}
    if planned.wanted in ("POWEROFF", "DONE") and not planned.hard:
        found.add("shutdown")
    return found


def was_started(planned: PlannedVm, record: Record | None, state: str | None) -> bool:
    """Whether a machine that installs has been started by this very decision, and has ended since. Any run carries out
    what is unfinished, also where nobody has recorded what came of it: the installer would run a second time, over what
    it has installed."""
    installs = planned.wanted == "RUNNING" and MARK in planned.vm.attributes
    return installs and state == "POWEROFF" and record is not None and record.started >= planned.generation


def left_behind(name: str) -> bool:
    """A file that a killed run had not given its own name yet."""
    return name.startswith(".") and name.endswith(".tmp")


def read_record(directory: str) -> Record | None:
    """None: there is none, or only an empty one that a power cut left."""
    path = os.path.join(directory, RECORD)
    try:
        text = read_limited(path, node.LARGEST, follow=False).decode()
        return from_plain(Record, json_value(text)) if text.strip() else None
    except NotFound:
        return None
    except (ValueError, NebulaError) as error:
        raise ForeignObject(
            f"file {path}", f"it can't be read: {error}", "Put back what it was, or move the directory away"
        ) from error


def poll(driver: Driver | None, root: str, host: str, catalog: str = "", hypervisor: str = "") -> Observed:
    """What really is on this node, read-only. driver None: `hypervisor` is not here yet.

    catalog: whose machines; "" for those of the catalog that this node follows.
    """
    known = node.read(root)
    catalog = catalog or known.catalog
    memory, cpu = driver.capacity() if driver is not None else (node.memory(), float(node.processors()))
    survey = driver.survey(catalog) if driver is not None else None
    vms = [_with_record(root, seen) for seen in survey.vms] if survey is not None else []
    running = [record for seen, record in vms if record is not None and seen.state not in ("POWEROFF", "SUSPENDED")]
    ours = {record.port for record in running if record.port}
    return Observed(
        host=host,
        hypervisor=driver.name if driver is not None else hypervisor,
        catalog=known.catalog,
        plan_number=known.plan,
        done_number=known.done,
        memory=memory,
        cpu=cpu,
        foreign_memory=survey.foreign_memory if survey is not None else 0,
        foreign_ids=tuple(sorted(foreign_directories(root, catalog) | (survey.foreign_ids if survey else frozenset()))),
        ports=tuple(sorted(node.listening_ports() - ours)),
        vms=tuple(_with_console(driver, catalog, seen, record) for seen, record in vms),
        as_of=int(time.time()),
        facts=node.facts(known),
        contents=cache.digests(root),
        images=arrivals.kept(root),
        returns=arrivals.returns(root),
        room=arrivals.free(root),
        networks=links.networks_here(catalog) if catalog else None,
    )


def _images_in_use(root: str) -> set[str]:
    """What the machines of this node rest on of its copies of images."""
    found: set[str] = set()
    place = os.path.dirname(vm_directory(root, 0))
    for name in os.listdir(place):
        if name.isdigit():
            record = read_record(os.path.join(place, name))
            found.update(record.images if record is not None else ())
    return found


def foreign_directories(root: str, catalog: str) -> frozenset[int]:
    """Ids whose directories hold something, and no mark of this catalog's."""
    found = set()
    place = os.path.dirname(vm_directory(root, 0))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in filter(re.compile(r"0|[1-9]\d{0,17}").fullmatch, os.listdir(place)):
            try:
                record = read_record(os.path.join(place, name))
                ours = record.catalog == catalog if record else not _holds_unmarked(os.path.join(place, name))
            except (NebulaError, OSError):
                ours = False
            found |= set() if ours else {int(name)}
    return frozenset(found)


def _holds_unmarked(directory: str) -> bool:
    return any(name != RECORD and not left_behind(name) for name in os.listdir(directory))


def _with_console(driver: Driver | None, catalog: str, seen: ObservedVm, record: Record | None) -> ObservedVm:
    """Whether its console is open is asked of the hypervisor only where that is not known: a poll is cheap."""
    if driver is None or record is None or not record.port or record.closed or seen.state != "RUNNING":
        return seen
    return replace(seen, open_console=driver.has_open_console(Mark(catalog, seen.vm_id, seen.uuid, seen.generation)))


def _with_record(root: str, seen: ObservedVm) -> tuple[ObservedVm, Record | None]:
    directory = vm_directory(root, seen.vm_id)
    try:
        record = read_record(directory)
    except NebulaError:
        record = None
    state = seen.state
    if state == "POWEROFF" and os.path.exists(os.path.join(directory, CHECKPOINT)):
        state = "SUSPENDED"
    generation = seen.generation if record is None else max(seen.generation, record.generation)
    return replace(seen, state=state, generation=generation), record


def predict(plan: Plan, observed: Observed, driver: Driver | None, root: str) -> list[VmOutcome]:
    """What apply() would do, as far as can be told without doing it: for check mode. driver None: there is no
    hypervisor here yet, so observed has no machine either."""
    batch = Batch(plan, driver, root) if driver is not None else None
    states = {seen.vm_id: seen.state for seen in observed.vms}
    outcomes = []
    for planned in plan.vms:
        vm_id = planned.vm.vm_id
        state = states.get(vm_id, "" if os.path.isdir(vm_directory(root, vm_id)) else "DONE")
        if _is_over(root, planned, state):
            outcomes.append(VmOutcome(vm_id, planned.generation, state))
            continue
        changed = state != planned.wanted or (batch is not None and batch.would_change(planned))
        outcomes.append(VmOutcome(vm_id, planned.generation, planned.wanted, changed))
    ended = [(each, given_up.would_change(each, driver, plan.catalog)) for each in plan.given_up]
    return [*outcomes, *(VmOutcome(each.vm_id, 0, "POWEROFF", changed) for each, changed in ended)]


def _is_over(root: str, planned: PlannedVm, state: str) -> bool:
    try:
        return was_started(planned, read_record(vm_directory(root, planned.vm.vm_id)), state)
    except NebulaError:
        return False
