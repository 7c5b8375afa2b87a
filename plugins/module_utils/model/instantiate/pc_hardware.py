# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads VIDEO and IOMMU, and the attributes that hold libvirt's own XML: hardware of an emulated PC."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from ...errors import InvalidValue
from .. import hypervisor_rules, judgements, libvirt_values
from ..flags import FALSE, TRUE
from ..object_names import known_are
from ..template import Template
from ..vm import Iommu, Video
from .boot_order import devices_by_order
from .hardware_version import hardware_differs
from .host_wants import read_devices
from .numa_nodes import check_numa, doubts_of_numa
from .template_values import is_uuid, read_flag, read_whole

LINKS = ("up", "down")
VIDEO_TYPES = ("vga", "cirrus", "virtio", "qxl", "bochs", "ramfb", "vmvga", "none")
# KiB: the least that QEMU takes; OpenNebula leaves out what is less.
LEAST_VRAM, MOST_VRAM = 1024, 1024 * 1024
# Pixels, across or down: QEMU's own limit of what it tells a guest of its screen.
_MOST_PIXELS = 16384
_RESOLUTION = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
# Which of them let a guest be told of a resolution.
_WITH_RESOLUTION = ("vga", "virtio", "qxl", "bochs")
IOMMU_MODELS = ("intel", "virtio")
_SWITCHES = ("intremap", "caching_mode", "eim", "iotlb")
# By attribute, which elements its XML may have; nothing for any. The lists of OpenNebula's own defaults.
FRAGMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "HYPERV_OPTIONS": (),
        "HYPERV_TIMERS": ("timer",),
        "SPICE_OPTIONS": ("video", "sound", "audio", "channel", "redirdev", "redirfilter", "smartcard", "input"),
    }
)


def refuse_in_template(template: Template, before: Template | None, where: str, hypervisors: Collection[str]) -> None:
    """Raise InvalidValue for hardware that a template gets anew.
    before: the stored template, None if there is none.
    hypervisors: of the hosts."""
    own = judgements.hypervisor_of(template)
    names = [own] if own else hypervisors or [hypervisor_rules.DEFAULT]
    acts = any(hypervisor_rules.rules_of(name).hardware_version for name in names)
    if acts and (before is None or hardware_differs(before, template)):
        _check(template, where)


def warn_of_hardware(template: Template, where: str) -> list[str]:
    """Return warnings for what a template says and no new machine can have, or has nothing of."""
    try:
        _check(template, where)
    except InvalidValue as error:
        return [f"{error.asked[len(where) + 2 :]}: {error.found}. {error.remedy}"]
    return _doubts(template)


def _check(template: Template, where: str) -> None:
    devices_by_order(template, where)
    video_of(template, where)
    iommu_of(template, where)
    fragments_of(template, where)
    check_links(template, where)
    check_numa(template, where)
    read_devices(template, where)
    for index, vector in enumerate(template.vectors("DISK")):
        text = vector.get("LUKS_SECRET", "").strip()
        if text and not is_uuid(text):
            raise InvalidValue(
                f"{where}: DISK {index}: LUKS_SECRET = {text!r}", "it is no UUID", "Give a secret's UUID"
            )


def check_links(template: Template, where: str) -> None:
    """Raise InvalidValue for a NIC whose link is in no state that there is."""
    for index, vector in enumerate(template.vectors("NIC")):
        text = vector.get("LINK", "").strip().lower()
        if text not in ("", *LINKS):
            shown = f"{where}: NIC {index}: LINK = {vector['LINK']!r}"
            raise InvalidValue(shown, "no link has such a state", f"Write {' or '.join(LINKS)}")


def video_of(template: Template, where: str) -> Video | None:
    """Return the video device, None where the template does not say which."""
    vectors = template.vectors("VIDEO")
    if not vectors:
        return None
    vector, where = vectors[0], f"{where}: VIDEO"
    if len(vectors) > 1:
        raise InvalidValue(where, f"it is there {len(vectors)} times", "A machine has one: keep one of them")
    kind = vector.get("TYPE", "").strip().lower()
    if kind == "auto" or not any(text.strip() for text in vector.values()):
        return None
    if kind not in VIDEO_TYPES:
        found = "there is no such video device" if kind else "it is not set"
        raise InvalidValue(f"{where}/TYPE = {vector.get('TYPE', '')!r}", found, known_are(kind, VIDEO_TYPES, "{}"))
    iommu, ats = (read_flag(vector, key, where) if vector.get(key, "").strip() else False for key in ("IOMMU", "ATS"))
    for key, wanted in (("IOMMU", iommu), ("ATS", ats)):
        if wanted and kind != "virtio":
            raise InvalidValue(f"{where}/{key} = YES", f"TYPE is {kind}", 'Only TYPE = "virtio" has that')
    return Video(kind, _vram(vector, kind, where), _resolution(vector, kind, where), iommu, ats)


