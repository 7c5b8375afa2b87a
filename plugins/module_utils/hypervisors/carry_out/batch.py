# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out on this node, with any driver. Many machines are worked on at once; what fails with one of them
is told of that machine, and the others go on. Applying a plan twice is the same as once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from ...context import files_on_node
from ...dataclass import replace
from ...errors import HypervisorError, NebulaError, NotFound, StalePlan, Unsupported
from ...host import node_file
from ...host.files import explain, explained, make_directory, sync_directory
from ...host.restricted_directories import Rules
from ...host.vm_log import VmLog
from ...model import defaults
from ...model.move import ARRIVED, COMING, HAS_LEFT, IS_ABSENT
from ...model.plan import GivenUp, Plan, PlannedVm, VmOutcome
from ...storage import machine_disks, roots, transfer_methods
from ...storage.datastore_layout import vm_directory
from ..base import Driver, Mark
from ..machine_record import Record, images_in_use, read_record
from ..moves import node_moves
from . import autostart, fence, power_off_given_up, state_changes
from .bridges import Bridges
from .definition import site_with
from .job import Common, Job
from .memory_left import Room
from .suspension import is_suspended
from .unsupported import check_supported

if TYPE_CHECKING:
    from .moves import Moves

# Machines that are worked on at once. More of them wait for guests to obey than are built: building keeps processors
# and disks busy, waiting does not.
WAITING = 32

Report = Callable[[int, int, int], None]
"""done, failed, total: after each machine."""


class Batch:
    """Carries out the machines of one plan.
    threads: how many of them are built at once; 0 or less: as many as this node's processors can keep busy.
    rules: which files of this node machines may boot.
    detach_timeout: seconds that a guest has to let go of a disk or NIC."""

    def __init__(
        self,
        plan: Plan,
        driver: Driver,
        root: str,
        threads: int = 0,
        rules: Rules | None = None,
        detach_timeout: int = defaults.DETACH_SECONDS,
    ) -> None:
        self._transfer = transfer_methods.of_plan(root, plan)
        self.plan = replace(plan, vms=tuple(map(self._transfer.localized, plan.vms)))
        self.driver = driver
        self.root = root
        self._rules = rules if rules is not None else Rules(own=root)
        self._detach_timeout = detach_timeout
        self._threads = threads if threads > 0 else min(max(2 * node_file.processors(), 2), 8)

    def apply(self, report: Report | None = None) -> list[VmOutcome]:
        """Return the outcomes in the plan's order; machines that were given up come after the others. Raise StalePlan
        or ForeignObject for the plan as a whole, before anything is touched."""
        if not self.plan.vms and not self.plan.given_up and not self.plan.leftovers:
            return []
        known = node_file.accept(self.root, self.plan.catalog, self.plan.number, self.plan.proof)
        common = self._common(known)
        self._transfer.take_in()
        place = os.path.dirname(vm_directory(self.root, 0))
        make_directory(place, 0o711)
        outcomes: dict[int, VmOutcome] = {}
        total = len(self.plan.vms) + len(self.plan.given_up)
        with contextlib.ExitStack() as held:
            moving = 0
            if common.moves is not None:
                held.enter_context(node_moves.alone(self.root))
                held.callback(common.moves.close)
                common.moves.open()
                common.moves.clear_leftovers(common)
                # All at once: each waits for its other host.
                moving = sum(1 for planned in self.plan.vms if planned.move is not None)
            most = max(1, min(total, max(WAITING, moving)))
            pool = held.enter_context(ThreadPoolExecutor(most, thread_name_prefix="vm"))
            # Machines that others wait for come first: else all threads could be waiting.
            futures = [
                pool.submit(_carry_out_and_tell, common, planned) for planned in common.room.successors.in_turn()
            ]
            futures += [pool.submit(self._power_off, each) for each in self.plan.given_up]
            for future in as_completed(futures):
                outcome = future.result()
                outcomes[outcome.vm_id] = outcome
                if report is not None:
                    failed = sum(1 for each in outcomes.values() if each.error is not None)
                    report(len(outcomes) - failed, failed, total)
        brought = {each.vm.vm_id for each in self.plan.vms if each.move is None and not outcomes[each.vm.vm_id].error}
        node_moves.forget(self.root, self.plan.catalog, self.plan.number, self.plan.moving, brought)
        # The directories that were made and removed: one sync for all of them.
        with explained(place):
            sync_directory(place)
        files_on_node.prune(self.root, self.plan)
        self._transfer.prune(lambda: images_in_use(self.root))
        if self.driver.has_directories:
            roots.prune(self.root)
        node_file.finished(self.root, self.plan.catalog, self.plan.number)
        ids = [*(planned.vm.vm_id for planned in self.plan.vms), *(each.vm_id for each in self.plan.given_up)]
        return [outcomes[vm_id] for vm_id in ids]

    def _common(self, known: node_file.NodeFile) -> Common:
        """Return what all machines of the plan have in common. known: nebula.node, once this plan was accepted."""
        chosen = self.driver.choose_accelerator("", known.accelerator)
        if chosen != dict(known.accelerator):
            node_file.update(self.root, lambda before: replace(before, accelerator=chosen))
        site = site_with(self.driver, self.plan.catalog, chosen)
        return Common(
            plan=self.plan,
            driver=self.driver,
            root=self.root,
            rules=self._rules,
            transfer=self._transfer,
            site=site,
            room=Room(self.plan, self.driver, self.root, site.accelerator),
            bridges=Bridges(self.plan),
            filled=files_on_node.keep_contents(self.root, self.plan),
            building=threading.BoundedSemaphore(self._threads),
            changing=threading.BoundedSemaphore(self._threads),
            detach_timeout=self._detach_timeout,
            moves=_moves_of(self.plan),
        )

    def _power_off(self, machine: GivenUp) -> VmOutcome:
        try:
            record = read_record(vm_directory(self.root, machine.vm_id))
        except (NebulaError, OSError):
            record = None
        found = (record.catalog, record.vm_id, record.uuid) if record is not None else None
        owned = found == (self.plan.catalog, machine.vm_id, machine.uuid)
        return power_off_given_up.power_off(self.plan, machine, self.driver, self.root, fence.LOCK_SECONDS, owned)


