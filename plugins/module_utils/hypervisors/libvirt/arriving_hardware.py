# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether this host's libvirt and QEMU have what a machine of another host is to go on with: its type of machine
and its processor. This is done before anything of the machine is here."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import ForeignObject, NebulaError, Unsupported
from ...model import defaults
from ...model.vm import Vm
from ..base import Site
from .domain_xml import add_text_element, machine_type

# Modes of <cpu> that say no model: the guest has all that its host, or its host's QEMU, has.
OF_HOST = ("host-passthrough", "maximum")
# Types that an error names.
_NEAREST = 3
# What libvirt says of a processor that the host has not, and of one that it has not heard of.
_LACKING = "required features:"
_UNKNOWN = "Unknown CPU"
# Of a definition, and of what libvirt says of a processor.
_LONGEST = 1 << 20
_MOST_FEATURES = 4096
_DEEPEST = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)
_POLICIES = ("force", "require", "optional", "disable", "forbid")
_NUMBER = re.compile(r"\d+", re.ASCII)
_COLD = "or move it cold (move: cold), which powers it off and starts it anew with what this host has"


@dataclass(frozen=True)
class Hardware:
    """Describes what a machine is to go on with.
    machine: its type, as QEMU calls it.
    processor: a <cpu> with a model, "" for one that every host has.
    runs: it comes as it runs, and so with no other hardware."""

    arch: str
    machine: str
    processor: str
    runs: bool


def of_running(offered: str, processor: str, asked: str) -> Hardware:
    """Return what a machine runs with by its old host's word.
    offered: its definition, in libvirt's migratable form, which has the processor that its guest sees.
    processor: that of its old host, where the guest has all of it.
    Raise ForeignObject for what libvirt writes nowhere."""
    root = _parsed(offered, asked)
    kind = root.find("os/type")
    arch = (kind.get("arch", "") if kind is not None else "") or defaults.ARCH
    machine = kind.get("machine", "") if kind is not None else ""
    for name in (arch, machine):
        _refuse_odd(name, asked)
    found = root.find("cpu")
    if found is not None and found.get("mode") in OF_HOST:
        found = _parsed(processor, asked) if processor else None
    return Hardware(arch, machine, _plain(found, asked), True)


def of_own(vm: Vm) -> Hardware:
    """Return what a machine is started with that comes here off: as its template asks."""
    model, features = vm.cpu_model.get("MODEL", ""), vm.cpu_model.get("FEATURES", "")
    cpu = None
    if model and model not in (*OF_HOST, "host-model"):
        cpu = ET.Element("cpu")
        add_text_element(cpu, "model", model)
        for feature in filter(None, map(str.strip, features.split(","))):
            ET.SubElement(cpu, "feature", {"policy": "require", "name": feature})
    asked = f"virtual machine {vm.name}: CPU_MODEL"
    return Hardware(vm.os.arch or defaults.ARCH, machine_type(vm), _plain(cpu, asked), False)


def processor_of_host(connection: Any, definition: str) -> str:
    """Return the processor of this host, if the running machine of this definition has all of it; "" otherwise."""
    root = ET.fromstring(definition)
    found, kind = root.find("cpu"), root.find("os/type")
    if found is None or kind is None or found.get("mode") not in OF_HOST:
        return ""
    place = (root.findtext("devices/emulator"), kind.get("arch"), kind.get("machine"), root.get("type"))
    return _host_model(connection, *place)


def require(lv: Any, connection: Any, hardware: Hardware, site: Site, emulator: str, asked: str) -> None:
    """Raise Unsupported, by name, for what this host lacks of it, with what to set so that the machine moves."""
    _require_machine(connection, hardware, emulator, asked)
    if not hardware.processor:
        return
    place = (emulator, hardware.arch, hardware.machine, site.accelerator)
    fail = lv.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        connection.compareHypervisorCPU(*place, hardware.processor, fail)
    except lv.libvirtError as error:
        if error.get_error_code() == lv.VIR_ERR_NO_SUPPORT:
            # Of other kinds of processors libvirt has no list of features.
            return
        if error.get_error_code() == lv.VIR_ERR_CPU_INCOMPATIBLE or _UNKNOWN in str(error):
            raise _lacking(lv, connection, hardware, place, str(error), asked) from error
        raise


def _lacking(
    lv: Any, connection: Any, hardware: Hardware, place: tuple[str, str, str, str], found: str, asked: str
) -> NebulaError:
    """Return the error for a processor that this host has not."""
    model = ET.fromstring(hardware.processor).findtext("model")
    _words, lacks, features = found.partition(_LACKING)
    names = " ".join(features.split())
    what = f"features {names}" if lacks else f"what its processor is to be ({found})"
    verb = "runs" if hardware.runs else "is to run"
    lacking = f"it {verb} with processor {model}, and this host's processor lacks {what}"
    other = _common_model(lv, connection, hardware, place)
    setting = f'CPU_MODEL = [ MODEL = "{other}" ]' if other else "CPU_MODEL to a model that both hosts have"
    where = "" if other else " (virsh domcapabilities)"
    if hardware.runs:
        return Unsupported(asked, lacking, f"Set {setting} in its template{where} and start it anew first; {_COLD}")
    return Unsupported(asked, lacking, f"Set {setting} in its template{where}, or name another host")


