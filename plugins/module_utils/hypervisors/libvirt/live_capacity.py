# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells how much memory and how many processors a running QEMU machine has to get or lose. Pure."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import Unsupported
from ...model.vm import Vm
from ...model.whole_numbers import whole
from . import domain_xml
from .domain_xml import attribute_of
from .live_devices import Step
from .parsed_definitions import parsed

_MIB = 1024


@dataclass(frozen=True)
class Resizing:
    """Describes what becomes of a running machine's memory and processors.
    vcpu: virtual processors that it is to have; None where it has them.
    balloon: MiB that its guest is to have; None where they come in modules.
    modules: of memory, that go and come."""

    vcpu: int | None = None
    balloon: int | None = None
    modules: tuple[Step, ...] = ()


def has_begun(running: str, defined: str, vm: Vm) -> bool:
    """Return whether a machine that grows has some of the memory and processors already that it is to get or to lose,
    beside what its definition says. What differs otherwise waits for its next start, or is kept by its guest."""
    if vm.growth is None:
        return False
    now, was = (_sizes_of(ET.fromstring(text)) for text in (running, defined))
    wanted = (vm.vcpu or 1, vm.memory)
    return any((has - had) * (wants - had) > 0 for has, had, wants in zip(now, was, wanted))


def _sizes_of(domain: ET.Element) -> tuple[int, int]:
    """Return the processors and MiB of a definition of libvirt's."""
    vcpu = domain.find("vcpu")
    processors = 1 if vcpu is None else whole(vcpu.get("current") or vcpu.text or "") or 1
    return processors, domain_xml.memory_of(domain)


def plan_resizing(live: str, vm: Vm, removes: bool) -> Resizing:
    """Return what has to be done. Raise Unsupported for a size that it can't come to while it runs.
    live: the running definition. If it has other maxima than the machine is to have, these wait for its next start,
    and so does what they say how far it goes.
    removes: memory and processors may be taken from it."""
    if vm.growth is None:
        return Resizing()
    running = parsed(live)
    return Resizing(
        vcpu=_vcpu(running, vm, removes) if vm.growth.vcpu else None,
        balloon=vm.memory if vm.growth.memory and not vm.growth.slots and _has_balloon(running, vm) else None,
        modules=_modules(running, vm, removes) if vm.growth.slots and _has_slots(running, vm) else (),
    )


def _has_balloon(running: ET.Element, vm: Vm) -> bool:
    return running.find("maxMemory") is None and _kib(running, "memory") == vm.most_memory * _MIB


def _has_slots(running: ET.Element, vm: Vm) -> bool:
    # One that was started with all of its memory has a slot besides.
    return vm.memory * _MIB <= _kib(running, "maxMemory") <= (vm.most_memory + domain_xml.MODULE) * _MIB


def _vcpu(running: ET.Element, vm: Vm, removes: bool) -> int | None:
    """Return how many processors it is to have, None where that is how many it has or can have."""
    element = running.find("vcpu")
    most = whole((element.text or "").strip()) if element is not None else None
    if element is None or most != vm.most_vcpus:
        return None
    has = whole(element.get("current", "")) or most
    wanted = vm.vcpu or 1
    return wanted if has < wanted or (removes and wanted < has) else None


def _modules(running: ET.Element, vm: Vm, removes: bool) -> tuple[Step, ...]:
    sizes = [(module, _kib(module, "target/size")) for module in running.iterfind("devices/memory")]
    base = sum(whole(cell.get("memory", "")) or 0 for cell in running.iterfind("cpu/numa/cell"))
    more = vm.memory * _MIB - base - sum(size for _module, size in sizes)
    if more > 0:
        asked = f"virtual machine {vm.name}: MEMORY = {vm.memory} while it runs"
        slots = whole(attribute_of(running, "maxMemory", "slots")) if running.find("maxMemory") is not None else None
        if slots is not None and len(sizes) >= slots:
            found = f"all of its {slots} slots for modules of memory are taken (MEMORY_SLOTS)"
            raise Unsupported(asked, found, _NEXT_START)
        return (Step(f"{more // _MIB} MB of memory, added", _module(more)),)
    if more == 0 or not removes:
        return ()
    going = _of_size(sizes, -more)
    if going is None:
        shown = ", ".join(str(size // _MIB) for _module, size in sizes) or "none"
        raise Unsupported(
            f"virtual machine {vm.name}: MEMORY = {vm.memory} while it runs",
            f"it would lose {-more // _MIB} MB, and memory goes by whole modules, of which it has got since its "
            f"start: {shown} (MB)",
            _NEXT_START,
        )
    return tuple(
        Step(
            f"{size // _MIB} MB of memory, taken",
            ET.tostring(module, encoding="unicode"),
            attribute_of(module, "alias", "name"),
        )
        for module, size in going
    )


def _of_size(sizes: list[tuple[ET.Element, int]], wanted: int) -> list[tuple[ET.Element, int]] | None:
    """Return modules of that size together, as few as there are; None if none come to it."""
    ways: dict[int, list[tuple[ET.Element, int]]] = {0: []}
    for entry in sizes:
        for total, chosen in list(ways.items()):
            size = total + entry[1]
            if size <= wanted and (size not in ways or len(ways[size]) > len(chosen) + 1):
                ways[size] = [*chosen, entry]
    return ways.get(wanted)


def _module(kib: int) -> str:
    memory = ET.Element("memory", {"model": "dimm"})
    target = ET.SubElement(memory, "target")
    domain_xml.add_text_element(target, "size", str(kib), unit="KiB")
    domain_xml.add_text_element(target, "node", "0")
    return ET.tostring(memory, encoding="unicode")


def _kib(element: ET.Element, path: str) -> int:
    return whole((element.findtext(path) or "").strip()) or 0


_NEXT_START = "Power it off first (state: poweroff), then let it run again"
