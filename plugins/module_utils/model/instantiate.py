# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a template to a virtual machine: what it must not say, what it asks for, and the machine with all defaults."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

from ..errors import InvalidValue, NebulaError
from . import attributes, fit, inject, rules, snapshots, targets, values
from .attributes import SINGLES, near_misses
from .changes import CHANGEABLE, Change, changes
from .context import DEVICES, Context
from .context import FORMATS as CONTEXT_FORMATS
from .devices import FILE_SYSTEMS, kind_of_empty
from .disk import Disk
from .flags import FALSE, TRUE
from .image import Image
from .names import nearest
from .nic import Nic
from .states import ImageType
from .targets import CDROM, DATA, OS, UNKNOWN, Board, Place
from .template import Template
from .vm import Graphics, Input, Os, Tpm, Vm

__all__ = ["CHANGEABLE", "Change", "Demands", "NicDemand", "build", "changes", "demands", "validate"]

Ref = Union[str, int]

# Half a processor is 0.5; a machine that does not say gets a whole one, as a physical machine has.
DEFAULT_CPU = 1.0
FORMATS = ("raw", "qcow2")
GRAPHICS_TYPES = ("vnc", "spice")
TPM_MODELS = ("tpm-crb", "tpm-tis")
VNC_PASSWORD = 8
FIRST_PORT, LAST_PORT = 5900, 65535
TARGET_LENGTH = 15

_BOOT = re.compile(r"(disk|nic)([0-9]{1,4})")
_OLD_BOOT = ("hd", "cdrom", "network")
_FILE = re.compile(r"""\$FILE\[\s*(IMAGE|IMAGE_ID)\s*=\s*("?)([^"\]]+)\2\s*\]""")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}

_VECTORS_ONLY = (
    "DISK",
    "NIC",
    "NIC_DEFAULT",
    "OS",
    "GRAPHICS",
    "INPUT",
    "FEATURES",
    "CPU_MODEL",
    "CONTEXT",
    "RAW",
    "INJECT",
    "TPM",
)
_SINGLES_ONLY = (
    "NAME",
    "CPU",
    "CPULIMIT",
    "VCPU",
    "MEMORY",
    "HYPERVISOR",
    "EMULATOR",
    "CONTEXT_FORMAT",
    "CONTEXT_DEVICE",
    "INJECT_VIA",
)
_FLAGS = {
    "FEATURES": ("ACPI", "APIC", "PAE", "HYPERV", "LOCALTIME", "GUEST_AGENT"),
    "DISK": ("READONLY", "CLONE", "SAVE", "SHAREABLE", "FORCE_BUS"),
    "OS": ("FIRMWARE_SECURE",),
}

# Attributes that become fields of the model; whatever else a DISK or NIC says are its options.
_DISK_FIELDS = frozenset((
    "IMAGE", "IMAGE_ID", "IMAGE_UNAME", "IMAGE_UID", "TARGET", "DEV_PREFIX", "BUS", "TYPE", "FORMAT", "FS", "SIZE",
    "READONLY", "CLONE", "SAVE", "PERSISTENT", "DISK_ID", "DRIVER", "FORCE_BUS",
))  # fmt: skip
_NIC_FIELDS = frozenset(
    ("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID", "NIC_ID", "MODEL", "TARGET", "BRIDGE")
)


@dataclass(frozen=True)
class NicDemand:
    """One NIC = [ … ]. network: name, or id as an int. ip, ip6, mac: "" for any; mac in lower case."""

    network: Ref
    ip: str = ""
    ip6: str = ""
    mac: str = ""


@dataclass(frozen=True)
class Demands:
    """What a template needs of others. cpu in processors, memory in MiB.

    images: per DISK its image's name, or id as an int; None for volatile ones. Where OS asks for files ($FILE[…]),
    None for the context and then the references of KERNEL and INITRD follow: build() wants them at those indexes.
    graphics_port: the fixed one, 0 for any.
    """

    cpu: float
    vcpu: Optional[int]
    memory: int
    images: tuple[Optional[Ref], ...] = ()
    nics: tuple[NicDemand, ...] = ()
    graphics: bool = False
    graphics_port: int = 0


@dataclass(frozen=True)
class Kept:
    """What a machine that is there goes on with. disks: per DISK of the template, its own, None for one that comes.
    context: the place that its context has. next_disk: id of the first that comes. moved: numbers of DISK whose place
    is what the template says, and not the one that they have."""

    disks: tuple[Optional[Disk], ...]
    context: Optional[Context] = None
    next_disk: int = 0
    moved: tuple[int, ...] = ()


