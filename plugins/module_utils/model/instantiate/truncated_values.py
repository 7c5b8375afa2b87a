# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds values that a device, the kernel or libvirt would cut off or drop without a word.

They are refused where they are new. Machines and templates that have them go on, with a warning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ...errors import InvalidValue
from .. import console_passwords, defaults, disk_targets, hypervisor_rules
from ..disk_targets import UNKNOWN, Board
from ..hypervisor import Hypervisor
from ..network_checks import TAKEN_INTERFACES
from ..template import Template
from ..vm import Vm
from ..whole_numbers import whole
from .disk_buses import board_of, place_of
from .nic_vectors import with_nic_defaults
from .truncated_host_names import CutValue, cuts_of_host_name

_NO_MAC = "00:00:00:00:00:00"


def cuts_of_template(template: Template, hypervisor: str) -> list[CutValue]:
    """Return the cut values of a template's machines that are known before its images are."""
    rule, board = hypervisor_rules.rules_of(hypervisor), board_of(template, hypervisor)
    found = []
    for index, vector in enumerate(template.vectors("DISK")):
        place = disk_targets.with_own_words(place_of(vector, "", UNKNOWN), board)
        found += _serial_cuts(f"DISK {index}", vector.get("SERIAL", ""), _bus_of(place, board), rule)
    for index, vector in enumerate(template.vectors("NIC")):
        found += _target_cuts(f"NIC {index}", vector.get("TARGET", ""), rule)
        found += _mac_cuts(f"NIC {index}", vector.get("MAC", ""))
        found += _queue_cuts(f"NIC {index}", vector, rule)
    for name in ("VCPU", *(["VCPU_MAX"] if rule.grows else [])):
        number = whole(template.get(name).strip())
        raw = [each.get("DATA", "") for each in template.vectors("RAW")]
        found += _vcpu_cuts(name, number, rule, template.has("IOMMU") or _brings_iommu(raw))
    found += _same_target_cuts([vector.get("TARGET", "") for vector in template.vectors("NIC")])
    graphics = template.vector("GRAPHICS")
    found += _password_cuts(graphics.get("TYPE", defaults.GRAPHICS_TYPE), graphics.get("PASSWD", ""))
    found += cuts_of_host_name(template.vector("CONTEXT"))
    os = template.vector("OS")
    if os.get("KERNEL") or os.get("KERNEL_DS"):
        found += _command_line_cuts(os.get("ROOT", ""), os.get("KERNEL_CMD", ""), rule.command_line(os))
    return found


def cuts_of_machine(vm: Vm) -> list[CutValue]:
    """Return the cut values of a machine, each of whose devices has its place."""
    rule = hypervisor_rules.rules_of(vm.hypervisor)
    found = []
    for index, disk in enumerate(vm.disks):
        found += _serial_cuts(f"DISK {index}", disk.options.get("SERIAL", ""), disk.bus, rule)
    for nic in vm.nics:
        found += _target_cuts(f"NIC {nic.nic_id}", nic.target, rule)
        found += _mac_cuts(f"NIC {nic.nic_id}", nic.mac)
        found += _queue_cuts(f"NIC {nic.nic_id}", nic.options, rule)
    mapped = vm.iommu is not None or _brings_iommu(vm.raw.values())
    found += _vcpu_cuts("VCPU", vm.vcpu, rule, mapped)
    found += _vcpu_cuts("VCPU_MAX", vm.growth.vcpu if vm.growth else None, rule, mapped)
    found += _same_target_cuts([nic.target for nic in vm.nics])
    if vm.graphics is not None:
        found += _password_cuts(vm.graphics.type, vm.graphics.password)
    if vm.os.kernel:
        os = {"MACHINE": vm.os.machine, "KERNEL": vm.os.kernel}
        found += _command_line_cuts(vm.os.root, vm.os.kernel_cmd, rule.command_line(os))
    return found


def refuse_new(found: Iterable[CutValue], known: Iterable[CutValue], where: str) -> list[str]:
    """Return warnings of the values that are known already; raise InvalidValue for the first that is not."""
    keys, doubts = {cut.key for cut in known}, []
    for cut in found:
        if cut.key not in keys:
            raise InvalidValue(f"{where}: {cut.asked}", cut.found, cut.remedy)
        doubts.append(str(cut))
    return doubts


def refuse_in_template(
    template: Template, before: Template | None, where: str, hypervisors: Collection[str] = ()
) -> None:
    """Raise InvalidValue for a template that says such a value anew. hypervisors: those that its machines may come to,
    where it does not say itself."""
    own = template.get("HYPERVISOR").lower()
    template = with_nic_defaults(template, where)
    for hypervisor in [own] if own else hypervisors or [hypervisor_rules.DEFAULT]:
        known = cuts_of_template(with_nic_defaults(before, where), hypervisor) if before is not None else []
        refuse_new(cuts_of_template(template, hypervisor), known, where)


def same_serials(template: Template, hypervisor: str) -> list[str]:
    """Return warnings of disks of one machine that have the same serial number."""
    found: list[str] = []
    first: dict[str, int] = {}
    for index, vector in enumerate(template.vectors("DISK") if hypervisor_rules.rules_of(hypervisor).serials else ()):
        # Guests leave out blanks at either end.
        serial = vector.get("SERIAL", "").strip()
        if serial and first.setdefault(serial, index) != index:
            found.append(
                f"DISK {index}: SERIAL = {serial!r} is that of DISK {first[serial]} too, and guests take disks with "
                "the same serial number for one. Give each its own"
            )
    return found


