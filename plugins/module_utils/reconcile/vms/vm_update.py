# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a machine that is there with its item: changes what can be changed, and tells the rest."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence

from ...context.variables import names_owner
from ...dataclass import replace
from ...engines.base import Engine, named
from ...engines.ports import VmRecord
from ...errors import BeingEnded, Conflict, NebulaError
from ...model import attributes, boot_image, hypervisor_rules, move
from ...model import template_changes as model_changes
from ...model.device_matching import ALIAS, DEVICES, DISK, HOTPLUG, LIVE, NIC, POWEROFF, RECREATE, MachineDevice
from ...model.instantiate import boot_order, cpu_topology, growth, truncated_host_names
from ...model.object_ids import id_of
from ...model.owner import Owner
from ...model.saved_disks import holds_saved_disk, origin_of
from ...model.template import Template
from ...model.template_changes import CONTEXT, Change, how_to_change, pair_devices, refuse_sizes
from ...model.vm import Os
from ...model.waiting_changes import NEXT_START, OWNER, RESTARTED, UNTOLD, PartChange, part_changes
from ...model.whole_numbers import whole
from . import renames
from .destroy_limit import NOT_STARTED, loses_disks, never_ran
from .disk_room import require_disk_room
from .vm_item import INDEX, MIGRATED, NEVER, Spec
from .vm_outcome import Outcome

_OWN_NAME = re.compile(r"\$NAME\b")


def change_as_listed(
    engine: Engine, spec: Spec, outcome: Outcome, warnings: list[str], live_removal: bool = False
) -> None:
    """Give the machine the attributes that its item says, as far as they can be changed; note the rest. live_removal:
    running machines may lose what the list says no more, also where their items don't say detach."""
    record = outcome.after
    if spec.template is None or record is None or record.request is None or spec.state == "absent":
        return
    if spec.host and spec.host != record.host:
        _tell_another_host(spec, outcome, record, warnings)
    rule = hypervisor_rules.rules_of(record.hypervisor)
    wanted = renames.by_former_images(engine, record, spec.template)
    always = model_changes.live_while(rule.live_of(record.os), [each["part"] for each in record.waits])
    changes = model_changes.changes(record.request, wanted, always)
    has: Mapping[str, Sequence[MachineDevice]] = {}
    if any(change.attribute in DEVICES for change in changes):
        has = engine.vms.devices(id_of(record))
        changes = [
            replace(each, how=how_to_change(each.attribute, record.request, wanted, always, has))
            if each.attribute in DEVICES
            else each
            for each in changes
        ]
    owner = _another_owner(spec, record)
    if owner is not None:
        changes.append(
            Change(
                OWNER, record.owner.name, owner.name, how_to_change("CONTEXT", record.request, record.request, always)
            )
        )
    off = record.state == "POWEROFF" or record.state in NOT_STARTED or spec.state == "poweroff"
    live = (*always, *_growing(record, wanted)) if record.state == "RUNNING" else ()
    agreed = live_removal or spec.detach
    fits = off or (set(DEVICES) <= set(rule.live) and (agreed or not record.loses))
    if record.recreates and changes and not spec.recreate:
        _tell_given_up(outcome, record, changes)
        return
    if not changes:
        if record.outdated or (fits and _is_to_be_tried_again(record, off, agreed)):
            outcome.after = engine.vms.update(id_of(record), record.request, agreed=agreed)
        return
    if spec.recreate or never_ran(engine, record):
        refuse_losing_unsaved_disks(engine, spec, record, "recreate", "leave recreate out once")
        outcome.destroys = loses_disks(engine, record)
        outcome.after = engine.vms.recreate(id_of(record), spec.template, spec.owner)
        outcome.changes = changes
        return
    if any(change.attribute == DISK for change in changes):
        refuse_sizes(record.request, wanted, has, f"VM {record.name} (id {record.id})")
    template = record.request
    silent = _silent(record.hypervisor)
    running = record.state == "RUNNING"
    nics = next((each for each in changes if each.attribute == NIC and not _is_possible(each, off, running)), None)
    if nics is not None:
        # Aliases are on the NICs of the same list.
        changes = [replace(each, how=nics.how) if each.attribute == ALIAS else each for each in changes]
    for change in changes:
        possible = _is_possible(change, off, running)
        refits = change.attribute == DISK and change.how in (HOTPLUG, POWEROFF)
        if refits and _leaves_disks(engine, spec, outcome, record, (wanted, has), possible):
            continue
        loses_system = change.attribute in (DISK, NIC) and change.how in (HOTPLUG, POWEROFF)
        if loses_system and not off and _loses_its_system(change.attribute, record, wanted, has):
            what = (
                f"differs in {change.attribute}: it has {change.old}, the list says {change.new}, and it boots from it"
            )
            remedy = "no machine loses what it boots from while it runs: power it off first (state: poweroff)"
            outcome.left(record, change.attribute, change.old, change.new, what, remedy, "it is off")
            continue
        at_once = _is_at_once(change, live)
        asked = off or agreed or change.attribute in silent
        if possible and running and not asked and _takes(change, record.request, wanted, has, at_once):
            _tell_not_agreed(outcome, record, change)
            continue
        if possible:
            outcome.changes.append(change)
            if running and not off:
                parts = _parts_of(record, change, wanted, has, live, at_once)
                outcome.parts += [_restarted(each) for each in parts] if spec.starts_anew else parts
            if change.attribute != OWNER:
                template = _with_attribute(template, wanted, change.attribute)
            continue
        remedy, until = (
            ("power it off first (state: poweroff), or set recreate: true", "it is off")
            if change.how in (POWEROFF, HOTPLUG)
            else ("set recreate: true to make it anew (its own disks are lost)", "recreate: true")
        )
        what = f"differs in {change.attribute}: it has {change.old}, the list says {change.new}"
        outcome.left(record, change.attribute, change.old, change.new, what, remedy, until)
    if any(change.attribute == DISK for change in outcome.changes):
        require_disk_room(engine, record, template, has)
    if not any(change.attribute == OWNER for change in outcome.changes):
        owner = None
    if template != record.request or owner is not None:
        try:
            with engine.attempt():
                outcome.after = engine.vms.update(id_of(record), template, owner, agreed)
        except BeingEnded as error:
            if not record.awaits or not fits:
                raise
            # The machine may wait for a device that it is to lose itself, which would never happen.
            _tell_awaited_first(outcome, record, error)
            outcome.after = engine.vms.update(id_of(record), record.request)
        warnings.extend(f"VM {record.name}: {text}" for text in outcome.after.warnings)


