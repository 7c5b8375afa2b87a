# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the definition with which a running machine comes to another host: its devices are where its guest has them,
and all that is of a host is as the new host's own definition says. Pure.

The host that it comes from may be anybody's by now: of what it says, nothing gets here that names something of this
host and is not in that own definition."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from xml.etree import ElementTree as ET

from ...errors import ForeignObject, NebulaError, Unsupported
from ...model.whole_numbers import id_in, whole
from .domain_xml import MARK_PATH, RUN
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
_DROPPED = frozenset(("seclabel", "resource"))
# Of <os>: how the guest boots. All else of it names files, or says which are looked for.
_BOOT = frozenset(("type", "boot", "bootmenu", "bios"))
# Devices of which nothing is outside of QEMU but what _refuse_outside() finds.
_PLAIN_DEVICES = frozenset((
    "controller", "input", "video", "memballoon", "watchdog", "memory", "iommu", "hub", "panic",
))  # fmt: skip
_AUDIO = frozenset(("none", "spice"))
# How a NIC is attached to the host, and what it may do there.
_ATTACHED = (
    "source", "target", "virtualport", "vlan", "filterref", "script", "downscript", "backend", "mtu", "bandwidth",
    "port", "ip", "route", "rom", "portForward",
)  # fmt: skip
_PAGES = frozenset(("pagesize",))
_OF_HOST = frozenset(("passthrough", "evdev"))
# What libvirt adds when it reads a definition, and what it numbers anew.
_ADDED = frozenset(("alias", "address"))
# What libvirt writes in another way than it was written: 0-2,4 and 0,1,2,4.
_MOST_PROCESSORS = 1 << 16
_NUMBERS = frozenset(("cpuset", "nodeset"))
# What says anything, and may begin as a path does.
_WORDS = frozenset(("title", "description"))
_RANDOM = "/dev/urandom"
# What decrypts a disk: QEMU itself.
_ENGINE = "qemu"


def adapted(live: str, own: str, asked: str, disks: Collection[str] | None = None) -> str:
    """Return the definition with which the machine comes here.
    live: as it runs on its old host, in libvirt's migratable form.
    own: this host's own definition of it.
    disks: targets of those that the catalog knows; None for all.
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
    _refuse_more(running, wanted, asked)
    for disk in running.iterfind("devices/disk"):
        if disks is not None and _key(disk, "target") not in disks:
            raise Unsupported(asked, f"its disk {_key(disk, 'target')} is a file of its host's (RAW)", _COLD)
    for element in running:
        if element.tag in _PLAIN:
            result.append(_without_processors(element))
        elif element.tag == "os":
            result.append(_os(element, wanted))
        elif element.tag == "devices":
            result.append(_devices(element, wanted, asked))
        elif element.tag not in _OWN | _DROPPED:
            _refuse_unlike(element, wanted, asked)
            result.append(copy.deepcopy(element))
    # Whether its old host has them or not: limits are among them, and whose machine it is.
    result.extend(copy.deepcopy(each) for each in wanted if each.tag in _OWN)
    _refuse_outside(result, wanted, asked)
    _keep_run(running, result)
    return ET.tostring(result, encoding="unicode")


def _keep_run(running: ET.Element, result: ET.Element) -> None:
    """Have the machine's run keep its name: it goes on, and so does what waits for its end."""
    mark, own = running.find(MARK_PATH), result.find(MARK_PATH)
    name = "" if mark is None else mark.get(RUN, "")
    if own is not None and re.fullmatch(r"[0-9a-f]{1,32}", name):
        own.set(RUN, name)


def _refuse_more(running: ET.Element, wanted: ET.Element, asked: str) -> None:
    """Raise Unsupported for a machine that has more of this host than was reserved for it, and ForeignObject for one
    that says twice what it has."""
    tags = [each.tag for each in running]
    twice = next((tag for tag in tags if tag in _PLAIN | {"os", "devices"} and tags.count(tag) > 1), "")
    if twice:
        raise _strange(asked, f"two elements {twice}")
    for tag, most in (("memory", ("memory", "maxMemory")), ("vcpu", ("vcpu",))):
        has, may = _amount(running, tag), max(_amount(wanted, each) for each in most)
        if has > may:
            raise Unsupported(asked, f"it runs with more {tag} ({has}) than it is to have ({may})", _LATER)


def _amount(domain: ET.Element, tag: str) -> int:
    """Return the number of an element, which libvirt writes in KiB where it is memory; 0 for none."""
    return whole((domain.findtext(tag) or "").strip()) or 0


def _without_processors(element: ET.Element) -> ET.Element:
    """Return a copy that says nothing of the host's processors."""
    result = copy.deepcopy(element)
    if element.tag == "vcpu":
        result.attrib.pop("cpuset", None)
    return result


