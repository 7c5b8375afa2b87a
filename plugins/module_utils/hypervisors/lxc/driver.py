# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives containers by libvirt's LXC driver."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree as ET

from ...dataclass import replace
from ...errors import NebulaError
from ...host import hypervisor_daemons, kernel_calls
from ...host.console import console_log
from ...host.files import explained, opened, sync_directory
from ...host.node_file import Changes, NodeFile, Remember
from ...model.audit import Domain
from ...model.container_user_ids import id_range
from ...model.disk import Disk, DiskFiles
from ...model.host import Overhead
from ...model.network_drivers import OVN, OVSWITCH
from ...model.plan import ObservedVm
from ...model.vm import Vm
from ...storage import mounted_disks
from ...storage.datastore_layout import disk_path
from ..base import (
    Adjusted,
    Adjustment,
    BackUp,
    Deployment,
    Driver,
    Mark,
    RunningBackup,
    Site,
    Survey,
    id_in_name,
    label_of,
    nic_in_name,
)
from ..libvirt.domain_xml import MARK_PATH, attribute_of
from ..libvirt.domains import PRESS_AGAIN, STEP, LibvirtDomains, runs_of
from ..standing_still import Pausing
from . import (
    confinement,
    console_logger,
    container_xml,
    disk_hook,
    hooks,
    init_process,
    live_disks,
    live_memory,
    live_nics,
    start_hook,
    veth_link,
)