def _common_model(lv: Any, connection: Any, hardware: Hardware, place: tuple[str, str, str, str]) -> str:
    """Return the model of a processor that both hosts have as a whole; "" where there is none, or nobody knows it."""
    try:
        host = _host_model(connection, *place)
        both = connection.baselineHypervisorCPU(*place, [hardware.processor, host], 0) if host else ""
        found = ET.fromstring(both) if both else ET.Element("cpu")
        model = found.findtext("model") or ""
        alone = ET.Element("cpu")
        add_text_element(alone, "model", model)
        text = ET.tostring(alone, encoding="unicode")
        fits = model and connection.compareHypervisorCPU(*place, text, 0) != lv.VIR_CPU_COMPARE_INCOMPATIBLE
    except (lv.libvirtError, ET.ParseError):
        return ""
    whole = all(each.get("policy") != "disable" for each in found.iterfind("feature"))
    return model if fits and whole else ""


def _host_model(
    connection: Any, emulator: str | None, arch: str | None, machine: str | None, accelerator: str | None
) -> str:
    """Return the processor that comes nearest to the host's own, as a <cpu>; "" where libvirt knows none."""
    known = ET.fromstring(connection.getDomainCapabilities(emulator, arch, machine, accelerator, 0))
    found = known.find("cpu/mode[@name='host-model'][@supported='yes']")
    if found is None or found.find("model") is None:
        return ""
    cpu = ET.Element("cpu", {"mode": "custom", "match": "exact"})
    cpu.extend(list(found))
    return ET.tostring(cpu, encoding="unicode")


def _require_machine(connection: Any, hardware: Hardware, emulator: str, asked: str) -> None:
    types = _machine_types(connection, hardware.arch)
    # libvirt of a host without QEMU for it lists none, and its other errors are better.
    if not types or hardware.machine in types:
        return
    family = hardware.machine.rpartition("-")[0]
    like = [each for each in types if family and each.rpartition("-")[0] == family]
    wanted = _age(hardware.machine)
    nearest = sorted(like, key=lambda each: (abs(_age(each) - wanted), each))
    has = ", ".join(nearest[:_NEAREST]) or "none of that kind"
    verb = "runs" if hardware.runs else "is to run"
    found = f"it {verb} as machine type {hardware.machine}, which this host's {emulator} has not; nearest are: {has}"
    if hardware.runs:
        remedy = f"Bring a QEMU to this host that has it; {_COLD}"
    else:
        remedy = "Leave MACHINE out of OS in its template, name one that this host has, or bring a newer QEMU here"
    raise Unsupported(asked, found, remedy)


def _machine_types(connection: Any, arch: str) -> set[str]:
    """Return the types of machines that this host's QEMU has, with the short names of some."""
    found: set[str] = set()
    for place in ET.fromstring(connection.getCapabilities()).iterfind("guest/arch"):
        if place.get("name") == arch:
            for each in place.iter("machine"):
                found.update(name for name in (each.text, each.get("canonical")) if name)
    return found


def _age(machine: str) -> int:
    """Return a number that is larger for a later version of the same kind of machine."""
    numbers = [int(each) for each in _NUMBER.findall(machine.rpartition("-")[2])[:3]]
    return sum(number * 1000 ** (2 - place) for place, number in enumerate(numbers))


# -- what another host says -------------------------------------------------------------------------------------------
def _parsed(text: str, asked: str) -> ET.Element:
    if len(text) > _LONGEST or "<!" in text or "<?" in text:
        raise _strange(asked, "a document of another kind")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise _strange(asked, f"no definition ({error})") from error
    level, depth = [root], 0
    while level:
        # What copies a tree goes down into it.
        if depth > _DEEPEST:
            raise _strange(asked, f"elements in more than {_DEEPEST} others")
        level, depth = [child for each in level for child in each], depth + 1
    return root


def _plain(cpu: ET.Element | None, asked: str) -> str:
    """Return a <cpu> that has nothing but its model, its maker and its features; "" for one without a model."""
    model = None if cpu is None else cpu.find("model")
    if cpu is None or model is None:
        return ""
    result = ET.Element("cpu", {"mode": "custom", "match": "exact"})
    for tag in ("model", "vendor"):
        text = (cpu.findtext(tag) or "").strip()
        if text:
            _refuse_odd(text, asked)
            add_text_element(result, tag, text)
    features = cpu.findall("feature")
    if len(features) > _MOST_FEATURES:
        raise _strange(asked, f"{len(features)} features of a processor")
    for each in features:
        name, policy = each.get("name", ""), each.get("policy", "require")
        _refuse_odd(name, asked)
        if policy not in _POLICIES:
            raise _strange(asked, f"policy {policy[:40]!r} of a processor's feature")
        ET.SubElement(result, "feature", {"policy": policy, "name": name})
    return ET.tostring(result, encoding="unicode")


def _refuse_odd(name: str, asked: str) -> None:
    if not _NAME.fullmatch(name):
        raise _strange(asked, f"a name of hardware that is none ({name[:80]!r})")


def _strange(asked: str, what: str) -> NebulaError:
    return ForeignObject(
        asked, f"its hardware is described by {what}", "Find out who else has power over its old host before it is used"
    )
