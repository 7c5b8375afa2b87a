# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes in a machine of another host. What is here of it is a copy, which nothing starts, until the other host has said
that the machine has left it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...dataclass import dataclass, replace
from ...errors import (
    Conflict,
    ForeignObject,
    HypervisorError,
    InvalidValue,
    NebulaError,
    OtherHostFailed,
    Unsupported,
)
from ...host import node_file
from ...host.files import adopt, remove_file, settle, sync_directory
from ...model.dataclass_json import from_plain
from ...model.disk import DiskFiles
from ...model.move import ABSENT, ARRIVED, COMING, HAS_ARRIVED, IS_ABSENT, LIVE, OVER, PlannedMove
from ...model.network_drivers import OVN
from ...storage import machine_disks
from ...storage.datastore_layout import disk_path, hypervisor_group
from ..base import StateElsewhere
from ..machine_record import CHECKPOINT, Record, read_record
from ..moves import file_streams, node_moves
from ..moves.node_moves import NodeMove
from ..moves.passage import Channel, Meeting
from . import console_port, definition, departure, fence, moved_roots, named_files, removal, state_changes
from .arriving_disks import longest_file, needed_room, refuse_encrypted_copies, refuse_larger, refuse_longer
from .job import Job

# Seconds between two times that the disks which come are written out: what is left to write counts as time in which
# the machine stands still.
_WRITE_OUT = 1.0
_LARGEST = 1 << 50
_MOST_CONTEXT = 1 << 30
_LONGEST_RECORD = 1 << 18


@dataclass
class _Course:
    """Says how far a move has come.
    may_be_ours: the machine may have left its old host by now.
    is_ours: it has."""

    may_be_ours: bool = False
    is_ours: bool = False


class Undecided(HypervisorError):
    """It is not known here whether the machine has left its old host."""


class _Unheard(Undecided):
    """The same, where nothing else went wrong here."""

    def as_dict(self) -> dict[str, str]:
        return {**super().as_dict(), "kind": OtherHostFailed.__name__}


def take_in(job: Job, move: PlannedMove, meeting: Meeting) -> str:
    """Take the machine in. Return HAS_ARRIVED; raise Undecided if only its old host can say whether it has left. After
    any other error nothing of it is here."""
    asked = f"virtual machine {job.vm.name}: move from host {move.peer}"
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    if entry is not None and entry.token == move.token:
        # The same plan comes again: what it has done is done.
        return what_became(job, move)
    if entry is not None and entry.stage not in OVER:
        raise Conflict(asked, "another move of it is not settled here", "Run again: this is settled first")
    course = _Course()
    channel = None
    try:
        channel = meeting.wait(move.meeting, asked)
        offer = channel.receive(departure.ANSWER_SECONDS)
        shared = os.path.lexists(departure.proof_of_sharing(job, move))
        if move.shared and not shared:
            raise Conflict(
                asked,
                f"host {job.common.plan.host} does not see its files in {job.directory}, and by the catalog both hosts "
                "have the same shared datastore",
                "Mount the same directory on both, and run playbook nebula.provision.audit, which compares their marks",
            )
        _refuse_present(job, shared, asked)
        with node_file.fence(job.common.root, job.common.plan.catalog, job.common.plan.number) as current:
            if not current:
                raise node_file.stale_plan(asked)
            node_moves.write(job.common.root, departure.entry_of(job, move, COMING, shared))
        if not shared:
            # On the disk with the directory: a copy is known as one whatever comes.
            job.record = replace(job.record, coming=move.token)
        with fence.hold(job):
            return _take_in(job, move, meeting, channel, offer, shared, course)
    except Undecided:
        raise
    except BaseException as error:
        if course.is_ours:
            raise
        if course.may_be_ours:
            # Only its old host knows: whatever went wrong here, it may be nowhere else.
            raise _undecided(asked, move, error) from error
        if channel is not None and isinstance(error, NebulaError):
            with contextlib.suppress(NebulaError):
                channel.send(refused=error.as_dict())
        _remove_incoming(job, move)
        raise
    finally:
        if job.common.moves is not None:
            job.common.moves.room.give_back(job.directory)
        if channel is not None:
            channel.close()


