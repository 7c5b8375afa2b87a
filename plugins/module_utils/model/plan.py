# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the plan: what the front-end decided for one node, and what the node answers. Both are data, and fenced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from . import defaults
from .audit import Inventory
from .move import Leftover, MoveSeen, PlannedMove
from .nic_filter_rules import Guard
from .transfer import SHARED, PlannedImage
from .vm import Vm

FORMAT = 2


@dataclass(frozen=True)
class DiskTask:
    """Describes what is to be done once with a disk of a machine, in the state that the machine is in.
    kind: SAVE_AS, or CREATE, REVERT, DELETE of a snapshot; those of SYSTEM are about all its disks.
    token: names it in all plans; a node that has done it says again what came of it.
    consistency: AGENT (frozen by the guest's agent, or refused), CRASH (as after a power cut), "" for frozen if there
    is an agent.
    image, target, format: of SAVE_AS: the image's name, where its file belongs, and its format.
    snapshot_id, mark, name: a snapshot's, as model/disk_snapshots.py has them, or model/system_snapshots.py.
    memory: of SYSTEM: the snapshot holds the memory of the machine, which runs when it is made."""

    kind: str
    token: str
    disk_id: int
    consistency: str = ""
    image_id: Optional[int] = None
    image: str = ""
    target: str = ""
    format: str = ""
    snapshot_id: int = 0
    name: str = ""
    mark: str = ""
    memory: bool = False


@dataclass(frozen=True)
class TaskOutcome:
    """Describes what became of a DiskTask.
    size: MiB of a saved disk.
    error: as NebulaError.as_dict() has it."""

    token: str
    size: int = 0
    format: str = ""
    error: Optional[Mapping[str, str]] = None


SAVE_AS, CREATE, REVERT, DELETE = "saveas", "snapshot-create", "snapshot-revert", "snapshot-delete"
SYSTEM_CREATE, SYSTEM_REVERT, SYSTEM_DELETE = (f"system-{kind}" for kind in (CREATE, REVERT, DELETE))
SYSTEM = (SYSTEM_CREATE, SYSTEM_REVERT, SYSTEM_DELETE)
AGENT, CRASH = "agent", "crash"


# The operation of machines that are only to be compared with what is there: nothing carries it out.
ADOPT = "adopt"


@dataclass(frozen=True)
class PlannedVm:
    """Describes one machine of a plan.
    generation: rises with each decision about this machine; a node that acted on a higher one does nothing.
    wanted: RUNNING, POWEROFF, SUSPENDED or DONE: the state in which the machine is to be found afterwards.
    operation: "" or one of reboot, reset, recreate (disks and domain made anew, same id): done once, besides `wanted`.
    decided: the generation that the operation came with, where a later decision took it along; 0 for this one.
    hard: end without asking the guest.
    shutdown_timeout: seconds the guest has to obey the power button.
    seq: the number of its deployment file.
    previous: the state recorded before, as a name.
    tasks: carried out in this order, before a machine starts and after it ended.
    detached: ids of disks that it had and is to have no more.
    gives_memory (MiB, with what its hypervisor takes), gives_cpu: what it holds of its host until this is done.
    grown: ids of disks that are to be larger than they were made.
    refitted: its disks or NICs are to be others.
    agreed: while it runs it may lose the disks and NICs that it is to have no more.
    waits: some of it becomes what is planned at its next start, if it runs now.
    move: it moves between this host and another, or did; nothing else is done with it here then."""

    vm: Vm
    generation: int
    wanted: str
    operation: str = ""
    hard: bool = False
    shutdown_timeout: int = defaults.SHUTDOWN_SECONDS
    seq: int = 0
    previous: str = ""
    tasks: tuple[DiskTask, ...] = ()
    decided: int = 0
    detached: tuple[int, ...] = ()
    gives_memory: int = 0
    gives_cpu: float = 0.0
    grown: tuple[int, ...] = ()
    refitted: bool = False
    agreed: bool = False
    waits: bool = False
    move: Optional[PlannedMove] = None

    def is_due(self, operated: int) -> bool:
        """Return whether the operation is still to be done. operated: the generation whose operation was done last."""
        return bool(self.operation) and operated != self.operated

    @property
    def operated(self) -> int:
        """Return what to remember once the operation is carried out."""
        return self.decided or self.generation


