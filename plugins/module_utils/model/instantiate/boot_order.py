# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads OS and TPM: what a machine boots from, in which order, and by which kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import InvalidValue
from .. import defaults, hypervisor_rules
from ..disk_targets import CDROM, DATA, DIRECTORY, OS, UNKNOWN
from ..flags import FALSE, TRUE
from ..image import Image
from ..states import ImageType
from ..template import Template
from ..vm import Os, Tpm
from .template_values import Ref, is_uuid, read_flag, read_whole

TPM_MODELS = (defaults.TPM_MODEL, "tpm-tis")
_BOOT = re.compile(r"(disk|nic)([0-9]{1,4})")
# Words of OpenNebula's older templates, and what its own repair of a database (onedb fsck) turns them into. No machine
# has a floppy drive (fd), neither there nor here.
_OLD_BOOT = {"hd": "the first hard disk", "cdrom": "the first CDROM", "network": "the first NIC"}
_FILE = re.compile(r"""\$FILE\[\s*(IMAGE|IMAGE_ID)\s*=\s*("?)([^"\]]+)\2\s*\]""")


def os_of(template: Template, where: str, kinds: Sequence[str], hypervisor: str) -> Os:
    """Return OS with the hypervisor's defaults. kinds: the disks' kinds in the template's order, as far as known."""
    vector = template.vector("OS")
    where = f"{where}: OS"
    if vector.get("UUID") and not is_uuid(vector["UUID"]):
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
        arch=vector.get("ARCH") or defaults.ARCH,
        machine=vector.get("MACHINE") or hypervisor_rules.rules_of(hypervisor).machine,
        boot=_boot_devices(vector.get("BOOT", ""), kinds, len(template.vectors("NIC")), where),
        kernel=vector.get("KERNEL_DS") or vector.get("KERNEL", ""),
        initrd=vector.get("INITRD_DS") or vector.get("INITRD", ""),
        kernel_cmd=vector.get("KERNEL_CMD", ""),
        root=vector.get("ROOT", ""),
        bootloader=vector.get("BOOTLOADER", ""),
        firmware=vector.get("FIRMWARE", ""),
        firmware_secure=read_flag(vector, "FIRMWARE_SECURE", where),
        sd_disk_bus=vector.get("SD_DISK_BUS", "").lower(),
    )


def _boot_devices(text: str, kinds: Sequence[str], nics: int, where: str) -> tuple[str, ...]:
    """Return the device names in order; the words of older templates (hd, cdrom, network) become the first device of
    that sort. They were an order of sorts, and a machine need not have all: those that it lacks are passed over."""
    devices: list[str] = []
    shown, lacking = f"{where}/BOOT = {text}", ""
    for word in _boot_words(text):
        device = _old_boot_device(word, kinds, nics) if word in _OLD_BOOT else word
        match = _BOOT.fullmatch(device)
        if not match and word not in _OLD_BOOT:
            what = "a machine has no floppy drive" if word == "fd" else f"{word} is no device"
            raise InvalidValue(shown, what, 'Write the devices in order, as in "disk0,nic0"')
        there = len(kinds) if match and match.group(1) == "disk" else nics
        if not match or int(match.group(2)) >= there:
            lacking = lacking or word
            if word in _OLD_BOOT:
                continue
            raise _no_such_device(shown, word, kinds, nics)
        if device not in devices:
            devices.append(device)
    if lacking and not devices:
        raise _no_such_device(shown, lacking, kinds, nics)
    return tuple(devices)


def devices_by_order(template: Template, where: str) -> tuple[str, ...]:
    """Return the names of the devices that have an ORDER, the first first; raise InvalidValue if two have the same."""
    found: dict[int, str] = {}
    for name in ("DISK", "NIC"):
        for index, vector in enumerate(template.vectors(name)):
            text = vector.get("ORDER", "").strip()
            if not text:
                continue
            here = f"{where}: {name} {index}"
            order = read_whole(text, f"{here}: ORDER", "Give a whole number: 1 is tried first", lowest=1)
            device = f"{name.lower()}{index}"
            if order in found:
                raise InvalidValue(
                    f"{here}: ORDER = {text}", f"{found[order]} has it too", "Give each device a number of its own"
                )
            found[order] = device
    return tuple(device for _order, device in sorted(found.items()))


def _no_such_device(shown: str, word: str, kinds: Sequence[str], nics: int) -> InvalidValue:
    sort = "NIC" if word.startswith(("nic", "network")) else "DISK"
    return InvalidValue(
        shown,
        f"{word}: there is no such {sort}; the template has {len(kinds)} DISK and {nics} NIC",
        "Devices count from 0, in the order of the template",
    )


