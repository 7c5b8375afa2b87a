# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads DISK, of an image or empty, and makes of it the disk that a machine gets."""

from __future__ import annotations

from collections.abc import Mapping

from ...dataclass import replace
from ...errors import InvalidValue
from .. import disk_snapshots, disk_targets, hypervisor_rules
from ..device_matching import FILE_SYSTEMS, is_shared_directory, kind_of_empty
from ..disk import DISK_FORMATS, RAW, TAR, Disk
from ..disk_targets import CDROM, DATA, DIRECTORY, OS, UNKNOWN
from ..image import Image
from ..object_names import known_are
from ..states import ImageType
from ..template import Template
from .disk_buses import board_of, context_place, place_of
from .shared_directories import check_shared_directory, check_tags, shared_directory_of
from .template_values import Ref, is_uuid, read_flag, read_whole

FORMATS = DISK_FORMATS
# Attributes that become fields of the model; whatever else a DISK says is among its options.
_DISK_FIELDS = frozenset((
    "IMAGE", "IMAGE_ID", "IMAGE_UNAME", "IMAGE_UID", "TARGET", "DEV_PREFIX", "BUS", "TYPE", "FORMAT", "FS", "SIZE",
    "READONLY", "CLONE", "SAVE", "PERSISTENT", "DISK_ID", "DRIVER", "FORCE_BUS",
))  # fmt: skip


def check_disks(template: Template, where: str, hypervisor: str) -> tuple[list[str], list[str]]:
    """Return the kind of each DISK as far as the template tells, and warnings."""
    board = board_of(template, hypervisor)
    kinds, places = [], []
    for index, vector in enumerate(template.vectors("DISK")):
        here = f"{where}: DISK {index}"
        if is_shared_directory(vector):
            check_shared_directory(vector, hypervisor, here)
            kinds.append(DIRECTORY)
            places.append(place_of({}, here, DIRECTORY))
            continue
        volatile = _is_volatile(vector, here)
        kind = DATA if volatile else CDROM if vector.get("TYPE", "").upper() == CDROM else UNKNOWN
        if source_of(vector, hypervisor):
            kind = OS
        elif not volatile and image_ref(vector, here) is None:
            raise InvalidValue(
                here,
                "it names no IMAGE, and is neither TYPE = swap nor TYPE = fs",
                "Register the image with nebula_image and name it" if vector.get("SOURCE") else "Name its IMAGE",
            )
        _size(vector, here, required=volatile)
        _check_driver(vector, here)
        bus = vector.get("BUS", "").lower()
        if bus:
            disk_targets.check_bus(board.devices.buses.get(bus, bus), f"{here}: BUS = {bus}", board)
        kinds.append(kind)
        places.append(place_of(vector, with_image_name(here, vector), kind))
    check_tags(template, where)
    context = template.vectors("CONTEXT")
    if context:
        places.append(context_place(template, where))
    places = [disk_targets.with_own_words(place, board) for place in places]
    # These are known by now. The others come after these and take what is left; an image may say where it wants to be.
    known = [place for place in places if place.target or (place.kind == CDROM and (place.context or board.emulated))]
    assigned = disk_targets.assign(known, board)
    doubts = [
        f"{place.where[len(where) + 2 :]}: TARGET = {place.target} is SATA on machine {board.machine}, and guests "
        "without a driver for AHCI (Debian's cloud kernel) don't see it: use a target with sd"
        for place, (_target, bus) in zip(known, assigned)
        if place.target and place.kind == CDROM and bus == "sata" and not place.bus and not board.sd_disk_bus
    ]
    return kinds, doubts


def source_of(vector: Mapping[str, str], hypervisor: str) -> str:
    """Return the path of the file that SOURCE names in place of an image, "" where this hypervisor takes none."""
    if not hypervisor_rules.rules_of(hypervisor).sources or vector.get("IMAGE") or vector.get("IMAGE_ID"):
        return ""
    return vector.get("SOURCE", "")


def kind_of(vector: Mapping[str, str], image: Image | None, hypervisor: str, where: str) -> str:
    """Return the kind of a disk whose image is known by now; raise InvalidValue for an image that is no disk."""
    if source_of(vector, hypervisor):
        return OS
    if is_shared_directory(vector):
        return DIRECTORY
    if _is_volatile(vector, where):
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