@dataclass(frozen=True)
class PlannedEntry:
    """Describes a file or directory of a source of FILES. Directories come before what is in them.
    path: below the source's name on the ISO, "" for the source itself.
    sha256, size (bytes), executable: of files only."""

    path: str
    sha256: str = ""
    size: int = 0
    executable: bool = False
    directory: bool = False


@dataclass(frozen=True)
class PlannedSource:
    """Holds what the front-end found where FILES says. error: why it found nothing, as NebulaError.as_dict() has it."""

    entries: tuple[PlannedEntry, ...] = ()
    error: Optional[Mapping[str, str]] = None


@dataclass(frozen=True)
class GivenUp:
    """Describes a machine that a node has and the catalog has as DONE, since it was given up with its host, not ended.
    addresses: the addresses that it may use there.
    doubles: machines of the catalog that have one of these addresses too."""

    vm_id: int
    uuid: str
    name: str
    host: str
    state: str
    addresses: tuple[str, ...] = ()
    doubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedDatastore:
    """Names the shared datastore that a host has.
    mark: what its directory has to show, "" if no host has shown it yet."""

    name: str
    mark: str


@dataclass(frozen=True)
class Plan:
    """Holds all that one node needs: every unfinished machine of it, whatever the lists of this run say.
    catalog: UUID of the catalog.
    number: rises with each plan of this catalog; a node refuses lower ones.
    memory: MiB that machines may take on this node altogether, 0 if that is not known.
    foreign_memory: the part of it that machines of others held when the plan was decided.
    sources: all that FILES of these machines name, by ContextFile.key.
    contents: by the SHA-256 of what sources have and the node lacks, the bytes as base64 of zlib.
    transfer: how files of images get to the node.
    images: those that its machines need or make, if it does not see the front-end's datastores.
    current: the names of all that the catalog's images hold now, which are worth keeping.
    taken: names of files that the node has to keep no more, as they are back on the front-end.
    lacking_memory, lacking_cpu: what the host lacks for machines that start before others of the plan give it back.
    given_up: machines to be powered off, whose disks stay.
    bridges: UUIDs of its machines' networks that have a bridge of ours on each node, with commas, by bridges' names.
    switches: of its machines' networks of Open vSwitch, their UUIDs by their ids.
    guards: what the node filters of the NICs of some of its machines: of all that it has, or of those of this plan.
    machines: the ids of these machines; what the node filters of others stays.
    guarded_at: when guards and machines were read, in seconds since 1970.
    guards_since: None if these are all that the node has. Else when the others' were read, in seconds since 1970: what
    the node filters of them was decided then or later. 0 if it filters nothing of them.
    proof: the node shows by it that it was given this plan.
    leftovers: of moves that are decided.
    moving: tokens of open moves in which this host takes part.
    certificate, key: by which this host is known to those with which it moves machines, as PEM.
    datastore: the shared datastore that this host has; None if its machines lie on a datastore of its own."""

    catalog: str
    number: int
    host: str
    vms: tuple[PlannedVm, ...] = ()
    format: int = FORMAT
    memory: int = 0
    foreign_memory: int = 0
    sources: Mapping[str, PlannedSource] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict, repr=False)
    transfer: str = SHARED
    images: tuple[PlannedImage, ...] = ()
    current: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    lacking_memory: int = 0
    lacking_cpu: float = 0.0
    given_up: tuple[GivenUp, ...] = ()
    bridges: Mapping[str, str] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    machines: tuple[int, ...] = ()
    guarded_at: float = 0.0
    guards_since: Optional[float] = None
    switches: Mapping[str, str] = field(default_factory=dict)
    proof: str = field(default="", repr=False)
    leftovers: tuple[Leftover, ...] = ()
    moving: tuple[str, ...] = ()
    certificate: str = ""
    key: str = field(default="", repr=False)
    datastore: Optional[PlannedDatastore] = None


