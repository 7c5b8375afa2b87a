# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's root directory with a base image, and plans for it, inside a world: what the tests of KVM have in common."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor import refuse

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import observe_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Ledger, LedgerVm
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, Plan, PlannedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.audit_findings import compare, finding_view

EMULATED = {"accelerator": "qemu", "reason": "said so", "key": "set:qemu"}
# A boot sector that sends a B to the serial port and halts: what it sent tells how often it was booted.
BOOTED = b"B"
GUEST = b"\xba\xf8\x03\xb0\x42\xee\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa"


class Node:
    """One node and its catalog. Every plan has the next number and, for its machines, that as their generation."""

    detach_timeout = 60
    kind_of_driver: Any = KvmDriver

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.catalog = str(uuid.uuid4())
        self.number = 0
        self.size = 1
        # The UUIDs of networks on Open vSwitch, by their ids.
        self.switches: dict[str, str] = {}
        self.driver: Any = self.kind_of_driver()
        # What a catalog would hold by now, by machine.
        self.ledger: dict[int, LedgerVm] = {}
        root.mkdir(mode=0o711)
        # mkdir follows the umask.
        root.chmod(0o711)
        node_file.update(self.root, lambda before: replace(before, accelerator=self.accelerator()))
        self.base = self.base_image(root)
        shutil.chown(self.base, "root", "kvm")
        os.chmod(self.base, 0o440)

    @staticmethod
    def accelerator() -> dict[str, str]:
        """As by nebula_node with accelerator: qemu. A probe in each test would take longer than all the rest."""
        return EMULATED

    @staticmethod
    def base_image(root: Path) -> str:
        """The path of the image that the machines' disks come from."""
        base = str(root / "base.qcow2")
        raw = root / "base.raw"
        raw.write_bytes(GUEST.ljust(1 << 20, b"\0"))
        subprocess.run(
            ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), base], check=True, capture_output=True
        )
        raw.unlink()
        return base

    def vm(self, vm_id: int, **changes: Any) -> Vm:
        vm = Vm(
            vm_id=vm_id,
            uuid=str(uuid.uuid5(uuid.UUID(self.catalog), str(vm_id))),
            name=f"web-{vm_id}",
            hypervisor="kvm",
            cpu=0.5,
            memory=32,
            os=Os(machine="pc"),
            disks=(
                Disk(
                    disk_id=0,
                    target="vda",
                    image="base",
                    image_uuid="b",
                    source=self.base,
                    format="qcow2",
                    size=self.size,
                ),
            ),
            context=Context(disk_id=1, target="hda", variables={"HOSTNAME": f"web-{vm_id}"}),
        )
        return replace(vm, **changes)

    def planned(self, vm: Vm, wanted: str, **orders: Any) -> PlannedVm:
        return replace(PlannedVm(vm, self.number, wanted), **orders)

    def plan(self, *vms: Vm, wanted: str = "RUNNING", **orders: Any) -> Plan:
        self.number += 1
        planned = tuple(self.planned(vm, wanted, **orders) for vm in vms)
        return Plan(self.catalog, self.number, "node", planned, switches=self.switches)

    def apply(self, plan: Plan) -> list[VmOutcome]:
        """What check mode forecasts has to be what comes, wherever nothing fails."""
        forecast = predict(plan, poll(self.driver, self.root, "node", plan.catalog), self.driver, self.root)
        outcomes = self.carry_out(plan)
        for foreseen, came in zip(forecast, outcomes):
            if came.error is None:
                assert (foreseen.vm_id, foreseen.state, foreseen.changed) == (came.vm_id, came.state, came.changed)
        return outcomes

    def carry_out(self, plan: Plan) -> list[VmOutcome]:
        outcomes = Batch(plan, self.driver, self.root, detach_timeout=self.detach_timeout).apply()
        for planned, outcome in zip(plan.vms, outcomes):
            # As the catalog takes it over: what went wrong leaves the machine as it is.
            state = outcome.state
            settled = outcome.error is None or (outcome.error["kind"] != "StalePlan" and planned.wanted != "DONE")
            wanted = planned.wanted if outcome.error is None else state
            self.ledger[outcome.vm_id] = LedgerVm(planned.vm, "node", state, wanted, settled, planned.generation)
        return outcomes

    def assert_consistent(self) -> None:
        """Nothing on the node but what the plans carried out here asked for."""
        vms = tuple(each for each in self.ledger.values() if each.state != "DONE")
        ended = frozenset(vm_id for vm_id, each in self.ledger.items() if each.state == "DONE")
        ledger = Ledger(self.catalog, self.number, hosts={"node": "MONITORED"}, vms=vms, ended=ended)
        found = compare(ledger, [observe_all(self.driver, self.root, "node", self.catalog)])
        refuse([finding_view(finding) for finding in found])

    def bring(self, *vms: Vm, wanted: str = "RUNNING", **orders: Any) -> list[VmOutcome]:
        return self.apply(self.plan(*vms, wanted=wanted, **orders))

    def one(self, vm: Vm, wanted: str = "RUNNING", **orders: Any) -> VmOutcome:
        return self.bring(vm, wanted=wanted, **orders)[0]

    def observed(self) -> Observed:
        return poll(self.driver, self.root, "node")

    def states(self) -> dict[int, str]:
        return {seen.vm_id: seen.state for seen in self.observed().vms}

    def directory(self, vm: Vm) -> Path:
        return Path(self.root, "datastores", "0", str(vm.vm_id))

    def domain(self, vm: Vm) -> Any:
        return self.driver._connection().lookupByName(f"one-{vm.vm_id}")

    def qemu(self, vm: Vm) -> int:
        return int(Path(f"/run/libvirt/qemu/one-{vm.vm_id}.pid").read_text(encoding="ascii"))

    def boots(self, vm: Vm) -> int:
        """How often the guest said that it was booted."""
        try:
            return (self.directory(vm) / "console.log").read_bytes().count(BOOTED)
        except FileNotFoundError:
            return 0

    def take(self, image: str) -> None:
        """Another base image: where QEMU's user may read it, as in a datastore."""
        shutil.copy(image, self.base)
        shutil.chown(self.base, "root", "kvm")
        os.chmod(self.base, 0o440)
        info = subprocess.run(["qemu-img", "info", "--output=json", image], check=True, capture_output=True)
        self.size = -(-int(json.loads(info.stdout)["virtual-size"]) // (1 << 20))

    def console(self, vm: Vm) -> str:
        try:
            return (self.directory(vm) / "console.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_boots(self, vm: Vm, count: int) -> None:
        wait_for(lambda: self.boots(vm) >= count, f"boot {count} of machine {vm.vm_id}")
        assert self.boots(vm) == count

    def close(self) -> None:
        connection = self.driver._connection()
        for domain in connection.listAllDomains():
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                # VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA, of backups, and VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA.
                domain.undefineFlags(1 << 4 | 1 << 1 if self.driver.name == "kvm" else 0)
        self.driver.close()
        shutil.rmtree(self.root)


@contextmanager
def a_node(audited: bool = True) -> Iterator[Node]:
    """audited: the test leaves nothing behind that no plan asked for, and nothing broken."""
    node = Node(Path(os.environ["NEBULA_WORLD"], f"node-{uuid.uuid4().hex[:8]}"))
    try:
        yield node
        if audited:
            node.assert_consistent()
    finally:
        node.close()


def stop_libvirtd() -> None:
    """End the daemon of this world."""

    def running() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (path / "comm").read_text(encoding="ascii") == "libvirtd\n" and (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    for pid in running():
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not running(), "the end of libvirtd")


def start_libvirtd(node: Node) -> None:
    """Start another in this world, whose init reaps it, and have the node's driver ask it."""
    # It returns when the daemon answers.
    subprocess.run(["libvirtd", "--daemon"], check=True, timeout=60)
    # The connection is found dead by its first use only.
    with suppress(HypervisorError):
        node.observed()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    limit = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