def _refuse_present(job: Job, shared: bool, asked: str) -> None:
    """Raise Conflict where this host has something in the machine's place already. shared: it sees the other host's
    files of it."""
    if (not shared and os.path.lexists(job.directory)) or job.common.driver.state(job.mark) is not None:
        raise Conflict(
            asked,
            f"host {job.common.plan.host} has a machine or files of this number already ({job.directory})",
            "Playbook nebula.provision.audit says whose they are. Move them away first",
        )
    if job.common.driver.has_state_elsewhere(job.mark):
        raise Conflict(
            asked,
            f"host {job.common.plan.host} has the state of a TPM of a machine with UUID {job.vm.uuid} already",
            "Find out whose it is. If that machine is nowhere but on its present host, remove it here",
        )


def _take_in(
    job: Job,
    move: PlannedMove,
    meeting: Meeting,
    channel: Channel,
    offer: Mapping[str, Any],
    shared: bool,
    course: _Course,
) -> str:
    asked = f"virtual machine {job.vm.name}: move from host {move.peer}"
    limit = time.monotonic() + move.limit
    if offer.get("way") != move.way or (move.way == LIVE and not offer.get("definition")):
        raise _nonsense(asked)
    own = machine_disks.own_disks(job.vm, job.directory, job.common.transfer.find)
    roots = moved_roots.own(job)
    disks = _disks_of(offer, {*own, *roots}, asked)
    moved_roots.require_users(job)
    if not shared:
        refuse_longer(job.vm, own, disks, asked)
    _check(job, 0 if shared else needed_room(job.vm, own, disks), offer)
    if move.way == LIVE and shared and job.common.driver.holds_departing_roots:
        raise Unsupported(
            f"{asked} ({LIVE})",
            f"both hosts see the same directory {job.directory}, and each container of {job.common.driver.name} leaves "
            "with a root of its own while it runs",
            "Move it cold (move: cold)",
        )
    comes_whole = job.common.driver.copies_departing_disks or job.common.driver.holds_departing_roots
    if move.way == LIVE and not shared and not comes_whole:
        raise Unsupported(
            f"{asked} ({LIVE})",
            f"both hosts do not see the same directory {job.directory}, and machines of {job.common.driver.name} leave "
            "with their memory alone",
            "Mount what holds its disks on both hosts, or move it cold (move: cold)",
        )
    refuse_encrypted_copies(job.vm, own if move.way == LIVE and not shared else (), asked)
    refuse_larger(job.vm, {number: disks[number]["size"] for number in own}, job.common.transfer.find, asked)
    channel.send(shared=shared)
    if not channel.receive(departure.ANSWER_SECONDS).get("go"):
        raise _nonsense(asked)
    elsewhere = job.common.driver.state_elsewhere(job.vm)
    own = {} if shared else own
    came = {} if shared else job.common.driver.state_files(job.vm)
    if move.way == LIVE:
        has_left = _take_live(job, move, meeting, channel, offer, own, disks, shared, course, roots, came)
    else:
        lengths = {n: longest_file(file, disks[n]["size"], disks[n]["length"]) for n, file in own.items()}
        _take_files(job, channel, own, lengths, limit, None, {} if shared else roots, came, elsewhere)
        has_left = False
        for number, file in own.items():
            machine_disks.take_in(file, f"disk {number} of virtual machine {job.vm.name}")
    if not shared:
        _keep_record(job, offer, with_context=move.way == LIVE)
    for path in (*(file.path for file in own.values()), *map(job.path, came)):
        with contextlib.suppress(FileNotFoundError):
            settle(path)
    if elsewhere is not None:
        elsewhere.settle()
    sync_directory(job.directory)
    # From here on it may have left.
    course.may_be_ours = True
    if not has_left:
        _wait_for_departure(channel, move, asked, course)
    # What runs here is another definition than what ran there.
    job.record = replace(job.record, definition="")
    if shared:
        # Whoever has put it there, it is none of this machine's: one that was saved does not move.
        remove_file(job.path(CHECKPOINT))
        job.keep_record()
    node_moves.write(job.common.root, departure.entry_of(job, move, ARRIVED, shared))
    course.is_ours = True
    job.record = replace(job.record, coming="")
    if shared:
        machine_disks.open_shared(job.vm, job.directory, job.common.transfer.find)
    _bring_up(job, move, channel)
    return HAS_ARRIVED


