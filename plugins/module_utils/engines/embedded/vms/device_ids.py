# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Matches disks, NICs and aliases that come to a machine that is there, or go, with the ids that they keep."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from ....dataclass import dataclass
from ....model import device_matching
from ....model.dataclass_json import to_plain
from ....model.device_matching import ALIAS, DISK, NIC, MachineDevice, Pairing
from ....model.instantiate.build import KeptDevices
from ....model.nic import Alias, Nic
from ....model.template import Template
from ....model.template_changes import pair_devices
from ....model.vm import Vm
from ..store import Store

# What names the network of a NIC.
_NETWORK = ("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID")


@dataclass(frozen=True)
class Interfaces:
    """Says what becomes of the NICs of a machine, and of their aliases.
    nics, aliases: by number in the template, those that stay. new_nics, new_aliases: of the others, the id.
    gone: ids of those that go, of both kinds."""

    nics: Mapping[int, Nic]
    new_nics: Mapping[int, int]
    aliases: Mapping[int, Alias] = field(default_factory=dict)
    new_aliases: Mapping[int, int] = field(default_factory=dict)
    gone: tuple[int, ...] = ()


@dataclass(frozen=True)
class Devices:
    """Says what becomes of the disks and NICs of a machine.
    kept: disks and context that stay. new_disks: of disks that come, the id by number of DISK. gone_disks: ids.
    grown: by id of disks that stay, the MB that they are to have."""

    kept: KeptDevices
    new_disks: Mapping[int, int]
    interfaces: Interfaces
    gone_disks: tuple[int, ...]
    grown: Mapping[int, int] = field(default_factory=dict)


def compare(
    vm: Vm, old: Template, new: Template, next_disk: int, has: Mapping[str, Sequence[MachineDevice]]
) -> Devices:
    """Return what becomes of the disks and NICs of a machine whose template is changed from `old` to `new`. next_disk:
    an id that no disk of the machine, and no file that it uses, ever had. has: devices_of() it."""
    old = _without_unused_aliases(vm, old)
    disks, nics, aliases = (pair_devices(name, old, new, has) for name in (DISK, NIC, ALIAS))
    kept = tuple(None if index is None else vm.disks[index] for index in disks.stays)
    coming_disks = [number for number, index in enumerate(disks.stays) if index is None]
    first = max([vm.next_nic, *(each.nic_id + 1 for each in vm.nics_and_aliases)], default=0)
    return Devices(
        kept=KeptDevices(kept, vm.context, next_disk, disks.moved),
        new_disks={number: next_disk + place for place, number in enumerate(coming_disks)},
        interfaces=_interfaces(vm, nics, aliases, itertools.count(first)),
        gone_disks=tuple(vm.disks[index].disk_id for index in disks.gone),
        grown={disk.disk_id: disks.grown[n] for n, disk in enumerate(kept) if disk is not None and n in disks.grown},
    )


def nics_anew(
    vm: Vm, old: Template, new: Template, networks: Sequence[int], of_aliases: Sequence[int] = ()
) -> Interfaces:
    """Return what becomes of the NICs of a machine that is made anew. As nothing is left of its domain, each that goes
    leaves its id to one that comes. networks: ids of the networks of its new NICs; of_aliases: of its new aliases."""
    has = devices_of(vm)
    old = _without_unused_aliases(vm, old)
    nics, aliases = (
        pair_devices(
            name,
            _with_network_ids(old, name, [each.network_id for each in had]),
            _with_network_ids(new, name, ids),
            has,
        )
        for name, had, ids in ((NIC, vm.nics, networks), (ALIAS, vm.aliases, of_aliases))
    )
    used = {vm.nics[index].nic_id for index in nics.stays if index is not None}
    used |= {vm.aliases[index].nic_id for index in aliases.stays if index is not None}
    return _interfaces(vm, nics, aliases, (nic_id for nic_id in itertools.count() if nic_id not in used))


def _without_unused_aliases(vm: Vm, template: Template) -> Template:
    """Return the template without aliases if the machine was made when nothing acted on them."""
    return template if len(template.vectors(ALIAS)) == len(vm.aliases) else template.without(ALIAS)


def _interfaces(vm: Vm, nics: Pairing, aliases: Pairing, free: Iterator[int]) -> Interfaces:
    """Return what becomes of the NICs and aliases. free: ids for those that come, NICs first."""
    return Interfaces(
        nics={number: vm.nics[index] for number, index in enumerate(nics.stays) if index is not None},
        new_nics={number: next(free) for number, index in enumerate(nics.stays) if index is None},
        aliases={number: vm.aliases[index] for number, index in enumerate(aliases.stays) if index is not None},
        new_aliases={number: next(free) for number, index in enumerate(aliases.stays) if index is None},
        gone=(*(vm.nics[index].nic_id for index in nics.gone), *(vm.aliases[index].nic_id for index in aliases.gone)),
    )


def _with_network_ids(template: Template, name: str, networks: Sequence[int | None]) -> Template:
    """Return the template with networks named by their ids alone: they may have other names by now."""
    vectors = [
        {**{key: text for key, text in vector.items() if key not in _NETWORK}, "NETWORK_ID": str(network_id)}
        for vector, network_id in zip(template.vectors(name), networks)
    ]
    return template.with_vectors(name, vectors)


def next_disk(store: Store, vm: Vm) -> int:
    """Return an id that is no disk's, no file's (kernel, initrd) and not the context's, and never was."""
    used = store.rows("SELECT max(disk_id) FROM vm_images WHERE vm_id = ?", vm.vm_id)[0][0]
    ids = [disk.disk_id for disk in vm.disks] + ([vm.context.disk_id] if vm.context is not None else [])
    return max([vm.next_disk, -1 if used is None else used + 1, *(number + 1 for number in ids)], default=0)


def devices_of(vm: Vm) -> dict[str, tuple[MachineDevice, ...]]:
    """Return what a machine has."""
    held = {disk_id for snapshot in vm.system_snapshots for disk_id in snapshot.disks}
    disks, nics, aliases = ([to_plain(device) for device in some] for some in (vm.disks, vm.nics, vm.aliases))
    return device_matching.machine_devices(disks, nics, aliases, held)


def has_of(body: Mapping[str, Any]) -> dict[str, tuple[MachineDevice, ...]]:
    """Return what a machine has, by the catalog's plain form of it."""
    held = {disk_id for snapshot in body.get("system_snapshots", ()) for disk_id in snapshot["disks"]}
    return device_matching.machine_devices(body.get("disks", ()), body.get("nics", ()), body.get("aliases", ()), held)