def disk_of(
    index: int,
    vector: Mapping[str, str],
    image: Image | None,
    hypervisor: str,
    where: str,
    made: bool,
    version: int = 0,
) -> Disk:
    """Return the disk that a DISK asks for.
    made: it is there, as large as it was made, whatever its image is now.
    version: the hardware version of its machine."""
    rule = hypervisor_rules.rules_of(hypervisor)
    options = {key: value for key, value in vector.items() if key not in _DISK_FIELDS}
    if is_shared_directory(vector):
        return shared_directory_of(index, vector, options, where)
    wanted = vector.get("DRIVER", "").lower()
    if wanted in FORMATS:
        wanted = rule.words.get(wanted, wanted)
    if wanted and wanted not in FORMATS:
        # Not a format of ours, but some hypervisors' own word: file:, tap:aio:
        options["DRIVER"] = vector["DRIVER"]
        wanted = rule.format_of(wanted)
    size = _size(vector, where)
    readonly = read_flag(vector, "READONLY", where)
    source = source_of(vector, hypervisor)
    if image is None and source:
        rule.check_disk(vector, rule.driver, where)
        given = Disk(index, "", source=source, format=rule.driver, driver=rule.driver, size=size, options=options)
        return replace(given, by_hypervisor=rule.makes_disks)
    if image is None:
        fs, driver = _volatile_format(vector, where)
        rule.check_disk(vector, driver, where)
        kind = "SWAP" if vector.get("TYPE", "").upper() == "SWAP" else "FS"
        empty = Disk(index, "", type=kind, driver=driver, size=size, fs=fs, readonly=readonly, options=options)
        return replace(empty, by_hypervisor=rule.makes_disks)
    cdrom = image.type == ImageType.CDROM
    refuse_format(image, hypervisor, where)
    if image.format == TAR:
        return _container_root(index, image, hypervisor, where, size, options)
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
    # The driver of a container is that of its root.
    usual = RAW if rule.devices.paths else rule.driver
    driver = image.format if in_place else wanted or usual
    rule.check_disk(vector, "" if cdrom else driver, where)
    return replace(
        _disk_of_image(index, image, options),
        type="CDROM" if cdrom else "FILE",
        driver=driver,
        size=image.size if cdrom else max(size, image.size),
        clone=not in_place,
        save=image.persistent and not cdrom,
        readonly=cdrom or readonly,
        luks_secret=_luks_secret(vector, image, where, made) if version else image.luks_secret,
        # What its own file holds goes with it, and an overlay begins with nothing.
        trusted=image.is_trusted,
        snapshots=disk_snapshots.tree_of(image.snapshots) if image.persistent and not cdrom else (),
    )


def _luks_secret(vector: Mapping[str, str], image: Image, where: str, made: bool) -> str:
    """Return the UUID of the secret that opens the disk: the image's, unless the DISK names another."""
    text = vector.get("LUKS_SECRET", "").strip().lower()
    # Of machines that are there it may be said since long ago, when it did nothing.
    if not text or (made and not (image.luks_secret and is_uuid(text))):
        return image.luks_secret
    if not is_uuid(text):
        raise InvalidValue(
            f"{where}: LUKS_SECRET = {vector['LUKS_SECRET']!r}",
            "it is no UUID",
            "Give that of a secret in nebula_luks_secrets, 8-4-4-4-12 hexadecimal digits",
        )
    if not image.luks_secret:
        raise InvalidValue(
            f"{where}: LUKS_SECRET = {text}",
            f"image {image.name} is not encrypted",
            "Leave it out, or have the image encrypted: luks_secret and luks_passphrase of nebula_image",
        )
    return text


def _disk_of_image(index: int, image: Image, options: Mapping[str, str]) -> Disk:
    return Disk(
        index, "", image_id=image.id, image=image.name, image_uuid=image.uuid, generation=image.generation,
        source=image.source, format=image.format, options=options,
    )  # fmt: skip


