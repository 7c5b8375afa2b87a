# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says where the disks of a machine and its context ask to be: target, prefix and bus, on the board that it has."""

from __future__ import annotations

from collections.abc import Mapping

from ...dataclass import replace
from .. import boot_image, hypervisor_rules
from ..context import DEVICES, Context
from ..context import FORMATS as CONTEXT_FORMATS
from ..disk_targets import CDROM, DATA, Assigned, Board, Place
from ..flags import TRUE
from ..image import Image
from ..template import Template
from .template_values import read_word


def board_of(template: Template, hypervisor: str) -> Board:
    """Return what the devices of a machine are put on: by the template's OS, and by the rules of its hypervisor."""
    vector = template.vector("OS")
    return Board(
        machine=vector.get("MACHINE") or hypervisor_rules.rules_of(hypervisor).machine,
        sd_disk_bus=vector.get("SD_DISK_BUS", ""),
        hypervisor=hypervisor,
        devices=hypervisor_rules.rules_of(hypervisor).devices,
        firmware=hypervisor_rules.rules_of(hypervisor).firmware(vector),
    )


def place_of(
    vector: Mapping[str, str], where: str, kind: str, image: Image | None = None, context: bool = False
) -> Place:
    """Return where a disk (or the context) asks to be: by the template, or where that is silent, by its image."""
    prefix = vector.get("DEV_PREFIX", "")
    target = vector.get("TARGET", "")
    bus = vector.get("BUS", "").lower()
    if image is not None and not target and not prefix:
        target, prefix = image.target, image.dev_prefix
        if not target and not prefix and not bus and kind != CDROM and image.bus in boot_image.PREFIXES:
            prefix, bus = boot_image.PREFIXES[image.bus], image.bus
    return Place(
        where=where,
        kind=kind,
        target=target,
        dev_prefix=prefix,
        bus=bus,
        readonly=vector.get("READONLY", "").upper() in TRUE,
        context=context,
    )


def context_place(template: Template, where: str) -> Place:
    """Return where the context asks to be: as a CDROM, or as a disk that nobody writes to."""
    disk = read_word(template, "CONTEXT_DEVICE", DEVICES, where) == "disk"
    place = place_of(template.vector("CONTEXT"), f"{where}: CONTEXT", DATA if disk else CDROM, context=True)
    return replace(place, readonly=True) if disk else place


def context_of(template: Template, disk_id: int, place: Assigned, where: str, had: Context | None) -> Context:
    """Return the context at the place that it was assigned, still without variables. had: its context so far."""
    return Context(
        disk_id,
        place[0],
        place[1],
        format=read_word(template, "CONTEXT_FORMAT", CONTEXT_FORMATS, where),
        device=read_word(template, "CONTEXT_DEVICE", DEVICES, where),
        exact=had is None or had.exact,
    )
