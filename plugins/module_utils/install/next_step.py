# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which step is due in the installation of an image from an installer's ISO, by what is found. Pure.

It goes by the catalog and by what the nodes answer, and by nothing else: a run that was killed anywhere leaves no
more than these, and the next one goes on from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ..dataclass import dataclass
from ..model import defaults, hypervisor_rules, libvirt_values
from ..model.image import Image
from ..model.installation_marks import INSTALLED, INSTALLING, MARK, TOOK, TRIES, VERIFIED
from ..model.states import ImageState, ImageType
from ..model.template import Template
from .installation_end import MANUAL, POWEROFF, REBOOT

# Steps.
MAKE = "make"
START = "start"
WAIT = "wait"
END = "end"
UNREACHED = "unreached"
UNSURE = "unsure"
FOREIGN = "foreign"
BROKEN = "broken"
FINISH = "finish"
CONVERT = "convert"
VERIFY = "verify"
DONE = "done"

# How far a run goes, and what may be due when it is there.
DUE_AFTER = {"installed": (CONVERT, VERIFY, DONE), "converted": (VERIFY, DONE), "verified": (DONE,)}


# An image that machines can't be made of, and that is not being made here.
_NOT_WHOLE = (ImageState.INIT, ImageState.LOCKED, ImageState.ERROR, ImageState.DELETE)
# The states of a machine about which nothing is being done. In all others a plan for it is under way.
_SETTLED = ("RUNNING", "POWEROFF", "SUSPENDED", "UNKNOWN", "DONE")

FIRMWARES = ("BIOS", "UEFI", "UEFI_SECURE")
PROFILES = ("linux", "windows")
_TARGETS = {"virtio": "vda", "scsi": "sda", "sata": "sda", "ide": "hda"}


@dataclass(frozen=True)
class Machine:
    """Describes the machine that installs, as the catalog has it (state, wanted) and as its node sees it.
    seen: "" if it is not there.
    ended: as in ObservedVm: whether its guest ended it.
    reached: whether the node answered.
    written: whether anything is on its disk."""

    vm_id: int
    state: str
    wanted: str
    seen: str = ""
    ended: str = ""
    reached: bool = True
    written: bool = True

    @property
    def on_its_way(self) -> bool:
        """Return whether a decision was made and nobody has recorded yet what came of it."""
        return self.state not in _SETTLED and not self.state.endswith("_FAILURE")


def machine_name(name: str) -> str:
    return f"install-{name}"


def trial_name(name: str) -> str:
    return f"verify-{name}"


def media_name(name: str, what: str) -> str:
    """Return the name of an image that is there for the installation only: answers, kernel, initrd, floppy."""
    return f"install-{name}-{what}"


MEDIA = ("answers", "floppy", "kernel", "initrd")


def is_blank(image: Image) -> bool:
    """Return whether the image is a disk that was made for an installation, and that no machine has had yet."""
    whole = image.type == ImageType.DATABLOCK and image.persistent and image.state == ImageState.READY
    return whole and image.unfinished == INSTALLING and not image.generation and TOOK not in image.attributes


