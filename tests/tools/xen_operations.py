#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operation of a Xen driver on a real machine of each kind. Runs in dom0, as root, where `demo` has the guest's
kernel, initrd and disk:

    PYTHONPATH=COLLECTIONS xen_operations.py DEMO DRIVER KIND...     a line of JSON for each: kind, operation, seconds,
                                                                     error; DRIVER: xen or xen_libvirt

What is said of a guest is what that guest says on its console, or Xen's list, not what the driver answered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Adjustment, Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.registry import open_driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import config, xl, xl_logs
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.driver import CONSOLES, DEFINITIONS
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

BRIDGE = "nbrops0"
CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
SECONDS = 600
COMMAND_LINE = "console=hvc0 quiet net.ifnames=0 mitigations=off"
KINDS = ("pv", "pvh", "hvm", "debian")
# What a guest says when its first program is started, and when it is up.
BOOTING = {"debian": "debian login:"}
READY = {"debian": "debian login:"}


class Guest:
    """A machine of one kind, and the directory that is its own."""

    def __init__(self, kind: str, demo: Path, directory: Path, vm_id: int, driver: str = "xen") -> None:
        self.kind, self.directory = kind, directory
        self.driver = open_driver(driver)
        self.name = f"one-{vm_id}"
        self.mark = Mark(CATALOG, vm_id, f"5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d{vm_id:02x}", 1)
        paths = [directory / f"disk.{number}" for number in (0, 1)]
        if not paths[0].exists():
            self.make_disks(demo, *paths)
        (directory / console_log.NAME).touch(0o600)
        boot = Os(
            machine=f"xen{kind}", kernel=str(demo / "kernel"), initrd=str(demo / "initrd"), kernel_cmd=COMMAND_LINE
        )
        # By what is on their disks.
        boot = {"hvm": Os(), "debian": Os(bootloader="pygrub")}.get(kind, boot)
        self.vm = Vm(
            vm_id=vm_id,
            uuid=self.mark.uuid,
            name=kind,
            hypervisor="xen",
            cpu=0.5,
            cpu_limit=90,
            memory=256 if kind == "debian" else 160,
            os=boot,
            # By IDE, each word that the firmware of an HVM machine reads is a trap into an emulated hypervisor: by AHCI
            # where RAW can say so, by SCSI where not.
            disks=(Disk(0, "sda" if kind == "hvm" and driver != "xen" else "xvda", bus="xen", driver="raw"),),
            nics=(self.nic(0),),
            raw={"xen": "hdtype = 'ahci'"} if kind == "hvm" and driver == "xen" else {},
        )
        files = {number: DiskFiles(str(path), "raw") for number, path in enumerate(paths)}
        self.site = self.driver.site(Site(str(directory), CATALOG, 1, files, "xen"))

    def make_disks(self, demo: Path, first: Path, second: Path) -> None:
        if self.kind == "debian":
            shutil.copy(demo / "debian.raw", first)
        elif self.kind == "hvm":
            convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", demo / "image", first]
            subprocess.run(convert, check=True)
        else:
            subprocess.run(["truncate", "-s", "8M", first], check=True)
        subprocess.run(["truncate", "-s", "8M", second], check=True)

    def nic(self, number: int) -> Nic:
        mac = f"02:00:0a:42:{self.mark.vm_id:02x}:{number:02x}"
        return Nic(number, 0, "ops", bridge=BRIDGE, mac=mac, target=f"{self.name}-{number}")

    def end(self) -> None:
        """Leave nothing of it on the host, whatever went wrong."""
        with suppress(NebulaError):
            self.driver.remove(self.mark)

    # -- what the guest and Xen say -------------------------------------------------------------------------------
    def said(self) -> str:
        return (self.directory / console_log.NAME).read_text(errors="replace")

    def listed(self) -> xl.ListedDomain | None:
        return next((domain for domain in xl.Tool().listed() if domain.name == self.name), None)

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        limit = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError(f"{what}: not within {SECONDS} s; its console:\n{self.said()[-2000:]}")
            time.sleep(0.2)

    def wait_for_ready(self) -> None:
        self.wait_for("its guest", lambda: READY.get(self.kind, "nebula-guest: ready") in self.said())

    def wait_for_boot(self, times: int) -> None:
        """One more than it had: its guest's first program runs."""
        self.wait_for(f"boot {times}", lambda: self.boots() >= times)

    def boots(self) -> int:
        return self.said().count(BOOTING.get(self.kind, "nebula-guest: booting"))

    # -- what is done with it -------------------------------------------------------------------------------------
    def define(self) -> None:
        self.driver.define(self.vm, self.driver.render(self.vm, self.site), self.mark)

    def deploy(self) -> None:
        self.define()
        self.driver.start(self.mark)
        self.check_weights()
        self.wait_for_ready()

    def poll(self) -> None:
        (seen,) = self.driver.survey(CATALOG).vms
        assert (seen.state, seen.uuid, seen.generation) == ("RUNNING", self.mark.uuid, 1), seen
        assert seen.cpu_time > 0 and abs(seen.memory - self.vm.memory) <= 60, seen

    def log(self) -> None:
        assert "memory_kib=" in self.said() and "nebula-guest: booting" in self.said(), self.said()[-2000:]

    def weigh(self) -> None:
        self.vm = replace(self.vm, cpu=0.25, cpu_limit=80)
        self.define()
        self.check_weights()

    def check_weights(self) -> None:
        """Xen has what its definition says."""
        verb = "sched-credit2" if xl.Tool().information()["xen_scheduler"] == "credit2" else "sched-credit"
        told = subprocess.run(["xl", verb, "-d", self.name], check=True, capture_output=True, text=True).stdout
        wanted = [str(config.credits(self.vm.cpu)), str(self.vm.cpu_limit)]
        assert told.split("\n")[1].split()[2:4] == wanted, told

    def attach(self) -> None:
        more = replace(
            self.vm, disks=(*self.vm.disks, Disk(1, "xvdb", bus="xen", driver="raw")), nics=(self.nic(0), self.nic(1))
        )
        assert self.driver.adjust(more, self.site, self.mark, Adjustment(removes=True)).changed
        assert not self.driver.adjust(more, self.site, self.mark, Adjustment(removes=True)).changed, "again"
        self.wait_for("two disks", lambda: self.states("vbd").count("4") == 2)
        self.wait_for("two NICs", lambda: self.states("vif").count("4") == 2)

    def keep(self) -> None:
        """A guest that does not answer keeps its disk: that is told, and then which one."""
        subprocess.run(["xl", "pause", self.name], check=True)
        try:
            self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True))
        except NebulaError as error:
            print(error, file=sys.stderr)
        else:
            raise AssertionError("it let the disk go")
        finally:
            subprocess.run(["xl", "unpause", self.name], check=True)
        assert self.driver.devices_left(self.vm, str(self.directory), self.mark)[:1] == ("DISK 1",)

    def detach(self) -> None:
        assert self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True)).changed
        self.wait_for("one disk", lambda: self.states("vbd").count("4") == 1)
        self.wait_for("one NIC", lambda: self.states("vif").count("4") == 1)

    def states(self, device: str) -> list[str]:
        """Of its own ends of the devices, as the guest has set them; 4: connected."""
        domain = self.listed()
        assert domain is not None
        base = f"/local/domain/{domain.domid}/device/{device}"
        told = subprocess.run(["xenstore-list", base], capture_output=True, text=True)
        return [
            subprocess.run(["xenstore-read", f"{base}/{number}/state"], capture_output=True, text=True).stdout.strip()
            for number in told.stdout.split()
        ]

    def shrink(self) -> None:
        self.vm = replace(self.vm, memory=128)
        assert self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True)).changed
        self.wait_for("128 MiB", lambda: (self.listed() or xl.ListedDomain("", 0, 999, 1, "", 0)).memory <= 132)

    def reboot(self) -> None:
        before, times = self.listed(), self.boots()
        self.driver.reboot(self.mark, SECONDS)
        after = self.listed()
        assert before and after and before.domid != after.domid, (before, after)
        self.check_weights()
        self.wait_for_boot(times + 1)

    def save(self) -> None:
        self.driver.suspend(self.mark, str(self.directory / "checkpoint"))
        assert self.listed() is None

    def restore(self) -> None:
        boots = self.boots()
        self.driver.resume(self.mark, str(self.directory / "checkpoint"))
        self.check_weights()
        self.wait_for("its devices", lambda: self.states("vif") == ["4"] or self.kind == "hvm")
        assert self.boots() == boots, "it booted instead"

    def reset(self) -> None:
        times = self.boots()
        self.driver.reset(self.mark)
        self.wait_for_boot(times + 1)

    def shutdown(self) -> None:
        self.driver.shutdown(self.mark, SECONDS)
        assert self.listed() is None
        (seen,) = self.driver.survey(CATALOG).vms
        assert (seen.state, seen.ended) == ("POWEROFF", "guest"), seen

    def start(self) -> None:
        times = self.boots()
        self.driver.start(self.mark)
        self.check_weights()
        self.wait_for_boot(times + 1)

    def cancel(self) -> None:
        self.driver.cancel(self.mark)
        assert self.listed() is None

    def remove(self) -> None:
        assert self.driver.remove(self.mark) and not self.driver.remove(self.mark)
        left = [*DEFINITIONS.rglob(f"*{self.name}.*"), *CONSOLES.glob(f"*{self.name}.*")]
        left += [
            path for path in xl_logs.LOGS.iterdir() if f"-{self.name}.log" in path.name or f"-{self.name}-" in path.name
        ]
        assert not left, left
        loops = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True)
        assert str(self.directory).encode() not in loops.stdout, loops.stdout