# -- what a template must not say -------------------------------------------------------------------------------------
def validate(
    template: Template, strict: bool = False, where: str = "template", hypervisors: Sequence[str] = ()
) -> list[str]:
    """Warnings; what can't be meant raises InvalidValue. where: names the object ("template web"). hypervisors: those
    that its machines may come to, where it does not say itself; one that takes it is enough.

    All that can be known without the images: those are looked at by build(). strict: a near miss of a known
    attribute is an error too.
    """
    warnings = near_misses(template)
    if strict and warnings:
        raise InvalidValue(where, warnings[0], "Correct it, or set strict: false to keep it as your own attribute")
    _check_shapes(template, where)
    template = with_nic_defaults(template, where)
    if not template.has("MEMORY"):
        warnings.append("MEMORY is not set: give it (in MB) before a machine is made of this")
    else:
        _memory(template, where)
    _cpu(template, where)
    _cpu_limit(template, where)
    _vcpu(template, where)
    warnings += _first_that_takes(template, where, hypervisors)
    _word(template, "CONTEXT_FORMAT", CONTEXT_FORMATS, where)
    _word(template, "CONTEXT_DEVICE", DEVICES, where)
    inject.of_template(template, where)
    _tpm(template, where)
    if len(template.vectors("CONTEXT")) > 1:
        raise InvalidValue(f"{where}: CONTEXT", "it is there twice", "Put all its variables into one")
    return warnings


def refusals(template: Template, where: str, hypervisors: Iterable[str]) -> dict[str, NebulaError]:
    """By hypervisor, why it can have no machine of the template; nothing for those that can."""
    found: dict[str, NebulaError] = {}
    template = with_nic_defaults(template, where)
    for hypervisor in hypervisors:
        try:
            _check_for(template, where, hypervisor)
        except NebulaError as error:
            found[hypervisor] = error
    return found


def _first_that_takes(template: Template, where: str, hypervisors: Sequence[str]) -> list[str]:
    own = template.get("HYPERVISOR").lower()
    errors = []
    for hypervisor in [own] if own else hypervisors or [rules.DEFAULT]:
        try:
            return _check_for(template, where, hypervisor)
        except NebulaError as error:
            errors.append(error)
    raise errors[0]


def _check_for(template: Template, where: str, hypervisor: str) -> list[str]:
    """What depends on where it runs. Warnings."""
    kinds, warnings = _check_disks(template, where, hypervisor)
    _check_nics(template, where)
    _os(template, where, kinds, hypervisor)
    warnings += _check_bootable(template, kinds, where)
    graphics = _graphics(template, where, None)
    if graphics is not None:
        warnings += _doubts_of_graphics(graphics)
    column = rules.of(hypervisor).column
    rules.of(hypervisor).check(template, where)
    attributes.refuse(template, where, column)
    if column == attributes.KVM:
        warnings += values.doubts(template)
    return warnings + attributes.without_effect(template, column)


def with_nic_defaults(template: Template, where: str = "template") -> Template:
    """The template with what NIC_DEFAULT says in each NIC that does not say it itself, and without NIC_DEFAULT."""
    defaults = template.vectors("NIC_DEFAULT")
    if not defaults:
        return template
    if len(defaults) > 1:
        raise InvalidValue(f"{where}: NIC_DEFAULT", "it is there twice", "Put all that it says into one")
    attributes.refuse(template.only("NIC_DEFAULT"), where)
    nics = [{**defaults[0], **vector} for vector in template.vectors("NIC")]
    return template.without("NIC_DEFAULT").with_vectors("NIC", nics)


def _check_shapes(template: Template, where: str) -> None:
    for name, value in template.attributes:
        if isinstance(value, str):
            if name in _VECTORS_ONLY:
                raise InvalidValue(
                    f"{where}: {name}", "it is a single value and has to be a vector", f"Write {name} = [ … ]"
                )
            continue
        if name in _SINGLES_ONLY:
            raise InvalidValue(f"{where}: {name} = [ … ]", "it has a single value", f"Write {name} = …")
        for flag in _FLAGS.get(name, ()):
            _flag(dict(value), flag, f"{where}: {name}")


def _check_disks(template: Template, where: str, hypervisor: str) -> tuple[list[str], list[str]]:
    """The kind of each DISK as far as the template tells, and warnings."""
    board = _board(template, hypervisor)
    kinds, places = [], []
    for index, vector in enumerate(template.vectors("DISK")):
        here = f"{where}: DISK {index}"
        volatile = _volatile(vector, here)
        kind = DATA if volatile else CDROM if vector.get("TYPE", "").upper() == CDROM else UNKNOWN
        if not volatile and _image_ref(vector, here) is None:
            raise InvalidValue(
                here,
                "it names no IMAGE, and is neither TYPE = swap nor TYPE = fs",
                "Register the image with nebula_image and name it" if vector.get("SOURCE") else "Name its IMAGE",
            )
        _size(vector, here, required=volatile)
        _driver(vector, here)
        bus = vector.get("BUS", "").lower()
        if bus:
            targets.check_bus(board.devices.buses.get(bus, bus), f"{here}: BUS = {bus}", board)
        kinds.append(kind)
        places.append(_place(vector, _named(here, vector), kind))
    context = template.vectors("CONTEXT")
    if context:
        places.append(_context_place(template, where))
    places = [targets.translated(place, board) for place in places]
    # What is known by now. The others come after these and take what is left; an image may say where it wants to be.
    known = [place for place in places if place.target or (place.kind == CDROM and (place.context or board.emulated))]
    assigned = targets.assign(known, board)
    doubts = [
        f"{place.where[len(where) + 2 :]}: TARGET = {place.target} is SATA on machine {board.machine}, and guests "
        "without a driver for AHCI (Debian's cloud kernel) don't see it: use a target with sd"
        for place, (_target, bus) in zip(known, assigned)
        if place.target and place.kind == CDROM and bus == "sata" and not place.bus and not board.sd_disk_bus
    ]
    return kinds, doubts


