# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares what a machine has before it is in the state that is wanted: its disks, its context and its definition."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Mapping

from ...context import directory, files_on_node, iso9660
from ...dataclass import replace
from ...errors import ForeignObject, InvalidValue, NotFound, Unsupported
from ...guest_disk import file_injection
from ...host import node_file
from ...host.files import read_limited, write_atomically
from ...model.container_user_ids import id_range
from ...model.disk import DIRECTORY, DiskFiles
from ...model.injected_files import Injected
from ...storage import machine_disks
from ...storage.datastore_layout import disk_path
from ..base import Adjustment, Driver, Site
from . import device_log, named_files
from .job import Common, Job

# The name of a run where the hypervisor keeps none.
_SOME_RUN = "some"
# Bytes of a file that is written into a disk: what the front-end reads for one machine.
LARGEST_FILE = 1 << 30


def prepare_machine(job: Job, running: bool, defined: bool = True, boots: bool = False, paused: bool = False) -> None:
    """Bring disks, context and definition to what is wanted.
    defined: the hypervisor has the machine.
    boots: it is about to be started from its disks.
    paused: it neither runs nor is it off."""
    job.stage = "PROLOG_FAILURE"
    vm, known = job.vm, job.record
    is_off = not running and not paused
    if running:
        named_files.refuse_directories(vm, job.common.rules)
    else:
        named_files.refuse(vm, job.common.rules)
    if boots:
        named_files.require(vm, job.common.root)
    if is_off:
        job.common.driver.let_go(job.mark)
    adjusts = running and "adjust" in job.common.driver.capabilities
    if adjusts and (job.planned.refitted or vm.growth is not None):
        try:
            _check_adjustment(job)
        except (ForeignObject, InvalidValue, NotFound, Unsupported):
            job.refused = True
            raise
    # The digests tell what is new, as what is there already is left as it is.
    job.common.transfer.require(vm)
    # Who is shown directories can't reach the disk below them.
    whole = job.common.driver.has_directories
    contents = functools.partial(content_of, job.common)
    job.files = dict(machine_disks.prepare(vm, job.directory, job.common.transfer.find, contents, whole))
    if is_off and machine_disks.grow(vm, job.files, job.planned.grown, whole):
        job.changed = True
    context = ""
    if vm.context is not None:
        path = disk_path(job.directory, vm.context.disk_id)
        sources = files_on_node.context_files(job.common.root, job.common.plan, vm.context.files, job.common.filled)
        # What check mode foresees too: something of this machine's was not on this node.
        names = {entry.source for source in sources for entry in source.entries}
        job.changed = job.changed or any(
            files_on_node.path_of(job.common.root, new) in names for new in job.common.filled.new
        )
        # A machine made by a release that did not pad its ISO keeps that until it boots: a guest may have it
        # mounted, and a machine that nobody touches is not changed.
        if job.common.driver.has_directories:
            owner = id_range(vm.vm_id).start
            context = directory.write_directory(
                path, vm.context.variables, sources, owner=owner, format=vm.context.format, identity=vm.uuid
            )
            job.files[vm.context.disk_id] = DiskFiles(path, DIRECTORY)
        else:
            context = iso9660.write_iso(
                path,
                vm.context.variables,
                sources,
                format=vm.context.format,
                identity=vm.uuid,
                keep_unpadded=not boots,
                recorded=job.record.context,
            )
            job.files[vm.context.disk_id] = DiskFiles(path, "raw")
    job.stage = "BOOT_FAILURE"
    deployment = job.common.driver.render(vm, site_of(job))
    # Before the definition: what the guest refuses to let go stays in it.
    fits = is_off or (adjusts and _adjust(job))
    if deployment.digest != job.record.definition or not defined:
        path = job.path(f"deployment.{job.planned.seq}")
        job.log("VMM", "I", f"Generating deployment file: {path}")
        # By the machine's record, if that is to be another one.
        followed = deployment.digest != job.record.definition
        write_atomically(path, deployment.text, mode=0o600, followed=followed)
        job.common.driver.define(vm, deployment, job.mark)
        job.record = replace(job.record, definition=deployment.digest)
        job.changed = True
    if fits:
        # What a machine still has while it runs stays until it is off.
        _remove_detached(job)
    job.fitted = fits
    if not paused:
        _note_what_waits(job, running)
    device_log.log_devices(job, new=not known.definition, at_once=fits)
    if context != job.record.context:
        if running and vm.context is not None:
            at_once = job.common.driver.change_medium(vm, job.mark, disk_path(job.directory, vm.context.disk_id))
            later = "" if at_once else ": the machine has it when it is started the next time"
            job.log("VMM", "I", f"The context was changed{later}")
        job.record = replace(job.record, context=context)
        job.changed = True
    job.record = replace(job.record, exact=vm.context is not None and vm.context.exact)
    if boots and vm.graphics is not None:
        # Before it starts: who looks at the node meanwhile has to know whose port it is that somebody listens on.
        job.record = replace(job.record, port=vm.graphics.port)
    if job.record != known and not (running and _is_last(job)):
        # Before it starts: a run that finishes what a killed one began must not take the medium from a guest that
        # has just begun to boot.
        job.keep_record()