# It is there where cgroups are of version 2 alone.
UNIFIED = "/sys/fs/cgroup/cgroup.controllers"
# What libvirt says, and what to do about it.
REMEDIES = (
    ("Cannot get interface MTU", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("No such device", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("/sbin/init", "Its root file system has no init that can be started: is its image that of a whole system?"),
    ("Failed to open tty", "Users of containers have to get through it: chmod 0755 /run/libvirt /run/libvirt/lxc"),
    ("cgroup/unified", "libvirt starts no container where cgroups of version 2 are mounted below those of version 1"),
    ("memory.limit_in_bytes", "It has more than that in use: end what takes it, or power it off first"),
    ("swap_hard_limit", "This host's kernel does not count swap: leave LXC_SWAP out"),
)  # fmt: skip
# Seconds after which libvirt is not going to notice any more that a container has ended: it takes two at most.
UNNOTICED = 6.0
# How often the kernel is asked to freeze a container.
FREEZES = 5
# The controller of a container, which libvirt starts for each, and the program that keeps its console's log.
BESIDE = Overhead(fixed=32)


class LxcDriver(LibvirtDomains, Driver):
    name = "lxc"
    uri = "lxc:///system"
    capabilities = frozenset(("shutdown", "reboot", "suspend", "resume", "adjust", "back_up"))
    switches = frozenset((OVN, OVSWITCH))
    has_directories = True
    shares_datastores = False
    suspends_in_memory = True
    stands_still = True
    remedies = REMEDIES
    keep = ""
    forget = ""
    programs = ("libvirtd", "virtlogd", container_xml.EMULATOR)
    libraries = ("libvirt",)
    services = hypervisor_daemons.LIBVIRT

    # -- the node -------------------------------------------------------------------------------------------------
    @classmethod
    def access(cls, vm_id: int) -> tuple[int, int]:
        # The container's root goes through it when libvirt has it mount what it is shown, and nobody else does: not to
        # its set-uid programs, nor to directories that all of its users may write to.
        return 0o710, id_range(vm_id).start

    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        return {"accelerator": "lxc", "reason": "containers share the kernel of their host", "key": ""}

    @classmethod
    def prepare(cls, changes: Changes, remember: Remember) -> None:
        for hook in (start_hook, disk_hook):
            hooks.prepare(hook.PROGRAM, hook.text(), changes)
        mounted_disks.close_old_directories(changes)
        veth_link.prepare(changes)

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        back = [hooks.give_back(hook.PROGRAM, changes) for hook in (start_hook, disk_hook)]
        return any([*back, veth_link.give_back(changes)])

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"libvirt": hypervisor_daemons.libvirt_version(), "kernel": os.uname().release}

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        return BESIDE

    def site(self, common: Site) -> Site:
        return replace(
            common, emulator=container_xml.EMULATOR, swap_alone=os.path.exists(UNIFIED), confinement=self._confinement()
        )

    def _confinement(self) -> str:
        """Return what confines containers here; "" if libvirt can't be asked: nothing can be started there either."""
        with contextlib.suppress(NebulaError), self._explained("asking libvirt what confines containers"):
            return confinement.model(self._connection().getCapabilities())
        return ""

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        return container_xml.render(vm, site)

    def survey(self, catalog: str) -> Survey:
        lv = self._libvirt
        vms: list[ObservedVm] = []
        foreign, ids = 0, set[int]()
        with self._explained("listing the containers of this node"):
            domains = self._connection().listAllDomains()
        marks = self._marks_of(domains, catalog)
        for domain, mark in zip(domains, marks):
            try:
                state, memory, _now, _cpus, cpu_time = domain.info()
                if state != lv.VIR_DOMAIN_SHUTOFF:
                    memory = self._memory_of(domain) or memory
            except lv.libvirtError as error:
                # It may have ended in between.
                if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                    continue
                raise self._error(f"looking at domain {domain.name()}", error) from error
            name = self._state_name(state)
            if name == "RUNNING" and not self._is_kept(domain.ID()):
                name = "POWEROFF"
            held = 0 if name == "POWEROFF" else memory // 1024
            if mark is None:
                foreign += held and held + BESIDE.of(held, 1)
                ids |= id_in_name(domain.name())
                continue
            vms.append(
                ObservedVm(
                    vm_id=mark.vm_id,
                    uuid=domain.UUIDString(),
                    state=name,
                    generation=mark.generation,
                    cpu_time=cpu_time / 1e9,
                    memory=held,
                    ended="unknown" if name == "POWEROFF" else "",
                )
            )
        return Survey(tuple(sorted(vms, key=lambda vm: vm.vm_id)), foreign, frozenset(ids), runs_of(marks))

    def _memory_of(self, domain: Any) -> int:
        """Return the KiB that the container may have, which may have changed since its start; 0 if it has ended in
        between, or its host does not count swap, where libvirt tells neither."""
        try:
            return live_memory.memory_limit(domain, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except self._libvirt.libvirtError:
            return 0

    def _inventoried(self, domain: Any, mark: Mark) -> Domain:
        found = super()._inventoried(domain, mark)
        # libvirt does not know the disks that were attached while it runs.
        came = [point for point in mounted_disks.points(found.uuid) if mounted_disks.is_mounted(point)]
        paths = dict.fromkeys((*found.disks, *came))
        return replace(found, disks=tuple(_file_of(path, found.directory) for path in paths))

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        with self._explained(f"defining {label_of(mark)}"):
            domain = self._connection().defineXML(deployment.text)
            if domain.isActive():
                domain.setSchedulerParametersFlags(
                    container_xml.scheduler_parameters(deployment.text), self._libvirt.VIR_DOMAIN_AFFECT_LIVE
                )

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        # The container sees this directory itself: what was written there is there for it.
        return True

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        asked = f"changing {label_of(mark)} while it runs"
        domain = self._found(mark)
        text = self.render(vm, site).text
        wanted = live_nics.nics_of(text)
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        changed = False
        with self._explained(asked):
            changed = live_memory.adjust(domain, live, text, site.swap_alone, asked)
            there = live_nics.nics_of(domain.XMLDesc(0))
            going = set(there) - set(wanted)
            for mac in sorted(going if order.removes else ()):
                domain.detachDeviceFlags(there[mac].text, live)
                changed = True
            for mac in sorted(set(wanted) - set(there)):
                domain.attachDeviceFlags(wanted[mac].text, live)
                changed = True
            init = self._init_of(domain)
        if init is None:
            # It has ended in between.
            return Adjusted(changed)
        # Also those of a run that was killed before it had named them.
        live_nics.set_mtus(wanted)
        changed = live_nics.name_ends(init, wanted, asked) or changed
        disks = self._adjust_disks(init, vm, text, asked, order.removes)
        return Adjusted(disks.changed or changed, disks.left or (bool(going) and not order.removes))

    def _adjust_disks(self, init: int, vm: Vm, text: str, asked: str, removes: bool) -> Adjusted:
        wanted = live_disks.disks_of(text)
        changed = left = False
        for point in mounted_disks.points(vm.uuid):
            disk_id = mounted_disks.parse_mount_point(point)[1]
            if disk_id not in wanted and not removes:
                left = True
            elif disk_id not in wanted:
                changed = live_disks.detach(init, point, f"{asked}: disk {disk_id}") or changed
        # Those above come before those below.
        for disk_id, live in sorted(wanted.items(), key=lambda item: item[1].target):
            changed = live_disks.attach(init, live, f"{asked}: disk {disk_id}") or changed
        return Adjusted(changed, left)

    def devices_left(self, vm: Vm, directory: str, mark: Mark) -> tuple[str, ...]:
        with self._explained(f"looking at {label_of(mark)}"):
            nics = live_nics.nics_of(self._found(mark).XMLDesc(0))
        numbers = {nic_in_name(nic.host, mark.vm_id) for nic in nics.values()}
        going = [f"NIC {number}" for number in numbers - {None, *(nic.nic_id for nic in vm.nics)}]
        own = {disk.disk_id for disk in vm.disks}
        points = [point for point in mounted_disks.points(vm.uuid) if mounted_disks.is_mounted(point)]
        disks = [mounted_disks.parse_mount_point(point)[1] for point in points]
        return tuple(sorted((*going, *(f"DISK {number}" for number in disks if number not in own))))

    def remove(self, mark: Mark) -> bool:
        domain = self._find(mark)
        if domain is None:
            return False
        self._destroy(domain, mark)
        # While it is still known to be ours.
        mounted_disks.release(domain.UUIDString())
        # Before the container is forgotten: killed in between, the next run still knows that it is ours.
        confinement.remove_profile(mark.uuid)
        self._undefine(domain, mark, 0)
        return True

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        # A container that has ended unnoticed would be taken for started.
        self._state(self._found(mark), mark)
        if self._confinement():
            confinement.write_profile(mark.uuid)
        super().start(mark)
        self.attend(mark)

    def attend(self, mark: Mark) -> None:
        self._log_console(mark)
        with self._explained(f"giving NICs of {label_of(mark)} their MTU"):
            live_nics.set_mtus(live_nics.nics_of(self._found(mark).XMLDesc(0)))

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        """Freeze the container by the freezer of its cgroup: libvirt saves no container."""
        domain = self._found(mark)
        with self._explained(f"freezing {label_of(mark)}"):
            for left in range(FREEZES, 0, -1):
                try:
                    domain.suspend()
                    break
                except self._libvirt.libvirtError as error:
                    # It gives the kernel one second for all processes, and thaws them again.
                    if left == 1 or error.get_error_code() != self._libvirt.VIR_ERR_OPERATION_FAILED:
                        raise

    def resume(self, mark: Mark, checkpoint: str) -> None:
        domain = self._found(mark)
        with self._explained(f"thawing {label_of(mark)}"):
            domain.resume()

    def pausing(self, mark: Mark) -> Pausing | None:
        domain = self._found(mark)
        return self._pausing(domain, mark, lambda: self._freeze(domain, mark))

    def back_up(
        self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
    ) -> AbstractContextManager[RunningBackup]:
        from ..still_disks import back_up

        return back_up(self, mark, disks, order)

    def _freeze(self, domain: Any, mark: Mark) -> None:
        self.suspend(mark, "")
        # What the container has written to file systems of its own is in files of this host only then.
        for point in filter(mounted_disks.is_mounted, mounted_disks.points(domain.UUIDString())):
            with explained(point), opened(point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as fd:
                kernel_calls.sync_file_system(fd)

    def _state_name(self, state: int) -> str:
        return "SUSPENDED" if state == self._libvirt.VIR_DOMAIN_PAUSED else super()._state_name(state)

    def _destroy(self, domain: Any, mark: Mark) -> None:
        if super()._state(domain, mark) == "SUSPENDED":
            # What is frozen does not see that it was killed.
            self.resume(mark, "")
        super()._destroy(domain, mark)

    def _create(self, domain: Any) -> None:
        with self._explained(f"looking at domain {domain.name()}"):
            text, uuid = domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE), domain.UUIDString()
        # What it had when it ended.
        mounted_disks.release(uuid)
        try:
            for disk_id, live in live_disks.disks_of(text).items():
                mounted_disks.mount(live.disk, f"starting {domain.name()}: disk {disk_id}")
            with hooks.announce_start(uuid):
                super()._create(domain)
        except BaseException:
            mounted_disks.release(uuid)
            raise

    def settle_definitions(self) -> None:
        for place in (hooks.DEFINED, hooks.DEFINED / "autostart"):
            # libvirt makes each with the first that is in there.
            with contextlib.suppress(FileNotFoundError):
                sync_directory(str(place))

    def let_go(self, mark: Mark) -> None:
        domain = self._find(mark)
        uuid = domain.UUIDString() if domain is not None else mark.uuid
        if uuid:
            mounted_disks.release(uuid)

    def cancel(self, mark: Mark) -> None:
        super().cancel(mark)
        self.let_go(mark)

    def shutdown(self, mark: Mark, timeout: int) -> None:
        super().shutdown(mark, timeout)
        self.let_go(mark)

    def _state(self, domain: Any, mark: Mark) -> str:
        """Return the state. libvirt 9 now and then misses that the controller of a container has ended, and takes the
        container for a running one for ever: then it is told to end it, which it can."""
        limit = time.monotonic() + UNNOTICED
        while True:
            state = super()._state(domain, mark)
            if state != "RUNNING":
                return state
            # Looked for anew: a container that has started again has another number.
            now = self._find(mark)
            if now is None or self._is_kept(now.ID()):
                return state
            if time.monotonic() >= limit:
                super()._destroy(now, mark)
            time.sleep(STEP)

    def _is_kept(self, number: int) -> bool:
        """Return whether a container has its controller. number: of its domain, which is the process's."""
        return number > 0 and init_process.is_controller(number, os.path.basename(container_xml.EMULATOR))

    def _log_console(self, mark: Mark) -> None:
        """Have the console logged. Nothing is lost: what was written since the start is still in the terminal."""
        domain = self._found(mark)
        with self._explained(f"looking for the console of {label_of(mark)}"):
            own = ET.fromstring(domain.XMLDesc(0))
        path = attribute_of(own, "devices/console", "tty")
        directory = attribute_of(own, MARK_PATH, "directory")
        if path and directory and not console_logger.is_read(path):
            console_logger.begin(path, os.path.join(directory, console_log.NAME))

    def _press(self, domain: Any) -> None:
        init = self._init_of(domain)
        if init is not None:
            init_process.signal_init(init, reboot=False)

    def _init_of(self, domain: Any) -> int | None:
        number = domain.ID()
        return init_process.init_of_controller(number) if number > 0 else None

    def reboot(self, mark: Mark, timeout: int) -> None:
        asked = f"rebooting {label_of(mark)}"
        limit, press = time.monotonic() + timeout, 0.0
        before = self._init_of(self._found(mark))
        while time.monotonic() < limit:
            # Looked for anew: a container that has started again has another number.
            domain = self._found(mark)
            if self._state(domain, mark) == "POWEROFF":
                # Its init halted instead, or libvirt did not get it started again.
                self.start(mark)
                return
            with self._explained(asked):
                now = self._init_of(domain)
            if now is not None and now != before:
                self._log_console(mark)
                return
            if time.monotonic() >= press and now is not None:
                press = time.monotonic() + PRESS_AGAIN
                init_process.signal_init(now, reboot=True)
            time.sleep(STEP)
        raise self._disobeyed(asked, mark, timeout, "state: poweroff and then running")


def _file_of(path: str, directory: str) -> str:
    """Return the file of a disk that is mounted at that path; any other path as it is."""
    uuid, disk_id = mounted_disks.parse_mount_point(path)
    return os.path.realpath(disk_path(directory, disk_id)) if uuid else path