def _check_nics(template: Template, where: str) -> None:
    for index, vector in enumerate(template.vectors("NIC")):
        here = f"{where}: NIC {index}"
        _nic_demand(vector, here)
        target = vector.get("TARGET", "")
        if len(target) > TARGET_LENGTH or "/" in target or any(c.isspace() for c in target):
            raise InvalidValue(
                f"{here}: TARGET = {target}",
                f"Linux takes no interface name of {len(target)} characters, or with / and blanks in it",
                f"Use at most {TARGET_LENGTH} characters, or leave it out",
            )


def _check_bootable(template: Template, kinds: Sequence[str], where: str) -> list[str]:
    """At this time an image may be of any type: only what can't boot whatever they are is refused. Warnings: OpenNebula
    takes a machine without disks, which may get them later."""
    if UNKNOWN in kinds or CDROM in kinds or _boots_otherwise(template):
        return []
    remedy = 'Add DISK = [ IMAGE = "…" ] with an image of type OS or CDROM, or set BOOT = "nic0" or KERNEL in OS'
    if not kinds:
        return [f"it has no DISK, and nothing to boot from. {remedy}"]
    raise InvalidValue(where, "it has nothing to boot from: all its disks are empty", remedy)


def _boots_otherwise(template: Template) -> bool:
    vector = template.vector("OS")
    boot = vector.get("BOOT", "").lower()
    return bool(vector.get("KERNEL") or vector.get("KERNEL_DS") or "nic" in boot or "network" in boot)


def _doubts_of_graphics(graphics: Graphics) -> list[str]:
    doubts = []
    if graphics.type == "vnc" and len(graphics.password) > VNC_PASSWORD:
        doubts.append(
            f"GRAPHICS/PASSWD is longer than {VNC_PASSWORD} characters: VNC uses the first {VNC_PASSWORD} only"
        )
    if not graphics.password and not graphics.made_up:
        everywhere = graphics.listen in ("0.0.0.0", "::", "")
        doubts.append(
            f"GRAPHICS/RANDOM_PASSWD is NO, GRAPHICS/LISTEN is {graphics.listen or 'empty'} and there is no PASSWD: "
            f"whoever {'reaches' if everywhere else 'logs in on'} the host can use the console. Leave RANDOM_PASSWD "
            "out, or set PASSWD"
        )
    return doubts


# -- what it asks for -------------------------------------------------------------------------------------------------
def demands(template: Template, where: str = "template") -> Demands:
    """What the template needs, once a machine is to be made of it; MEMORY has to be there by now."""
    template = with_nic_defaults(template, where)
    images = [_image_ref(vector, f"{where}: DISK {index}") for index, vector in enumerate(template.vectors("DISK"))]
    files = [_file_ref(template, name, where) for name in ("KERNEL", "INITRD")]
    if any(ref is not None for ref in files):
        images += [None, *files]
    graphics = _graphics(template, where, None)
    return Demands(
        cpu=_cpu(template, where),
        vcpu=_vcpu(template, where),
        memory=_memory(template, where),
        images=tuple(images),
        nics=tuple(_nic_demand(v, f"{where}: NIC {i}") for i, v in enumerate(template.vectors("NIC"))),
        graphics=graphics is not None,
        graphics_port=graphics.port if graphics is not None else 0,
    )