def _old_boot_device(word: str, kinds: Sequence[str], nics: int) -> str:
    if word == "network":
        return "nic0"
    fitting = (CDROM,) if word == "cdrom" else (OS, DATA)
    for sorts in (fitting, (UNKNOWN,)):
        for index, kind in enumerate(kinds):
            if kind in sorts:
                return f"disk{index}"
    return ""


def _boot_words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.lower().split(",")) if word]


def doubts_of_boot(template: Template, hypervisor: str, os: Os | None = None) -> list[str]:
    """Return a warning for the words of older templates in BOOT. os: the OS of a machine, whose devices they are."""
    text = template.vector("OS").get("BOOT", "")
    old = [word for word in _boot_words(text) if word in _OLD_BOOT]
    if not old or "OS/BOOT" in hypervisor_rules.rules_of(hypervisor).own:
        return []
    taken = ",".join(os.boot) if os else ", ".join(f"{word} as {_OLD_BOOT[word]}" for word in dict.fromkeys(old))
    return [
        f"OS/BOOT = {text} has words of older templates, which a real oned no longer takes. Taken here: {taken}. "
        + (f'Write BOOT = "{taken}"' if os else 'Write the devices in order, as in "disk0,nic0"')
    ]


def check_bootable(template: Template, kinds: Sequence[str], where: str) -> list[str]:
    """Return warnings; raise InvalidValue for what can't boot, whatever type its images have, which may be any at this
    time. OpenNebula takes a machine without disks, which may get them later, so that there is only a warning."""
    if {UNKNOWN, CDROM, OS} & set(kinds) or _boots_without_disk(template):
        return []
    remedy = 'Add DISK = [ IMAGE = "…" ] with an image of type OS or CDROM, or set BOOT = "nic0" or KERNEL in OS'
    if not kinds:
        return [f"it has no DISK, and nothing to boot from. {remedy}"]
    raise InvalidValue(where, "it has nothing to boot from: all its disks are empty", remedy)


def _boots_without_disk(template: Template) -> bool:
    vector = template.vector("OS")
    boot = vector.get("BOOT", "").lower()
    return bool(vector.get("KERNEL") or vector.get("KERNEL_DS") or "nic" in boot or "network" in boot)


def has_boot_device(template: Template) -> bool:
    """Return whether a machine of the template has anything to boot from: a kernel, a disk or CD-ROM of an image, or a
    NIC from which it is to boot."""
    os = template.vector("OS")
    if os.get("KERNEL") or os.get("KERNEL_DS"):
        return True
    if any(vector.get("IMAGE") or vector.get("IMAGE_ID") for vector in template.vectors("DISK")):
        return True
    nics = template.vectors("NIC")
    return bool(nics) and (_boots_without_disk(template) or any(vector.get("ORDER") for vector in nics))


def check_boots(os: Os, kinds: Sequence[str], where: str) -> None:
    """Raise InvalidValue where, now that all images are known, nothing can boot."""
    for device in os.boot:
        if device.startswith("disk") and kinds[int(device[4:])] == DIRECTORY:
            raise InvalidValue(
                f"{where}: {device}, of what it boots from", "it is a directory of the host", "Leave it out"
            )
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


def file_ref(template: Template, name: str, where: str) -> Ref | None:
    """Return the image that OS names by $FILE[…] as `name` (KERNEL or INITRD), None for a path or nothing."""
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
        return read_whole(match.group(3), f"{where}: OS/{name}_DS: IMAGE_ID", "Give the image's id")
    return match.group(3)


def file_of(value: str, image: Image | None, wanted: ImageType, where: str) -> str:
    """Return the path: of the image's file, or as the template has it."""
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


def tpm_of(template: Template, where: str) -> Tpm | None:
    """Return the TPM that TPM = [ MODEL, VERSION ] asks for, or a model (or YES) as TPM in OS."""
    vectors = template.vectors("TPM")
    word = template.vector("OS").get("TPM", "").strip().lower()
    if not vectors and word.upper() in FALSE:
        return None
    vector = vectors[0] if vectors else {"MODEL": "" if word.upper() in TRUE else word}
    model = vector.get("MODEL", "").strip().lower() or TPM_MODELS[0]
    version = vector.get("VERSION", "").strip() or defaults.TPM_VERSION
    if model not in TPM_MODELS:
        raise InvalidValue(f"{where}: TPM: MODEL = {model}", "no such model", f"Use {' or '.join(TPM_MODELS)}")
    if version not in (defaults.TPM_VERSION, "1.2") or (version == "1.2" and model == TPM_MODELS[0]):
        raise InvalidValue(
            f"{where}: TPM: VERSION = {version}", f"{model} has none such", "Use 2.0, or 1.2 with tpm-tis"
        )
    return Tpm(model, version)
