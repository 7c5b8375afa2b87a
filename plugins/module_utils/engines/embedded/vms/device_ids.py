# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks and NICs that come to a machine that is there, or go: whose each is, by the ids that they keep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Optional

from ....dataclass import dataclass
from ....model import device_matching
from ....model.changes import paired
from ....model.device_matching import DISK, NIC
from ....model.instantiate.build import Kept
from ....model.nic import Nic
from ....model.plain import to_plain
from ....model.template import Template
from ....model.vm import Vm
from ..store import Store

# What names the network of a NIC.
_NETWORK = ("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID")


@dataclass(frozen=True)
class Devices:
    """What becomes of the disks and NICs of a machine. kept: disks and context that stay. new_disks: of those that
    come, the id by number of DISK. nics: by number of NIC, those that stay; new_nics: of the others, the id.
    gone_disks, gone_nics: ids. grown: by id of disks that stay, the MB that they are to have."""

    kept: Kept
    new_disks: Mapping[int, int]
    nics: Mapping[int, Nic]
    new_nics: Mapping[int, int]
    gone_disks: tuple[int, ...]
    gone_nics: tuple[int, ...]
    grown: Mapping[int, int] = field(default_factory=dict)


def compare(vm: Vm, old: Template, new: Template, next_disk: int) -> Devices:
    """What becomes of the disks and NICs of a machine whose template is changed from `old` to `new`. next_disk: an id
    that no disk of the machine, and no file that it uses, ever had."""
    has = has_of(to_plain(vm))
    disks, nics = (paired(name, old, new, has) for name in (DISK, NIC))
    kept = tuple(None if index is None else vm.disks[index] for index in disks.stays)
    coming_disks = [number for number, index in enumerate(disks.stays) if index is None]
    coming_nics = [number for number, index in enumerate(nics.stays) if index is None]
    first = max([vm.next_nic, *(nic.nic_id + 1 for nic in vm.nics)], default=0)
    return Devices(
        kept=Kept(kept, vm.context, next_disk, disks.moved),
        new_disks={number: next_disk + place for place, number in enumerate(coming_disks)},
        nics={number: vm.nics[index] for number, index in enumerate(nics.stays) if index is not None},
        new_nics={number: first + place for place, number in enumerate(coming_nics)},
        gone_disks=tuple(vm.disks[index].disk_id for index in disks.gone),
        gone_nics=tuple(vm.nics[index].nic_id for index in nics.gone),
        grown={disk.disk_id: disks.grown[n] for n, disk in enumerate(kept) if disk is not None and n in disks.grown},
    )


def nics_anew(
    vm: Vm, old: Template, new: Template, networks: Sequence[int]
) -> tuple[dict[int, Nic], dict[int, int], tuple[int, ...]]:
    """What becomes of the NICs of a machine that is made anew: by number of NIC, those that it keeps; of the others,
    the id; ids of those that go. networks: ids of those that its new NICs are of. As nothing is left of its domain,
    what goes leaves its id to what comes."""
    had = [nic.network_id for nic in vm.nics]
    pairing = paired(NIC, _by_ids(old, had), _by_ids(new, networks), has_of(to_plain(vm)))
    there = {number: vm.nics[index] for number, index in enumerate(pairing.stays) if index is not None}
    used = {nic.nic_id for nic in there.values()}
    free = (nic_id for nic_id in itertools.count() if nic_id not in used)
    coming = {number: next(free) for number, index in enumerate(pairing.stays) if index is None}
    return there, coming, tuple(vm.nics[index].nic_id for index in pairing.gone)


def _by_ids(template: Template, networks: Sequence[Optional[int]]) -> Template:
    """With networks named by their ids alone: these may be called otherwise by now."""
    vectors = [
        {**{key: text for key, text in vector.items() if key not in _NETWORK}, "NETWORK_ID": str(network_id)}
        for vector, network_id in zip(template.vectors("NIC"), networks)
    ]
    return template.with_vectors("NIC", vectors)


def next_disk(store: Store, vm: Vm) -> int:
    """An id that is no disk's, no file's (kernel, initrd) and not the context's, and never was."""
    used = store.rows("SELECT max(disk_id) FROM vm_images WHERE vm_id = ?", vm.vm_id)[0][0]
    ids = [disk.disk_id for disk in vm.disks] + ([vm.context.disk_id] if vm.context is not None else [])
    return max([vm.next_disk, -1 if used is None else used + 1, *(number + 1 for number in ids)], default=0)


def has_of(body: Mapping[str, Any]) -> dict[str, tuple[device_matching.Has, ...]]:
    """What a machine has, by the catalog's plain form of it."""
    return device_matching.has_of(body.get("disks", ()), body.get("nics", ()))