def _moves_of(plan: Plan) -> Moves | None:
    """Return what carries out the plan's moves; None if it has nothing of the kind."""
    if not plan.leftovers and all(planned.move is None for planned in plan.vms):
        return None
    # What few plans need takes its time to import.
    from .moves import Moves

    return Moves(plan)


def _carry_out_and_tell(common: Common, planned: PlannedVm) -> VmOutcome:
    """Return the outcome of one machine, after telling it to those machines that wait for its place."""
    successful = False
    try:
        outcome = _carry_out(common, planned)
        successful = outcome.error is None
        if successful and planned.wanted == "DONE":
            common.room.give_back(planned.vm.vm_id)
        return outcome
    finally:
        common.room.successors.done(planned, successful)


def _carry_out(common: Common, planned: PlannedVm) -> VmOutcome:
    """Return the outcome of one machine, whatever goes wrong with it; it never raises."""
    vm = planned.vm
    directory = vm_directory(common.root, vm.vm_id)
    mark = Mark(common.plan.catalog, vm.vm_id, vm.uuid, planned.generation)
    job = Job(common, planned, mark, directory, Record(common.plan.catalog, vm.vm_id, vm.uuid), VmLog(directory))
    error: NebulaError | None = None
    state = moved = ""
    try:
        check_supported(planned, common.driver)
        if planned.move is not None and common.moves is not None:
            try:
                moved = common.moves.carry_out(job)
                # One that went off with this host is off, and is not to be: an ordinary plan brings it up.
                is_open = moved in (HAS_LEFT, IS_ABSENT) or job.went_down
                state = "UNKNOWN" if is_open else common.driver.state(job.mark) or "POWEROFF"
            finally:
                if job.owned and os.path.isdir(directory):
                    job.log.save()
        else:
            state = _brought_to_its_state(job)
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
        task_error = next((each.error for each in job.task_outcomes if each.error is not None), None)
        done = VmOutcome(
            vm.vm_id, planned.generation, state, job.changed, task_error, job.log.last(), tuple(job.task_outcomes)
        )
        return replace(done, fitted=job.is_fitted, waits=job.waits_in(state), notes=job.notes, moved=moved)
    job.log("LCM", "E", str(error))
    state = _state_after(job, error)
    job.log("DIM" if state in ("DONE", "POWEROFF", "SUSPENDED") else "LCM", "I", f"New VM state is {state}")
    if job.owned and os.path.isdir(directory):
        job.log.save()
    failed = VmOutcome(vm.vm_id, planned.generation, state, job.changed, error.as_dict(), job.log.last())
    stays, untouched = _stays(job, state), _is_untouched(job, state)
    failed = replace(failed, stays=stays, untouched=untouched, notes=job.notes)
    moved = common.moves.answer_after(job, error) if common.moves is not None else ""
    if moved in (HAS_LEFT, IS_ABSENT):
        failed = replace(failed, state="UNKNOWN")
    return replace(failed, tasks=tuple(job.task_outcomes), fitted=job.is_fitted, moved=moved)