def step(
    image: Image | None,
    machine: Machine | None,
    confirmed: bool,
    verify: bool,
    end: str = POWEROFF,
    marker: bool = False,
    written: bool = False,
) -> str:
    """Return the step that is due.
    confirmed: whether a human states that it is installed.
    verify: whether a guest of the image is to be believed.
    end, marker: how the installation ends, and whether its console tells.
    written: whether anything is on the disk, where no machine is there to tell."""
    if image is not None and image.state == ImageState.DELETE and not image.unfinished and machine is None:
        # Somebody wanted it gone, and was killed: the rest goes before another one is made.
        return MAKE
    if image is not None and image.type == ImageType.OS and not image.unfinished:
        if image.state in _NOT_WHOLE:
            return BROKEN
        return VERIFY if verify and image.attributes.get(VERIFIED) != "YES" else DONE
    if image is not None and image.unfinished == INSTALLED:
        return CONVERT if machine is None else FINISH
    if image is not None and not image.unfinished:
        # Whatever it holds, it is not an installation's.
        return FOREIGN
    if machine is None:
        if image is None:
            return MAKE
        if image.state == ImageState.READY:
            return START if is_blank(image) else FOREIGN
        # What a machine has written to, and is not finished, is not READY once that machine is gone.
        left = written and bool(image.generation) and image.state != ImageState.DELETE
        return _without_machine(left, confirmed, end, MAKE)
    if machine.wanted == "DONE":
        return _without_machine(machine.written and image is not None, confirmed, end, END)
    if image is None:
        # What it installs has another name now, or has been taken from the catalog: nobody asked for its end.
        return END if machine.seen in ("", "POWEROFF") and machine.reached else UNSURE
    if confirmed:
        return FINISH
    if not machine.reached:
        return UNREACHED
    if machine.seen in ("RUNNING", "UNKNOWN", "SUSPENDED"):
        return WAIT
    if machine.seen == "POWEROFF":
        if machine.ended == "guest":
            return WAIT
        if machine.ended == "unknown" and machine.written and marker:
            # Its console has the word, or has it not.
            return WAIT
        return _given_up(machine, end)
    return WAIT if machine.on_its_way else _given_up(machine, end)


def _without_machine(written: bool, confirmed: bool, end: str, otherwise: str) -> str:
    """Return the step for a machine that is gone, or going: whoever wanted that stated nothing about the disk, which
    may be a human's work."""
    if written and confirmed:
        return FINISH
    return UNSURE if written and end == MANUAL else otherwise


def _given_up(machine: Machine, end: str) -> str:
    """Return the step for a machine that is off, but not by its guest as far as is known: the host crashed, or
    somebody pulled the plug. What an installer wrote is worth nothing then. What a human did, or may be whole, is
    not thrown away."""
    return UNSURE if machine.written and (end == MANUAL or machine.ended == "unknown") else END


def was_started(machine: Machine | None, generation: int, seen_generation: int) -> bool:
    """Return whether a decision that nobody has recorded was carried out all the same, as the run was killed in
    between. This is recorded before a plan is made, which would start a machine again whose guest has ended it."""
    if machine is None or not machine.on_its_way or machine.wanted != "RUNNING" or seen_generation < generation:
        return False
    if machine.seen == "POWEROFF":
        return machine.ended == "guest" or (machine.ended == "unknown" and machine.written)
    return machine.seen == "RUNNING"


# -- templates --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Media:
    """Describes what the machine is given besides disk and ISO. kernel, initrd: names of images. floppy: a file's
    path."""

    kernel: str = ""
    initrd: str = ""
    command: str = ""
    answers: str = ""
    drivers: str = ""
    floppy: str = ""


@dataclass(frozen=True)
class Shape:
    """Describes what an installation's template is made of."""

    name: str
    iso: str
    firmware: str = "BIOS"
    profile: str = "linux"
    bus: str = "virtio"
    cdrom: str = "scsi"
    end: str = POWEROFF
    memory: int = 0
    machine: str = ""


def _firmware(shape: Shape) -> dict[str, str]:
    if shape.firmware == "BIOS":
        return {"FIRMWARE": "BIOS"}
    return {"FIRMWARE": "UEFI", "FIRMWARE_SECURE": "YES" if shape.firmware == "UEFI_SECURE" else "NO"}


def _common_attributes(shape: Shape) -> dict[str, Any]:
    """Return the attributes that the machine that installs and all later ones have in common."""
    common: dict[str, Any] = {
        "CPU": "1",
        "MEMORY": str(shape.memory or (4096 if shape.profile == "windows" else 2048)),
        "GRAPHICS": {"TYPE": defaults.GRAPHICS_TYPE, "LISTEN": defaults.GRAPHICS_LISTEN},
    }
    if shape.profile == "windows":
        common.update(
            VCPU="2",
            FEATURES={"ACPI": "YES", "APIC": "YES", "HYPERV": "YES", "LOCALTIME": "YES"},
            TPM={"MODEL": "tpm-crb"},
            INPUT={"TYPE": "tablet", "BUS": "usb"},
        )
    return common