def _tell_another_host(spec: Spec, outcome: Outcome, record: VmRecord, warnings: list[str]) -> None:
    """Tell that the machine is on another host than the list says, unless it is to move there."""
    if record.away and spec.state != MIGRATED:
        warnings.append(
            f"VM {record.name} stays on host {record.host}, although the list says {spec.host}: it is away from host "
            f"{record.away}, which was emptied for maintenance. Playbook nebula.provision.maintenance brings it back "
            "(nebula_maintenance=end), and so does state: migrated"
        )
        return
    if spec.move_word != NEVER:
        return
    what = f"differs in host: it is on {record.host}, the list says {spec.host}"
    anew = "remove it (state: absent) to have it made there anew"
    ways = hypervisor_rules.rules_of(record.hypervisor).moves
    if move.COLD in ways and (spec.state == "poweroff" or (record.state == "POWEROFF" and spec.state != "running")):
        remedy = f"set move: all (nebula_move: all for all), and it moves there and stays off, or {anew}"
    elif ways:
        live = "set move: live (nebula_move: live for all), and it moves there while it runs, "
        cold = "set move: cold, and it is powered off for that, "
        remedy = f"{live if move.LIVE in ways else ''}{cold if move.COLD in ways else ''}or {anew}"
    else:
        remedy = anew
    outcome.left(record, "host", record.host, spec.host, what, remedy, "it moves")


def doubts_of_sockets(engine: Engine, spec: Spec, record: VmRecord) -> list[str]:
    """Return a warning if the guest of a machine that is there does not see its processors as a new machine's would."""
    request = record.request
    if request is None or (
        spec.template is not None and cpu_topology.topology_differs(request, spec.template, record.growth)
    ):
        # Another topology in the list is told as a difference.
        return []
    most = max(record.vcpu or 1, record.growth.vcpu) if record.growth else record.vcpu
    if cpu_topology.doubt_of_machine(record.hypervisor, most, record.has_topology, request, True) is None:
        return []
    pool = {image.id: image for image in engine.images.pool()}
    images = {index: pool[disk["image_id"]] for index, disk in enumerate(record.disks) if disk["image_id"] in pool}
    windows = boot_image.boots_windows(Os(), request, images)
    doubt = cpu_topology.doubt_of_machine(record.hypervisor, most, record.has_topology, request, windows)
    return [f"VM {record.name}: {doubt}"] if doubt else []