# -- the machine ------------------------------------------------------------------------------------------------------
def build(
    template: Template,
    *,
    vm_id: int,
    uuid: str,
    name: str,
    hypervisor: str,
    images: Mapping[int, Image],
    nics: Sequence[Nic],
    vnc_port: Optional[int] = None,
    kept: Optional[Kept] = None,
) -> Vm:
    """The machine. name: "" becomes one-<vmid>. kept: of one that is there; None for one that is made.

    images: by index of Demands.images. nics: one per NIC, with network and lease; the rest is filled in here.
    Of the context only the place is decided: its variables are empty. No CONTEXT, no context.
    Raises InvalidValue naming the machine for what its images make impossible.
    """
    name = name or f"one-{vm_id}"
    where = f"VM {name}"
    template = with_nic_defaults(template, where)
    vectors = template.vectors("DISK")
    kinds = [_kind(vector, images.get(index), f"{where}: DISK {index}") for index, vector in enumerate(vectors)]
    os = _os(template, where, kinds, hypervisor)
    os = replace(os, kernel=_file(os.kernel, images.get(len(vectors) + 1), ImageType.KERNEL, where))
    os = replace(os, initrd=_file(os.initrd, images.get(len(vectors) + 2), ImageType.RAMDISK, where))
    _check_boots(os, kinds, where)
    os = rules.of(hypervisor).fit(os, template, _disk_images(images, vectors), where)
    if rules.of(hypervisor).column == attributes.KVM:
        # The firmware may be what an image asks for.
        values.check_acpi(os.firmware, template, where)

    places = [
        _place(vector, f"{where}: {_named(f'DISK {index}', vector)}", kinds[index], images.get(index))
        for index, vector in enumerate(vectors)
    ]
    contexts = template.vectors("CONTEXT")
    if contexts:
        places.append(_context_place(template, where))
    ids, context_id = list(range(len(vectors))), len(vectors)
    if kept is not None:
        places, ids, context_id = _as_kept(places, kept, context_id)
    assigned = targets.assign(places, _board(template, hypervisor))
    order = {device: number for number, device in enumerate(os.boot, 1)}
    return Vm(
        vm_id=vm_id,
        uuid=uuid,
        name=name,
        hypervisor=hypervisor,
        cpu=_cpu(template, where),
        memory=_memory(template, where),
        vcpu=_vcpu(template, where),
        os=os,
        disks=_with_files(
            tuple(
                replace(
                    _disk(
                        ids[index],
                        vector,
                        images.get(index),
                        hypervisor,
                        f"{where}: DISK {index}",
                        kept is not None and kept.disks[index] is not None,
                    ),
                    target=assigned[index][0],
                    bus=assigned[index][1],
                    boot_order=order.get(f"disk{index}", 0),
                )
                for index, vector in enumerate(vectors)
            ),
            template,
            fit.boot_disk(replace(os, kernel=""), _disk_images(images, vectors)),
            where,
        ),
        nics=tuple(
            _nic(nic, vector, vm_id, order.get(f"nic{index}", 0))
            for index, (nic, vector) in enumerate(zip(nics, template.vectors("NIC")))
        ),
        context=_context(template, context_id, assigned[-1], where) if contexts else None,
        graphics=_graphics(template, where, vnc_port),
        inputs=tuple(Input(v.get("TYPE", "").lower(), v.get("BUS", "").lower()) for v in template.vectors("INPUT")),
        tpm=_tpm(template, where),
        features=template.vector("FEATURES"),
        cpu_model=template.vector("CPU_MODEL"),
        cpu_limit=_cpu_limit(template, where),
        emulator=template.get("EMULATOR").strip(),
        raw=_raw(template),
        attributes={key: value for key, value in template.singles().items() if key not in SINGLES},
        next_disk=max((kept.next_disk if kept is not None else 0), *(number + 1 for number in (*ids, context_id))),
        next_nic=max((nic.nic_id + 1 for nic in nics), default=0),
    )


def _as_kept(places: Sequence[Place], kept: Kept, context_id: int) -> tuple[list[Place], list[int], int]:
    """Places with the targets that they have, ids of disks, and of the context."""
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


def doubts(template: Template, vm: Vm, images: Mapping[int, Image]) -> list[str]:
    """Warnings about the machine that build() made of the template; what can't work is InvalidValue."""
    if vm.hypervisor not in values.HYPERVISORS:
        return []
    return fit.check_bus(template, vm, _disk_images(images, template.vectors("DISK")), f"VM {vm.name}")


def _disk_images(images: Mapping[int, Image], vectors: Sequence[Mapping[str, str]]) -> dict[int, Image]:
    """Those of disks: the images of OS follow them."""
    return {index: image for index, image in images.items() if index < len(vectors)}


def _kind(vector: Mapping[str, str], image: Optional[Image], where: str) -> str:
    if _volatile(vector, where):
        return DATA
    if image is None:
        raise InvalidValue(where, "its image was not found", "Store the image first")
    kinds = {ImageType.OS: OS, ImageType.CDROM: CDROM, ImageType.DATABLOCK: DATA}
    if image.type not in kinds:
        raise InvalidValue(
            f"{where}: image {image.name}",
            f"it is of type {image.type.name}, which is no disk",
            "Use it as KERNEL_DS, INITRD_DS or in CONTEXT, or give the disk an image of type OS, CDROM or DATABLOCK",
        )
    return kinds[image.type]


def _check_boots(os: Os, kinds: Sequence[str], where: str) -> None:
    if os.kernel or OS in kinds or not kinds:
        return
    devices = os.boot or tuple(f"disk{index}" for index in range(len(kinds)))
    if any(device.startswith("nic") or kinds[int(device[4:])] == CDROM for device in devices):
        return
    raise InvalidValue(
        f"{where}: " + (f"OS/BOOT = {','.join(os.boot)}" if os.boot else "its disks"),
        "none of them is of an image of type OS, or a CDROM",
        "A machine needs an OS image as root disk, unless it boots from CDROM, network or KERNEL; an installed "
        "DATABLOCK becomes one by nebula_image with type: OS",
    )