def _refuse_outside(result: ET.Element, wanted: ET.Element, asked: str) -> None:
    """Raise ForeignObject for what still names a file that this host's own definition does not name, and for elements
    that libvirt may take for others: it does not look at their namespaces everywhere."""
    own = set(_flat(wanted, all_of_it=True))
    known = {value for _place, _name, value in own}
    for place, name, value in _flat(result, all_of_it=True):
        if value.startswith("/") and value != _RANDOM and value not in known and place[8:] not in _WORDS:
            raise _strange(asked, f"file {value[:80]!r}")
        if ("}" in place or name.startswith("{")) and (place, name, value) not in own:
            raise _strange(asked, place[-80:])


def _strange(asked: str, what: str) -> NebulaError:
    return ForeignObject(
        asked,
        f"its old host offers it with {what}, which this host's own definition has not",
        "Find out who else has power over that host before it is used again. " + _COLD,
    )


def _refuse_unlike(element: ET.Element, wanted: ET.Element, asked: str) -> None:
    if not any(_alike(element, each) for each in wanted.iterfind(element.tag)):
        raise Unsupported(asked, f"it has <{element.tag.rpartition('}')[2]}>, which can't come along", _COLD)


def _alike(left: ET.Element, right: ET.Element) -> bool:
    return list(_flat(left)) == list(_flat(right))


def _os(running: ET.Element, wanted: ET.Element) -> ET.Element:
    own = wanted.find("os")
    own = ET.Element("os") if own is None else own
    result = ET.Element("os", dict(own.attrib))
    result.extend(copy.deepcopy(each) for each in running if each.tag in _BOOT)
    result.extend(copy.deepcopy(each) for each in own if each.tag not in _BOOT)
    return result


def _devices(running: ET.Element, wanted: ET.Element, asked: str) -> ET.Element:
    own = wanted.find("devices")
    own = ET.Element("devices") if own is None else own
    result = ET.Element("devices")
    takers: dict[str, Callable[[ET.Element, ET.Element, str], ET.Element | None]] = {
        "disk": _disk, "interface": _interface, "serial": _console, "console": _console, "channel": _channel,
        "rng": _rng, "audio": _audio, "sound": _plain, "emulator": _nothing, "graphics": _nothing, "tpm": _tpm,
    }  # fmt: skip
    result.extend(copy.deepcopy(each) for each in own.findall("emulator"))
    for device in running:
        if device.tag in _PLAIN_DEVICES:
            _refuse_source(device, asked)
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


def _refuse_source(device: ET.Element, asked: str) -> None:
    """Raise Unsupported for a device of the host, or of a file of it. Modules of memory have a source that says no
    more than how large their pages are."""
    source = device.find("source")
    named = source is not None and (device.tag != "memory" or {*source.attrib, *(each.tag for each in source)} - _PAGES)
    if named or device.get("type") in _OF_HOST or device.find(".//*[@rendernode]") is not None:
        raise Unsupported(asked, f"it has a device of kind {device.tag} that is its host's", _COLD)


def _refuse_missing(result: ET.Element, own: ET.Element, asked: str) -> None:
    """Raise Unsupported for disks, NICs and a TPM that the machine is to have, and runs without."""
    for tag, place in (("disk", "target"), ("interface", "mac")):
        lacking = _keys(own, tag, place) - _keys(result, tag, place)
        if lacking:
            raise Unsupported(asked, f"it runs without {tag} {', '.join(sorted(lacking))}, which it is to have", _LATER)
    if len(own.findall("tpm")) != len(result.findall("tpm")):
        raise Unsupported(asked, "it runs with another number of TPMs than it is to have", _LATER)


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
    result.attrib.clear()
    result.attrib.update(partner.attrib)
    # What is read by another format than its own may name files of the host.
    if _format(device) != _format(partner):
        raise Unsupported(asked, f"disk {_key(device, 'target')} is of another format than it is to be", _LATER)
    _replace(result, ET.Element("none"), "mirror", "source", "backingStore")
    _replace(result, partner, "readonly", "shareable", "transient", "encryption", "auth", "iotune")
    # Only an empty drive has no medium.
    if device.find("source") is not None or device.get("device") != "cdrom":
        _replace(result, partner, "source", "backingStore")
    has, encryption = device.find("source/encryption"), result.find("source/encryption")
    if has is not None and encryption is not None and has.get("engine") == _ENGINE:
        # libvirt says so of its own accord.
        encryption.set("engine", _ENGINE)
    return result


def _format(disk: ET.Element) -> tuple[str, str]:
    driver = disk.find("driver")
    return ("qemu", "raw") if driver is None else (driver.get("name", "qemu"), driver.get("type", "raw"))