def doubts_of_host_name(record: VmRecord) -> list[str]:
    """Return a warning if the name of a machine that is there makes its host name longer than a guest can have. A host
    name that the template says in full is warned of with the template."""
    context = record.request.vector("CONTEXT") if record.request is not None else {}
    named = {key: _OWN_NAME.sub(lambda _found: record.name, value) for key, value in context.items() if "$" in value}
    return [f"VM {record.name}: {cut}" for cut in truncated_host_names.cuts_of_host_name(named)]


def _growing(record: VmRecord, wanted: Template) -> list[str]:
    """Return which of MEMORY and VCPU the machine gets while it runs."""
    waiting = [each["part"] for each in record.waits]
    return growth.changed_at_once(record.growth, record.request or Template(), wanted, waiting)


def _is_possible(change: Change, off: bool, running: bool) -> bool:
    """Return whether the change can be made on the machine as it is, at once or at its next start.
    off: nothing of the machine runs."""
    return change.how in ("catalog", "live") or ((off or running) and change.how != RECREATE)


def _is_at_once(change: Change, live: Collection[str]) -> bool:
    """Return whether the change is made while the machine runs. live: attributes that can change then."""
    if change.attribute in DEVICES:
        return change.how == LIVE or (change.how == HOTPLUG and change.attribute in live)
    # One that is a disk to the guest is read at its start, whatever changes at once elsewhere.
    return change.how in ("catalog", "live") or (change.attribute in live and change.attribute != CONTEXT)


def _is_to_be_tried_again(record: VmRecord, off: bool, agreed: bool) -> bool:
    """Return whether the machine has not all disks and NICs that it is to have, and its node may succeed now. What
    waits for a start of the machine is not tried again before."""
    waits = [each for each in record.waits if each["part"] != UNTOLD]
    return record.awaits and (off or not waits or bool(record.error) or (record.loses and agreed))


def _parts_of(
    record: VmRecord,
    change: Change,
    wanted: Template,
    has: Mapping[str, Sequence[MachineDevice]],
    live: Collection[str],
    at_once: bool,
) -> list[PartChange]:
    ids = {DISK: [disk["disk_id"] for disk in record.disks], NIC: [nic["nic_id"] for nic in record.nics]}
    return part_changes(change, record.request or Template(()), wanted, has, ids, live, at_once)


def _restarted(part: PartChange) -> PartChange:
    return replace(part, when=RESTARTED) if part.when == NEXT_START else part


def _takes(
    change: Change, old: Template, wanted: Template, has: Mapping[str, Sequence[MachineDevice]], at_once: bool
) -> bool:
    """Return whether the change takes something from a machine that runs: a disk, a NIC, or memory or processors at
    once."""
    if change.attribute in DEVICES:
        return bool(pair_devices(change.attribute, old, wanted, has).gone)
    if change.attribute in ("MEMORY", "VCPU") and at_once:
        # Without VCPU it has one; MEMORY may be a vector, of which nothing tells how much it is.
        texts = [template.get(change.attribute).strip() for template in (old, wanted)]
        sizes = [whole(text or ("1" if change.attribute == "VCPU" else "")) for text in texts]
        return None in sizes or (sizes[0] or 0) > (sizes[1] or 0)
    return False


def _loses_its_system(
    name: str, record: VmRecord, wanted: Template, has: Mapping[str, Sequence[MachineDevice]]
) -> bool:
    """Return whether a disk goes from which the machine boots, or the last CD-ROM or NIC from which it could boot."""
    request = record.request or Template()
    gone = pair_devices(name, request, wanted, has).gone
    if any(has[name][index].boots for index in gone):
        return True
    left = _with_attribute(request, wanted, name)
    return bool(gone) and boot_order.has_boot_device(request) and not boot_order.has_boot_device(left)


def _tell_not_agreed(outcome: Outcome, record: VmRecord, change: Change) -> None:
    what = f"differs in {change.attribute}: it has {change.old}, the list says {change.new}, and it runs"
    remedy = (
        "nothing is taken from a running machine unasked. Set detach: true in its item, or nebula_live_removal: true "
        "for all, or power it off first (state: poweroff)"
    )
    outcome.left(record, change.attribute, change.old, change.new, what, remedy, "detach: true")


