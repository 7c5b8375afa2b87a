# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a host: a node as the front-end knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from . import defaults
from .states import HostState
from .transfer import SHARED


@dataclass(frozen=True)
class Overhead:
    """Describes what a machine takes of its host beside its own memory, as its hypervisor says: fixed MiB, MiB for each
    virtual processor (vcpu), and a share of the machine's memory."""

    fixed: float = 0.0
    vcpu: float = 0.0
    share: float = 0.0

    def of(self, memory: int, vcpu: int | None) -> int:
        return math.ceil(self.fixed + self.vcpu * (vcpu or 1) + self.share * memory)


@dataclass(frozen=True)
class Host:
    """Describes a host.
    memory, reserved_memory: MiB.
    cpu: processors.
    memory_used, cpu_used: what its machines were promised.
    overhead_used: what their hypervisor takes besides, by `overhead`.
    memory_overcommit, cpu_overcommit: factors on what may be promised (1.0: memory is never promised twice).
    transfer: how files of images get there, by model/transfer.py."""

    id: Optional[int]
    name: str
    hypervisor: str = "kvm"
    state: HostState = HostState.INIT
    memory: int = 0
    cpu: float = 0.0
    reserved_memory: int = 0
    memory_overcommit: float = defaults.MEMORY_OVERCOMMIT
    cpu_overcommit: float = defaults.CPU_OVERCOMMIT
    memory_used: int = 0
    overhead: Overhead = Overhead()
    overhead_used: int = 0
    cpu_used: float = 0.0
    vms: int = 0
    transfer: str = SHARED
    attributes: Mapping[str, str] = field(default_factory=dict)