def _disk(
    index: int, vector: Mapping[str, str], image: Optional[Image], hypervisor: str, where: str, made: bool
) -> Disk:
    """made: it is there, and as large as it was made: whatever its image is by now."""
    options = {key: value for key, value in vector.items() if key not in _DISK_FIELDS}
    wanted = vector.get("DRIVER", "").lower()
    if wanted and wanted not in FORMATS:
        # Not a format of ours, but some hypervisors' own word: file:, tap:aio:
        options["DRIVER"] = vector["DRIVER"]
        wanted = rules.of(hypervisor).format_of(wanted)
    size = _size(vector, where)
    readonly = _flag(vector, "READONLY", where)
    if image is None:
        fs, driver = _volatile_format(vector, where)
        _check_shareable(vector, driver, hypervisor, where)
        kind = "SWAP" if vector.get("TYPE", "").upper() == "SWAP" else "FS"
        return Disk(index, "", type=kind, driver=driver, size=size, fs=fs, readonly=readonly, options=options)
    cdrom = image.type == ImageType.CDROM
    if size and image.size > size and not cdrom and not made:
        raise InvalidValue(
            f"{where}: SIZE = {size}",
            f"image {image.name} has {image.size} MB, and a smaller disk would cut it off",
            f"Give at least {image.size}, or leave SIZE out",
        )
    in_place = cdrom or image.persistent
    if image.luks_secret and (size > image.size or wanted == "raw"):
        raise InvalidValue(
            f"{where}: {'DRIVER = raw' if wanted == 'raw' else f'SIZE = {size}'}",
            f"image {image.name} is encrypted, and no host changes it without its secret",
            f"Leave it out: the disk is as the image, {image.size} MB of qcow2",
        )
    driver = image.format if in_place else wanted or rules.of(hypervisor).driver
    _check_shareable(vector, "" if cdrom else driver, hypervisor, where)
    return Disk(
        index,
        "",
        type="CDROM" if cdrom else "FILE",
        image_id=image.id,
        image=image.name,
        image_uuid=image.uuid,
        generation=image.generation,
        source=image.source,
        format=image.format,
        driver=driver,
        size=image.size if cdrom else max(size, image.size),
        clone=not in_place,
        save=image.persistent and not cdrom,
        readonly=cdrom or readonly,
        luks_secret=image.luks_secret,
        # What its own file holds goes with it, and an overlay begins with nothing.
        trusted=image.is_trusted,
        snapshots=snapshots.tree_of(image.snapshots) if image.persistent and not cdrom else (),
        options=options,
    )


def _check_shareable(vector: Mapping[str, str], driver: str, hypervisor: str, where: str) -> None:
    if rules.of(hypervisor).column == attributes.KVM:
        values.check_shareable(vector, driver, where)


def _with_files(disks: tuple[Disk, ...], template: Template, root: Optional[int], where: str) -> tuple[Disk, ...]:
    """The disks with what is to be written into them; InvalidValue for one that is not the machine's own."""
    wanted: dict[int, list[inject.Injected]] = {}
    for number, entry in inject.of_template(template, where):
        place = root if number is None else number
        if place is None or place >= len(disks):
            raise InvalidValue(
                f"{where}: INJECT: PATH = {entry.path}",
                f"there is no disk {number}" if place is not None else "it has no disk of an image of type OS",
                "Say which DISK, counted from 0",
            )
        disk = disks[place]
        here = f"{where}: DISK {place}: INJECT: PATH = {entry.path}"
        volatile = disk.type in ("FS", "SWAP") and not disk.readonly
        if not volatile and (not disk.clone or disk.readonly or disk.luks_secret):
            found = "its image is persistent, and the file would be in that for ever"
            if disk.type == "CDROM" or disk.readonly:
                found = "nothing is written to it"
            elif disk.luks_secret:
                found = "it is encrypted"
            raise InvalidValue(
                here,
                found,
                "Files are written into a machine's own copy of an image: use a non-persistent one, or CONTEXT/FILES",
            )
        files = wanted.setdefault(place, [])
        files.append(_for_volatile(entry, disk, files, here) if volatile else entry)
    via = inject.via(template, where)
    return tuple(
        replace(disk, inject=tuple(wanted[index]), inject_via=via) if index in wanted else disk
        for index, disk in enumerate(disks)
    )


def _for_volatile(entry: inject.Injected, disk: Disk, others: Sequence[inject.Injected], where: str) -> inject.Injected:
    """For a disk that is made with nothing in it but its file system."""
    if disk.fs in ("", "swap"):
        found = "it is swap space" if disk.fs else "it is empty, and gets no file system"
        raise InvalidValue(where, found, "Have one made: TYPE = fs, FS = ext4")
    if entry.partition not in ("", inject.WHOLE_DISK):
        raise InvalidValue(
            f"{where}: PARTITION = {entry.partition}",
            "the disk is made with one file system and no partitions",
            f"Leave PARTITION out, or give {inject.WHOLE_DISK}",
        )
    if any(other.path == entry.path for other in others):
        raise InvalidValue(where, "it is there twice", "Give each file one entry")
    return replace(entry, partition=inject.WHOLE_DISK)


def _nic(nic: Nic, vector: Mapping[str, str], vm_id: int, boot_order: int) -> Nic:
    return replace(
        nic,
        model=vector.get("MODEL", ""),
        target=vector.get("TARGET") or f"one-{vm_id}-{nic.nic_id}",
        boot_order=boot_order,
        options={key: value for key, value in vector.items() if key not in _NIC_FIELDS},
    )


def _raw(template: Template) -> dict[str, str]:
    raw: dict[str, str] = {}
    for vector in template.vectors("RAW"):
        hypervisor = vector.get("TYPE", "").lower()
        raw[hypervisor] = "\n".join(part for part in (raw.get(hypervisor), vector.get("DATA")) if part)
    return raw


# -- disks and where they are -----------------------------------------------------------------------------------------
def _volatile(vector: Mapping[str, str], where: str) -> bool:
    if vector.get("IMAGE") or vector.get("IMAGE_ID"):
        return False
    if vector.get("TYPE", "").upper() not in ("SWAP", "FS"):
        return False
    _volatile_format(vector, where)
    return True


