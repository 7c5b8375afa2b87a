# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of a template and its images and leases the machine, with all defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Optional

from ...dataclass import dataclass, replace
from .. import boot_image, defaults, disk_targets, hypervisor_rules
from ..attributes import SINGLES
from ..context import Context
from ..disk import Disk
from ..disk_targets import Place
from ..image import Image
from ..nic import Alias, Nic
from ..owner import Owner
from ..states import ImageType
from ..template import Template
from ..vm import Input, Os, Vm
from .aliases import aliases_of, doubts_of_aliases
from .boot_order import check_boots, devices_by_order, doubts_of_boot, file_of, os_of, tpm_of
from .capacity import cpu_limit_of, cpu_of, memory_of, vcpu_of
from .container_mount_points import with_mount_points
from .cpu_topology import topology_of
from .disk_buses import board_of, context_of, context_place, place_of
from .disk_vectors import disk_of, kind_of, with_image_name
from .former_machine import FormerMachine
from .graphics import graphics_of
from .growth import growth_of
from .hardware_version import hardware_version_of
from .host_placement import HostPlace
from .injections import with_files
from .nic_vectors import doubts_of_nics, nic_of, with_nic_defaults
from .numa_placement import topology_of_place
from .pc_hardware import check_links, fragments_of, iommu_of, video_of
from .reserved_slots import slots_of


@dataclass(frozen=True)
class KeptDevices:
    """Holds what a machine that is there goes on with.
    disks: per DISK of the template, the machine's own, None for a disk that comes.
    context: the place that its context has.
    next_disk: id of the first disk that comes.
    moved: numbers of DISK whose place is what the template says, and not the place that they have."""

    disks: tuple[Optional[Disk], ...]
    context: Optional[Context] = None
    next_disk: int = 0
    moved: tuple[int, ...] = ()


def build(
    template: Template,
    *,
    vm_id: int,
    uuid: str,
    name: str,
    hypervisor: str,
    images: Mapping[int, Image],
    nics: Sequence[Nic],
    aliases: Sequence[Alias] = (),
    vnc_port: int | None = None,
    kept: KeptDevices | None = None,
    former: FormerMachine | None = None,
    hotplug_slots: int = defaults.HOTPLUG_SLOTS,
    place: HostPlace | None = None,
    owner: Owner | None = None,
) -> Vm:
    """Return the machine. Raise InvalidValue, which names the machine, for what its images make impossible.
    name: "" becomes one-<vmid>.
    images: the images by their index in Demands.images.
    nics, aliases: one per NIC and NIC_ALIAS, with network and lease; the rest is filled in here.
    kept, former: what a machine has that is there; None for a machine that is made.
    hotplug_slots: of a machine that is made, where its template says nothing of them.
    place: what it has of its host to itself, None for nothing.
    owner: whose it is; None for oneadmin.

    Of the context only the place is decided: its variables are empty. No CONTEXT, no context."""
    name = name or f"one-{vm_id}"
    where = f"VM {name}"
    template = with_nic_defaults(template, where)
    vectors = template.vectors("DISK")
    kinds = [
        kind_of(vector, images.get(index), hypervisor, f"{where}: DISK {index}") for index, vector in enumerate(vectors)
    ]
    version = hardware_version_of(template, hypervisor, former)
    if version:
        check_links(template, where)
    os = _os_of(template, where, kinds, hypervisor, images, version)
    places = [
        place_of(vector, f"{where}: {with_image_name(f'DISK {index}', vector)}", kinds[index], images.get(index))
        for index, vector in enumerate(vectors)
    ]
    contexts = template.vectors("CONTEXT")
    if contexts:
        places.append(context_place(template, where))
    ids, context_id = list(range(len(vectors))), len(vectors)
    had = None
    if kept is not None:
        had = kept.context
        places, ids, context_id = _with_kept_places(places, kept, context_id)
    board = board_of(template, hypervisor)
    if board.devices.paths:
        places = with_mount_points(places, ids, images)
    assigned = disk_targets.assign(places, board)
    named = [f"{where}: DISK {index}" for index in range(len(vectors))]
    stay = [disk is not None for disk in kept.disks] if kept is not None else [False] * len(vectors)
    order = {device: number for number, device in enumerate(os.boot, 1)}
    growth = growth_of(template, hypervisor, where, former)
    place = place or HostPlace()
    numa = place.numa.numa if place.numa is not None else None
    windows = boot_image.boots_windows(os, template, _disk_images(images, vectors))
    return Vm(
        vm_id=vm_id,
        uuid=uuid,
        name=name,
        hypervisor=hypervisor,
        cpu=float(vcpu_of(template, where) or 1) if numa is not None and numa.pins else cpu_of(template, where),
        memory=memory_of(template, where),
        vcpu=vcpu_of(template, where),
        topology=topology_of_place(place.numa) or topology_of(template, hypervisor, windows, where, former, growth),
        numa=numa,
        host_devices=place.devices,
        encryption=place.encryption,
        growth=growth,
        hotplug_slots=slots_of(template, hypervisor, where, former, hotplug_slots),
        hardware_version=version,
        video=video_of(template, where) if version else None,
        iommu=iommu_of(template, where) if version else None,
        fragments=fragments_of(template, where) if version else {},
        os=os,
        disks=with_files(
            tuple(
                replace(
                    disk_of(ids[index], vector, images.get(index), hypervisor, named[index], stays, version),
                    target=assigned[index][0],
                    bus=assigned[index][1],
                    boot_order=order.get(f"disk{index}", 0),
                )
                for index, (vector, stays) in enumerate(zip(vectors, stay))
            ),
            template,
            boot_image.boot_disk(replace(os, kernel=""), _disk_images(images, vectors)),
            where,
        ),
        nics=tuple(
            nic_of(nic, vector, vm_id, order.get(f"nic{index}", 0))
            for index, (nic, vector) in enumerate(zip(nics, template.vectors("NIC")))
        ),
        aliases=aliases_of(aliases, template, nics, where),
        context=context_of(template, context_id, assigned[-1], where, had) if contexts else None,
        graphics=graphics_of(template, where, vnc_port, companions=bool(version)),
        inputs=tuple(Input(v.get("TYPE", "").lower(), v.get("BUS", "").lower()) for v in template.vectors("INPUT")),
        tpm=tpm_of(template, where),
        features=template.vector("FEATURES"),
        cpu_model=template.vector("CPU_MODEL"),
        cpu_limit=cpu_limit_of(template, where),
        emulator=template.get("EMULATOR").strip(),
        raw=_raw_texts(template),
        container=hypervisor_rules.rules_of(hypervisor).container(template, where),
        attributes={key: value for key, value in template.singles().items() if key not in SINGLES},
        owner=owner or Owner(),
        next_disk=max((kept.next_disk if kept is not None else 0), *(number + 1 for number in (*ids, context_id))),
        next_nic=max([*(nic.nic_id + 1 for nic in nics), *(alias.nic_id + 1 for alias in aliases)], default=0),
    )


