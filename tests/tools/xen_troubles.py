#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a Xen host, and is to be told and cleared away. Runs in dom0, as root:

    PYTHONPATH=COLLECTIONS xen_troubles.py DEMO [NAME...]      a line of JSON for each: trouble, said, error

`said` is what a person reads; `error` what should have been otherwise. After each of them nothing of the machine is
left: no domain, loop device, interface, or backend in xenstore."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from xen_operations import SECONDS, Guest, bridge

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import driver, log_limits, xl
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles

# As the scripts of Xen's interfaces say that they failed.
VIF = """#!/bin/sh
xenstore-write "$XENBUS_PATH/hotplug-error" 'no such VLAN here' "$XENBUS_PATH/hotplug-status" error
exit 1
"""
HOLDER = "import fcntl, signal; fcntl.lockf(0, fcntl.LOCK_EX); print(1, flush=True); signal.pause()"
NOT_A_KERNEL = b"no kernel at all\n" * 4096
STARTED: list[Guest] = []


class Trouble(Guest):
    def __init__(self, demo: Path, vm_id: int = 1, kind: str = "pv") -> None:
        super().__init__(kind, demo, Path(tempfile.mkdtemp(prefix="trouble-", dir="/var/tmp")), vm_id)
        self.demo = demo
        STARTED.append(self)

    def refused(self, doing: Callable[[], object], *words: str) -> str:
        """What it said, which has all the words, in any case."""
        try:
            doing()
        except NebulaError as error:
            said = str(error)
            missing = [word for word in words if word.lower() not in said.lower()]
            assert not missing, f"{missing} not in: {said}"
            return said
        raise AssertionError("it was not refused")

    def start_it(self) -> None:
        self.define()
        self.driver.start(self.mark)


def memory(demo: Path) -> str:
    guest = Trouble(demo)
    guest.vm = replace(guest.vm, memory=16384)
    return guest.refused(guest.start_it, "virtual machine 1", "MiB to give", "less MEMORY")


def processors(demo: Path) -> str:
    guest = Trouble(demo)
    guest.vm = replace(guest.vm, vcpu=64)
    return guest.refused(guest.start_it, "64 VCPU", "Ask for fewer")


def no_bridge(demo: Path) -> str:
    guest = Trouble(demo)
    guest.vm = replace(guest.vm, nics=(replace(guest.nic(0), bridge="nbrnone"),))
    return guest.refused(guest.start_it, "no bridge nbrnone", "nebula.provision.network")


def no_kernel(demo: Path) -> str:
    guest = Trouble(demo)
    guest.vm = replace(guest.vm, os=replace(guest.vm.os, kernel="/boot/none"))
    return guest.refused(guest.start_it, "/boot/none", "OS KERNEL")


def not_a_kernel(demo: Path) -> str:
    guest = Trouble(demo)
    path = guest.directory / "kernel"
    path.write_bytes(NOT_A_KERNEL)
    guest.vm = replace(guest.vm, os=replace(guest.vm.os, kernel=str(path)))
    return guest.refused(guest.start_it, "OS KERNEL")


def no_disk(demo: Path) -> str:
    guest = Trouble(demo)
    (guest.directory / "disk.0").unlink()
    return guest.refused(guest.start_it, "disk.0", "recreate: true")


def held_disk(demo: Path) -> str:
    """By a domain that is not ours: what both write would be lost."""
    holder, guest = Trouble(demo, 2), Trouble(demo)
    guest.site = replace(guest.site, disks={0: holder.site.disks[0]})
    holder.start_it()
    said = guest.refused(guest.start_it, "disk.0", "End the other domain")
    assert holder.listed() is not None, "it ended the other"
    return said


def failing_script(demo: Path) -> str:
    """The domain is there, and its interface never comes."""
    guest = Trouble(demo)
    script = guest.directory / "vif"
    script.write_text(VIF)
    script.chmod(0o755)
    guest.vm = replace(guest.vm, nics=(replace(guest.nic(0), options={"SCRIPT": str(script)}),))
    return guest.refused(guest.start_it, "no such VLAN here", "xen-hotplug.log")


def nonsense(demo: Path) -> str:
    guest = Trouble(demo)
    guest.vm = replace(guest.vm, raw={"xen": "bootloader = ["})
    return guest.refused(guest.start_it, "virtual machine 1")


