# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Powers off for good, with all their files kept, machines that were given up with their host and came back."""

from __future__ import annotations

import contextlib

from ...errors import HypervisorError, NebulaError, TimedOut
from ...host import node_file
from ...host.files import explain, lock
from ...host.vm_log import VmLog
from ...model import defaults
from ...model.plan import GivenUp, Plan, VmOutcome
from ...storage.datastore_layout import vm_directory
from ..base import Driver, Mark

# Seconds that a guest has to shut down. What it has not written by then is lost, and the machine ends all the same:
# somebody else may have its address.
SHUTDOWN_SECONDS = defaults.SHUTDOWN_SECONDS


def power_off(plan: Plan, machine: GivenUp, driver: Driver, root: str, wait: float, owned: bool) -> VmOutcome:
    """Power the machine off and return its outcome. It never raises.
    wait: seconds to wait for another run that works on this machine.
    owned: the machine's directory is there and carries its mark."""
    directory = vm_directory(root, machine.vm_id)
    mark = Mark(plan.catalog, machine.vm_id, machine.uuid)
    log = VmLog(directory)
    state, changed = "UNKNOWN", False
    error: NebulaError | None = None
    try:
        with contextlib.ExitStack() as stack:
            if owned:
                # The slash: a directory that is gone again must not come back as a file to be locked.
                stack.enter_context(lock(directory + "/", wait))
                stack.callback(log.save)
            if not node_file.is_current(root, plan.catalog, plan.number):
                raise node_file.stale_plan(f"virtual machine {machine.name}: plan {plan.number}")
            changed = _stop(machine, driver, mark, log)
            state = "POWEROFF" if driver.state(mark) is not None else "DONE"
    except NebulaError as problem:
        error = problem
    except OSError as problem:
        error = explain(problem, str(problem.filename or directory))
    except Exception as problem:
        error = HypervisorError(f"virtual machine {machine.name}", f"{type(problem).__name__}: {problem}")
    return VmOutcome(machine.vm_id, 0, state, changed, error.as_dict() if error is not None else None, log.last())


def would_change(machine: GivenUp, driver: Driver | None, catalog: str) -> bool:
    return machine.state != "POWEROFF" or (
        driver is not None and driver.starts_with_host(Mark(catalog, machine.vm_id, machine.uuid)) is True
    )


def _stop(machine: GivenUp, driver: Driver, mark: Mark, log: VmLog) -> bool:
    state, changed = driver.state(mark), False
    # First: its host may go down at any moment, and would bring it back.
    if driver.starts_with_host(mark):
        driver.set_starts_with_host(mark, False)
        changed = True
    if state == "RUNNING" and "shutdown" in driver.capabilities:
        log("LCM", "I", "It was given up with its host. New VM state is SHUTDOWN_POWEROFF")
        try:
            driver.shutdown(mark, SHUTDOWN_SECONDS)
            changed, state = True, "POWEROFF"
        except TimedOut as late:
            log("VMM", "W", str(late))
    if state in ("RUNNING", "UNKNOWN", "SUSPENDED"):
        driver.cancel(mark)
        changed = True
    if changed:
        log("DIM", "I", "New VM state is POWEROFF")
    return changed
