# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with every field set, and where each string of it comes out: what tests of injection have in common."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Input, Os, Vm

MARK = "zqmarkqz"
UUID = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"
DIRECTORY = "/var/lib/nebula/datastores/0/7"
BASE = "/var/lib/nebula/datastores/1/0123456789abcdef0123456789abcdef"

FULL = Vm(
    vm_id=7,
    uuid=UUID,
    name="web",
    hypervisor="kvm",
    cpu=0.5,
    memory=64,
    vcpu=1,
    os=Os(
        machine="pc", boot=("disk0",), kernel="/boot/vmlinuz", initrd="/boot/initrd", kernel_cmd="quiet", root="vda1"
    ),
    disks=(Disk(0, "vda", image="base", image_uuid="u", source=BASE, format="qcow2", options={"SERIAL": "x"}),),
    nics=(Nic(0, 1, "Public", "nbr0", "02:00:0a:00:00:01", ip="10.0.0.1", model="virtio", target="one-7-0"),),
    aliases=(Alias(1, 1, "Public", "nbr0", "02:00:0a:00:00:02", ip="10.0.0.2"),),
    context=Context(1, "hda", "ide", {"A": "1"}, (ContextFile("/etc/hostname", "name"),)),
    graphics=Graphics(port=5900, password="secret", keymap="de"),
    inputs=(Input("tablet", "usb"),),
    features={"ACPI": "yes"},
    cpu_model={"MODEL": "qemu64", "FEATURES": "ssse3"},
    raw={},
    attributes={"MINE": "1"},
)
SITE = Site(
    directory=DIRECTORY,
    catalog=UUID,
    generation=1,
    disks={
        0: DiskFiles(f"{DIRECTORY}/disk.0", "qcow2", ((BASE, "qcow2"),)),
        1: DiskFiles(f"{DIRECTORY}/disk.1", "raw"),
    },
)

Put = Callable[[str], tuple[Vm, Site]]


def strings(cls: type, name: str = "", above: tuple[type, ...] = ()) -> Iterator[str]:
    """Class.field of every field below cls that holds text. above: the classes that have it, one of which may have it
    again."""
    for field, hint in typing.get_type_hints(cls).items():
        yield from _strings(hint, f"{name or cls.__name__}.{field}", (*above, cls))


def _strings(hint: Any, name: str, above: tuple[type, ...]) -> Iterator[str]:
    if hint is str:
        yield name
    elif dataclasses.is_dataclass(hint):
        if hint not in above:
            yield from strings(typing.cast(type, hint), above=above)
    elif typing.get_origin(hint) is not None:
        inner = [part for part in typing.get_args(hint) if part not in (Ellipsis, type(None))]
        found = {text for part in inner for text in _strings(part, name, above)}
        yield from sorted(found)


def vm(**changes: Any) -> tuple[Vm, Site]:
    return dataclasses.replace(FULL, **changes), SITE


def of(part: str, **changes: Any) -> tuple[Vm, Site]:
    """The machine with something changed in its os, graphics or context."""
    return vm(**{part: dataclasses.replace(getattr(FULL, part), **changes)})


def first(part: str, **changes: Any) -> tuple[Vm, Site]:
    """The machine with something changed in its first disk, NIC or input."""
    return vm(**{part: (dataclasses.replace(getattr(FULL, part)[0], **changes),)})


def site(**changes: Any) -> tuple[Vm, Site]:
    return FULL, dataclasses.replace(SITE, **changes)


def disk_files(**changes: Any) -> tuple[Vm, Site]:
    return site(disks={**SITE.disks, 0: dataclasses.replace(SITE.disks[0], **changes)})


def options(part: str, place: str, keys: Mapping[str, str], text: str) -> Iterator[tuple[Vm, Site]]:
    for key, rest in keys.items():
        yield first(part, **{place: {**({rest: "1"} if rest else {}), key: text}})


def places(deployment: str) -> list[tuple[str, str]]:
    """Every element, attribute and text of the file, in order, as (what, value)."""
    found: list[tuple[str, str]] = []

    def walk(element: ET.Element, path: str) -> None:
        here = f"{path}/{element.tag}"
        found.append((here, (element.text or "") if not len(element) else ""))
        found.extend((f"{here}/@{key}", value) for key, value in element.attrib.items())
        for child in element:
            walk(child, here)

    walk(ET.fromstring(deployment), "")
    return found


def rendered(given: tuple[Vm, Site]) -> str:
    return domain_xml.render(*given).text