def _os_of(
    template: Template,
    where: str,
    kinds: Sequence[str],
    hypervisor: str,
    images: Mapping[int, Image],
    version: int,
) -> Os:
    """Return how the machine boots, with its kernel's and initrd's files; raise InvalidValue if its images can't."""
    vectors = template.vectors("DISK")
    os = os_of(template, where, kinds, hypervisor)
    if version and not os.boot:
        os = replace(os, boot=devices_by_order(template, where))
    os = replace(os, kernel=file_of(os.kernel, images.get(len(vectors) + 1), ImageType.KERNEL, where))
    os = replace(os, initrd=file_of(os.initrd, images.get(len(vectors) + 2), ImageType.RAMDISK, where))
    check_boots(os, kinds, where)
    os = hypervisor_rules.rules_of(hypervisor).fit(os, template, _disk_images(images, vectors), where)
    # The firmware may be what an image asks for.
    hypervisor_rules.rules_of(hypervisor).check_firmware(os.firmware, template, where)
    return replace(os, suspends=not version or os.firmware.upper() in ("", "BIOS"))


def _with_kept_places(
    places: Sequence[Place], kept: KeptDevices, context_id: int
) -> tuple[list[Place], list[int], int]:
    """Return the places with the targets that they have, the ids of the disks, and the id of the context."""
    found, ids, new = list(places), [], kept.next_disk
    for index, disk in enumerate(kept.disks):
        if disk is None:
            ids.append(new)
            new += 1
            continue
        ids.append(disk.disk_id)
        if index not in kept.moved:
            found[index] = replace(found[index], target=disk.target, dev_prefix="")
    if kept.context is not None and len(places) > len(kept.disks):
        context_id = kept.context.disk_id
        if not found[-1].target and not found[-1].dev_prefix:
            found[-1] = replace(found[-1], target=kept.context.target)
    elif len(places) > len(kept.disks):
        context_id = new
    return found, ids, context_id


def warnings_of_machine(
    template: Template, vm: Vm, images: Mapping[int, Image], filtered: Collection[int] = ()
) -> list[str]:
    """Return warnings about the machine that build() made of the template; raise InvalidValue for what can't work.
    filtered: ids of the networks whose nodes filter what their machines send."""
    rule = hypervisor_rules.rules_of(vm.hypervisor)
    found = doubts_of_boot(template, vm.hypervisor, vm.os)
    found += doubts_of_nics(vm.nics, filtered) + doubts_of_aliases(vm.aliases)
    if not rule.checks_bus:
        return found
    return found + boot_image.check_boot_bus(
        template, vm, _disk_images(images, template.vectors("DISK")), f"VM {vm.name}"
    )


def _disk_images(images: Mapping[int, Image], vectors: Sequence[Mapping[str, str]]) -> dict[int, Image]:
    """Return the images of disks: the images of OS follow them."""
    return {index: image for index, image in images.items() if index < len(vectors)}


def _raw_texts(template: Template) -> dict[str, str]:
    raw: dict[str, str] = {}
    for vector in template.vectors("RAW"):
        hypervisor = vector.get("TYPE", "").lower()
        raw[hypervisor] = "\n".join(part for part in (raw.get(hypervisor), vector.get("DATA")) if part)
    return raw