def _is_last(job: Job) -> bool:
    """Return whether the machine's final record comes next, once it is changed."""
    return not job.planned.operation and not job.planned.tasks


def check_start(job: Job, anew: bool) -> None:
    """Raise what would keep the machine from being started, as far as that is known before anything of it is ended.
    anew: its own disks are made anew."""
    named_files.refuse(job.vm, job.common.rules)
    named_files.require(job.vm, job.common.root)
    check_files(job, anew)
    job.common.bridges.require(job.vm)


def check_files(job: Job, anew: bool) -> None:
    """Raise what would keep the machine's disks and its context from being made, as far as that is known before."""
    common, vm = job.common, job.vm
    common.transfer.require(vm)
    machine_disks.locate(vm, job.directory, common.transfer.find)
    made = [disk for disk in vm.disks if anew or not os.path.lexists(disk_path(job.directory, disk.disk_id))]
    injected = [entry.file for disk in made for entry in disk.inject if entry.file is not None]
    files = [*injected, *(vm.context.files if vm.context is not None else ())]
    files_on_node.context_files(common.root, common.plan, files, common.filled)


def _note_what_waits(job: Job, running: bool) -> None:
    """Record whether some of the machine changes at its next start only, with the name of the run that goes on."""
    waits = running and (job.planned.waits or job.is_fitted is False)
    driver, name = job.common.driver, job.record.waits
    if not waits:
        name = ""
    elif not driver.names_runs:
        name = name or _SOME_RUN
    elif not name or driver.run_name(job.mark) != name:
        name = secrets.token_hex(8)
        driver.name_run(job.mark, name)
    job.record = replace(job.record, waits=name)


def _check_adjustment(job: Job) -> None:
    """Raise what stands against other disks, NICs, memory and processors while the machine runs, before a file of it is
    made."""
    vm = job.vm
    job.common.bridges.require(vm)
    job.files = dict(machine_disks.locate(vm, job.directory, job.common.transfer.find))
    if vm.context is not None:
        job.files[vm.context.disk_id] = DiskFiles(disk_path(job.directory, vm.context.disk_id), "raw")
    job.common.driver.check_adjustment(vm, site_of(job), job.mark, _adjustment(job))


def _adjustment(job: Job) -> Adjustment:
    return Adjustment(job.planned.grown, job.planned.agreed, job.common.detach_timeout, job.waiting)


def _adjust(job: Job) -> bool:
    """Give the running machine the disks, NICs, memory and processors that it is to have. Return whether it has
    them."""
    adjusted = job.common.driver.adjust(job.vm, site_of(job), job.mark, _adjustment(job))
    job.changed = adjusted.changed or job.changed
    job.notes = adjusted.notes
    for note in adjusted.notes:
        job.log("VMM", "W", note)
    return not adjusted.left and (not job.planned.grown or job.common.driver.grows_running_disks)


def _remove_detached(job: Job) -> None:
    """Remove the files of disks that the machine no longer has."""
    there = {disk.disk_id for disk in job.vm.disks} | ({job.vm.context.disk_id} if job.vm.context else set())
    gone = [disk_id for disk_id in job.planned.detached if disk_id not in there]
    if gone:
        given = job.common.transfer.give_up(job.directory, job.vm, gone)
        job.changed = machine_disks.remove(job.directory, gone) or given or job.changed


def content_of(common: Common, entry: Injected) -> file_injection.Entry:
    """Return what is written into a disk for an entry of INJECT: its own text, or a file that the plan holds. Raise
    InvalidValue if that is a directory."""
    if entry.file is None:
        return machine_disks.entry_of(entry, entry.content.encode())
    found = files_on_node.context_files(common.root, common.plan, [entry.file], common.filled)[0].entries
    if len(found) != 1 or found[0].directory:
        raise InvalidValue(
            f"INJECT: SRC = {entry.file.source}", "it is a directory", "Name a file, or give each its own entry"
        )
    return machine_disks.entry_of(entry, read_limited(found[0].source, LARGEST_FILE), found[0].executable)


def site_of(job: Job) -> Site:
    return replace(
        job.common.site,
        directory=job.directory,
        generation=job.planned.generation,
        disks=job.files,
        userspace_switch=job.common.bridges.is_userspace(job.vm),
    )


def site_with(driver: Driver, catalog: str, chosen: Mapping[str, str]) -> Site:
    """Return what rendering has to know of this node, whatever the machine. chosen: by Driver.choose_accelerator()."""
    return driver.site(
        Site(
            directory="",
            catalog=catalog,
            generation=0,
            disks={},
            accelerator=chosen["accelerator"],
            cpu_shares=node_file.cpu_shares(),
        )
    )
