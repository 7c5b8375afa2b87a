# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives machines of Xen by libvirt (xen:///system), for a dom0 whose administrators look after them with virsh. What
libvirt has no words for is asked of Xen's own tool beside it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

from ...dataclass import replace
from ...errors import ForeignObject, HypervisorError, NebulaError, NotFound, TimedOut
from ...host import hypervisor_daemons
from ...model.audit import Domain
from ...model.disk import Disk, DiskFiles
from ...model.plan import ObservedVm
from ...model.vm import Vm
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
    domain_name,
    id_in_name,
    label_of,
)
from ..libvirt.domain_xml import MARK_PATH, attribute_of
from ..libvirt.domains import PASSING_SECONDS, PRESS_AGAIN, STEP, LibvirtDomains, message_of
from ..standing_still import Pausing
from . import config, switch_ports, xl, xl_logs
from . import xen_domain_xml as xen_xml
from .dom0 import XenNode

# What libxl says to libvirt: its own errors say little more than that there was one.
LOG = Path("/var/log/libvirt/libxl/libxl-driver.log")
# libvirt writes this first into a saved machine.
SAVED = b"libvirt-xml\n \0 \r"
_LIMIT = 64 * 1024
_WHEN = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+\+\d{4}: ")
REMEDIES = (
    ("Cannot get interface MTU", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("could not find kernel", "Check OS KERNEL"),
    ("Unable to find", "Install the package libvirt-daemon-driver-xen"),
    ("already active", "End the other domain of this name (xl list shows it)"),
)


class XenLibvirtDriver(XenNode, LibvirtDomains, Driver):
    name = "xen_libvirt"
    uri = "xen:///system"
    capabilities = frozenset(("shutdown", "reboot", "reset", "suspend", "resume", "adjust", "back_up"))
    programs = ("xl", "libvirtd", "virtlogd")
    libraries = ("libvirt",)
    services = hypervisor_daemons.LIBVIRT
    remedies = REMEDIES
    names_runs = False
    stands_still = True

    def __init__(self) -> None:
        XenNode.__init__(self)
        LibvirtDomains.__init__(self)

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {**super().versions(), "libvirt": hypervisor_daemons.libvirt_version()}

    def site(self, common: Site) -> Site:
        return replace(common, emulator=self._tool.emulator() or common.emulator)

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        return xen_xml.render(vm, site)

    def survey(self, catalog: str) -> Survey:
        running = {domain.uuid: domain for domain in self._tool.listed() if domain.domid}
        vms: list[ObservedVm] = []
        ids: set[int] = set()
        with self._explained("listing the machines of this node"):
            domains = self._connection().listAllDomains()
            for domain, mark in zip(domains, self._marks_of(domains, catalog)):
                if mark is None:
                    ids |= id_in_name(domain.name())
                    continue
                own = replace(mark, uuid=domain.UUIDString())
                listed = running.pop(own.uuid, None)
                state, reason = domain.state()
                name = self._state_name(state)
                vms.append(self._observed(own, name, listed, self._ended_by(reason) if name == "POWEROFF" else ""))
        return self._make_survey(vms, ids, running.values())

    def _ended_by(self, reason: int) -> str:
        """Return who ended a machine that is shut off, as ObservedVm.ended."""
        lv = self._libvirt
        return {lv.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "guest", lv.VIR_DOMAIN_SHUTOFF_UNKNOWN: "unknown"}.get(reason, "")

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        ours, _foreign = super().inventory()
        names = {domain.name for domain in ours}
        return ours, tuple(sorted(each.name for each in self._tool.listed() if each.domid and each.name not in names))

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        if super().is_foreign(mark, directory):
            return True
        return self._find(mark) is None and self._foreign_domain(mark) is not None

    def _state(self, domain: Any, mark: Mark) -> str:
        state = super()._state(domain, mark)
        limit, uuid = time.monotonic() + PASSING_SECONDS, domain.UUIDString()
        # libvirt says so before it has taken all of it away.
        while (
            state == "POWEROFF" and any(each.uuid == uuid for each in self._tool.listed()) and time.monotonic() < limit
        ):
            time.sleep(STEP)
        return state

    def _foreign_domain(self, mark: Mark) -> xl.ListedDomain | None:
        """Return a domain of the machine's name that libvirt did not make, if there is one."""
        found = self._tool.named(domain_name(mark.vm_id))
        return found if found is not None and found.uuid != mark.uuid else None

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        switch_ports.write_ports_file(vm)
        with self._explained(f"defining {label_of(mark)}"):
            domain = self._connection().defineXML(deployment.text)
            name, active = domain.name(), domain.isActive()
        self._link_console(vm, name, attribute_of(ET.fromstring(deployment.text), MARK_PATH, "directory"))
        if active:
            self._weigh(name, config.credits(vm.cpu), vm.cpu_limit)

    def _weigh_as_defined(self, domain: Any) -> None:
        self._weigh(domain.name(), *xen_xml.weights_of(domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE)))

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        target, asked = self._target_of_drive(vm), f"changing the context of {label_of(mark)}"
        if not target:
            return False
        domain = self._found(mark)
        return self._change_medium(asked, domain.name(), domain.ID(), target, path)

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        asked = f"changing {label_of(mark)} while it runs"
        domain = self._found(mark)
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        changed = left = False
        with self._explained(asked):
            there = xen_xml.devices_of(domain.XMLDesc(0))
            wanted = xen_xml.devices_of(self.render(vm, site).text)
            for has, wants in ((there.disks, wanted.disks), (there.nics, wanted.nics)):
                left = left or (not order.removes and bool(set(has) - set(wants)))
                for key in sorted(set(has) - set(wants) if order.removes else ()):
                    self._ask_for(has[key], domain, f"{asked}: {has[key].tag} {key}")
                    domain.detachDeviceFlags(ET.tostring(has[key], encoding="unicode"), live)
                    changed = True
                for key in sorted(set(wants) - set(has)):
                    domain.attachDeviceFlags(ET.tostring(wants[key], encoding="unicode"), live)
                    changed = True
            memory = domain.info()[2] >> 10
            if memory != vm.memory and self._is_asked(domain.ID(), memory) != vm.memory:
                domain.setMemoryFlags(vm.memory << 10, live)
                changed = True
        return Adjusted(changed, left)

    def _ask_for(self, device: ET.Element, domain: Any, asked: str) -> None:
        """Have the guest let go of a disk. Raise TimedOut if it does not: libvirt takes it by force after ten seconds,
        whatever the guest writes there."""
        target = attribute_of(device, "target", "dev")
        if device.tag == "disk" and config.device_number(target) in self._tool.blocks(asked, domain.name()):
            self._tool.ask(asked, "block-detach", domain.name(), str(config.device_number(target)))

    def devices_left(self, vm: Vm, directory: str, mark: Mark) -> tuple[str, ...]:
        return self._names_left(self._found(mark).ID(), vm, directory)

    def remove(self, mark: Mark) -> bool:
        domain = self._find(mark)
        if domain is None:
            return False
        name = domain.name()
        self._destroy(domain, mark)
        # Before the domain is forgotten: killed in between, the next run still knows that they are ours.
        self._unlink_console(name)
        switch_ports.remove_ports_file(domain.UUIDString())
        xl_logs.remove(name)
        self._undefine(domain, mark, self._libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        return True

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        domain = self._found(mark)
        asked = f"starting {label_of(mark)}"
        if self._state(domain, mark) == "POWEROFF":
            stranger = self._foreign_domain(replace(mark, uuid=domain.UUIDString()))
            if stranger is not None:
                raise ForeignObject(
                    asked,
                    f"Xen has a domain of this name that libvirt did not make, with UUID {stranger.uuid}",
                    f"End or rename it ({self._tool.name} rename): it will not be touched",
                )
            with self._explained(asked):
                self._refuse(asked, xen_xml.needs_of(domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE)))
            self._tool.wait_for_lock(asked)
        super().start(mark)
        self._weigh_as_defined(domain)

    def _create(self, domain: Any) -> None:
        asked, began = f"starting domain {domain.name()}", _end_of_log()
        try:
            domain.create()
        except self._libvirt.libvirtError as error:
            logged = _logged_since(began)
            if not logged:
                raise
            found = xl.error_of_xl(asked, logged)
            words = [message_of(error), found.found, *self._words_of_hypervisor(logged)]
            found.found = "\n".join([*words, xl_logs.last_words(domain.name())]).strip()
            raise found from error

    def _press(self, domain: Any) -> None:
        # By Xen's own way, or by ACPI where the guest has no drivers of Xen's.
        domain.shutdownFlags(0)

    def _disobeyed(self, asked: str, mark: Mark, timeout: int, instead: str = "hard: true") -> TimedOut:
        heard = "It has no handler for it" if self._is_deaf(self._found(mark).ID()) else "It has heard of it"
        return TimedOut(
            asked,
            f"the guest did not obey within {timeout} s; it runs on. {heard}",
            f"Raise shutdown_timeout, see its console, or set {instead}; a guest needs /sbin/poweroff, and one without "
            "Xen's drivers acpid",
        )

    def reboot(self, mark: Mark, timeout: int) -> None:
        asked, domain = f"rebooting {label_of(mark)}", self._found(mark)
        before, limit, again = domain.ID(), time.monotonic() + timeout, 0.0
        if before < 0:
            raise NotFound(asked, "it does not run", "Start it first")
        while (now := time.monotonic()) < limit:
            current = self._found(mark)
            if current.ID() not in (-1, before) and self._state(current, mark) == "RUNNING":
                self._weigh_as_defined(current)
                return
            if now >= again and current.ID() == before:
                again = now + PRESS_AGAIN
                with contextlib.suppress(self._libvirt.libvirtError):
                    # It may have ended in between.
                    current.reboot(0)
            time.sleep(STEP)
        raise self._disobeyed(asked, mark, timeout, "state: reset")

    def reset(self, mark: Mark) -> None:
        self.cancel(mark)
        self.start(mark)

    def resume(self, mark: Mark, checkpoint: str) -> None:
        asked = f"resuming {label_of(mark)}"
        self._tool.wait_for_lock(asked)
        with self._explained(asked):
            self._connection().restoreFlags(checkpoint, None, 0)
        self._weigh_as_defined(self._found(mark))

    def pausing(self, mark: Mark) -> Pausing | None:
        domain = self._found(mark)

        def pause() -> None:
            with self._explained(f"having {label_of(mark)} stand still"):
                domain.suspend()
            self._let_requests_end()

        return self._pausing(domain, mark, pause)

    def back_up(
        self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
    ) -> AbstractContextManager[RunningBackup]:
        from ..still_disks import back_up

        return back_up(self, mark, disks, order)

    def is_saved(self, file: BinaryIO) -> bool:
        return xl.is_complete(file, SAVED)

    def _error(self, asked: str, error: Any) -> NebulaError:
        found = super()._error(asked, error)
        if isinstance(found, HypervisorError) and not found.remedy:
            return xl.error_of_xl(asked, found.found)
        return found


def _end_of_log() -> int:
    with contextlib.suppress(OSError):
        return LOG.stat().st_size
    return 0


def _logged_since(place: int) -> str:
    """Return what libxl has logged since, in the form in which xl prints it."""
    with contextlib.suppress(OSError), LOG.open("rb") as file:
        file.seek(place)
        lines = file.read(_LIMIT).decode("utf-8", "replace").splitlines()
        return "\n".join(_WHEN.sub("", line).replace("libxl: ", "libxl: error: ", 1) for line in lines)
    return ""