@contextlib.contextmanager
def theirs(guest: Trouble) -> Iterator[Callable[[], None]]:
    """What makes somebody's own domain, of a name as ours have. It must still be there at the end."""
    config = guest.directory / "theirs.cfg"
    lines = [f"name = '{guest.name}'", f"kernel = '{guest.demo / 'kernel'}'", "memory = 128", "vcpus = 1"]
    config.write_text("\n".join(lines) + "\n")
    made = []

    def make() -> None:
        subprocess.run(["xl", "create", "-p", str(config)], check=True, capture_output=True)
        made.append(guest.listed())

    try:
        yield make
        assert made and made[0] is not None and guest.listed() == made[0], (made, guest.listed())
    finally:
        subprocess.run(["xl", "destroy", guest.name], check=bool(made), capture_output=True)


def foreign_name(demo: Path) -> str:
    guest = Trouble(demo, 3)
    with theirs(guest) as make:
        make()
        said = guest.refused(guest.define, "another UUID", "will not be touched")
        guest.refused(lambda: guest.driver.remove(guest.mark), "another UUID")
        guest.refused(lambda: guest.driver.cancel(guest.mark))
        assert not (driver.DEFINITIONS / f"{guest.name}.cfg").exists(), "its name was taken"
    return said


def foreign_name_meanwhile(demo: Path) -> str:
    """Somebody takes the name after it was looked for and before xl makes the domain."""
    guest = Trouble(demo, 3)
    guest.define()
    with theirs(guest) as make:
        guest.driver._tool.wait_for_lock = lambda _asked: make()
        return guest.refused(lambda: guest.driver.start(guest.mark), guest.name, "will not be touched")


def foreign_file(demo: Path) -> str:
    guest = Trouble(demo, 3)
    path = driver.DEFINITIONS / f"{guest.name}.cfg"
    path.write_text("name = 'somebody'\n")
    try:
        said = guest.refused(guest.define, "no mark of ours", "will not be touched")
        guest.refused(lambda: guest.driver.remove(guest.mark), "no mark of ours")
        assert path.read_text() == "name = 'somebody'\n"
        return said
    finally:
        path.unlink()


def lock_held(demo: Path) -> str:
    guest = Trouble(demo)
    guest.define()
    wait, xl.Tool.wait_for_lock.__defaults__ = xl.Tool.wait_for_lock.__defaults__, (2.0,)
    with xl.LOCK.open("a") as file:
        holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=file, stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None and holder.stdout.readline()
            return guest.refused(lambda: guest.driver.start(guest.mark), f"process {holder.pid}", f"kill {holder.pid}")
        finally:
            holder.kill()
            holder.wait()
            xl.Tool.wait_for_lock.__defaults__ = wait


def without_xen(demo: Path) -> str:
    """The same host, as a kernel that was booted without Xen shows itself."""
    program = (
        "from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.driver import XenDriver\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError\n"
        "try:\n    XenDriver()\nexcept NebulaError as error:\n    print(error)\n"
    )
    hide = 'mount -t tmpfs none /proc/xen && exec python3 -c "$0"'
    told = subprocess.run(["unshare", "--mount", "sh", "-c", hide, program], check=True, capture_output=True, text=True)
    assert "booted without Xen" in told.stdout and "xen-system-amd64" in told.stdout, told.stdout
    return told.stdout


def deaf(demo: Path) -> str:
    """A guest whose first program is a shell: nobody there switches it off."""
    guest = Trouble(demo)
    command = guest.vm.os.kernel_cmd + " rdinit=/bin/sh"
    guest.vm = replace(guest.vm, os=replace(guest.vm.os, kernel_cmd=command))
    guest.start_it()
    guest.wait_for("its shell", lambda: "#" in guest.said())
    said = guest.refused(lambda: guest.driver.shutdown(guest.mark, 15), "within 15 s", "it runs on", "hard: true")
    assert guest.listed() is not None
    return said