ALL = (
    *("deploy", "poll", "log", "weigh", "attach", "keep", "detach", "shrink", "reboot", "save", "restore", "reset"),
    *("shutdown", "start", "cancel", "remove"),
)


def operations(guest: Guest, wanted: tuple[str, ...]) -> Iterator[dict[str, object]]:
    try:
        for operation in wanted:
            began, error = time.monotonic(), ""
            try:
                getattr(guest, operation)()
            except (NebulaError, AssertionError, TimeoutError, RuntimeError, subprocess.CalledProcessError) as problem:
                error = f"{type(problem).__name__}: {problem}"
            seconds = round(time.monotonic() - began, 1)
            yield {"kind": guest.kind, "operation": operation, "seconds": seconds, "error": error}
            if error and operation == "deploy":
                return
    finally:
        guest.end()


@contextmanager
def bridge() -> Iterator[None]:
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


def main(demo: str, driver: str, *kinds: str) -> None:
    """KIND, or KIND:OPERATION,OPERATION for some of them."""
    with bridge():
        for word in kinds:
            kind, _, some = word.partition(":")
            directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir="/var/tmp"))
            try:
                guest = Guest(kind, Path(demo), directory, KINDS.index(kind) + 1, driver)
                for line in operations(guest, tuple(some.split(",")) if some else ALL):
                    print(json.dumps(line), flush=True)
            finally:
                shutil.rmtree(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
