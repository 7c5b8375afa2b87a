# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and prepares a dom0, and says what it lacks for a machine, whichever tools make the machine. XenNode goes
before Driver in the bases of a driver."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import InUse, MissingDependency, NebulaError, NoCapacity, NotFound
from ...host.console import console_log
from ...host.files import explained, make_directory, remove_file
from ...host.node_file import Changes, NodeFile, Remember
from ...model import disk_targets
from ...model.host import Overhead
from ...model.network_drivers import SWITCHED
from ...model.plan import ObservedVm
from ...model.vm import Vm
from ...storage import machine_disks
from ..base import Mark, Survey, id_in_name, nic_in_name
from . import log_limits, vif_script, xen_declaration, xenstore, xl
from . import xenconsoled as xen_console
from .config import Needs, device_number
from .xl import ListedDomain, require_dom0
from .xm import tool

CONSOLES = Path(log_limits.CONSOLES)
# Xenconsoled's own names of its files; ours of the links to the logs of serial ports.
GUEST, SERIAL = "guest", "serial"
NETWORK = Path("/sys/class/net")
REQUESTS_SECONDS = 0.5


class XenNode:
    switches = frozenset(SWITCHED)

    def __init__(self) -> None:
        require_dom0()
        self._tool = tool()

    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        require_dom0()
        version = cls.versions()["xen"]
        return {"accelerator": "xen", "reason": f"this host runs Xen {version}", "key": version}

    @classmethod
    def prepare(cls, changes: Changes, remember: Remember) -> None:
        require_dom0()
        xen_console.prepare(changes)
        log_limits.prepare(changes)
        vif_script.prepare(changes)

    @staticmethod
    def _let_requests_end() -> None:
        """Return once what a domain had asked of its disks, which stands still by now, is through in all likelihood:
        dom0 carries that out, and tells nobody."""
        time.sleep(REQUESTS_SECONDS)

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        undone = [part.give_back(changes) for part in (vif_script, log_limits, xen_console)]
        return any(undone)

    @classmethod
    def versions(cls) -> dict[str, str]:
        try:
            require_dom0()
            information = tool().information()
        except NebulaError:
            return {"xen": ""}
        return {"xen": information.get("xen_version", "")}

    @classmethod
    def capacity(cls) -> tuple[int, float]:
        require_dom0()
        asked = tool()
        information = asked.information()
        own = sum(domain.memory for domain in asked.listed() if domain.domid == 0)
        return int(information["total_memory"]) - own, float(information["nr_cpus"])

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        return Overhead(fixed=8, vcpu=1, share=1 / 64)

    def _observed(self, mark: Mark, state: str, domain: ListedDomain | None, ended: str) -> ObservedVm:
        """Return a machine of the survey. domain: what Xen has of it."""
        return ObservedVm(
            vm_id=mark.vm_id,
            uuid=mark.uuid,
            state=state,
            generation=mark.generation,
            cpu_time=domain.seconds if domain is not None else 0.0,
            memory=domain.memory if domain is not None and state != "POWEROFF" else 0,
            ended=ended,
        )

    def _make_survey(self, vms: Iterable[ObservedVm], ids: set[int], others: Iterable[ListedDomain]) -> Survey:
        """Return the survey of this node.
        ids: of names that are somebody else's.
        others: what runs beside `vms`."""
        foreign, found = 0, set(ids)
        for each in others:
            foreign += each.memory + self.overhead("").of(each.memory, each.vcpus)
            found |= id_in_name(each.name)
        return Survey(tuple(sorted(vms, key=lambda vm: vm.vm_id)), foreign, frozenset(found))

    def _link_console(self, vm: Vm, name: str, directory: str) -> None:
        """Link the machine's console log: xenconsoled writes what a machine without a serial port says to a file that
        it chooses. For other machines the link only says which console is to be kept small."""
        make_directory(str(CONSOLES), 0o755)
        hvm = xen_declaration.kind_of(vm) == xen_declaration.HVM
        link, target = CONSOLES / f"{SERIAL if hvm else GUEST}-{name}.log", f"{directory}/{console_log.NAME}"
        if link.is_symlink() and os.readlink(link) == target:
            return
        remove_file(str(link))
        with explained(str(link)):
            os.symlink(target, link)

    @staticmethod
    def _unlink_console(name: str) -> None:
        for kind in (GUEST, SERIAL):
            remove_file(str(CONSOLES / f"{kind}-{name}.log"))

    def _weigh(self, name: str, weight: int, cap: int) -> None:
        """Set weight and cap of a running domain."""
        scheduler = self._tool.information().get("xen_scheduler", "credit")
        if scheduler in ("credit", "credit2"):
            verb = "sched-credit2" if scheduler == "credit2" else "sched-credit"
            self._tool.ask(f"weighing domain {name}", verb, "-d", name, "-w", str(weight), "-c", str(cap))

    @staticmethod
    def _target_of_drive(vm: Vm) -> str:
        """Return the target of the emulated drive that the machine's context is in; "" for none. Xen changes no other
        media."""
        if vm.context is None or vm.context.device == "disk" or xen_declaration.kind_of(vm) != xen_declaration.HVM:
            return ""
        return disk_targets.without_suffix(vm.context.target)

    def _change_medium(self, asked: str, name: str, domid: int, target: str, path: str) -> bool:
        """Return what Driver.change_medium() is to return, of a running domain."""
        place = f"{xenstore.DOMAINS}/{domid}/device/vbd/{device_number(target)}"
        if xenstore.read(f"{place}/device-type") != "cdrom":
            # It becomes a drive, or is at that place, at its next start.
            return False
        # libvirt takes a file of the same name for the same medium: Xen's own tool is asked.
        return self._tool.insert(asked, name, target, path)

    def _is_asked(self, domid: int, otherwise: int) -> int:
        """Return the MiB that a guest has been asked to have: it takes its time to give any back, and may not."""
        place = f"{xenstore.DOMAINS}/{domid}/memory"
        target, screen = (xenstore.read(f"{place}/{name}") for name in ("target", "videoram"))
        # Of an emulated screen its memory is no part of the target; -1 where there is none.
        return (int(target) + max(int(screen or 0), 0)) >> 10 if target else otherwise

    def _names_left(self, domid: int, vm: Vm, directory: str) -> tuple[str, ...]:
        """Return what Driver.devices_left() is to return, of a running domain."""
        context = () if vm.context is None else (f"DISK {vm.context.disk_id}",)
        wanted = {*context, *(f"DISK {disk.disk_id}" for disk in vm.disks), *(f"NIC {nic.nic_id}" for nic in vm.nics)}
        return tuple(sorted({*self._own_names(domid, vm, directory).values()} - wanted))

    def _own_names(self, domid: int, vm: Vm, directory: str) -> dict[int | str, str]:
        """Return what a running domain has of the machine's own, each as DISK or NIC with its id: of a disk by its
        number, of a NIC by its MAC address."""
        links = machine_disks.linked_files(directory)
        paths, names = xenstore.devices_of(domid)
        disks = {number: machine_disks.id_of_file(path, directory, links) for number, path in paths.items()}
        nics = {mac: nic_in_name(name, vm.vm_id) for mac, name in names.items()}
        return {
            **{number: f"DISK {disk_id}" for number, disk_id in disks.items() if disk_id is not None},
            **{mac: f"NIC {nic_id}" for mac, nic_id in nics.items() if nic_id is not None},
        }

    def _is_deaf(self, domid: int) -> bool:
        """Return whether nobody in the guest has taken out of xenstore what was asked of it."""
        return bool(xenstore.read(f"{xenstore.DOMAINS}/{domid}/control/shutdown"))

    def _words_of_hypervisor(self, lines: str) -> list[str]:
        """Return the hypervisor's own last lines about the domains that these lines are about."""
        with contextlib.suppress(NebulaError):
            return xl.lines_of_hypervisor(lines, self._tool.ask("reading Xen's log", "dmesg").stdout)[-xl.SHOWN :]
        return []

    def _refuse(self, asked: str, needs: Needs) -> None:
        """Raise what Xen's tools would find out half way, or say in words of their own."""
        for path in needs.files:
            if not os.path.isfile(path):
                raise NotFound(asked, f"{path} is not on this host", "Check OS KERNEL and INITRD")
        for bridge in needs.bridges:
            if not (NETWORK / bridge / "bridge").is_dir():
                raise NotFound(
                    asked,
                    f"this host has no bridge {bridge}"
                    + (", but another interface of that name" if (NETWORK / bridge).exists() else ""),
                    "Run role nebula.provision.network first",
                )
        for bridge in needs.switches:
            if not (NETWORK / bridge).exists():
                raise NotFound(
                    asked,
                    f"this host has no bridge {bridge} of Open vSwitch",
                    "Run role nebula.provision.network first, for a network of OVN nebula.provision.ovn",
                )
        if needs.switches:
            vif_script.require(asked)
        if needs.vcpus > 1:
            has = int(self._tool.information().get("nr_cpus", needs.vcpus))
            if needs.vcpus > has:
                raise NoCapacity(asked, f"it has {needs.vcpus} VCPU, and this host {has} processors", "Ask for fewer")
        self._refuse_shared(asked, needs.disks)
        if needs.emulator and not self._tool.emulator():
            raise MissingDependency(
                asked,
                f"{needs.emulator} needs Xen's QEMU, and this host has none",
                f"Install package {self._tool.emulator_package}",
            )

    def _refuse_shared(self, asked: str, disks: tuple[tuple[str, bool], ...]) -> None:
        """Raise InUse for a disk of another domain, which xl's own script does not see if the disk is a file."""
        used = xenstore.disks_in_use()
        for path, writes in disks:
            for domid, other, written in used:
                if (writes or written) and _is_same_file(path, other):
                    name = next((each.name for each in self._tool.listed() if each.domid == domid), str(domid))
                    raise InUse(
                        asked,
                        f"{path} is a disk of domain {name}, and what both write would be lost",
                        f"End the other domain ({self._tool.name} list shows it)",
                    )


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