def _bus_of(place: disk_targets.Place, board: Board) -> str:
    """Return the bus that the place says, "" where its image may say another."""
    if place.bus or place.target:
        return place.bus or disk_targets.bus_of(place.target, board)
    return disk_targets.bus_of(f"{place.dev_prefix}a", board) if place.dev_prefix else ""


def _serial_cuts(device: str, serial: str, bus: str, rule: Hypervisor) -> list[CutValue]:
    most = rule.serials.get(bus, 0) if bus else max(rule.serials.values(), default=0)
    if not most or len(serial) <= most:
        return []
    kind = f"a disk on {bus} has" if bus else "no disk has more than"
    found = f"it has {len(serial)} characters, and {kind} {most}: guests would see {serial[:most]!r}"
    return [
        CutValue(
            f"{device}: SERIAL = {serial!r}", ("SERIAL", serial), found, f"Give a SERIAL of up to {most} characters"
        )
    ]


def _target_cuts(device: str, target: str, rule: Hypervisor) -> list[CutValue]:
    prefix = next((each for each in rule.drops_names if target.startswith(each)), "")
    held = [character for character in ":%" if character in target]
    found = ""
    if prefix:
        found = f"libvirt makes up the names with {prefix} itself, and would drop this one"
    elif held:
        found = f"it holds {' '.join(held)}, which no interface of Linux has in its name"
    elif target in TAKEN_INTERFACES:
        found = "the node's kernel uses that name itself"
    if not found:
        return []
    return [CutValue(f"{device}: TARGET = {target}", ("TARGET", target), found, "Give the NIC another TARGET, or none")]


def _same_target_cuts(targets: Iterable[str]) -> list[CutValue]:
    """Return the targets of NICs that are called as an earlier one of the same machine."""
    found: list[CutValue] = []
    first: dict[str, int] = {}
    for index, target in enumerate(targets):
        if target and first.setdefault(target, index) != index:
            why = f"NIC {first[target]} is called so too, and a node has one interface of a name"
            asked = f"NIC {index}: TARGET = {target}"
            found.append(CutValue(asked, ("TARGET twice", target), why, "Give each NIC a TARGET of its own, or none"))
    return found


def _mac_cuts(device: str, mac: str) -> list[CutValue]:
    if mac != _NO_MAC:
        return []
    found = "it stands for none: QEMU would give the NIC another, and the kernel takes no such one"
    remedy = "Give another, as 02:00:0a:00:00:01, or correct the address range that it comes from"
    return [CutValue(f"{device}: MAC = {mac}", ("MAC", mac), found, remedy)]


def _queue_cuts(device: str, options: Mapping[str, str], rule: Hypervisor) -> list[CutValue]:
    text = options.get("VIRTIO_QUEUES", "").strip()
    number = whole(text)
    if not rule.most_queues or number is None or number <= rule.most_queues:
        return []
    found = f"an interface has {rule.most_queues} queues at most, and the machine would not start"
    asked = f"{device}: VIRTIO_QUEUES = {text}"
    return [CutValue(asked, ("VIRTIO_QUEUES", text), found, "Give fewer, as one for each processor: auto")]


def _brings_iommu(raw: Iterable[str]) -> bool:
    return any("<iommu" in text for text in raw)


def _vcpu_cuts(name: str, number: int | None, rule: Hypervisor, mapped: bool) -> list[CutValue]:
    """Return a VCPU that is too many. mapped: an IOMMU maps interrupts: so many as QEMU knows are possible then."""
    if not rule.most_vcpus or number is None or number <= rule.most_vcpus or mapped:
        return []
    found = f"a machine has {rule.most_vcpus} processors at most, and would not start"
    remedy = (
        f'Give up to {rule.most_vcpus}, or IOMMU = [ MODEL = intel, OPTIONS = "intremap=on,eim=on" ] on machine q35'
    )
    return [CutValue(f"{name} = {number}", (name, str(number)), found, remedy)]


def _password_cuts(kind: str, password: str) -> list[CutValue]:
    kind = kind.lower()
    if not console_passwords.is_cut(kind, password):
        return []
    most = console_passwords.LENGTHS[kind]
    # The password itself is shown nowhere.
    found = f"it is longer than {most} bytes: {kind.upper()} uses the first {most} only"
    return [CutValue("GRAPHICS/PASSWD", ("PASSWD", password), found, f"Give one of up to {most} bytes, or none")]


def _command_line_cuts(root: str, command: str, most: int) -> list[CutValue]:
    text = " ".join(filter(None, (f"root=/dev/{root}" if root else "", command)))
    length = len(text.encode(errors="surrogatepass"))
    if not most or length <= most:
        return []
    found = f"the command line has {length} bytes with ROOT, and the kernel would read the first {most}"
    return [
        CutValue("OS/KERNEL_CMD", ("KERNEL_CMD", text), found, f"Use up to {most} bytes, as by a file in the initrd")
    ]
