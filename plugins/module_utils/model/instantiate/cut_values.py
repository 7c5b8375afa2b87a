# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a device, the kernel or libvirt would cut off or drop without a word.

They are refused where they are new. Machines and templates that have them go on, with a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Optional

from ...dataclass import dataclass
from ...errors import InvalidValue
from .. import disk_targets, rules
from ..disk_targets import UNKNOWN, Board
from ..hypervisor import Hypervisor
from ..template import Template
from ..vm import Vm
from .nics import with_nic_defaults
from .places import board_of, place_of

# Bytes of a host name that Linux has (HOST_NAME_MAX), those between two dots, and characters of one in NetBIOS.
HOST_NAME = 64
LABEL = 63
NETBIOS_NAME = 15


@dataclass(frozen=True)
class Cut:
    """A value of which something is lost. key: attribute and value, by which it is known again on whichever device."""

    asked: str
    key: tuple[str, str]
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.asked}: {self.found}. {self.remedy}"


def of_template(template: Template, hypervisor: str) -> list[Cut]:
    """Those of a template's machines that are known before its images are."""
    rule, board = rules.of(hypervisor), board_of(template, hypervisor)
    found = []
    for index, vector in enumerate(template.vectors("DISK")):
        place = disk_targets.translated(place_of(vector, "", UNKNOWN), board)
        found += _of_serial(f"DISK {index}", vector.get("SERIAL", ""), _bus_of(place, board), rule)
    for index, vector in enumerate(template.vectors("NIC")):
        found += _of_target(f"NIC {index}", vector.get("TARGET", ""), rule)
    found += of_host_name(template.vector("CONTEXT"))
    os = template.vector("OS")
    if os.get("KERNEL") or os.get("KERNEL_DS"):
        found += _of_command(os.get("ROOT", ""), os.get("KERNEL_CMD", ""), rule)
    return found


def of_machine(vm: Vm) -> list[Cut]:
    """Those of a machine, each of whose devices has its place."""
    rule = rules.of(vm.hypervisor)
    found = []
    for index, disk in enumerate(vm.disks):
        found += _of_serial(f"DISK {index}", disk.options.get("SERIAL", ""), disk.bus, rule)
    for nic in vm.nics:
        found += _of_target(f"NIC {nic.nic_id}", nic.target, rule)
    return found + (_of_command(vm.os.root, vm.os.kernel_cmd, rule) if vm.os.kernel else [])


def of_host_name(variables: Mapping[str, str]) -> list[Cut]:
    """That of a context, if no kernel can have it. What a machine's own values are put into is judged with these."""
    found = []
    for key in ("SET_HOSTNAME", "HOSTNAME"):
        name = variables.get(key, "")
        plain = name.strip().rstrip(".")
        length, label = (_bytes(text) for text in (plain, max(plain.split("."), key=_bytes)))
        if "$" in name or (length <= HOST_NAME and label <= LABEL):
            continue
        why = f"it has {length} bytes, and a host name {HOST_NAME} at most"
        if length <= HOST_NAME:
            why = f"a part of it has {label} bytes, and one between two dots has {LABEL} at most"
        shown = f"CONTEXT/{key} = {name!r}"
        found.append(Cut(shown, (key, name), f"{why}: its guest would not get it", "Give a shorter name"))
    return found


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def doubts_of_windows(variables: Mapping[str, str]) -> list[str]:
    """A warning for the host name of a Windows that its network's older protocol cuts off. Its program may be set to
    keep the whole beside that."""
    name = (variables.get("SET_HOSTNAME") or variables.get("HOSTNAME") or "").partition(".")[0]
    if len(name) <= NETBIOS_NAME:
        return []
    found = f"CONTEXT: host name {name!r} has {len(name)} characters, and Windows is {name[:NETBIOS_NAME]!r}"
    why = "to its network (NetBIOS), to which cloudbase-init cuts it: other machines may be called the same"
    return [f"{found} {why}. Use up to {NETBIOS_NAME}"]


def refuse_new(found: Iterable[Cut], known: Iterable[Cut], where: str) -> list[str]:
    """Warnings of those that are known already; InvalidValue for the first that is not."""
    keys, doubts = {cut.key for cut in known}, []
    for cut in found:
        if cut.key not in keys:
            raise InvalidValue(f"{where}: {cut.asked}", cut.found, cut.remedy)
        doubts.append(str(cut))
    return doubts


def refuse_in_template(
    template: Template, before: Optional[Template], where: str, hypervisors: Collection[str] = ()
) -> None:
    """InvalidValue for a template that says such a value anew. hypervisors: those that its machines may come to, where
    it does not say itself."""
    own = template.get("HYPERVISOR").lower()
    template = with_nic_defaults(template, where)
    for hypervisor in [own] if own else hypervisors or [rules.DEFAULT]:
        known = of_template(with_nic_defaults(before, where), hypervisor) if before is not None else []
        refuse_new(of_template(template, hypervisor), known, where)


def same_serials(template: Template, hypervisor: str) -> list[str]:
    """Warnings of disks of one machine that have the same serial number."""
    found: list[str] = []
    first: dict[str, int] = {}
    for index, vector in enumerate(template.vectors("DISK") if rules.of(hypervisor).serials else ()):
        serial = vector.get("SERIAL", "")
        if serial and first.setdefault(serial, index) != index:
            found.append(
                f"DISK {index}: SERIAL = {serial!r} is that of DISK {first[serial]} too, and guests take disks with "
                "the same serial number for one. Give each its own"
            )
    return found


def _bus_of(place: disk_targets.Place, board: Board) -> str:
    """The bus that the place says, "" where its image may say another."""
    if place.bus or place.target:
        return place.bus or disk_targets.bus_of(place.target, board)
    return disk_targets.bus_of(f"{place.dev_prefix}a", board) if place.dev_prefix else ""


def _of_serial(device: str, serial: str, bus: str, rule: Hypervisor) -> list[Cut]:
    most = rule.serials.get(bus, 0) if bus else max(rule.serials.values(), default=0)
    if not most or len(serial) <= most:
        return []
    kind = f"a disk on {bus} has" if bus else "no disk has more than"
    found = f"it has {len(serial)} characters, and {kind} {most}: guests would see {serial[:most]!r}"
    return [
        Cut(f"{device}: SERIAL = {serial!r}", ("SERIAL", serial), found, f"Give a SERIAL of up to {most} characters")
    ]


def _of_target(device: str, target: str, rule: Hypervisor) -> list[Cut]:
    prefix = next((each for each in rule.drops_names if target.startswith(each)), "")
    if not prefix:
        return []
    found = f"libvirt makes up the names with {prefix} itself, and would drop this one"
    return [Cut(f"{device}: TARGET = {target}", ("TARGET", target), found, "Give the NIC another TARGET, or none")]


def _of_command(root: str, command: str, rule: Hypervisor) -> list[Cut]:
    text = " ".join(filter(None, (f"root=/dev/{root}" if root else "", command)))
    length, most = len(text.encode(errors="surrogatepass")), rule.command_line
    if not most or length <= most:
        return []
    found = f"the command line has {length} bytes with ROOT, and the kernel would read the first {most}"
    return [Cut("OS/KERNEL_CMD", ("KERNEL_CMD", text), found, f"Use up to {most} bytes, as by a file in the initrd")]