def _interface(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    partner = _partner(device, own, "mac", asked)
    if device.get("type") != partner.get("type"):
        raise Unsupported(asked, f"interface {_key(device, 'mac')} is attached in another way than it is to be", _LATER)
    result = copy.deepcopy(device)
    result.attrib.clear()
    result.attrib.update(partner.attrib)
    _replace(result, partner, *_ATTACHED)
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
                _replace(result, each, "source", "log")
                return result
    elif device.get("type") == "spicevmc":
        result = copy.deepcopy(device)
        _replace(result, ET.Element("none"), "source", "log")
        return result
    raise Unsupported(asked, f"it has a channel {name or device.get('type')}, which can't come along", _COLD)


def _rng(device: ET.Element, _own: ET.Element, asked: str) -> ET.Element:
    backend = device.find("backend")
    text = "" if backend is None else (backend.text or "").strip()
    if backend is None or (backend.get("model"), text) not in (("random", _RANDOM), ("builtin", "")):
        raise Unsupported(asked, "it has a source of random numbers of its host's", _COLD)
    return copy.deepcopy(device)


def _audio(device: ET.Element, _own: ET.Element, asked: str) -> ET.Element:
    if device.get("type") not in _AUDIO:
        raise Unsupported(asked, f"its sound is of type {device.get('type')}, which is its host's", _COLD)
    return copy.deepcopy(device)


def _tpm(device: ET.Element, own: ET.Element, asked: str) -> ET.Element:
    partner, backend = own.find("tpm"), device.find("backend")
    result = copy.deepcopy(own.find("tpm"))
    kind = None if backend is None else backend.get("type")
    if partner is None or result is None or backend is None or kind != "emulator":
        raise Unsupported(asked, f"its TPM is of type {kind}, and not the one that it is to have", _LATER)
    wanted = result.find("backend")
    if wanted is None or device.get("model") != result.get("model") or backend.get("version") != wanted.get("version"):
        raise Unsupported(asked, "its TPM is of another model or version than it is to be", _LATER)
    # libvirt would remove what came of it with a machine that ends before it is defined here.
    wanted.set("persistent_state", "yes")
    return result


def _plain(device: ET.Element, _own: ET.Element, _asked: str) -> ET.Element:
    return copy.deepcopy(device)


def _nothing(_device: ET.Element, _own: ET.Element, _asked: str) -> None:
    return None


def check(arriving: str, agreed: str, asked: str) -> None:
    """Raise ForeignObject where a definition has something that the agreed one has not, or lacks something of its disks
    and NICs, but for what libvirt numbers and adds itself."""
    if "<!" in arriving or "<?" in arriving:
        # libvirt writes nothing of the kind, and to its own reader it may hide or show something else.
        raise _other(asked, "it begins like a document of another kind")
    try:
        found, wanted = ET.fromstring(arriving), parsed(agreed)
        known = set(_flat(wanted))
        for entry in _flat(found):
            if entry not in known:
                raise _other(asked, f"{entry[0][-80:]} {entry[1][:40]} {entry[2][:80]!r}")
    except (ET.ParseError, RecursionError) as error:
        raise _other(asked, str(error)) from error
    for tag in ("disk", "interface"):
        lacking = _devices_of(wanted, tag) - _devices_of(found, tag)
        if lacking:
            raise _other(asked, f"it lacks something of {tag} {next(iter(lacking))[0][2][:40]!r}")


def _devices_of(domain: ET.Element, tag: str) -> Counter[tuple[tuple[str, str, str], ...]]:
    return Counter(tuple(sorted(_flat(each))) for each in domain.iterfind(f"devices/{tag}"))


def _other(asked: str, what: str) -> NebulaError:
    return ForeignObject(
        asked,
        f"its old host sends another definition than was agreed upon: {what}",
        "Nothing of it reached libvirtd. Find out who else has power over that host before it is used again",
    )


def _flat(element: ET.Element, path: str = "", all_of_it: bool = False) -> Iterator[tuple[str, str, str]]:
    """Yield each value of the element and all below it: its place, its name and itself. What has neither is yielded,
    too. all_of_it: with what libvirt adds."""
    place = f"{path}/{element.tag}"
    text = (element.text or "").strip()
    yield place, "", text
    for name, value in element.attrib.items():
        yield place, name, _as_numbers(value) if name in _NUMBERS else value
    for each in element:
        if all_of_it or each.tag not in _ADDED:
            yield from _flat(each, place, all_of_it)


def _as_numbers(value: str) -> str:
    """Return a list of numbers in one form, whoever wrote it."""
    found: set[int] = set()
    for each in value.split(","):
        first, _to, last = each.partition("-")
        lowest, highest = id_in(first), id_in(last or first)
        if lowest is None or highest is None or highest >= _MOST_PROCESSORS:
            return value
        found.update(range(lowest, highest + 1))
    return ",".join(map(str, sorted(found)))
