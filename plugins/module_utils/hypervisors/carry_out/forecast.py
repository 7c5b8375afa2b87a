# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foretells what carrying out a plan would change, as far as that can be told without doing it: for check mode, and
for machines that are compared with a plan."""

from __future__ import annotations

import os

from ...context import files_on_node, iso9660
from ...dataclass import replace
from ...errors import NebulaError, Unsupported
from ...host import node_file
from ...host.restricted_directories import Rules
from ...model.disk import DiskFiles
from ...model.installation_marks import starts_with_host
from ...model.plan import ADOPT, Observed, Plan, PlannedVm, VmOutcome
from ...model.vm import Vm
from ...storage import machine_disks, transfer_methods
from ...storage.datastore_layout import disk_path, vm_directory
from ..base import Adjustment, Deployment, Driver, Mark
from ..machine_record import read_record, was_started
from . import disk_saves_and_snapshots, named_files, power_off_given_up, system_snapshot_tasks
from .bridges import Bridges
from .definition import site_with
from .unsupported import check_supported

# The states of a machine that is not there or is off.
_OFF = ("", "DONE", "POWEROFF")


class Forecast:
    """Foretells what would be done to the machines of a plan. Nothing is made, defined or started. plan: with the
    paths that its images have on this node."""

    def __init__(self, plan: Plan, driver: Driver, root: str) -> None:
        self._transfer = transfer_methods.of_plan(root, plan)
        self.plan = replace(plan, vms=tuple(map(self._transfer.localized, plan.vms)))
        self.driver = driver
        self.root = root
        self._bridges = Bridges(self.plan)

    def would_change(self, planned: PlannedVm) -> bool:
        """Return whether something is to be done to a machine that already is in the state wanted. Nothing is made:
        what can't be told without trying counts as a change."""
        vm = planned.vm
        directory = vm_directory(self.root, vm.vm_id)
        if planned.wanted == "DONE":
            return False
        try:
            record, known = read_record(directory), node_file.read(self.root)
            if record is None or planned.is_due(record.operated):
                return True
            if {task.token for task in planned.tasks} - {each.token for each in record.tasks}:
                return True
            if any(os.path.lexists(disk_path(directory, disk_id)) for disk_id in planned.detached):
                return True
            if planned.wanted == "SUSPENDED":
                return self.has_wrong_autostart(planned)
            if not known.accelerator or self.has_wrong_autostart(planned):
                return True
            if planned.wanted == "RUNNING" and planned.grown and self.driver.grows_running_disks:
                return True
            deployment, context, files = self.foresee_definition(vm, known)
            # Those of a machine that runs wait until it is off.
            if planned.wanted == "POWEROFF" and machine_disks.would_grow(
                vm, files, planned.grown, self.driver.has_directories
            ):
                return True
            return (deployment.digest, context) != (record.definition, record.context)
        except NebulaError:
            return True

    def refused_tasks(self, planned: PlannedVm, state: str) -> dict[str, NebulaError]:
        """Return the errors of tasks with the machine's disks that can't be done, by token. state: the machine's."""
        # In which state it will be for others then, and what its guest is like, nothing tells.
        tasks = [task for task in planned.tasks if state == planned.wanted or system_snapshot_tasks.runs_after(task)]
        if not tasks:
            return {}
        mark = Mark(self.plan.catalog, planned.vm.vm_id, planned.vm.uuid)
        record = read_record(vm_directory(self.root, planned.vm.vm_id))
        done = {each.token for each in record.tasks} if record is not None else set()
        refused = {}
        for task in tasks:
            try:
                if task.token not in done:
                    disk_saves_and_snapshots.check(task, planned.vm, mark, state, self.driver)
            except NebulaError as error:
                refused[task.token] = error
        return refused

    def foresee_definition(self, vm: Vm, known: node_file.NodeFile) -> tuple[Deployment, str, dict[int, DiskFiles]]:
        """Return the machine's definition, the digest of its context, and where its disks belong. Nothing is made."""
        directory = vm_directory(self.root, vm.vm_id)
        files, context = dict(machine_disks.locate(vm, directory, self._transfer.find)), ""
        if vm.context is not None:
            files[vm.context.disk_id] = DiskFiles(disk_path(directory, vm.context.disk_id), "raw")
            sources = files_on_node.context_files(
                self.root, self.plan, vm.context.files, files_on_node.missing_contents(self.root, self.plan)
            )
            with iso9660.build_iso(vm.context.variables, sources, format=vm.context.format, identity=vm.uuid) as iso:
                context = iso.digest
        site = replace(
            site_with(self.driver, self.plan.catalog, known.accelerator),
            directory=directory,
            disks=files,
            userspace_switch=self._bridges.is_userspace(vm),
        )
        return self.driver.render(vm, site), context, files

    def why_not_adjusted(self, planned: PlannedVm) -> NebulaError | None:
        """Return why the machine can't be changed while it runs, as far as the machine itself tells. What is not there
        yet, images and bridges, comes before it is changed."""
        vm = planned.vm
        mark = Mark(self.plan.catalog, vm.vm_id, vm.uuid)
        directory = vm_directory(self.root, vm.vm_id)
        try:
            files = dict(machine_disks.locate(vm, directory, self._transfer.find))
            if vm.context is not None:
                files[vm.context.disk_id] = DiskFiles(disk_path(directory, vm.context.disk_id), "raw")
            site = site_with(self.driver, self.plan.catalog, node_file.read(self.root).accelerator)
            site = replace(site, directory=directory, disks=files, userspace_switch=self._bridges.is_userspace(vm))
            self.driver.check_adjustment(vm, site, mark, Adjustment(planned.grown, planned.agreed))
        except Unsupported as error:
            return error
        except NebulaError:
            return None
        return None

    def has_wrong_autostart(self, planned: PlannedVm) -> bool:
        """Return whether a boot of the host would leave the machine in another state than is wanted."""
        mark = Mark(self.plan.catalog, planned.vm.vm_id, planned.vm.uuid)
        return self.driver.starts_with_host(mark) not in (None, starts_with_host(planned.vm, planned.wanted))