def flood(demo: Path) -> str:
    """A guest that says more than there is room for. It is heard all the time, in the same file; the host was prepared
    as role node does it."""
    changes = Changes(False)
    log_limits.prepare(changes)
    assert not changes.after, changes.after
    guest = Trouble(demo)
    guest.start_it()
    domain = guest.listed()
    assert domain is not None
    log = guest.directory / "console.log"
    guest.wait_for("its first words", lambda: bool(guest.said()))
    # As xenconsoled writes, behind the end.
    with log.open("ab") as file:
        file.write(b"flood\n" * (log_limits.LIMIT // 4))
    guest.wait_for("a small file", lambda: log.stat().st_size < log_limits.LIMIT)
    subprocess.run(["xl", "sysrq", str(domain.domid), "h"], check=True, capture_output=True)
    guest.wait_for("what it says now", lambda: b"ysrq" in log.read_bytes().replace(b"flood\n", b""))
    rest = log.with_name("console.log.0").stat().st_size
    assert rest <= log_limits.LIMIT and log.stat().st_size < 1 << 16
    guest.driver.remove(guest.mark)
    return f"{rest} bytes are kept"


def drive(demo: Path) -> str:
    """A CDROM in a drive of the host."""
    guest = Trouble(demo)
    disc = guest.directory / "disc"
    disc.write_bytes(b"disc" * 1024 * 1024)
    options = ["--find", "--show", "--read-only"]
    device = subprocess.run(["losetup", *options, disc], check=True, capture_output=True, text=True).stdout.strip()
    try:
        guest.vm = replace(guest.vm, disks=(*guest.vm.disks, Disk(1, "xvdb", bus="xen", type="CDROM", readonly=True)))
        guest.site = replace(guest.site, disks={**guest.site.disks, 1: DiskFiles(device, "raw", block=True)})
        guest.start_it()
        text = (driver.DEFINITIONS / f"{guest.name}.cfg").read_text()
        assert f"'phy:{device},xvdb:cdrom,r'" in text, text
        guest.wait_for("two disks", lambda: guest.states("vbd").count("4") == 2)
        guest.driver.remove(guest.mark)
        return f"phy:{device}"
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


ALL = {
    made.__name__: made
    for made in (
        memory, processors, no_bridge, no_kernel, not_a_kernel, no_disk, held_disk, failing_script, nonsense,
        foreign_name, foreign_name_meanwhile, foreign_file, lock_held, without_xen, deaf, drive, flood,
    )
}  # fmt: skip
# One each of what a person asks for that can't be had, what the host lacks, and what somebody else has.
MET = ("memory", "no_bridge", "foreign_name")
# They end with a machine that runs.
RUNNING = ("held_disk", "deaf")


def left() -> dict[str, list[str]]:
    """What machines have on a host while they run."""

    def lines(*argv: str) -> list[str]:
        return subprocess.run(argv, capture_output=True, text=True).stdout.split("\n")

    interfaces = [name for name in os.listdir("/sys/class/net") if re.match(r"one-|vif", name)]
    # One question for all of them: each is a program, and here that takes its time.
    paths = (line.partition(" = ")[0].split("/") for line in lines("xenstore-ls", "-f", "/local/domain/0/backend"))
    backends = sorted({"/".join(path[5:7]) for path in paths if len(path) > 6 and path[6] != "0"})
    return {
        "domains": [domain.name for domain in xl.Tool().listed() if domain.domid],
        "interfaces": interfaces,
        "loops": [line for line in lines("losetup", "--list", "--noheadings", "--output", "BACK-FILE") if line],
        "backends": backends,
    }


def wait_for_nothing() -> None:
    """xl takes away what a domain had beside its answer."""
    limit = time.monotonic() + SECONDS / 10
    while any((found := left()).values()):
        assert time.monotonic() < limit, f"left: {found}"
        time.sleep(0.2)


def tell(name: str, demo: Path) -> dict[str, str]:
    said, error = "", ""
    try:
        said = ALL[name](demo)
        if name not in RUNNING:
            wait_for_nothing()
    except (NebulaError, AssertionError, TimeoutError, subprocess.CalledProcessError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    finally:
        for guest in STARTED:
            try:
                guest.driver.remove(guest.mark)
            except NebulaError as problem:
                error = error or str(problem)
            shutil.rmtree(guest.directory)
        STARTED.clear()
        try:
            wait_for_nothing()
        except AssertionError as problem:
            error = error or str(problem)
    return {"trouble": name, "said": said, "error": error}


def main(demo: str, *names: str) -> None:
    with bridge():
        for name in names or ALL:
            print(json.dumps(tell(name, Path(demo))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
