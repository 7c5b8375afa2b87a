#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of Xen that carries out one plan with one machine, in its dom0, as root:

    PYTHONPATH=COLLECTIONS xen_migration.py DEMO KIND < PLAN     the machine's outcome, as a line of JSON

DEMO has the guest's kernel, initrd and disk. PLAN is JSON: root, number, certificate, key, and what PlannedVm has
besides its machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.registry import open_driver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import PlannedMove
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

BRIDGE = "nbrmove0"
CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
KINDS = ("pv", "pvh", "hvm")
COMMAND_LINE = "console=hvc0 quiet net.ifnames=0 mitigations=off"


def machine(kind: str, demo: Path) -> Vm:
    vm_id = KINDS.index(kind) + 1
    boot = Os(machine=f"xen{kind}", kernel=str(demo / "kernel"), initrd=str(demo / "initrd"), kernel_cmd=COMMAND_LINE)
    disk = Disk(0, "xvda", type="FS", size=8, bus="xen", format="raw", driver="raw")
    if kind == "hvm":
        boot = Os()
        disk = Disk(
            0,
            "xvda",
            image_id=1,
            image_uuid="demo",
            source=str(demo / "image"),
            bus="xen",
            format="qcow2",
            driver="raw",
        )
    nic = Nic(0, 0, "moves", bridge=BRIDGE, mac=f"02:00:0a:42:{vm_id:02x}:00", target=f"one-{vm_id}-0")
    # By IDE, each word that its firmware reads is a trap into an emulated hypervisor.
    raw = {"xen": "hdtype = 'ahci'"} if kind == "hvm" else {}
    uuid = f"5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d{vm_id:02x}"
    return Vm(vm_id, uuid, kind, "xen", cpu=0.5, memory=160, os=boot, disks=(disk,), nics=(nic,), raw=raw)


def have_bridge() -> None:
    if not Path("/sys/class/net", BRIDGE).exists():
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


def apply(demo: Path, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    own = {key: given.pop(key) for key in ("root", "number", "certificate", "key")}
    move = given.pop("move", None)
    moving = (move["token"],) if move else ()
    planned = PlannedVm(machine(kind, demo), move=PlannedMove(**move) if move else None, **given)
    plan = Plan(
        CATALOG, own["number"], "here", (planned,), certificate=own["certificate"], key=own["key"], moving=moving
    )
    node_file.update(own["root"], lambda before: before)
    (outcome,) = Batch(plan, open_driver("xen"), own["root"]).apply()
    found: dict[str, Any] = to_plain(outcome)
    return found


def main(demo: str, kind: str) -> None:
    have_bridge()
    print(json.dumps(apply(Path(demo), kind, json.load(sys.stdin))))


if __name__ == "__main__":
    main(*sys.argv[1:])