def _another_owner(spec: Spec, record: VmRecord) -> Owner | None:
    """Return the owner that the item names, if the context shows an owner and was made of another one."""
    if spec.owner is None or spec.owner == record.owner or spec.template is None:
        return None
    return spec.owner if names_owner(spec.template) else None


def _leaves_disks(
    engine: Engine,
    spec: Spec,
    outcome: Outcome,
    record: VmRecord,
    compared: tuple[Template, Mapping[str, Sequence[MachineDevice]]],
    possible: bool,
) -> bool:
    """Return whether the disks stay as they are, because some would be lost with their content and the list does not
    clearly say so; then the difference is told.
    compared: what the list says, and what the machine has
    possible: whether the disks could be changed otherwise"""
    if record.request is None:
        return False
    wanted, has = compared
    pairing = pair_devices(DISK, record.request, wanted, has)
    lost = [index for index in pairing.gone if has[DISK][index].own]
    if not lost:
        return False
    named = " and ".join(_disk_name(record, index) for index in lost)
    if pairing.doubtful:
        what = f"has disks that nothing tells apart, and the list has fewer of them: {named} could be the one to go"
        remedy = "give those that are to stay their TARGET, as the machine's disks show it"
        until = "TARGET tells them apart"
    elif not spec.detach:
        what = f"has a disk that the list does not: {named}"
        remedy = "what it holds is the machine's own, and would be lost. " + (
            "Set detach: true to have it taken away"
            if possible
            else "To have it taken away set detach: true and power it off (state: poweroff)"
        )
        until = "detach: true" if possible else "detach: true, and it is off"
    else:
        if possible:
            ids = {record.disks[index]["disk_id"] for index in lost}
            refuse_losing_unsaved_disks(engine, spec, record, "detach", "leave detach out once", ids)
            outcome.destroys = True
        return False
    outcome.left(record, DISK, named, "nothing of it", what, remedy, until)
    return True


def _disk_name(record: VmRecord, index: int) -> str:
    disk = record.disks[index]
    return f"disk {disk['disk_id']}" + (f", of image {disk['image']}" if disk["image"] else f", {disk['target']}")


def _tell_given_up(outcome: Outcome, record: VmRecord, changes: Sequence[Change]) -> None:
    what = "was to be made anew by an earlier list, which its host could not, and this list says something else"
    remedy = "set recreate: true to have it made anew as the list says now (its own disks are lost)"
    for change in changes:
        outcome.left(record, change.attribute, change.old, change.new, what, remedy, "recreate: true")


def _tell_awaited_first(outcome: Outcome, record: VmRecord, error: NebulaError) -> None:
    outcome.changes = []
    what = f"gets first what was decided about its disks and NICs before ({error})"
    remedy = "run again when that is done"
    devices = "/".join(DEVICES)
    until = "its former change is done"
    outcome.left(record, devices, "those of the list before", "those of the list", what, remedy, until)


def refuse_losing_unsaved_disks(
    engine: Engine, spec: Spec, record: VmRecord, what: str, instead: str, disks: Collection[int] | None = None
) -> None:
    """Raise Conflict if disks of the machine would be lost before they are saved as its item says. disks: ids of the
    disks that would be lost, None for all."""
    # An item that stands for several machines saves no disk.
    if not spec.save_as or record.name != spec.name.replace(INDEX, "0") or never_ran(engine, record):
        return
    for save in spec.save_as:
        if disks is not None and save.disk not in disks:
            continue
        image = named(engine.images.info, save.image.name)
        origin = origin_of(record.uuid, save.disk)
        if holds_saved_disk(image, origin):
            continue
        found = "there is none of that name"
        if image is not None and image.origin != origin:
            found = f"there is one of that name (id {image.id}), of something else"
        elif image is not None:
            found = f"that is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise Conflict(
            f"VM {record.name} (id {record.id}): {what}",
            f"its disk {save.disk} is not saved as image {save.image.name}: {found}",
            f"Let it be saved first: {instead}. Or take it out of save_as: then what the disk holds is lost",
        )


def _with_attribute(template: Template, source: Template, name: str) -> Template:
    """Return `template` with all that `source` says of this one attribute, and nothing else of `source`."""
    kept = template.without(name).attributes
    return Template(kept + tuple((key, value) for key, value in source.attributes if key == name))


@functools.cache
def _silent(hypervisor: str) -> frozenset[str]:
    """Return the attributes that nothing acts on there."""
    rule = hypervisor_rules.rules_of(hypervisor)
    return frozenset(attributes.silent(rule.column, rule.own))