def predict(
    plan: Plan, observed: Observed, driver: Driver | None, root: str, rules: Rules | None = None
) -> list[VmOutcome]:
    """Return what apply() would do, as far as that can be told without doing it: for check mode.
    driver: None if there is no hypervisor here yet; observed has no machine either then.
    rules: which files of this node machines may boot."""
    rules = rules if rules is not None else Rules(own=root)
    forecast = Forecast(plan, driver, root) if driver is not None else None
    states = {seen.vm_id: seen.state for seen in observed.vms}
    outcomes = []
    for planned in plan.vms:
        vm_id = planned.vm.vm_id
        state = states.get(vm_id, "" if os.path.isdir(vm_directory(root, vm_id)) else "DONE")
        if _has_ended(root, planned, state):
            outcomes.append(VmOutcome(vm_id, planned.generation, state))
            continue
        refusal = _why_unsupported(planned, driver) or _why_files_lack(planned, driver, state, root, rules)
        adjusted = state == planned.wanted == "RUNNING" and not planned.operation
        # As the run asks: see prepare_machine().
        adjusted = adjusted and (planned.refitted or planned.vm.growth is not None)
        if refusal is None and forecast is not None and adjusted and "adjust" in forecast.driver.capabilities:
            refusal = forecast.why_not_adjusted(planned)
        if refusal is not None:
            outcomes.append(VmOutcome(vm_id, planned.generation, state, False, refusal.as_dict()))
            continue
        refused = forecast.refused_tasks(planned, state) if forecast is not None else {}
        left = replace(planned, tasks=tuple(task for task in planned.tasks if task.token not in refused))
        changed = state != planned.wanted or (forecast is not None and forecast.would_change(left))
        error = next((each.as_dict() for each in refused.values()), None)
        outcomes.append(VmOutcome(vm_id, planned.generation, planned.wanted, changed, error))
    ended = [(each, power_off_given_up.would_change(each, driver, plan.catalog)) for each in plan.given_up]
    return [*outcomes, *(VmOutcome(each.vm_id, 0, "POWEROFF", changed) for each, changed in ended)]


def _has_ended(root: str, planned: PlannedVm, state: str) -> bool:
    try:
        return was_started(planned, read_record(vm_directory(root, planned.vm.vm_id)), state)
    except NebulaError:
        return False


def _why_unsupported(planned: PlannedVm, driver: Driver | None) -> NebulaError | None:
    """Return why the machine's hypervisor can't do what the plan says. A plan that only compares does nothing."""
    try:
        if driver is not None and planned.operation != ADOPT:
            check_supported(planned, driver)
    except NebulaError as error:
        return error
    return None


def _why_files_lack(
    planned: PlannedVm, driver: Driver | None, state: str, root: str, rules: Rules
) -> NebulaError | None:
    """Return why a machine that is to be started from its disks can't have the files of this host that it names."""
    if driver is None or planned.operation == ADOPT or planned.wanted != "RUNNING" or state not in _OFF:
        return None
    try:
        named_files.refuse(planned.vm, rules)
        named_files.require(planned.vm, root)
    except NebulaError as error:
        return error
    return None