def _disks_of(offer: Mapping[str, Any], own: Collection[int], asked: str) -> dict[int, dict[str, int]]:
    """Return what the old host says of the machine's disks, by id."""
    found: dict[int, dict[str, int]] = {}
    described = offer.get("disks")
    for each in described if isinstance(described, list) else ():
        values: dict[str, int] = {}
        for key in ("id", "size", "length", "bytes"):
            value = each.get(key) if isinstance(each, dict) else None
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
                raise _nonsense(asked)
            values[key] = value
        found[values["id"]] = values
    if set(found) != set(own):
        raise Conflict(
            asked,
            f"on its host it has the disks {_list(found)} of its own, and by its plan {_list(own)}",
            "Start it anew first, so that it has what its list says; then run again",
        )
    return found


def _list(ids: Collection[int]) -> str:
    return ", ".join(map(str, sorted(ids))) or "none"


def _check(job: Job, size: int, offer: Mapping[str, Any]) -> None:
    """Raise what stands against the machine here, before anything of it comes. size: bytes of its disks."""
    vm, common = job.vm, job.common
    named_files.refuse(vm, common.rules)
    named_files.require(vm, common.root)
    common.transfer.require(vm)
    common.bridges.require(vm)
    console_port.require_free(job)
    if job.planned.wanted == "RUNNING":
        state_changes.take_room(job)
    definition_offered, processor = (str(offer.get(each, "")) for each in ("definition", "processor"))
    common.driver.require_hardware(vm, common.site, definition_offered, processor)
    if common.moves is not None:
        common.moves.room.take(job.directory, size, vm.name)


def _take_live(
    job: Job,
    move: PlannedMove,
    meeting: Meeting,
    channel: Channel,
    offer: Mapping[str, Any],
    own: Mapping[int, DiskFiles],
    disks: Mapping[int, Mapping[str, int]],
    shared: bool,
    course: _Course,
    roots: Mapping[int, DiskFiles],
    state_files: Mapping[str, int],
) -> bool:
    """Take the machine in as it runs. Return whether it is known already that it has left."""
    limit = time.monotonic() + move.limit
    for number, file in own.items():
        machine_disks.make_empty(file, disks[number]["size"])
    context = job.vm.context.disk_id if job.vm.context is not None else None
    sync_directory(job.directory)
    _take_files(job, channel, {}, {}, limit, None if shared else context)
    job.files = dict(
        machine_disks.prepare(
            job.vm, job.directory, job.common.transfer.find, lambda entry: definition.content_of(job.common, entry)
        )
    )
    if context is not None:
        job.files[context] = DiskFiles(disk_path(job.directory, context), "raw")
    driver = job.common.driver
    accepted = driver.accept(job.vm, definition.site_of(job), str(offer.get("definition", "")))
    copied = [disk.target for disk in job.vm.disks if disk.disk_id in own]
    receiver = driver.receive(job.mark, move.token, accepted, copied)
    message: Mapping[str, Any] = {}
    fault: NebulaError | None = None
    try:
        fence.check_current(job)
        if driver.holds_departing_roots:
            channel.send(definition=accepted)
            _take_files(job, channel, {}, {}, limit, None, roots, state_files)
        meeting.tunnels = receiver.tunnels()
        course.may_be_ours = True
        with _written_out([file.path for file in own.values()]):
            channel.send(**({"taken": True} if driver.holds_departing_roots else {"definition": accepted}))
            message = channel.receive(move.limit + departure.ANSWER_SECONDS)
    except NebulaError as error:
        fault = error
    finally:
        meeting.tunnels = {}
        # Nothing gets through from now on: whether it is here does not change any more.
        refused = receiver.close()
    if (message.get("moved") or message.get("left")) and driver.has_arrived(job.mark):
        return bool(message.get("left"))
    asked = f"virtual machine {job.vm.name}: move from host {move.peer}"
    # Before its roots are here, nothing else can come.
    if course.may_be_ours and not message.get("stays") and driver.state(job.mark) is not None:
        raise _undecided(asked, move, refused or fault)
    course.may_be_ours = False
    raise refused or fault or _stayed(asked)


