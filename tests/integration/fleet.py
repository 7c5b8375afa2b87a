# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that carry out plans beside each other, as two hosts of a move do, without Ansible around them: what the tests
of moves and their faults have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes import Node as Host
from nodes import nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.answers import observed
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Ledger, LedgerVm
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import Finding
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    HAS_STAYED,
    LIVE,
    SOURCE,
    TARGET,
    Leftover,
    PlannedMove,
    owner_after,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.audit_findings import compare
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, wait_for

ROOT = "/var/lib/fleet"
CHECKOUT = Path(__file__).resolve().parents[2]
PATHS = (str(CHECKOUT / "collections"), str(CHECKOUT / "tests" / "tools"), "/usr/lib/python3/dist-packages")
MEETING, LIMIT = 5, 60
# A boot sector that says B once, then writes a running number to the serial port for ever: whoever goes on without its
# memory begins again.
COUNTING = (
    bytes.fromhex(
        "fa31c08ed8baf803b042ee31db"  # cli; ds = 0; 'B'; ebx = 0
        "43"  # next: inc bx
        "b90000"  # mov cx, 0
        "e2fe"  # loop $: a pause
        "e2fe"
        "89d8c1e80c240f0441ee"  # mov ax, bx; shr ax, 12; and al, 15; add al, 'A'; out dx, al
        "ebee"
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)

_PREPARE = """
import json, os, shutil, sys
from dataclasses import replace
from pathlib import Path
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
asked = json.load(sys.stdin)
root = Path(asked["root"])
root.mkdir(mode=0o711)
root.chmod(0o711)
chosen = {"accelerator": "qemu", "reason": "said so", "key": "set:qemu"}
node_file.update(str(root), lambda before: replace(before, accelerator=chosen))
shutil.copy(asked["image"], asked["base"])
shutil.chown(asked["base"], "root", "kvm")
os.chmod(asked["base"], 0o440)
print("{}")
"""
_APPLY = """
import json, sys
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes.node_plans import apply_plan
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
asked = json.load(sys.stdin)
try:
    result = apply_plan(asked, False)
    print(json.dumps(result.payload))
except NebulaError as error:
    print(json.dumps({"error": error.as_dict()}))
"""
_POLL = """
import json, sys
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
asked = json.load(sys.stdin)
driver = registry.open_driver(asked["hypervisor"])
print(json.dumps(to_plain(poll(driver, asked["root"], asked["host"], asked["catalog"]))))
driver.close()
"""
_AUDIT = """
import json, sys
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import observe_all
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
asked = json.load(sys.stdin)
driver = registry.open_driver(asked["hypervisor"])
print(json.dumps(to_plain(observe_all(driver, asked["root"], asked["host"], asked["catalog"]))))
driver.close()
"""
_MARK = """
import json, sys
from ansible_collections.nebula.provision.plugins.module_utils.storage import shared_datastore
asked = json.load(sys.stdin)
root = asked["root"]
print(json.dumps(shared_datastore.is_mounted(root) and shared_datastore.begin(root, asked["catalog"])))
"""


# mount(8) looks for what it mounts in the namespace of the target: open_tree(2) takes it from here.
_SHARE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
place, init, path = sys.argv[1:]
tree = libc.syscall(428, -100, place.encode(), 1 | os.O_CLOEXEC)
namespace = os.open(f"/proc/{init}/ns/mnt", os.O_RDONLY)
root = os.open(f"/proc/{init}/root", os.O_RDONLY)
if tree < 0 or libc.setns(namespace, 0x20000):
    sys.exit(os.strerror(ctypes.get_errno()))
os.fchdir(root)
os.chroot(".")
if libc.syscall(429, tree, b"", -100, path.encode(), 4):
    sys.exit(os.strerror(ctypes.get_errno()))
"""


# QEMU locks the files of its disks, so that a second machine with the same ones would not start: of what must not be
# tried at all, tests would see nothing.
_WITHOUT_LOCKS = """#!/usr/bin/python3 -I
import json, os, sys
words = sys.argv[1:]
for place, word in enumerate(words):
    if words[place - 1] == "-blockdev":
        node = json.loads(word)
        if node.get("driver") == "file":
            words[place] = json.dumps({**node, "locking": "off"})
os.execv("%(real)s", sys.argv[:1] + words)
"""
# It finds its firmware from where it is itself, so its second name is another program's in the same directory.
_QEMU, _QEMU_BESIDE = "/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-i386"


class Acting:
    """A module at work on a node, or what came of it."""

    def __init__(self, host: Host, program: str, asked: Mapping[str, Any], **environment: str) -> None:
        words = [f"{name}={value}" for name, value in {"PYTHONPATH": ":".join(PATHS), **environment}.items()]
        self.process = subprocess.Popen(
            host.within("env", *words, sys.executable, "-c", program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(dict(asked)))
        self.process.stdin.close()
        self.process.stdin = None

    def result(self, seconds: float = 240) -> dict[str, Any] | None:
        """None if it was killed."""
        out, errors = self.process.communicate(timeout=seconds)
        if self.process.returncode < 0 or self.process.returncode in (137, 143):
            return None
        assert self.process.returncode == 0, errors[-4000:]
        found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return found


class Fleet:
    """The nodes of this world, and the catalog that makes their plans. image: of the machines' disks."""

    hypervisor = "kvm"
    base = f"{ROOT}/base.qcow2"

    def __init__(self, image: str, size: int) -> None:
        self.hosts = {each.name: each for each in nodes()}
        self.catalog = str(uuid.uuid4())
        self.number = 0
        self.size = size
        self.pairs = {name: key_pair(name) for name in self.hosts}
        for host in self.hosts.values():
            Acting(host, _PREPARE, {"root": ROOT, "image": image, "base": self.base}).result()

    def vm(self, vm_id: int, **changes: Any) -> Vm:
        base = Disk(0, "vda", image="base", image_uuid="b", source=self.base, format="qcow2", size=self.size)
        vm = Vm(
            vm_id,
            str(uuid.uuid5(uuid.UUID(self.catalog), str(vm_id))),
            f"web-{vm_id}",
            "kvm",
            cpu=0.5,
            memory=32,
            os=Os(machine="pc"),
            disks=(base,),
            context=Context(disk_id=9, target="hda", variables={"HOSTNAME": f"web-{vm_id}"}),
        )
        return replace(vm, **changes)

    def next(self) -> int:
        self.number += 1
        return self.number

    def act(
        self, plans: Mapping[str, Plan], turned: Mapping[str, str] | None = None, **environment: Mapping[str, str]
    ) -> dict[str, Acting]:
        """The plans, all at the same time.
        turned: by host what makes its module another one than it is.
        environment: by host."""
        return {
            name: Acting(
                self.hosts[name], (turned or {}).get(name, "") + _APPLY, self.asked(plan), **environment.get(name, {})
            )
            for name, plan in plans.items()
        }

    def asked(self, plan: Plan) -> dict[str, Any]:
        return {
            "plan": json.dumps(to_plain(plan)),
            "host": plan.host,
            "root": ROOT,
            "hypervisor": self.hypervisor,
            "catalog": self.catalog,
            "threads": 0,
            "detach_timeout": 60,
            "restricted_dirs": [],
            "safe_dirs": [],
            "_progress_file": "",
        }

    def plan(self, host: str, *planned: PlannedVm, number: int = 0, **values: Any) -> Plan:
        certificate, key = self.pairs[host]
        number = number or self.next()
        return Plan(self.catalog, number, host, planned, certificate=certificate, key=key, **values)

    def bring(self, host: str, *vms: Vm, wanted: str = "RUNNING", **orders: Any) -> list[VmOutcome]:
        number = self.next()
        planned = [replace(PlannedVm(vm, number, wanted), **orders) for vm in vms]
        return outcomes_of(self.act({host: self.plan(host, *planned, number=number)})[host].result())

    def moves(
        self,
        source: str,
        target: str,
        *vms: Vm,
        way: str = LIVE,
        wanted: str = "RUNNING",
        limit: int = LIMIT,
        shared: bool = False,
        **orders: Any,
    ) -> dict[str, Plan]:
        """The two plans of a move; the token of a machine is told by its id and the plan."""
        number = self.next()
        address = self.hosts[target].address

        def planned(role: str, peer: str) -> list[PlannedVm]:
            return [
                replace(
                    PlannedVm(vm, number, wanted, previous=wanted),
                    move=PlannedMove(
                        token_of(vm, number),
                        role,
                        way,
                        peer,
                        address=address if role == SOURCE else "",
                        certificate=self.pairs[peer][0],
                        limit=limit,
                        meeting=MEETING,
                        shared=shared,
                    ),
                    **orders,
                )
                for vm in vms
            ]

        tokens = tuple(token_of(vm, number) for vm in vms)
        return {
            source: self.plan(source, *planned(SOURCE, target), number=number, moving=tokens),
            target: self.plan(target, *planned(TARGET, source), number=number, moving=tokens),
        }

    def ask(self, plans: Mapping[str, Plan]) -> dict[str, list[VmOutcome]]:
        """What both hosts say of the moves of these plans, of which nobody knows what came."""
        number = self.next()
        asking = {}
        for name, plan in plans.items():
            vms = [replace(each, move=replace(each.move, asks=True)) for each in plan.vms if each.move is not None]
            asking[name] = replace(plan, number=number, vms=tuple(vms), certificate="", key="")
        return {name: outcomes_of(acting.result()) for name, acting in self.act(asking).items()}

    def settle(self, plans: Mapping[str, Plan], vm: Vm, wanted: str = "RUNNING") -> str:
        """End the move of a machine as the catalog does: ask, clear what is left at the other host, and bring the
        machine up where it is. Return that host's name."""
        source, target = plans
        answers = [each.moved for found in self.ask(plans).values() for each in found if each.vm_id == vm.vm_id]
        owners = {owner_after(answer) for answer in answers} - {None}
        assert len(owners) == 1, answers
        owner = source if owners == {SOURCE} else target
        token = next(each.move.token for each in plans[source].vms if each.move and each.vm.vm_id == vm.vm_id)
        outcome = self.bring(owner, vm, wanted=wanted)[0]
        assert outcome.error is None, outcome
        other = target if owner == source else source
        leftovers = (Leftover(vm.vm_id, vm.uuid, token),)
        self.act({other: self.plan(other, leftovers=leftovers)})[other].result()
        return owner

    def poll(self, host: str) -> dict[str, Any]:
        asked = {"root": ROOT, "host": host, "catalog": self.catalog, "hypervisor": self.hypervisor}
        found = Acting(self.hosts[host], _POLL, asked).result()
        assert found is not None
        return found

    def audit(self, where: Sequence[tuple[Vm, str]]) -> list[Finding]:
        """What an audit finds by whose catalog each of these machines runs on its host, and there are no others."""
        asked = {"root": ROOT, "catalog": self.catalog, "hypervisor": self.hypervisor}
        answers = {host: Acting(node, _AUDIT, {**asked, "host": host}) for host, node in self.hosts.items()}
        machines = [LedgerVm(vm, host, "RUNNING", "RUNNING", True, self.number) for vm, host in where]
        hosts = dict.fromkeys(self.hosts, "MONITORED")
        ledger = Ledger(self.catalog, self.number, hosts=hosts, vms=tuple(machines))
        return compare(ledger, [observed.read(host, acting.result()) for host, acting in answers.items()])

    def mark(self, host: str) -> bool:
        """Have a host mark its system datastore, as where it is made ready. Return whether it did."""
        return bool(Acting(self.hosts[host], _MARK, {"root": ROOT, "catalog": self.catalog}).result())

    def states(self, host: str) -> dict[int, str]:
        return {each["vm_id"]: each["state"] for each in self.poll(host)["vms"]}

    def directory(self, host: str, vm: Vm) -> Path:
        return self.hosts[host].path(f"{ROOT}/datastores/0/{vm.vm_id}")

    def console(self, host: str, vm: Vm) -> bytes:
        try:
            return (self.directory(host, vm) / "console.log").read_bytes()
        except FileNotFoundError:
            return b""

    def wait_for_boot(self, host: str, vm: Vm, count: int = 1) -> None:
        wait_for(lambda: self.console(host, vm).count(BOOTED) >= count, f"boot {count} of machine {vm.vm_id} on {host}")

    def close(self) -> None:
        for host in self.hosts.values():
            if host.init is None:
                continue
            names = host.run("virsh", "list", "--name", "--all").stdout.split()
            for name in names:
                host.run("virsh", "destroy", name, check=False)
                host.run("virsh", "undefine", name, "--nvram", "--checkpoints-metadata", check=False)
            host.run("umount", f"{ROOT}/datastores/0", check=False)
            host.run("rm", "-rf", ROOT)


@contextmanager
def a_fleet() -> Iterator[Fleet]:
    place = Path(os.environ["NEBULA_WORLD"])
    raw, base = place / "base.raw", place / "base.qcow2"
    raw.write_bytes(COUNTING.ljust(1 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(base)], check=True)
    fleet = Fleet(str(base), 1)
    try:
        yield fleet
    finally:
        fleet.close()


def share(place: Path, hosts: Iterable[Host], path: str) -> None:
    """Have nodes see the same directory at this path, as by NFS. It goes with their mount namespaces."""
    for host in hosts:
        host.run("mkdir", "-p", path)
        program = [sys.executable, "-c", _SHARE, str(place), str(host.init), path]
        subprocess.run(program, check=True, capture_output=True)


def without_locks(host: Host) -> None:
    """Have QEMU lock no file on this node, as long as it is up."""
    wrapper = Path(os.environ["NEBULA_WORLD"], "qemu-without-locks")
    if not wrapper.exists():
        wrapper.write_text(_WITHOUT_LOCKS % {"real": _QEMU_BESIDE}, encoding="ascii")
        wrapper.chmod(0o755)
    if host.run("cmp", "-s", str(wrapper), _QEMU, check=False).returncode == 0:
        # Covered again, it would call itself for ever.
        return
    host.run("mount", "--bind", _QEMU, _QEMU_BESIDE)
    host.run("mount", "--bind", str(wrapper), _QEMU)


def is_locked(host: Host, path: str) -> bool:
    """Whether QEMU keeps others from a disk."""
    done = host.run("qemu-img", "info", path, check=False)
    assert done.returncode == 0 or "lock" in done.stderr, done
    return done.returncode != 0


def token_of(vm: Vm, number: int) -> str:
    return uuid.uuid5(uuid.UUID(vm.uuid), str(number)).hex


def outcomes_of(result: Mapping[str, Any] | None) -> list[VmOutcome]:
    assert result is not None
    assert "outcomes" in result, result
    return [from_plain(VmOutcome, each) for each in result["outcomes"]]


def key_pair(name: str) -> tuple[str, str]:
    """Certificate and key of a host, as a front-end makes them."""
    place = Path(os.environ["NEBULA_WORLD"])
    files = [str(place / f"{name}-{uuid.uuid4().hex}.{kind}") for kind in ("key", "crt")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", files[0], "-out", files[1]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return Path(files[1]).read_text(encoding="ascii"), Path(files[0]).read_text(encoding="ascii")


__all__ = ["BOOTED", "HAS_STAYED", "Acting", "Fleet", "outcomes_of"]