def _volatile_format(vector: Mapping[str, str], where: str) -> tuple[str, str]:
    """File system ("" for none) and format."""
    kind, format_, fs = kind_of_empty(vector)
    if format_ not in FORMATS:
        raise InvalidValue(f"{where}: FORMAT = {format_}", "no such format", "Use raw or qcow2")
    if fs and fs not in FILE_SYSTEMS:
        raise InvalidValue(f"{where}: FS = {fs}", "no such file system", "Use one of " + ", ".join(FILE_SYSTEMS))
    return ("swap" if kind == "swap" else fs), format_


def _driver(vector: Mapping[str, str], where: str) -> None:
    """A word that no hypervisor knows would be found out when the machine starts, and its error names no disk."""
    word = vector.get("DRIVER", "").strip()
    if word and word.lower() not in rules.DRIVERS:
        near = nearest(word.lower(), rules.DRIVERS)
        raise InvalidValue(
            f"{where}: DRIVER = {word}",
            "there is no such driver of block devices",
            f"Did you mean {near}? " * bool(near) + "Known are " + ", ".join(rules.DRIVERS),
        )


def _image_ref(vector: Mapping[str, str], where: str) -> Optional[Ref]:
    if vector.get("IMAGE_ID"):
        return _whole(vector["IMAGE_ID"], f"{where}: IMAGE_ID", "Give the image's id, or its name as IMAGE")
    return vector.get("IMAGE") or None


def _named(where: str, vector: Mapping[str, str]) -> str:
    image = vector.get("IMAGE") or vector.get("IMAGE_ID")
    return f"{where} (image {image})" if image else where


def _size(vector: Mapping[str, str], where: str, required: bool = False) -> int:
    if not vector.get("SIZE") and not required:
        return 0
    if not vector.get("SIZE"):
        raise InvalidValue(f"{where}: SIZE", "it is not set", "Give the size of the volatile disk in MB")
    return _whole(vector["SIZE"], f"{where}: SIZE", "Give whole MB", lowest=1)


def _place(
    vector: Mapping[str, str], where: str, kind: str, image: Optional[Image] = None, context: bool = False
) -> Place:
    prefix = vector.get("DEV_PREFIX", "")
    target = vector.get("TARGET", "")
    bus = vector.get("BUS", "").lower()
    if image is not None and not target and not prefix:
        target, prefix = image.target, image.dev_prefix
        if not target and not prefix and not bus and kind != CDROM and image.bus in fit.PREFIXES:
            prefix, bus = fit.PREFIXES[image.bus], image.bus
    return Place(
        where=where,
        kind=kind,
        target=target,
        dev_prefix=prefix,
        bus=bus,
        readonly=vector.get("READONLY", "").upper() in TRUE,
        context=context,
    )


def _context_place(template: Template, where: str) -> Place:
    disk = _word(template, "CONTEXT_DEVICE", DEVICES, where) == "disk"
    place = _place(template.vector("CONTEXT"), f"{where}: CONTEXT", DATA if disk else CDROM, context=True)
    return replace(place, readonly=True) if disk else place


def _context(template: Template, disk_id: int, place: targets.Assigned, where: str) -> Context:
    return Context(
        disk_id,
        place[0],
        place[1],
        format=_word(template, "CONTEXT_FORMAT", CONTEXT_FORMATS, where),
        device=_word(template, "CONTEXT_DEVICE", DEVICES, where),
    )


def _word(template: Template, name: str, known: Sequence[str], where: str) -> str:
    """One of the words in lower case, the first unless the template says another."""
    text = template.get(name).strip()
    word = text.lower() or known[0]
    if word not in known:
        near = nearest(word, known)
        raise InvalidValue(
            f"{where}: {name} = {text}",
            "no such word",
            f"Did you mean {near}? " * bool(near) + "Known are " + ", ".join(known),
        )
    return word


def _board(template: Template, hypervisor: str) -> Board:
    vector = template.vector("OS")
    return Board(
        machine=vector.get("MACHINE") or rules.of(hypervisor).machine,
        sd_disk_bus=vector.get("SD_DISK_BUS", ""),
        hypervisor=hypervisor,
        devices=rules.of(hypervisor).devices,
        firmware=rules.of(hypervisor).firmware(vector),
    )


# -- OS and BOOT ------------------------------------------------------------------------------------------------------
def _os(template: Template, where: str, kinds: Sequence[str], hypervisor: str) -> Os:
    vector = template.vector("OS")
    where = f"{where}: OS"
    if vector.get("UUID") and not _UUID.fullmatch(vector["UUID"].lower()):
        raise InvalidValue(f"{where}/UUID = {vector['UUID']}", "it is no UUID", "Write 8-4-4-4-12 hexadecimal digits")
    if vector.get("SD_DISK_BUS", "").lower() not in ("", "scsi", "sata"):
        raise InvalidValue(f"{where}/SD_DISK_BUS = {vector['SD_DISK_BUS']}", "no such bus", "Use scsi or sata")
    for key in ("KERNEL", "INITRD"):
        path = vector.get(key, "")
        if path and not path.startswith("/") and not path.startswith("$FILE"):
            raise InvalidValue(
                f"{where}/{key} = {path}",
                "it is no absolute path",
                f'Give the path on the node, or {key}_DS = "$FILE[…]"',
            )
    return Os(
        arch=vector.get("ARCH") or "x86_64",
        machine=vector.get("MACHINE") or rules.of(hypervisor).machine,
        boot=_boot(vector.get("BOOT", ""), kinds, len(template.vectors("NIC")), where),
        kernel=vector.get("KERNEL_DS") or vector.get("KERNEL", ""),
        initrd=vector.get("INITRD_DS") or vector.get("INITRD", ""),
        kernel_cmd=vector.get("KERNEL_CMD", ""),
        root=vector.get("ROOT", ""),
        bootloader=vector.get("BOOTLOADER", ""),
        firmware=vector.get("FIRMWARE", ""),
        firmware_secure=_flag(vector, "FIRMWARE_SECURE", where),
        sd_disk_bus=vector.get("SD_DISK_BUS", "").lower(),
    )


