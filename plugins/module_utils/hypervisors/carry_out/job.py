# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a machine while it is worked on, and what all machines of its plan have in common."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING

from ...context import files_on_node
from ...dataclass import dataclass
from ...host.restricted_directories import Rules
from ...host.vm_log import VmLog
from ...model import defaults
from ...model.disk import DiskFiles
from ...model.plan import Plan, PlannedVm, TaskOutcome
from ...model.vm import Vm
from ...storage.transfer_methods import Transfer
from ..base import Driver, Mark, Site
from ..machine_record import Record, write_record
from .bridges import Bridges
from .memory_left import Room

if TYPE_CHECKING:
    from .moves import Moves


@dataclass(frozen=True)
class Common:
    """Holds what all machines of one plan have in common while it is carried out.
    rules: which files of this node machines may boot.
    site: of the node, without any machine.
    filled: the files of contexts that this node has by now.
    building: it is held while a machine is built, so that processors and disks are kept busy and no more.
    changing: the same while a machine is changed that runs.
    detach_timeout: seconds that a guest has to let go of a disk or NIC.
    moves: what carries out the plan's moves; None if it has none."""

    plan: Plan
    driver: Driver
    root: str
    rules: Rules
    transfer: Transfer
    site: Site
    room: Room
    bridges: Bridges
    filled: files_on_node.KeptContents
    building: threading.BoundedSemaphore
    changing: threading.BoundedSemaphore
    detach_timeout: int = defaults.DETACH_SECONDS
    moves: Moves | None = None


@dataclass
class Job:
    """Holds one machine while one thread works on it.
    stage: the state that the machine has failed in if an error comes now.
    owned: its directory was found to be ours, so that something may be written there.
    has_room: its memory was taken from what the node has left.
    fitted: it has the disks and NICs that it is to have.
    went_down: as NodeMove has it.
    refused: something stands against what was to change while it runs, and so none of it was done now.
    files: of its disks, once they are prepared.
    notes: as VmOutcome has them."""

    common: Common
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
    went_down: bool = False
    refused: bool = False
    files: dict[int, DiskFiles] = field(default_factory=dict)
    task_outcomes: list[TaskOutcome] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def vm(self) -> Vm:
        return self.planned.vm

    @property
    def is_fitted(self) -> bool | None:
        """Return VmOutcome.fitted: None where nothing was decided about the machine's disks and NICs."""
        planned = self.planned
        return self.fitted if planned.refitted or planned.detached or planned.grown else None

    def waits_in(self, state: str) -> bool:
        """Return VmOutcome.waits of the machine in this state."""
        return bool(self.record.waits) and state in ("RUNNING", "SUSPENDED")

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Let others be changed while this one waits for its guest."""
        self.common.changing.release()
        try:
            yield
        finally:
            self.common.changing.acquire()

    def keep_record(self) -> None:
        """Write the record as it is now: what was done must not be done again, whatever fails later."""
        write_record(self.directory, self.record)

    def moved(self, component: str, state: str) -> None:
        """Log the new state in OpenNebula's words. component: LCM or DIM, whose state it is there."""
        self.log(component, "I", f"New VM state is {state}")
        self.changed = True