def _brought_to_its_state(job: Job) -> str:
    """Bring the machine to the state that is wanted. Return the state that it is in afterwards."""
    with fence.hold(job):
        try:
            _take_over_copy(job)
            state = state_changes.carry_out(job)
            fence.write_final_record(job)
        except NebulaError:
            autostart.set_autostart_after_failure(job)
            raise
        finally:
            if job.owned:
                job.log.save()
    return state


def _take_over_copy(job: Job) -> None:
    """Have a machine go on of which a copy came here that nobody had brought up: it is this host's by the catalog."""
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    if entry is None or entry.stage not in (COMING, ARRIVED) or job.planned.wanted == "DONE":
        return
    find = job.common.transfer.find
    if entry.shared:
        machine_disks.open_shared(job.vm, job.directory, find)
    if entry.stage == ARRIVED and not job.record.coming:
        return
    files = {
        **machine_disks.own_disks(job.vm, job.directory, find),
        **machine_disks.own_roots(job.vm, job.directory, find),
    }
    paths = {number: file.path for number, file in files.items()}
    paths.update(job.common.driver.own_roots(job.vm, job.directory))
    lacking = [number for number, path in paths.items() if not os.path.lexists(path)]
    if job.record.coming and lacking and job.planned.operation != "recreate":
        raise NotFound(
            f"virtual machine {job.vm.name}: disk {lacking[0]}",
            "it did not come with the machine from its old host",
            "Bring it back from a backup, or make the machine anew (recreate: true)",
        )
    # It may be here without a definition that lasts.
    job.record = replace(job.record, coming="", definition="")


def _stays(job: Job, state: str) -> tuple[str, ...]:
    """Return what the machine was to lose while it ran, and still has."""
    if state != "RUNNING" or not (job.planned.refitted and job.planned.agreed):
        return ()
    try:
        return job.common.driver.devices_left(job.vm, job.directory, job.mark)
    except Exception:
        # Whatever it is, the first error is the one to be told.
        return ()


def _is_untouched(job: Job, state: str) -> bool:
    """Return VmOutcome.untouched: a run that was broken off may have done some of it before."""
    if state != "RUNNING" or not job.refused:
        return False
    try:
        return not job.common.driver.has_begun(job.vm, job.directory, job.mark)
    except Exception:
        # Whatever it is, the first error is the one to be told.
        return False


def _state_after(job: Job, error: NebulaError) -> str:
    """Return the machine's state after a failure: the hypervisor's word where it says more than the failure."""
    try:
        state = job.common.driver.state(job.mark)
    except Exception:
        # Whatever it is, the first error is the one to be told.
        return job.stage
    if state in ("RUNNING", "SUSPENDED"):
        return state
    if state == "POWEROFF" and is_suspended(job, state):
        return "SUSPENDED"
    if isinstance(error, StalePlan):
        return state or "UNKNOWN"
    if isinstance(error, Unsupported) and state is not None:
        return state
    return job.stage