@contextlib.contextmanager
def _written_out(paths: Collection[str]) -> Iterator[None]:
    """Write the files out again and again until the end of the block."""
    ending = threading.Event()

    def write() -> None:
        while not ending.wait(_WRITE_OUT):
            for path in paths:
                with contextlib.suppress(OSError):
                    settle(path)

    writer = threading.Thread(target=write, name="writing out", daemon=True)
    writer.start()
    try:
        yield
    finally:
        ending.set()
        writer.join()


def _take_files(
    job: Job,
    channel: Channel,
    own: Mapping[int, DiskFiles],
    lengths: Mapping[int, int],
    limit: float,
    context: int | None = None,
    roots: Mapping[int, DiskFiles] | None = None,
    state_files: Mapping[str, int] | None = None,
    elsewhere: StateElsewhere | None = None,
) -> None:
    """Take in the files that the old host sends: those of these disks, its logs, and its context's if it runs on. The
    roots come as archives.
    state_files, elsewhere: as the driver has them; what never ran lacks them."""
    # What runs the machine has no user of its own.
    closed = job.common.driver.access(job.vm.vm_id)[0] == 0o700
    trees = {os.path.basename(file.path): (number, file) for number, file in (roots or {}).items()}
    wanted = {os.path.basename(file.path): lengths[number] for number, file in own.items()}
    if context is not None:
        wanted[os.path.basename(disk_path(job.directory, context))] = _MOST_CONTEXT
    lacking = {*wanted, *trees}
    wanted.update(dict.fromkeys(departure.LOGS, departure.MOST_LOG), **(state_files or {}))
    while "file" in (message := channel.receive(departure.ANSWER_SECONDS)):
        name = str(message["file"])
        if name in trees:
            moved_roots.receive(job, channel, *trees.pop(name), limit)
            lacking.discard(name)
            continue
        if elsewhere is not None and name == elsewhere.name:
            # A second one is refused: the first is there.
            with elsewhere.writing() as fd:
                file_streams.receive_open(channel, message, fd, elsewhere.most, limit)
            continue
        if name not in wanted:
            raise _nonsense(f"virtual machine {job.vm.name}: move from another host")
        file_streams.receive(channel, message, job.path(name), wanted.pop(name), limit)
        lacking.discard(name)
        if name in (state_files or {}) and closed:
            adopt(job.path(name), 0o600)
        elif name not in departure.LOGS:
            adopt(job.path(name), 0o660, -1, hypervisor_group())
    if not message.get("sent") or lacking:
        raise OtherHostFailed(
            f"virtual machine {job.vm.name}: move from another host",
            "its files did not come as a whole",
            "It stays where it was: see what that host says",
        )


def _keep_record(job: Job, offer: Mapping[str, Any], with_context: bool) -> None:
    """Take over what the old host had recorded of the machine. Its context is made anew where it was off."""
    described = offer.get("record") or {}
    if len(str(described)) > _LONGEST_RECORD:
        # It could not be read again.
        raise _nonsense(f"virtual machine {job.vm.name}: move from another host")
    try:
        known = from_plain(Record, described)
    except InvalidValue as error:
        raise _nonsense(f"virtual machine {job.vm.name}: move from another host") from error
    job.record = replace(
        job.record,
        operated=known.operated,
        context=known.context if with_context else "",
        tasks=known.tasks,
        started=known.started,
        closed=known.closed,
        devices=known.devices,
        exact=known.exact,
        waits=known.waits if with_context else "",
        port=job.vm.graphics.port if job.vm.graphics is not None else 0,
        images=job.common.transfer.used(job.vm),
    )
    job.keep_record()


def _wait_for_departure(channel: Channel, move: PlannedMove, asked: str, course: _Course) -> None:
    """Return once the machine has left its old host. Raise Undecided if that does not say so, HypervisorError if the
    machine has stayed there."""
    try:
        channel.send(kept=True)
        message = channel.receive(departure.ANSWER_SECONDS)
    except NebulaError as error:
        raise _undecided(asked, move, error) from error
    if message.get("stays"):
        course.may_be_ours = False
        raise _stayed(asked)
    if not message.get("left"):
        raise _undecided(asked, move)