@dataclass(frozen=True)
class VmOutcome:
    """Describes what became of one planned machine.
    state: a VM state's name as the hypervisor shows it now (RUNNING, POWEROFF, SUSPENDED, DONE, UNKNOWN), or a failure
    (PROLOG_FAILURE, BOOT_FAILURE, EPILOG_FAILURE).
    error: also where all that went wrong is one of its tasks.
    fitted: whether it has the disks and NICs that it is to have; None where nothing of them was to change, and where
    that is not told: then it has them if there is no error.
    waits: it runs, and gets some of what it is to be at its next start; None where that is not told.
    stays: DISK or NIC with the id, of those that it was to lose while it ran and still has, after an error.
    untouched: it runs on as it did, as its node refused, before anything was done, what was to change while it runs.
    notes: what is still to be done in it, a sentence each.
    moved: what became of its move, as model/move.py has it."""

    vm_id: int
    generation: int
    state: str
    changed: bool = False
    error: Optional[Mapping[str, str]] = None
    log: tuple[str, ...] = ()
    tasks: tuple[TaskOutcome, ...] = ()
    fitted: Optional[bool] = None
    waits: Optional[bool] = None
    stays: tuple[str, ...] = ()
    untouched: bool = False
    notes: tuple[str, ...] = ()
    moved: str = ""

    @property
    def is_of_given_up(self) -> bool:
        """Return whether its machine was given up with its host: no decision of the catalog is about such a machine."""
        return self.generation == 0


@dataclass(frozen=True)
class ObservedVm:
    """Describes a machine of ours as its node sees it. image_generations and sizes are not here: a poll is cheap.
    ended: "guest" for a machine in POWEROFF that its guest ended itself, by switching off, or by a reboot where that
    ends the machine (on_reboot = destroy). "unknown" for a machine in POWEROFF of which nothing tells: it was never
    started, or what was written down at its end is gone. "" for all others: it was ended from outside, or went down
    with its host.
    open_console: it runs, and its graphics take anybody in, without a password.
    waits: it was not started anew since some of it was to change at its next start."""

    vm_id: int
    uuid: str
    state: str
    generation: int = 0
    cpu_time: float = 0.0
    memory: int = 0
    ended: str = ""
    open_console: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Comparison:
    """Describes how a machine that the catalog does not know differs from what a plan says of it.
    differences: sentences without their subject, and without secrets.
    generation: as the plan has it."""

    vm_id: int
    uuid: str
    generation: int
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """Holds one node's answer to a poll.
    memory, cpu: MiB, and processors.
    ports: TCP ports from 5900 up that are taken by something else than our own machines.
    foreign_memory: MiB of running domains that are not ours.
    foreign_ids: ids of machines whose name or directory here is somebody else's.
    inventory: for an audit only.
    plan_number, plan_proof: the highest plan that it accepted, and what came with it.
    done_number: the highest plan that it carried out to its end.
    contents: SHA-256 of the files for contexts that it keeps.
    images: what it has of the front-end's images, by PlannedImage.local.
    returns: what is to come back of it, by name and bytes that it takes there.
    lengths: the same by the lengths of the files, with their holes.
    room: MiB that may still be written below its nebula_root. images, returns, lengths and room are of nodes that don't
    see the front-end's datastores.
    networks: UUIDs of the catalog's networks whose bridge is here, None if that is not known.
    compared: what was compared of machines that are to be adopted.
    mark: the catalog knows the node by it, under whatever name.
    disk_room: MiB that may still be written where the disks of its machines lie, None if that is not known.
    moves: what it has of moves, decided or not.
    has_ovn: whether OVN's bridge is here, on which the NICs of its networks are; None if that is not known.
    datastore: the mark in its system datastore, "" for none."""

    host: str
    hypervisor: str = "kvm"
    reached: bool = True
    catalog: str = ""
    plan_number: int = 0
    plan_proof: str = field(default="", repr=False)
    done_number: int = 0
    memory: int = 0
    cpu: float = 0.0
    foreign_memory: int = 0
    foreign_ids: tuple[int, ...] = ()
    ports: tuple[int, ...] = ()
    vms: tuple[ObservedVm, ...] = ()
    as_of: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    inventory: Optional[Inventory] = None
    contents: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    returns: Mapping[str, int] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    room: int = 0
    networks: Optional[tuple[str, ...]] = None
    compared: tuple[Comparison, ...] = ()
    mark: str = ""
    disk_room: Optional[int] = None
    moves: tuple[MoveSeen, ...] = ()
    has_ovn: Optional[bool] = None
    datastore: str = ""
