# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs machines. One interface; rendering is pure, acting is thin."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Callable, FrozenSet, List, Mapping, Optional, Tuple

from ..model.plan import ObservedVm
from ..model.vm import Vm

Log = Callable[[str, str, str], None]
"""component (DIM, LCM, VMM, TM), level (I, W, E), text: a line of vm.log."""


@dataclass(frozen=True)
class Mark:
    """What makes a machine ours: kept by the hypervisor with the machine itself (domain metadata)."""

    catalog: str
    vm_id: int
    generation: int = 0
    definition: str = ""


@dataclass(frozen=True)
class DiskFiles:
    """Where a disk of a machine really is on the node. path: the file the hypervisor opens;
    backing: the chain below it, nearest first, as (path, format)."""

    path: str
    format: str
    backing: Tuple[Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Site:
    """What rendering needs to know of the node and the machine's directory. accelerator: "kvm", or "qemu" for emulation.
    disks: by disk id, the context's included."""

    directory: str
    catalog: str
    generation: int
    disks: Mapping[int, DiskFiles]
    accelerator: str = "qemu"
    emulator: str = "/usr/bin/qemu-system-x86_64"


class Driver(abc.ABC):
    """A hypervisor on this node. capabilities: the operations it has; others raise Unsupported by name, beforehand.

    States are given as model.states names: RUNNING, POWEROFF, SUSPENDED, UNKNOWN. All methods are called from
    several threads at once, for different machines.
    """

    name: str = ""
    capabilities: FrozenSet[str] = frozenset()

    @abc.abstractmethod
    def render(self, vm: Vm, site: Site) -> str:
        """The deployment file; pure."""

    @abc.abstractmethod
    def list(self, catalog: str) -> List[ObservedVm]:
        """The machines of this catalog, whatever their state. Those of others are never touched, nor listed."""

    @abc.abstractmethod
    def foreign_memory(self, catalog: str) -> int:
        """MiB held by running machines that are not this catalog's."""

    @abc.abstractmethod
    def state(self, mark: Mark) -> Optional[str]:
        """None: it has no such machine. Raises ForeignObject if the name is somebody else's."""

    @abc.abstractmethod
    def define(self, vm: Vm, deployment: str, mark: Mark) -> bool:
        """Make the machine's definition this one; True if that changed something."""

    @abc.abstractmethod
    def start(self, mark: Mark) -> None: ...

    @abc.abstractmethod
    def shutdown(self, mark: Mark, timeout: int) -> None:
        """Press the power button and wait; TimedOut if the guest does not obey within `timeout` s (it runs on)."""

    @abc.abstractmethod
    def cancel(self, mark: Mark) -> None:
        """Pull the plug."""

    @abc.abstractmethod
    def reboot(self, mark: Mark, timeout: int) -> None: ...

    @abc.abstractmethod
    def reset(self, mark: Mark) -> None: ...

    @abc.abstractmethod
    def suspend(self, mark: Mark, checkpoint: str) -> None:
        """Save the running machine to the checkpoint file and end it."""

    @abc.abstractmethod
    def resume(self, mark: Mark, checkpoint: str) -> None: ...

    @abc.abstractmethod
    def remove(self, mark: Mark) -> bool:
        """End it at once and forget it with saved state, NVRAM and snapshots; True if there was something."""