def _stayed(asked: str) -> OtherHostFailed:
    return OtherHostFailed(asked, "it has stayed on its host", "See what that host says")


def _undecided(asked: str, move: PlannedMove, why: BaseException | None = None) -> Undecided:
    found = f" ({why})" if why is not None else ""
    kind = _Unheard if why is None or isinstance(why, OtherHostFailed) else Undecided
    return kind(
        asked,
        f"host {move.peer} has not said whether it has left{found}",
        f"Nothing starts it until then. See that host {move.peer} is reached, then run again",
    )


def _bring_up(job: Job, move: PlannedMove, channel: Channel) -> None:
    """Have the machine go on here, as its plan wants it."""
    try:
        if move.way == LIVE:
            # At once: its guest stands still.
            job.common.driver.start(job.mark)
            job.log("LCM", "I", f"It has moved here from host {move.peer}, and runs")
        job.changed = True
        job.stage = "UNKNOWN"
    finally:
        # Whatever comes now, it is here.
        with contextlib.suppress(NebulaError):
            channel.send(arrived=True)
    if move.way == LIVE:
        _announce(job)
    state_changes.carry_out(job)
    fence.write_final_record(job)


def _announce(job: Job) -> None:
    """Have a machine that is on OVN announced until OVN has heard it: its port passes nothing before that, and a busy
    ovn-controller has it later than QEMU's own announcements come. A bridge hears those."""
    if not any(nic.network_values.get("VN_MAD") == OVN for nic in job.vm.nics):
        return
    try:
        job.common.driver.announce(job.mark)
    except NebulaError as error:
        # It is here, and runs. OVN passes its packets at the latest when the move is recorded.
        job.log("LCM", "W", str(error))


def _remove_incoming(job: Job, move: PlannedMove) -> None:
    """Remove all of a copy that is not to become a machine, and note that there is none."""
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    if entry is not None and entry.token == move.token:
        remove_copy(job, entry)
    elif entry is not None and entry.stage not in OVER:
        return
    node_moves.write(job.common.root, departure.entry_of(job, move, ABSENT, shared=False))


def remove_copy(job: Job, entry: NodeMove) -> None:
    """Remove a copy. Its directory goes only if it says itself that it is this copy. Raise Conflict if it runs: that
    can't be a copy."""
    if job.common.driver.state(job.mark) == "RUNNING":
        raise Conflict(
            f"virtual machine {job.vm.name}: what is left of its move {entry.token}",
            f"it runs on host {job.common.plan.host}, and by the catalog it is another host's",
            "Find out on which host it is to run, and end it on the other one",
        )
    job.common.driver.disown(job.mark)
    stays = job.common.driver.remove_state_elsewhere(job.mark)
    if stays:
        job.log("LCM", "W", stays)
    record = read_record(job.directory) if os.path.isdir(job.directory) else None
    if record is not None and record.coming == entry.token:
        machine_disks.remove(job.directory)
        removal.remove_directory(job)
    else:
        job.owned = False
        # One that a killed run has just made has nothing in it.
        with contextlib.suppress(OSError):
            os.rmdir(job.directory)
    node_moves.remove(job.common.root, job.vm.vm_id)


def what_became(job: Job, move: PlannedMove) -> str:
    """Return whether the machine has arrived here or never will, after a run of which nobody knows how it ended. Raise
    Undecided if only its old host can say so."""
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    mine = entry if entry is not None and entry.token == move.token else None
    if mine is None or mine.stage == ABSENT:
        if mine is None and (entry is None or entry.stage in OVER):
            node_moves.write(job.common.root, departure.entry_of(job, move, ABSENT, shared=False))
        return IS_ABSENT
    if mine.stage == ARRIVED:
        return HAS_ARRIVED
    raise _undecided(f"virtual machine {job.vm.name}: move from host {move.peer}", move)


def _nonsense(asked: str) -> ForeignObject:
    return ForeignObject(
        asked,
        "that host sends what belongs to no move",
        "The move was given up. Find out who else has power over that host before it is used again",
    )