def iommu_of(template: Template, where: str) -> Iommu | None:
    """Return the IOMMU that the guest sees, None where the template asks for none."""
    vectors = template.vectors("IOMMU")
    if not vectors:
        return None
    vector, where = vectors[0], f"{where}: IOMMU"
    model, mode = (vector.get(key, "").strip().lower() for key in ("MODEL", "MODE"))
    if model not in IOMMU_MODELS:
        raise InvalidValue(
            f"{where}/MODEL = {vector.get('MODEL', '')!r}",
            "there is no such IOMMU",
            known_are(model, IOMMU_MODELS, "{}"),
        )
    if mode not in ("", "single"):
        raise InvalidValue(
            f"{where}/MODE = {vector['MODE']}",
            "an IOMMU of each device is for devices of the host, and none is handed to a machine",
            'Write MODE = "single": one for the whole machine',
        )
    machine = template.vector("OS").get("MACHINE", "").strip().lower()
    if machine and "q35" not in machine:
        raise InvalidValue(f"{where}/MODEL = {model}", f"machine {machine} has none", 'Write MACHINE = "q35" in OS')
    acpi = template.vector("FEATURES").get("ACPI", "").strip().upper()
    if model == "virtio" and acpi and acpi in FALSE:
        raise InvalidValue(f"{where}/MODEL = virtio", "it needs ACPI, to which FEATURES say NO", "Leave ACPI out")
    return Iommu(model, _iommu_options(vector.get("OPTIONS", ""), model, f"{where}/OPTIONS"))


def fragments_of(template: Template, where: str) -> dict[str, str]:
    """Return the XML that stands in place of the hypervisor's own, by attribute."""
    found = {}
    for name, tags in FRAGMENTS.items():
        text = template.get(name).strip()
        if not text:
            continue
        elements = libvirt_values.fragment(text, f"{where}: {name}")
        other = next((each.tag for each in elements if tags and each.tag not in tags), None)
        if other is not None or (elements.text or "").strip():
            raise InvalidValue(
                f"{where}: {name}",
                f"it holds <{other}>" if other is not None else "it holds text outside of elements",
                f"Only {', '.join(f'<{tag}>' for tag in tags)} may stand there; RAW takes what else libvirt is to have"
                if tags
                else "Give elements, as in <relaxed state='on'/>",
            )
        found[name] = text
    return found


def _doubts(template: Template) -> list[str]:
    vector, found = template.vector("VIDEO"), doubts_of_numa(template)
    boot = template.vector("OS").get("BOOT", "").strip()
    if boot and devices_by_order(template, ""):
        found.append(f"ORDER of DISK and NIC does nothing: OS/BOOT = {boot} says the order")
    kind, vram = vector.get("TYPE", "").strip().lower(), vector.get("VRAM", "").strip()
    if vram.isdigit() and int(vram) < LEAST_VRAM:
        found.append(f"VIDEO/VRAM = {vram} is left out, as by a real oned: it is in KB, {LEAST_VRAM} or more")
    if vector.get("RESOLUTION", "").strip() and kind not in _WITH_RESOLUTION:
        found.append(f"VIDEO/RESOLUTION does nothing with TYPE = {kind}: that tells its guest of none")
    hyperv = template.vector("FEATURES").get("HYPERV", "").strip().upper()
    if template.get("HYPERV_OPTIONS").strip() and hyperv not in TRUE:
        found.append("HYPERV_OPTIONS do nothing without HYPERV = YES in FEATURES")
    if template.get("SPICE_OPTIONS").strip() and template.vector("GRAPHICS").get("TYPE", "").strip().lower() != "spice":
        found.append("SPICE_OPTIONS do nothing without TYPE = spice in GRAPHICS")
    return found


def _vram(vector: Mapping[str, str], kind: str, where: str) -> int:
    text = vector.get("VRAM", "").strip()
    if not text or kind == "none":
        return 0
    remedy = f"Give KB, {LEAST_VRAM} to {MOST_VRAM}"
    vram = read_whole(text, f"{where}/VRAM", remedy)
    if vram > MOST_VRAM:
        raise InvalidValue(f"{where}/VRAM = {text}", "no video device has that much", remedy)
    return vram if vram >= LEAST_VRAM else 0


def _resolution(vector: Mapping[str, str], kind: str, where: str) -> tuple[int, int] | None:
    text = vector.get("RESOLUTION", "").strip().lower()
    if not text:
        return None
    match = _RESOLUTION.fullmatch(text)
    pixels = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= number <= _MOST_PIXELS for number in pixels):
        raise InvalidValue(
            f"{where}/RESOLUTION = {vector['RESOLUTION']!r}",
            "it is no resolution of a screen",
            "Write pixels across and down, as in 1280x720",
        )
    return pixels if kind in _WITH_RESOLUTION else None


def _iommu_options(text: str, model: str, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (each.strip().lower() for each in part.partition("="))
        fits = (key in _SWITCHES and value in ("on", "off")) or (key == "aw_bits" and value in ("39", "48"))
        if not (equals and fits and model == "intel"):
            raise InvalidValue(
                f"{where} = {text!r}",
                f"{part}: MODEL = {model} has no such option",
                f"Options of intel are {', '.join(f'{name}=on' for name in _SWITCHES)} and aw_bits=39 or 48"
                if model == "intel"
                else "Leave OPTIONS out",
            )
        found[key] = value
    if found.get("eim") == "on" and found.get("intremap") != "on":
        raise InvalidValue(f"{where} = {text!r}", "eim is of interrupt remapping, which is off", "Add intremap=on")
    return found