def _cdrom(image: str, shape: Shape, index: int) -> dict[str, str]:
    """Return a drive that the firmware and the installer see, behind the disk's letter."""
    disk = {"IMAGE": image, "TARGET": f"{'hd' if shape.cdrom == 'ide' else 'sd'}{'bcd'[index]}"}
    return {**disk, "BUS": shape.cdrom} if shape.cdrom == "sata" else disk


def template(shape: Shape, media: Media, own: Template) -> Template:
    """Return the template of the machine that installs. own: the user's, which goes over the defaults; disks are ours.

    The disk comes first in the boot order: a blank one has nothing to boot, and the firmware goes on to the ISO; an
    installed one boots, so that nothing is installed twice."""
    isos = [shape.iso, *filter(None, (media.answers, media.drivers))]
    disks = [_disk(shape), *(_cdrom(image, shape, index) for index, image in enumerate(isos))]
    os = _os(shape, {**own.vector("OS"), "BOOT": "disk0,disk1"})
    if media.kernel:
        os["KERNEL_DS"] = f'$FILE[IMAGE="{media.kernel}"]'
        os["INITRD_DS"] = f'$FILE[IMAGE="{media.initrd}"]'
        os["KERNEL_CMD"] = " ".join(filter(None, (media.command, os.get("KERNEL_CMD", ""))))
    base = _base(shape, own, MARK)
    raw = [*base.vectors("RAW"), *_raw_vectors(shape, media)]
    made = {"DISK": disks, "OS": os, **({"RAW": raw} if raw else {})}
    return base.without("RAW").merged(Template.from_mapping(made, f"install {shape.name}"))


def trial(shape: Shape, own: Template) -> Template:
    """Return the template of the machine that tries the image: like all later ones, with nothing of the installer."""
    left_out = ("KERNEL", "KERNEL_DS", "INITRD", "INITRD_DS", "KERNEL_CMD", "BOOT")
    os = _os(shape, {key: value for key, value in own.vector("OS").items() if key not in left_out})
    made = {"DISK": [_disk(shape)], "OS": os}
    return _base(shape, own, TRIES).merged(Template.from_mapping(made, f"install {shape.name}"))


def _base(shape: Shape, own: Template, mark: str) -> Template:
    wanted = {**_common_attributes(shape), mark: shape.name}
    return Template.from_mapping(wanted, f"install {shape.name}").merged(own.without("DISK", "OS"))


def _os(shape: Shape, stated: Mapping[str, str]) -> dict[str, str]:
    os = {**_firmware(shape), **stated}
    return os if not shape.machine or "MACHINE" in os else {**os, "MACHINE": shape.machine}


def _disk(shape: Shape) -> dict[str, str]:
    bus = {"BUS": "sata"} if shape.bus == "sata" else {}
    return {"IMAGE": shape.name, "TARGET": _TARGETS[shape.bus], **bus}


def _raw_vectors(shape: Shape, media: Media) -> Sequence[Mapping[str, str]]:
    found = []
    if shape.end == REBOOT or media.kernel:
        # Or the installer's kernel would be booted again.
        ends = {name: hypervisor_rules.rules_of(name).ends_at_reboot for name in libvirt_values.RAW_TYPES}
        found += [{"TYPE": name, "DATA": text} for name, text in ends.items() if text]
    if media.floppy:
        found.append({"TYPE": "kvm", "DATA": _floppy(media.floppy)})
    return found


def _floppy(path: str) -> str:
    devices = ET.Element("devices")
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "floppy"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "raw"})
    source = ET.SubElement(disk, "source", {"file": path})
    # An image's own file: it keeps its owner.
    ET.SubElement(source, "seclabel", {"model": "dac", "relabel": "no"})
    ET.SubElement(disk, "target", {"dev": "fda", "bus": "fdc"})
    ET.SubElement(disk, "readonly")
    return ET.tostring(devices, encoding="unicode")
