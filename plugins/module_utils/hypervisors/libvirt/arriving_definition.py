# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the definition with which a running machine comes to another host: its devices are where its guest has them,
and all that is of a host is as the new host's own definition says. Pure.

The host that it comes from may be anybody's by now: of what it says, nothing gets here that names something of this
host and is not in that own definition."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

from ...errors import ForeignObject, NebulaError, Unsupported
from . import domain_xml
from .parsed_definitions import parsed

_COLD = "Move it cold (move: cold), which powers it off and starts it anew"
_LATER = "Start it anew first, so that it has what its list says; or move it cold (move: cold)"

# What says nothing of the host.
_PLAIN = frozenset((
    "name", "uuid", "memory", "currentMemory", "maxMemory", "vcpu", "vcpus", "iothreads", "iothreadids", "features",
    "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "pm", "title", "description", "perf",
))  # fmt: skip
# What is as this host's own definition has it, or is not there.
_OWN = frozenset(("metadata", "cputune", "numatune", "memoryBacking", "blkiotune", "memtune", "sysinfo"))
_DROPPED = frozenset(("seclabel", "resource", "genid"))
# Devices of which nothing is outside of QEMU.
_PLAIN_DEVICES = frozenset((
    "controller", "input", "video", "memballoon", "watchdog", "memory", "iommu", "hub", "panic",
))  # fmt: skip
_AUDIO = frozenset(("none", "spice"))
# What libvirt adds when it reads a definition, and what it numbers anew.
_ADDED = frozenset(("alias", "address"))


def adapted(live: str, own: str, asked: str) -> str:
    """Return the definition with which the machine comes here.
    live: as it runs on its old host, in libvirt's migratable form.
    own: this host's own definition of it.
    Raise Unsupported, by name, for what can't come along, or is not what the own definition says."""
    try:
        running, wanted = ET.fromstring(live), parsed(own)
    except ET.ParseError as error:
        raise Unsupported(asked, f"what its old host says of it is no definition ({error})", _COLD) from error
    result = ET.Element("domain", {"type": running.get("type", "")})
    if result.get("type") != wanted.get("type"):
        raise Unsupported(
            asked,
            f"it runs as type {running.get('type')} on its host, and this one's are of type {wanted.get('type')}",
            _COLD,
        )
    for name in ("name", "uuid"):
        if running.findtext(name) != wanted.findtext(name):
            raise ForeignObject(asked, f"its old host offers another machine ({name})", "Find out what runs there")
    for element in running:
        if element.tag in _PLAIN:
            result.append(copy.deepcopy(element))
        elif element.tag in _OWN:
            _take_own(result, wanted, element.tag)
        elif element.tag == "os":
            result.append(_os(element, wanted))
        elif element.tag == "devices":
            result.append(_devices(element, wanted, asked))
        elif element.tag not in _DROPPED:
            _refuse_unlike(element, wanted, asked)
            result.append(copy.deepcopy(element))
    return ET.tostring(result, encoding="unicode")


def _take_own(result: ET.Element, wanted: ET.Element, tag: str) -> None:
    found = wanted.find(tag)
    if found is not None:
        result.append(copy.deepcopy(found))


def _refuse_unlike(element: ET.Element, wanted: ET.Element, asked: str) -> None:
    if not any(_alike(element, each) for each in wanted.iterfind(element.tag)):
        raise Unsupported(asked, f"it has <{element.tag.rpartition('}')[2]}>, which can't come along", _COLD)


def _alike(left: ET.Element, right: ET.Element) -> bool:
    return list(_flat(left)) == list(_flat(right))


def _os(running: ET.Element, wanted: ET.Element) -> ET.Element:
    result = copy.deepcopy(running)
    own = wanted.find("os")
    for tag in ("kernel", "initrd", "loader", "nvram", "dtb", "acpi"):
        for each in result.findall(tag):
            result.remove(each)
        found = None if own is None else own.find(tag)
        if found is not None:
            result.append(copy.deepcopy(found))
    return result


def _devices(running: ET.Element, wanted: ET.Element, asked: str) -> ET.Element:
    own = wanted.find("devices")
    own = ET.Element("devices") if own is None else own
    result = ET.Element("devices")
    takers: dict[str, Callable[[ET.Element, ET.Element, str], ET.Element | None]] = {
        "disk": _disk, "interface": _interface, "serial": _console, "console": _console, "channel": _channel,
        "rng": _rng, "audio": _audio, "sound": _plain, "emulator": _nothing, "graphics": _nothing,
    }  # fmt: skip
    result.extend(copy.deepcopy(each) for each in own.findall("emulator"))
    for device in running:
        if device.tag in _PLAIN_DEVICES:
            taken: ET.Element | None = copy.deepcopy(device)
        elif device.tag in takers:
            taken = takers[device.tag](device, own, asked)
        else:
            raise Unsupported(asked, f"it has a device of kind {device.tag}, which can't move while it runs", _COLD)
        if taken is not None:
            result.append(taken)
    result.extend(copy.deepcopy(each) for each in own.findall("graphics"))
    _refuse_missing(result, own, asked)
    return result


def _refuse_missing(result: ET.Element, own: ET.Element, asked: str) -> None:
    """Raise Unsupported for disks and NICs that the machine is to have, and runs without."""
    for tag, place in (("disk", "target"), ("interface", "mac")):
        lacking = _keys(own, tag, place) - _keys(result, tag, place)
        if lacking:
            raise Unsupported(asked, f"it runs without {tag} {', '.join(sorted(lacking))}, which it is to have", _LATER)


