# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a QEMU process takes beside its guest's memory: the table on which Driver.overhead() rests. Root.

    tests/tools/world.py .venv/bin/python benchmarks/overhead.py [--seconds 20] [--only busy]

Each machine is defined by our own driver and started by libvirt. Its memory is a memfd, so that the rest of the
process is what /proc/PID/smaps has without that (proportional set size: what processes share is shared). "halts" stops
with its first instruction. "busy" is overhead.s: it takes from an emulator what can be taken. With accelerator kvm, the
guest may hang where KVM does; the process is measured all the same.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "tools")]
sys.path.append("/usr/lib/python3/dist-packages")

from measure import MeasurementFailed  # noqa: E402

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os, Vm  # noqa: E402
from ansible_collections.nebula.provision.tests.integration import kvm_node  # noqa: E402

MEMFD = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
HALTS = b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa"
MIB = 1 << 20
# Where memory ends below 4 GiB on machine q35.
LOW = 2048
# (guest, accelerator, machine, MiB, virtual processors, VNC)
CASES = [
    *(("halts", accel, "q35", memory, 1, True) for accel in ("kvm", "qemu") for memory in (64, 512, 2048, 4096)),
    ("halts", "kvm", "pc", 512, 1, False),
    ("halts", "qemu", "pc", 512, 1, False),
    ("halts", "kvm", "q35", 512, 8, True),
    ("halts", "qemu", "q35", 512, 8, True),
    ("busy", "qemu", "q35", 64, 1, True),
    ("busy", "qemu", "q35", 512, 1, True),
    ("busy", "qemu", "q35", 2048, 1, True),
]  # fmt: skip


def guest(kind: str, memory: int, place: Path) -> bytes:
    if kind == "halts":
        return HALTS
    top = min(memory, LOW) * MIB - MIB
    source, built, flat = ROOT / "benchmarks" / "overhead.s", place / "busy.o", place / "busy.bin"
    subprocess.run(["as", "--32", f"--defsym=TOP={top:#x}", "-o", built, source], check=True)
    subprocess.run(["objcopy", "-O", "binary", built, flat], check=True)
    return flat.read_bytes().ljust(510, b"\0") + b"\x55\xaa"


def overhead(pid: int) -> tuple[float, float, float]:
    """MiB of the process without its guest's memory; of the guest's; of the largest other mapping."""
    rest = inside = largest = 0.0
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            name = line
        elif line.startswith("Pss:"):
            size = int(line.split()[1]) / 1024
            if "memfd:" in name:
                inside += size
            else:
                rest += size
                largest = max(largest, size)
    # Page tables are the kernel's, and the host's memory all the same.
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    tables = re.search(r"VmPTE:\s+(\d+) kB", status)
    return rest + (int(tables[1]) / 1024 if tables else 0), inside, largest


def start(node: kvm_node.Node, vm_id: int, case: tuple[Any, ...]) -> Vm:
    kind, accelerator, machine, memory, vcpu, vnc = case
    chosen = {"accelerator": accelerator, "reason": "said so", "key": f"set:{accelerator}"}
    node_file.update(node.root, lambda before: replace(before, accelerator=chosen))
    image = Path(node.root) / "guest.raw"
    image.write_bytes(guest(kind, memory, Path(node.root)).ljust(MIB, b"\0"))
    node.take(str(image))
    vm: Vm = node.vm(vm_id, memory=memory, vcpu=vcpu, os=Os(machine=machine), raw={"kvm": MEMFD})
    vm = replace(vm, disks=tuple(replace(disk, format="raw") for disk in vm.disks))
    vm = replace(vm, context=replace(vm.context, target="hda" if machine == "pc" else "sda"))
    if vnc:
        vm = replace(vm, graphics=Graphics(port=5900 + vm_id))
    (outcome,) = node.carry_out(node.plan(vm))
    if outcome.error:
        raise MeasurementFailed(str(outcome.error))
    return vm


def measure(node: kvm_node.Node, vm_id: int, case: tuple[Any, ...], seconds: float) -> str:
    kind, accelerator, machine, memory, vcpu, vnc = case
    vm = start(node, vm_id, case)
    pid = node.qemu(vm)
    most, limit = (0.0, 0.0, 0.0), time.monotonic() + (seconds if kind == "busy" else 2)
    while time.monotonic() < limit:
        time.sleep(0.5)
        most = max(most, overhead(pid))
    rounds = node.boots(vm)
    node.carry_out(node.plan(vm, wanted="DONE", hard=True))
    return (
        f"{kind:6} {accelerator:5} {machine:4} {memory:5} {vcpu:4} {'yes' if vnc else 'no':3} "
        f"{most[0]:9.1f} {most[1]:9.1f} {most[2]:9.1f} {rounds:6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=20, help="how long a busy guest is given")
    parser.add_argument("--only", default="", help="cases whose words begin so, as in 'busy qemu'")
    options = parser.parse_args()
    if "NEBULA_WORLD" not in os.environ:
        parser.error("run it in a world: tests/tools/world.py .venv/bin/python benchmarks/overhead.py")
    print("guest  accel mach   MiB vcpu vnc  overhead     guest   largest rounds")
    with kvm_node.a_node() as node:
        for vm_id, case in enumerate(CASES):
            if " ".join(map(str, case)).startswith(options.only):
                print(measure(node, vm_id, case, options.seconds), flush=True)


if __name__ == "__main__":
    main()