def _boot(text: str, kinds: Sequence[str], nics: int, where: str) -> tuple[str, ...]:
    """Device names in order; the words of older templates (hd, cdrom, network) become the first device of that sort."""
    devices: list[str] = []
    for word in filter(None, (part.strip() for part in text.lower().split(","))):
        shown = f"{where}/BOOT = {text}"
        device = _old_boot_device(word, kinds, nics) if word in _OLD_BOOT else word
        match = _BOOT.fullmatch(device)
        if not match and word not in _OLD_BOOT:
            raise InvalidValue(shown, f"{word} is no device", 'Write the devices in order, as in "disk0,nic0"')
        there = len(kinds) if match and match.group(1) == "disk" else nics
        if not match or int(match.group(2)) >= there:
            sort = "NIC" if device.startswith("nic") else "DISK"
            raise InvalidValue(
                shown,
                f"{word}: there is no such {sort}; the template has {len(kinds)} DISK and {nics} NIC",
                "Devices count from 0, in the order of the template",
            )
        if device not in devices:
            devices.append(device)
    return tuple(devices)


def _old_boot_device(word: str, kinds: Sequence[str], nics: int) -> str:
    if word == "network":
        return "nic0"
    fitting = (CDROM,) if word == "cdrom" else (OS, DATA)
    for sorts in (fitting, (UNKNOWN,)):
        for index, kind in enumerate(kinds):
            if kind in sorts:
                return f"disk{index}"
    return ""


def _file_ref(template: Template, name: str, where: str) -> Optional[Ref]:
    vector = template.vector("OS")
    text = (vector.get(f"{name}_DS") or vector.get(name, "")).strip()
    if not text.startswith("$FILE") and not vector.get(f"{name}_DS"):
        return None
    match = _FILE.fullmatch(text)
    if not match:
        raise InvalidValue(
            f"{where}: OS/{name}_DS = {text}", "it names no image", f'Write {name}_DS = "$FILE[IMAGE=\\"…\\"]"'
        )
    if match.group(1) == "IMAGE_ID":
        return _whole(match.group(3), f"{where}: OS/{name}_DS: IMAGE_ID", "Give the image's id")
    return match.group(3)


def _file(value: str, image: Optional[Image], wanted: ImageType, where: str) -> str:
    """The path: of the image's file, or as the template has it."""
    if image is None:
        if value.strip().startswith("$FILE"):
            raise InvalidValue(f"{where}: OS/{value}", "its image was not found", "Store the image first")
        return value
    if image.type != wanted:
        raise InvalidValue(
            f"{where}: image {image.name} as {wanted.name}",
            f"it is of type {image.type.name}",
            f"Name an image of type {wanted.name}",
        )
    return image.source


def _tpm(template: Template, where: str) -> Optional[Tpm]:
    """TPM = [ MODEL, VERSION ], or a model (or YES) as TPM in OS."""
    vectors = template.vectors("TPM")
    word = template.vector("OS").get("TPM", "").strip().lower()
    if not vectors and word.upper() in FALSE:
        return None
    vector = vectors[0] if vectors else {"MODEL": "" if word.upper() in TRUE else word}
    model = vector.get("MODEL", "").strip().lower() or TPM_MODELS[0]
    version = vector.get("VERSION", "").strip() or "2.0"
    if model not in TPM_MODELS:
        raise InvalidValue(f"{where}: TPM: MODEL = {model}", "no such model", f"Use {' or '.join(TPM_MODELS)}")
    if version not in ("2.0", "1.2") or (version == "1.2" and model == TPM_MODELS[0]):
        raise InvalidValue(
            f"{where}: TPM: VERSION = {version}", f"{model} has none such", "Use 2.0, or 1.2 with tpm-tis"
        )
    return Tpm(model, version)


