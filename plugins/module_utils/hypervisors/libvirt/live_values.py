# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which limits of disks and NICs, which VLANs and links of NICs, and which password of its console a running QEMU
machine has to get. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...model.whole_numbers import whole
from .domain_xml import attribute_of
from .live_devices import devices_by_identity
from .parsed_definitions import parsed

DISK, NIC, ELEMENT = "disk", "nic", "element"
_OF_A_DIRECTION = ("average", "peak", "burst")


@dataclass(frozen=True)
class ValueChange:
    """Describes what changes of one device.
    kind: DISK or NIC for its limits, ELEMENT for another of its values.
    target: its name in the running definition.
    limits: as libvirt calls them; 0 is no limit.
    text: the whole element as it is to be, which may hold a secret."""

    kind: str
    target: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    text: str = field(default="", repr=False)


def plan_values(live: str, wanted: str) -> list[ValueChange]:
    """Return what has to be set. live, wanted: the running definition, with its secrets, and that to which the machine
    is to come. Devices that only one of both has are left out."""
    running, asked = parsed(live), parsed(wanted)
    has, wants = devices_by_identity(running), devices_by_identity(asked)
    found = []
    for key in has.keys() & wants.keys():
        kind = DISK if has[key].tag == "disk" else NIC
        read = _limits_of_disk if kind == DISK else _limits_of_nic
        had, new = read(has[key]), read(wants[key])
        if had != new:
            # libvirt takes limits of one family together: those that it is not told are lost, or nothing is set.
            names = had.keys() | new.keys() if kind == DISK else _whole_directions(had.keys() | new.keys())
            limits = {name: new.get(name, 0) for name in sorted(names)}
            found.append(ValueChange(kind, attribute_of(has[key], "target", "dev"), limits))
        if kind == NIC and (_vlans(has[key]), _link(has[key])) != (_vlans(wants[key]), _link(wants[key])):
            found.append(
                ValueChange(ELEMENT, attribute_of(has[key], "target", "dev"), text=_joined(has[key], wants[key]))
            )
    return [*sorted(found, key=lambda each: each.target), *_console(running, asked)]


def _limits_of_disk(disk: ET.Element) -> dict[str, int]:
    return {each.tag: number for each in disk.iterfind("iotune/*") if (number := whole((each.text or "").strip()))}


def _limits_of_nic(nic: ET.Element) -> dict[str, int]:
    return {
        f"{each.tag}.{name}": number
        for each in nic.iterfind("bandwidth/*")
        for name in _OF_A_DIRECTION
        if (number := whole(each.get(name, "")))
    }


def _whole_directions(names: Collection[str]) -> set[str]:
    directions = {name.partition(".")[0] for name in names}
    return {f"{direction}.{name}" for direction in directions for name in _OF_A_DIRECTION}


def _vlans(nic: ET.Element) -> set[tuple[str, str]]:
    return {(each.get("id", ""), each.get("nativeMode", "")) for each in nic.iterfind("vlan/tag")}


def _link(nic: ET.Element) -> str:
    return attribute_of(nic, "link", "state") or "up"


def _joined(running: ET.Element, asked: ET.Element) -> str:
    """Return the running NIC with the VLANs, the link and the limits that are asked for: libvirt wants the rest as it
    is."""
    changed = ET.fromstring(ET.tostring(running))
    # Its limits, too: libvirt would set those that it is told here, after others were set.
    for name in ("vlan", "link", "bandwidth"):
        for element in changed.findall(name):
            changed.remove(element)
        changed.extend(asked.findall(name))
    if changed.find("link") is None:
        ET.SubElement(changed, "link", {"state": "up"})
    return ET.tostring(changed, encoding="unicode")


def _console(running: ET.Element, asked: ET.Element) -> list[ValueChange]:
    has, wants = running.find("devices/graphics"), asked.find("devices/graphics")
    if has is None or wants is None:
        return []
    # One that is to be another console has its password from its next start.
    if any(has.get(name, "") != wants.get(name, "") for name in ("type", "keymap", "listen")):
        return []
    passwords = has.get("passwd", ""), wants.get("passwd", "")
    # A console that was started without a password takes none.
    if not all(passwords) or passwords[0] == passwords[1]:
        return []
    changed = ET.fromstring(ET.tostring(has))
    changed.set("passwd", passwords[1])
    return [ValueChange(ELEMENT, text=ET.tostring(changed, encoding="unicode"))]