def _keys(devices: ET.Element, tag: str, place: str) -> set[str]:
    return {_key(each, place) for each in devices.iterfind(tag)}


def _key(device: ET.Element, place: str) -> str:
    found = device.find(place)
    return "" if found is None else (found.get("dev") if place == "target" else found.get("address")) or ""


def _partner(device: ET.Element, own: ET.Element, place: str, asked: str) -> ET.Element:
    key = _key(device, place)
    for each in own.iterfind(device.tag):
        if key and _key(each, place).lower() == key.lower():
            return each
    raise Unsupported(asked, f"it runs with {device.tag} {key}, which it is not to have", _LATER)


def _replace(result: ET.Element, partner: ET.Element, *tags: str) -> None:
    """Give the device these elements of its partner in place of its own."""
    for tag in tags:
        for each in result.findall(tag):
            result.remove(each)
        result.extend(copy.deepcopy(each) for each in partner.findall(tag))


def _disk(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    partner = _partner(device, own, "target", asked)
    if (device.get("type"), device.get("device")) != (partner.get("type"), partner.get("device")):
        raise Unsupported(asked, f"disk {_key(device, 'target')} is of another kind than it is to be", _LATER)
    result = copy.deepcopy(device)
    for tag in ("mirror", "source", "backingStore"):
        for each in result.findall(tag):
            result.remove(each)
    # Only an empty drive has no medium.
    if device.find("source") is not None or device.get("device") != "cdrom":
        _replace(result, partner, "source", "backingStore")
    return result


def _interface(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    partner = _partner(device, own, "mac", asked)
    if device.get("type") != partner.get("type"):
        raise Unsupported(asked, f"interface {_key(device, 'mac')} is attached in another way than it is to be", _LATER)
    result = copy.deepcopy(device)
    _replace(result, partner, "source", "target", "virtualport", "vlan", "filterref", "script", "backend", "mtu")
    return result


def _console(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    if device.get("type") != "pty":
        raise Unsupported(asked, f"its {device.tag} is of type {device.get('type')}, and not a terminal", _COLD)
    result = copy.deepcopy(device)
    result.attrib.pop("tty", None)
    first = own.find("serial")
    partner = own.find(device.tag)
    _replace(result, ET.Element("none"), "source", "log")
    logs = [log for each in (partner, first) if each is not None for log in each.findall("log")]
    for log in logs[:1]:
        result.append(copy.deepcopy(log))
    return result


def _channel(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    target = device.find("target")
    name = "" if target is None else target.get("name", "")
    if device.get("type") == "unix":
        for each in own.iterfind("channel"):
            found = each.find("target")
            if each.get("type") == "unix" and found is not None and found.get("name") == name:
                result = copy.deepcopy(device)
                _replace(result, each, "source")
                return result
    elif device.get("type") == "spicevmc":
        return copy.deepcopy(device)
    raise Unsupported(asked, f"it has a channel {name or device.get('type')}, which can't come along", _COLD)


def _rng(device: ET.Element, _own: ET.Element, asked: str) -> ET.Element:
    backend = device.find("backend")
    text = "" if backend is None else (backend.text or "").strip()
    if backend is None or (backend.get("model"), text) not in (("random", "/dev/urandom"), ("builtin", "")):
        raise Unsupported(asked, "it has a source of random numbers of its host's", _COLD)
    return copy.deepcopy(device)


def _audio(device: ET.Element, _own: ET.Element, asked: str) -> ET.Element:
    if device.get("type") not in _AUDIO:
        raise Unsupported(asked, f"its sound is of type {device.get('type')}, which is its host's", _COLD)
    return copy.deepcopy(device)


def _plain(device: ET.Element, _own: ET.Element, _asked: str) -> ET.Element:
    return copy.deepcopy(device)


def _nothing(_device: ET.Element, _own: ET.Element, _asked: str) -> None:
    return None


def check(arriving: str, agreed: str, asked: str) -> None:
    """Raise ForeignObject where a definition has something that the agreed one has not, but for what libvirt numbers
    and adds itself."""
    try:
        found, wanted = ET.fromstring(arriving), parsed(agreed)
    except ET.ParseError as error:
        raise _other(asked, str(error)) from error
    known = set(_flat(wanted))
    for entry in _flat(found):
        if entry not in known:
            raise _other(asked, f"{entry[0][-80:]} {entry[1][:40]} {entry[2][:80]!r}")


def _other(asked: str, what: str) -> NebulaError:
    return ForeignObject(
        asked,
        f"its old host sends another definition than was agreed upon: {what}",
        "Nothing of it reached libvirtd. Find out who else has power over that host before it is used again",
    )


def _flat(element: ET.Element, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each value of the element and all below it: its place, its name and itself. What has neither is yielded,
    too."""
    place = f"{path}/{element.tag}"
    text = (element.text or "").strip()
    yield place, "", text
    for name, value in element.attrib.items():
        yield place, name, value
    for each in element:
        if each.tag not in _ADDED:
            yield from _flat(each, place)


def is_marked(definition: str) -> bool:
    """Return whether the definition says whose machine it is."""
    return parsed(definition).find(domain_xml.MARK_PATH) is not None