def refuse_format(image: Image, hypervisor: str, where: str) -> None:
    """Raise InvalidValue for an image that is of no use to machines of this hypervisor."""
    rule = hypervisor_rules.rules_of(hypervisor)
    if image.type == ImageType.DATABLOCK and image.format != TAR and rule.devices.paths:
        return
    if image.format in rule.formats or image.type not in (ImageType.OS, ImageType.DATABLOCK, ImageType.CDROM):
        return
    if image.format == TAR:
        fitting = ", ".join(sorted({each.name for each in hypervisor_rules.RULES.values() if TAR in each.formats}))
        raise InvalidValue(
            f"{where}: image {image.name}",
            f"it is the root file system of a container (format tar), and machines of {hypervisor} start from disks",
            f"Use an image with a disk, or a host whose nebula_hypervisor is one of: {fitting}",
        )
    raise InvalidValue(
        f"{where}: image {image.name}",
        f"it is a disk (format {image.format}), and a container of {hypervisor} has no disk that it could start from",
        "Use an image with format: tar, the archive of a root file system; or set HYPERVISOR to kvm",
    )


def _container_root(
    index: int, image: Image, hypervisor: str, where: str, size: int, options: Mapping[str, str]
) -> Disk:
    """Return the root of a container: a directory of its own, whose owners are those of its users; or whatever its
    hypervisor makes of the image, as large as SIZE lets it become."""
    itself = hypervisor_rules.rules_of(hypervisor).makes_disks
    if size and not itself:
        raise InvalidValue(
            f"{where}: SIZE = {size}",
            f"image {image.name} is a root file system, whose copy is a directory: nothing limits its size",
            "Leave SIZE out",
        )
    disk = _disk_of_image(index, image, options)
    return replace(disk, driver=TAR, size=size if itself else image.size, by_hypervisor=itself)


def _is_volatile(vector: Mapping[str, str], where: str) -> bool:
    if vector.get("IMAGE") or vector.get("IMAGE_ID"):
        return False
    if vector.get("TYPE", "").upper() not in ("SWAP", "FS"):
        return False
    _volatile_format(vector, where)
    return True


def _volatile_format(vector: Mapping[str, str], where: str) -> tuple[str, str]:
    """Return file system ("" for none) and format."""
    kind, format_, fs = kind_of_empty(vector)
    if format_ not in FORMATS:
        raise InvalidValue(f"{where}: FORMAT = {format_}", "no such format", "Use raw or qcow2")
    if fs and fs not in FILE_SYSTEMS:
        raise InvalidValue(f"{where}: FS = {fs}", "no such file system", "Use one of " + ", ".join(FILE_SYSTEMS))
    return ("swap" if kind == "swap" else fs), format_


def _check_driver(vector: Mapping[str, str], where: str) -> None:
    """Raise InvalidValue for a word that no hypervisor knows. The error when the machine starts would name no disk."""
    word = vector.get("DRIVER", "").strip()
    if word and word.lower() not in hypervisor_rules.DRIVERS:
        remedy = known_are(word.lower(), hypervisor_rules.DRIVERS, "{}")
        raise InvalidValue(f"{where}: DRIVER = {word}", "there is no such driver of block devices", remedy)


def image_ref(vector: Mapping[str, str], where: str) -> Ref | None:
    """Return the image's id or name, None for a disk that is made empty."""
    if vector.get("IMAGE_ID"):
        return read_whole(vector["IMAGE_ID"], f"{where}: IMAGE_ID", "Give the image's id, or its name as IMAGE")
    return vector.get("IMAGE") or None


def with_image_name(where: str, vector: Mapping[str, str]) -> str:
    """Return `where` with the image beside it, for errors."""
    image = vector.get("IMAGE") or vector.get("IMAGE_ID")
    return f"{where} (image {image})" if image else where


def _size(vector: Mapping[str, str], where: str, required: bool = False) -> int:
    if not vector.get("SIZE") and not required:
        return 0
    if not vector.get("SIZE"):
        raise InvalidValue(f"{where}: SIZE", "it is not set", "Give the size of the volatile disk in MB")
    return read_whole(vector["SIZE"], f"{where}: SIZE", "Give whole MB", lowest=1)