# -- graphics ---------------------------------------------------------------------------------------------------------
def _graphics(template: Template, where: str, port: Optional[int]) -> Optional[Graphics]:
    found = template.vectors("GRAPHICS")
    if not found:
        return None
    vector = found[0]
    here = f"{where}: GRAPHICS"
    type_ = vector.get("TYPE", "vnc").lower()
    if type_ not in GRAPHICS_TYPES:
        raise InvalidValue(f"{here}/TYPE = {vector.get('TYPE')}", "no such graphics", "Use vnc or spice")
    # As in OpenNebula, a password that is given counts.
    random = vector.get("RANDOM_PASSWD", "").upper() or "YES"
    if random not in TRUE + FALSE:
        raise InvalidValue(f"{here}/RANDOM_PASSWD = {random}", "it is neither YES nor NO", "Use YES or NO")
    keymap = vector.get("KEYMAP", "").strip().lower()
    if keymap and keymap not in values.KEYMAPS:
        near = nearest(keymap, values.KEYMAPS)
        raise InvalidValue(
            f"{here}/KEYMAP = {vector['KEYMAP']!r}",
            "QEMU knows no such keyboard",
            f"Did you mean {near}? " * bool(near) + "Known are " + ", ".join(values.KEYMAPS),
        )
    fixed = 0
    if vector.get("PORT"):
        fixed = _whole(
            vector["PORT"], f"{here}/PORT", f"Use {FIRST_PORT} to {LAST_PORT}, or leave it out to get a free one"
        )
        if not FIRST_PORT <= fixed <= LAST_PORT:
            raise InvalidValue(
                f"{here}/PORT = {fixed}",
                "consoles have no such port",
                f"Use {FIRST_PORT} to {LAST_PORT}, or leave it out to get a free one",
            )
    return Graphics(
        type=type_,
        listen=vector.get("LISTEN", "127.0.0.1"),
        port=port or fixed,
        password=vector.get("PASSWD", ""),
        keymap=keymap,
        made_up=random in TRUE and not vector.get("PASSWD"),
    )


def leaves_password(template: Template) -> bool:
    """Whether the password to the machine's console is to be made up."""
    graphics = _graphics(template, "template", None)
    return graphics is not None and graphics.made_up


# -- NICs and numbers -------------------------------------------------------------------------------------------------
def _nic_demand(vector: Mapping[str, str], where: str) -> NicDemand:
    network: Ref
    if vector.get("NETWORK_ID"):
        network = _whole(vector["NETWORK_ID"], f"{where}: NETWORK_ID", "Give the network's id, or its name as NETWORK")
    elif vector.get("NETWORK"):
        network = vector["NETWORK"]
    else:
        raise InvalidValue(where, "it names no NETWORK", 'Write NIC = [ NETWORK = "…" ]')
    for key, version in (("IP", 4), ("IP6", 6)):
        if vector.get(key):
            _check_address(vector[key], version, f"{where}: {key} = {vector[key]}")
    mac = vector.get("MAC", "").lower()
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) % 2):
        raise InvalidValue(
            f"{where}: MAC = {vector['MAC']}", "it is no address of one interface", "Write it as 02:00:0a:00:00:01"
        )
    return NicDemand(network, vector.get("IP", ""), vector.get("IP6", ""), mac)


def _check_address(text: str, version: int, where: str) -> None:
    try:
        good = "%" not in text and ipaddress.ip_address(text).version == version
    except ValueError:
        good = False
    if not good:
        raise InvalidValue(where, f"it is no IPv{version} address", "Correct it, or leave it out to get a free one")


def _cpu(template: Template, where: str) -> float:
    text = template.get("CPU").strip()
    if not text:
        return DEFAULT_CPU
    if re.fullmatch(r"[0-9]{0,6}\.?[0-9]{0,9}", text) and text != "." and float(text) > 0:
        return float(text)
    raise InvalidValue(
        f"{where}: CPU = {text!r}", "it is not a number of processors above 0", "Half a processor is CPU = 0.5"
    )


def _cpu_limit(template: Template, where: str) -> int:
    text = template.get("CPULIMIT").strip() or "0"
    return _whole(text, f"{where}: CPULIMIT", "Give percents of one processor: 50 is half of one, 0 no limit")


def _vcpu(template: Template, where: str) -> Optional[int]:
    text = template.get("VCPU").strip()
    return _whole(text, f"{where}: VCPU", "Give a whole number, at least 1", lowest=1) if text else None


def _memory(template: Template, where: str) -> int:
    text = template.get("MEMORY").strip()
    if not text:
        raise InvalidValue(f"{where}: MEMORY", "it is not set", "Give it in MB: MEMORY = 512")
    remedy = "Give whole MB: MEMORY = 512"
    unit = re.fullmatch(r"([0-9]{1,9})\s*([KMGT])I?B?", text.upper())
    if unit and int(unit.group(1)) * _UNITS[unit.group(2)] >= 1:
        remedy = f"It is in MB: write MEMORY = {int(int(unit.group(1)) * _UNITS[unit.group(2)])}"
    return _whole(text, f"{where}: MEMORY", remedy, lowest=1)


def _whole(text: str, where: str, remedy: str, lowest: int = 0) -> int:
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 12 and int(digits) >= lowest:
        return int(digits)
    found = "it is not a whole number" + (f" of at least {lowest}" if lowest else "")
    if digits.isascii() and digits.isdigit() and len(digits) > 12:
        found = "nothing is that large"
    raise InvalidValue(f"{where} = {text!r}", found, remedy)


def _flag(vector: Mapping[str, str], key: str, where: str) -> bool:
    word = vector.get(key, "").strip().upper()
    if word not in TRUE + FALSE:
        raise InvalidValue(f"{where}/{key} = {vector[key]!r}", "it is neither YES nor NO", "Write YES or NO")
    return word in TRUE
