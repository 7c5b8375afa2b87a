# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of templates, with images as a catalog would have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ONED = Path(__file__).parents[5] / "fixtures" / "oned"
FACTS = json.loads((ONED / "machines.json").read_text())
UUID = "01234567-89ab-4cde-8f01-23456789abcd"

IMAGES = {
    name: Image(
        id=facts["id"],
        name=name,
        type=ImageType[facts["type"]],
        uuid=f"uuid of {name}",
        generation=3,
        source=f"/datastore/{name}",
        **{key: facts[key] for key in ("dev_prefix", "format", "size", "persistent")},
    )
    for name, facts in FACTS["images"].items()
}
IMAGES["blank"] = Image(7, "blank", ImageType.DATABLOCK, size=100, format="qcow2", persistent=True)
IMAGES["second"] = Image(8, "second", ImageType.OS, size=100)
IMAGES["trusted"] = Image(11, "trusted", ImageType.OS, size=100, attributes={"TRUSTED": "YES"})
IMAGES["kernel"] = Image(9, "kernel", ImageType.KERNEL, source="/datastore/kernel")
IMAGES["initrd"] = Image(10, "initrd", ImageType.RAMDISK, source="/datastore/initrd")


@pytest.fixture
def images() -> dict[str, Image]:
    """Images by name, as a catalog would have them."""
    return dict(IMAGES)


@pytest.fixture
def machine(images: dict[str, Image]) -> Callable[..., Vm]:
    """Make a machine of a template (or its text), with its images and networks looked up as an engine does."""
    by_id = {image.id: image for image in images.values()}

    def made(template: Template | str, hypervisor: str = "kvm", vm_id: int = 20, vnc_port: int | None = None) -> Vm:
        template = parse(template) if isinstance(template, str) else template
        wanted = demands(template)
        refs = {index: ref for index, ref in enumerate(wanted.images) if ref is not None}
        return build(
            template,
            vm_id=vm_id,
            uuid=UUID,
            name=template.get("NAME"),
            hypervisor=hypervisor,
            images={index: by_id[ref] if isinstance(ref, int) else images[ref] for index, ref in refs.items()},
            nics=[
                Nic(index, 0, str(nic.network), "br", nic.mac or f"02:00:00:00:00:{index:02x}", nic.ip)
                for index, nic in enumerate(wanted.nics)
            ],
            vnc_port=vnc_port,
        )

    return made


@pytest.fixture
def targets(machine: Callable[..., Vm]) -> Callable[..., list[str]]:
    """Make a machine of a text, and give the targets of its disks and its context."""

    def found(text: str, **more: Any) -> list[str]:
        vm = machine("MEMORY = 1\n" + text, **more)
        return [disk.target for disk in vm.disks] + ([vm.context.target] if vm.context else [])

    return found
