# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what a machine of a template needs of others: capacity, images, leases, a port for its console."""

from __future__ import annotations

from typing import Optional

from ...dataclass import dataclass
from ..template import Template
from .aliases import AliasDemand, alias_demands
from .boot_order import file_ref
from .capacity import cpu_of, memory_of, vcpu_of
from .disk_vectors import image_ref
from .graphics import graphics_of
from .nic_vectors import NicDemand, nic_demand, with_nic_defaults
from .template_values import Ref


@dataclass(frozen=True)
class Demands:
    """Holds what a template needs of others.
    cpu: processors.
    memory: MiB.
    images: per DISK its image's name, or id as an int; None for volatile disks. Where OS asks for files ($FILE[…]),
    None for the context and then the references of KERNEL and INITRD follow: build() wants them at those indexes.
    graphics_port: the fixed port, 0 for any."""

    cpu: float
    vcpu: Optional[int]
    memory: int
    images: tuple[Optional[Ref], ...] = ()
    nics: tuple[NicDemand, ...] = ()
    aliases: tuple[AliasDemand, ...] = ()
    graphics: bool = False
    graphics_port: int = 0


def demands(template: Template, where: str = "template") -> Demands:
    """Return what the template needs, once a machine is to be made of it; MEMORY has to be there by now."""
    template = with_nic_defaults(template, where)
    images = [image_ref(vector, f"{where}: DISK {index}") for index, vector in enumerate(template.vectors("DISK"))]
    files = [file_ref(template, name, where) for name in ("KERNEL", "INITRD")]
    if any(ref is not None for ref in files):
        images += [None, *files]
    graphics = graphics_of(template, where, None)
    return Demands(
        cpu=cpu_of(template, where),
        vcpu=vcpu_of(template, where),
        memory=memory_of(template, where),
        images=tuple(images),
        nics=tuple(nic_demand(v, f"{where}: NIC {i}") for i, v in enumerate(template.vectors("NIC"))),
        aliases=alias_demands(template, where),
        graphics=graphics is not None,
        graphics_port=graphics.port if graphics is not None else 0,
    )
