# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor that has its machines in memory, and every operation of hypervisors/base.py. For tests of what stands
around a driver: it remembers what it was asked, and fails where a test wants it to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import (
    Adjusted,
    Adjustment,
    Deployment,
    Driver,
    Mark,
    Site,
    Survey,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

WHOLE = b"all of the machine's memory"


@dataclass
class Machine:
    """catalog: "" for a machine without a mark."""

    uuid: str
    catalog: str
    state: str = "POWEROFF"
    generation: int = 0
    memory: int = 0
    autostart: bool = False
    definition: str = ""


@dataclass
class MemoryDriver(Driver):
    """asked: the names of the methods that change something, in the order of the calls, each with its machine's id.
    fails: by a method's name, what it raises. foreign_memory: of machines that are not listed."""

    name = "memory"
    capabilities = Driver.OPTIONAL

    machines: dict[int, Machine] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    fails: dict[str, BaseException] = field(default_factory=dict)
    foreign_memory: int = 0
    reads_at_once: bool = True
    suspends_in_memory: bool = False
    timeouts: list[int] = field(default_factory=list)
    attended: list[int] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    adjusts: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def did(self, name: str, mark: Mark) -> None:
        with self.lock:
            self.asked.append((name, mark.vm_id))
        if name in self.fails:
            raise self.fails[name]

    def names(self) -> list[str]:
        """What was asked since the last time."""
        with self.lock:
            found = [name for name, _vm_id in self.asked]
            self.asked.clear()
            return found

    # -- the node -----------------------------------------------------------------------------------------------------
    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        return {"accelerator": "memory", "reason": "there is nothing else", "key": "1"}

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        return Overhead(fixed=10)

    @classmethod
    def capacity(cls) -> tuple[int, float]:
        return 4096, 2.0

    # -- machines -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        pass

    def render(self, vm: Vm, site: Site) -> Deployment:
        self.sites.append(site)
        text = json.dumps(to_plain(vm), sort_keys=True)
        return Deployment(text, hashlib.sha256(text.encode()).hexdigest())

    def survey(self, catalog: str) -> Survey:
        ours = {vm_id: machine for vm_id, machine in self.machines.items() if machine.catalog == catalog}
        return Survey(
            tuple(
                ObservedVm(vm_id, each.uuid, each.state, each.generation, memory=each.memory)
                for vm_id, each in sorted(ours.items())
            ),
            self.foreign_memory,
            frozenset(self.machines) - frozenset(ours),
        )

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        if "inventory" in self.fails:
            raise self.fails["inventory"]
        ours = [(vm_id, each) for vm_id, each in sorted(self.machines.items()) if each.catalog]
        foreign = [f"one-{vm_id}" for vm_id, each in sorted(self.machines.items()) if not each.catalog]
        return (
            tuple(Domain(f"one-{vm_id}", each.catalog, vm_id, each.uuid, each.state) for vm_id, each in ours),
            tuple(foreign),
        )

    def state(self, mark: Mark) -> str | None:
        if "state" in self.fails:
            raise self.fails["state"]
        machine = self.machines.get(mark.vm_id)
        if machine is not None and machine.catalog != mark.catalog:
            raise ForeignObject(f"domain one-{mark.vm_id}", "it is somebody else's")
        return None if machine is None else machine.state

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        machine = self.machines.get(mark.vm_id)
        return machine is not None and machine.catalog != mark.catalog

    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        self.did("define", mark)
        machine = self.machines.setdefault(mark.vm_id, Machine(mark.uuid, mark.catalog))
        machine.definition, machine.generation = deployment.text, mark.generation

    def start(self, mark: Mark) -> None:
        self.did("start", mark)
        self.machines[mark.vm_id].state = "RUNNING"

    def announce(self, mark: Mark) -> None:
        self.did("announce", mark)

    def attend(self, mark: Mark) -> None:
        self.attended.append(mark.vm_id)

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        self.did("change_medium", mark)
        return self.reads_at_once

    def cancel(self, mark: Mark) -> None:
        self.did("cancel", mark)
        self.machines[mark.vm_id].state = "POWEROFF"

    def remove(self, mark: Mark) -> bool:
        self.did("remove", mark)
        return self.machines.pop(mark.vm_id, None) is not None

    def starts_with_host(self, mark: Mark) -> bool | None:
        machine = self.machines.get(mark.vm_id)
        return None if machine is None else machine.autostart

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        self.did("autostart" if wanted else "no autostart", mark)
        self.machines[mark.vm_id].autostart = wanted

    # -- operations that not every hypervisor has ---------------------------------------------------------------------
    def shutdown(self, mark: Mark, timeout: int) -> None:
        self.timeouts.append(timeout)
        self.did("shutdown", mark)
        self.machines[mark.vm_id].state = "POWEROFF"

    def reboot(self, mark: Mark, timeout: int) -> None:
        self.timeouts.append(timeout)
        self.did("reboot", mark)

    def reset(self, mark: Mark) -> None:
        self.did("reset", mark)

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        self.did("suspend", mark)
        if self.suspends_in_memory:
            self.machines[mark.vm_id].state = "SUSPENDED"
            return
        Path(checkpoint).write_bytes(WHOLE)
        self.machines[mark.vm_id].state = "POWEROFF"

    def resume(self, mark: Mark, checkpoint: str) -> None:
        self.did("resume", mark)
        self.machines[mark.vm_id].state = "RUNNING"

    def checkpoint_complete(self, checkpoint: str) -> bool:
        try:
            return Path(checkpoint).read_bytes() == WHOLE
        except OSError:
            return False

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        self.did("adjust", mark)
        return Adjusted(self.adjusts)

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        self.did("copy_disk", mark)

    def snapshot_disk(self, mark: Mark, disk: Disk, tag: str, consistency: str) -> None:
        self.did(f"snapshot {tag} {consistency}".rstrip(), mark)

    def delete_disk_snapshot(self, mark: Mark, disk: Disk, tag: str) -> None:
        self.did(f"delete {tag}", mark)
