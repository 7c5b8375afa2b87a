# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives QEMU machines by libvirt's system daemon."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

from ...dataclass import dataclass, replace
from ...errors import MissingDependency, NebulaError, TimedOut
from ...host import hypervisor_daemons, kvm_device, kvm_probe, memory_encryption, numa_topology, pci_devices
from ...host.command import find
from ...host.files import remove_file, sync_directory
from ...host.node_file import Changes, NodeFile, Remember
from ...model.disk import Disk, DiskFiles
from ...model.host import HostHardware, Overhead
from ...model.network_drivers import OVN, OVSWITCH
from ...model.plan import ObservedVm
from ...model.vm import Vm
from ...storage import disk_bitmaps, machine_disks
from ...storage.datastore_layout import disk_path
from ..base import (
    Adjusted,
    Adjustment,
    AgentAnswer,
    BackUp,
    Departure,
    Deployment,
    Driver,
    Mark,
    Receiver,
    RunningBackup,
    Secrets,
    Site,
    StateElsewhere,
    Survey,
    domain_name,
    id_in_name,
    label_of,
)
from . import (
    disk_jobs,
    domain_hardware,
    domain_xml,
    guest_agent,
    live_capacity,
    live_devices,
    live_values,
    qemu_logs,
)
from .disk_secrets import LibvirtSecrets
from .domain_events import DomainEvents
from .domains import PRESS_AGAIN, STEP, LibvirtDomains, runs_of
from .kvm_overhead import BY_KVM, EMULATED
from .live_device_changes import LiveDeviceChanges
from .running_disks import RunningDisks
from .running_snapshots import RunningSnapshots

# In which libvirt has to end a migration that nobody carries any more.
DEPARTING_SECONDS = 120.0
# Where libvirt keeps which machines there are, and which start with the host.
DEFINITIONS = ("/etc/libvirt/qemu", "/etc/libvirt/qemu/autostart")
# Linux's number of the key.
SPACE = 57
# libvirt writes one for each machine that it confines, and keeps it for ever.
PROFILES = Path("/etc/apparmor.d/libvirt")
# libvirt writes this first into a saved machine, and only when all the rest is in the file.
SAVED = b"LibvirtQemudSave"
# How often a context is put in again before a guest that keeps drawing the tray in is an error; QEMU's words for that,
# which name the device only where it has one to name.
TRAY_TRIES = 50
TRAY_CLOSED = re.compile(r"Tray of (?:the device|device '[^']*') is not open")
_NO_PASSWORD = (
    'This host\'s QEMU takes no VNC password (FIPS mode): set RANDOM_PASSWD = "NO" in GRAPHICS, and LISTEN to 127.0.0.1'
)
_NO_LIMITS = (
    "This host's kernel lacks what limits interfaces (modules sch_htb, sch_sfq, sch_ingress, act_police): load these, "
    "or leave INBOUND_AVG_BW and OUTBOUND_AVG_BW out"
)
_NO_PAGES = (
    "Have this host set huge pages aside (vm.nr_hugepages in /etc/sysctl.d, or hugepages= for its kernel) and mount "
    "their file system (systemctl start dev-hugepages.mount), start libvirtd anew, and run role nebula.provision.node"
)
# What libvirt says, and what to do about it.
REMEDIES = (
    ("Cannot get interface MTU", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("No such device", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("qdisc kind is unknown", _NO_LIMITS),
    ("Failed to load TC action", _NO_LIMITS),
    ("Permission denied", "QEMU's user can't reach a file of it: check the modes of the directories above"),
    ("could not find kernel", "Check OS KERNEL"),
    ("no secret with matching uuid", "Name it in nebula_luks_secrets, and run role nebula.provision.node"),
    ("Secret not found", "Name it in nebula_luks_secrets, and run role nebula.provision.node"),
    ("swtpm", "Install the packages swtpm and swtpm-tools"),
    ("TPM version", "Install the packages swtpm and swtpm-tools"),
    ("Unable to find any firmware", "Install the package ovmf"),
    ("Unable to find 'efi' firmware", "Install the package ovmf"),
    ("No PCI buses available", "Check OS MACHINE: qemu-system-x86_64 -machine help lists what there is"),
    ("unsupported machine type", "Check OS MACHINE: qemu-system-x86_64 -machine help lists what there is"),
    ("Maximum CPUs greater", "Ask for fewer VCPU"),
    ("is not a valid device model name", "Check NIC MODEL: virtio, e1000 and rtl8139 are always there"),
    ("VNC password auth disabled", _NO_PASSWORD),
    ("does not support DES", _NO_PASSWORD),
    ("could not read keymap file", "Check GRAPHICS KEYMAP: /usr/share/qemu/keymaps has what there is"),
    ("eim=on requires accel=kvm", "Leave eim out of OPTIONS in IOMMU: an emulated machine has none"),
    ("hugetlbfs filesystem is not mounted", _NO_PAGES),
    ("unable to map backing store for guest RAM", _NO_PAGES),
    ("CPU model", "Check CPU_MODEL: virsh domcapabilities lists what there is"),
)


@dataclass(frozen=True)
class _Info:
    """state, reason: libvirt's numbers; a reason for machines that are off alone. maximum: KiB that it was started
    with, or is to be. vcpus: those that it has. cpu_time: nanoseconds that it has computed."""

    state: int
    reason: int
    maximum: int
    vcpus: int
    cpu_time: int


# Steps after which the next one needs no other look at the machine, and the seconds in which it does not.
MOMENT = 2.0
_FOUND, _CHECKED, _ADJUSTED, _CHANGED = "found", "checked", "adjusted", "changed its medium"


@dataclass(frozen=True)
class _Running:
    """Describes a machine that runs.
    definition: with its secrets, which repr() leaves out; "" if nobody has asked.
    at: when it was looked at."""

    mark: Mark
    domain: Any
    definition: str = field(default="", repr=False)
    at: float = field(default_factory=time.monotonic)


class KvmDriver(LibvirtDomains, Driver):
    name = "kvm"
    uri = "qemu:///system"
    capabilities = Driver.OPTIONAL
    grows_running_disks = True
    copies_departing_disks = True
    switches = frozenset((OVN, OVSWITCH))
    remedies = REMEDIES
    keep = "--keep-nvram --checkpoints-metadata"
    forget = "--managed-save --snapshots-metadata --checkpoints-metadata --nvram"
    programs = (kvm_probe.EMULATOR, "libvirtd", "virtlogd")
    libraries = ("libvirt",)
    services = hypervisor_daemons.LIBVIRT

    def __init__(self, uri: str = "") -> None:
        super().__init__(uri)
        self._events: DomainEvents | None = None
        self._rendered = threading.local()
        self._looked = threading.local()

    def close(self) -> None:
        with self._lock:
            events, self._events = self._events, None
        if events is not None:
            events.close()
        self._looked = threading.local()
        super().close()

    # -- the node -------------------------------------------------------------------------------------------------
    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        return kvm_probe.choose(wanted, cached)

    @classmethod
    def prepare(cls, changes: Changes, remember: Remember) -> None:
        kvm_device.take(changes, remember)

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        return kvm_device.give_back(changes, known)

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"qemu": kvm_probe.qemu_version(), "libvirt": hypervisor_daemons.libvirt_version()}

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        return BY_KVM if accelerator == "kvm" else EMULATED

    @classmethod
    def hardware(cls) -> HostHardware:
        nodes = numa_topology.nodes(numa_topology.usable())
        return HostHardware(nodes, pci_devices.has_iommu(), pci_devices.devices(), memory_encryption.kinds())

    def site(self, common: Site) -> Site:
        return replace(common, emulator=find(kvm_probe.EMULATOR))

    def secrets(self, owner: str) -> Secrets | None:
        return LibvirtSecrets(self._libvirt, self._connection(), owner)

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        # One thread works on one machine, and asks for the same several times.
        known: tuple[Vm, Site, Deployment] | None = getattr(self._rendered, "last", None)
        if known is None or known[0] is not vm or known[1] != site:
            known = self._rendered.last = vm, site, domain_xml.render(vm, site)
        return known[2]

    def survey(self, catalog: str) -> Survey:
        with self._explained("listing the machines of this node"):
            found = [(domain, self._info_of(domain)) for domain in self._connection().listAllDomains()]
        known = [(domain, info) for domain, info in found if info is not None]
        vms: list[ObservedVm] = []
        foreign, ids = 0, set[int]()
        marks = self._marks_of((domain for domain, _info in known), catalog)
        for (domain, info), mark in zip(known, marks):
            memory, state = info.maximum // 1024, self._state_name(info.state)
            if mark is None:
                foreign += 0 if state == "POWEROFF" else memory + self._overhead_of(domain, memory, info.vcpus)
                ids |= id_in_name(domain.name())
                continue
            vms.append(
                ObservedVm(
                    vm_id=mark.vm_id,
                    uuid=domain.UUIDString(),
                    state=state,
                    generation=mark.generation,
                    cpu_time=info.cpu_time / 1e9,
                    memory=0 if state == "POWEROFF" else memory,
                    ended=self._ended_by(domain.name(), state, info.reason),
                )
            )
        return Survey(
            vms=tuple(sorted(vms, key=lambda vm: vm.vm_id)),
            foreign_memory=foreign,
            foreign_ids=frozenset(ids),
            runs=runs_of(marks),
        )

    def _info_of(self, domain: Any) -> _Info | None:
        """Return what libvirt itself knows of a domain; None if that is gone by now. QEMU is not asked: a guest whose
        QEMU hangs would hold up all the others, and each answer takes milliseconds."""
        lv = self._libvirt
        try:
            state, maximum, _memory, vcpus, cpu_time = domain.info()
            reason = domain.state()[1] if state == lv.VIR_DOMAIN_SHUTOFF else 0
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return None
            raise
        return _Info(state, reason, maximum, vcpus, cpu_time)

    def on_huge_pages(self, catalog: str) -> frozenset[int]:
        with self._explained("listing the machines of this node"):
            domains = self._connection().listAllDomains(self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            found = []
            for domain, mark in zip(domains, self._marks_of(domains, catalog)):
                # It may have ended in between.
                with contextlib.suppress(self._libvirt.libvirtError):
                    if mark is not None and "<hugepages>" in domain.XMLDesc(0):
                        found.append(mark.vm_id)
        return frozenset(found)

    def _overhead_of(self, domain: Any, memory: int, vcpus: int) -> int:
        try:
            kind = ET.fromstring(domain.XMLDesc(0)).get("type", "")
        except (self._libvirt.libvirtError, ET.ParseError):
            kind = ""  # it may have ended in between
        return self.overhead(kind).of(memory, vcpus or 1)

    def _ended_by(self, name: str, state: str, reason: int) -> str:
        """Return who ended the machine, as ObservedVm.ended."""
        lv = self._libvirt
        # A guest that reboots where that ends the machine is told as one that switched off, and so is a QEMU that
        # somebody asked to end; a killed QEMU and one that was destroyed are not.
        if state != "POWEROFF" or reason not in (lv.VIR_DOMAIN_SHUTOFF_SHUTDOWN, lv.VIR_DOMAIN_SHUTOFF_UNKNOWN):
            return ""
        by_guest = qemu_logs.ended_by_guest(name)
        if by_guest is None:
            # A libvirtd that was started anew has forgotten the reason.
            return "guest" if reason == lv.VIR_DOMAIN_SHUTOFF_SHUTDOWN else "unknown"
        return "guest" if by_guest else ""

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        lv = self._libvirt
        with self._explained(f"defining {label_of(mark)}"):
            domain = self._connection().defineXML(deployment.text)
            # As libvirt knows it, which is asked for its cgroup's values where there is anything to be done.
            running = self._looked_at(mark, _ADJUSTED)
            weights = domain_hardware.weights_of
            if running is not None and weights(running.definition) == weights(deployment.text):
                return
            # Without cgroups there is nothing that could be asked.
            if "<shares>" in deployment.text and domain.isActive():
                has = domain.schedulerParameters()
                parameters = domain_hardware.scheduler_parameters(deployment.text, has)
                if any(has.get(name) != value for name, value in parameters.items()):
                    domain.setSchedulerParametersFlags(parameters, lv.VIR_DOMAIN_AFFECT_LIVE)

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        asked = f"changing {label_of(mark)} while it runs"
        running = self._looked_at(mark, _CHECKED) or self._running(mark, asked)
        self._looked.last = None
        domain, live = running.domain, running.definition
        with self._explained(asked):
            wanted = self.render(vm, site).text
            links = machine_disks.linked_files(site.directory)
            steps = live_devices.plan_steps(live, wanted, site.directory, vm, order.removes, links)
            values = live_values.plan_values(live, wanted)
            work = LiveDeviceChanges(self._libvirt, self._heard, domain, asked, order.detach_timeout, order.waiting)
            grown = work.smaller_than_wanted(vm, site.disks, order.grown)
            doing = [step for step in steps if not step.held and (order.removes or not step.alias)]
            resizing = live_capacity.plan_resizing(live, vm, order.removes)
            work.carry_out(doing, grown)
            work.set_values(values)
            # A guest may have more than it is to have, for it has no driver: nothing is asked of it again and again.
            lowers = resizing.balloon is not None and order.removes and self._stored_memory(domain) > vm.memory
            resized = work.resize(resizing, lowers)
            notes = work.contents_left(vm, site.disks, order.grown)
        self._looked.last = _ADJUSTED, running
        return Adjusted(bool(doing or grown or values or resized), len(doing) < len(steps), notes)

    def _stored_memory(self, domain: Any) -> int:
        return domain_xml.memory_of(ET.fromstring(domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE)))

    def check_adjustment(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> None:
        running = self._running(mark, f"changing {label_of(mark)} while it runs")
        wanted = self.render(vm, site).text
        links = machine_disks.linked_files(site.directory)
        live_devices.plan_steps(running.definition, wanted, site.directory, vm, order.removes, links)
        live_capacity.plan_resizing(running.definition, vm, order.removes)
        self._looked.last = _CHECKED, running

    def devices_left(self, vm: Vm, directory: str, mark: Mark) -> tuple[str, ...]:
        domain = self._found(mark)
        with self._explained(f"looking at {label_of(mark)}"):
            return live_devices.names_left(domain.XMLDesc(0), directory, vm, machine_disks.linked_files(directory))

    def has_begun(self, vm: Vm, directory: str, mark: Mark) -> bool:
        domain, inactive = self._found(mark), self._libvirt.VIR_DOMAIN_XML_INACTIVE
        with self._explained(f"looking at {label_of(mark)}"):
            running, defined = domain.XMLDesc(0), domain.XMLDesc(inactive)
        links = machine_disks.linked_files(directory)
        has, had = (live_devices.own_names(text, directory, vm.vm_id, links) for text in (running, defined))
        wants = {*(f"DISK {disk.disk_id}" for disk in vm.disks), *(f"NIC {nic.nic_id}" for nic in vm.nics)}
        coming = (disk.disk_id for disk in vm.disks if f"DISK {disk.disk_id}" not in had)
        files = (os.path.lexists(disk_path(directory, number)) for number in coming)
        sizes = live_capacity.has_begun(running, defined, vm)
        return sizes or bool(has - had) or bool(had - has - wants) or any(files)

    def state(self, mark: Mark) -> str | None:
        domain = self._find(mark)
        if domain is None:
            return None
        self._looked.last = _FOUND, _Running(mark, domain)
        state = self._state(domain, mark)
        with self._explained(f"state of {label_of(mark)}"):
            if state == "RUNNING" or not domain.snapshotNum(0) or not domain.isPersistent():
                return state
            # A run that was killed may have begun to go back to a snapshot, which libvirt goes on with: it ends QEMU,
            # and starts it anew. Nothing is written to the definition meanwhile.
            lv = self._libvirt
            text = domain.metadata(lv.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE, lv.VIR_DOMAIN_AFFECT_CONFIG)
            domain.setMetadata(
                lv.VIR_DOMAIN_METADATA_ELEMENT, text, "nebula", domain_xml.NAMESPACE, lv.VIR_DOMAIN_AFFECT_CONFIG
            )
        return self._state(domain, mark)

    def _running(self, mark: Mark, asked: str) -> _Running:
        flags = self._libvirt.VIR_DOMAIN_XML_SECURE
        found = self._looked_at(mark, _FOUND)
        if found is not None:
            # What has gone meanwhile is looked for, so that it is told as what it is.
            with contextlib.suppress(self._libvirt.libvirtError):
                return _Running(mark, found.domain, found.domain.XMLDesc(flags))
        domain = self._found(mark)
        with self._explained(asked):
            return _Running(mark, domain, domain.XMLDesc(flags))

    def _looked_at(self, mark: Mark, *steps: str) -> _Running | None:
        """Return what this thread has found of the machine, if its last look was for one of these steps, and a moment
        ago: to look again takes milliseconds."""
        last: tuple[str, _Running] | None = getattr(self._looked, "last", None)
        if last is None or last[0] not in steps or last[1].mark != mark or time.monotonic() - last[1].at > MOMENT:
            return None
        return last[1]

    def starts_with_host(self, mark: Mark) -> bool | None:
        running = self._looked_at(mark, _ADJUSTED, _CHANGED)
        if running is not None:
            with contextlib.suppress(self._libvirt.libvirtError):
                return bool(running.domain.autostart())
        return super().starts_with_host(mark)

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        if vm.context is not None and vm.context.device == "disk":
            # The medium of a disk can't be changed, and bytes that change below a mounted one are a damaged one to the
            # guest. QEMU keeps the file that it has open.
            return False
        lv = self._libvirt
        flags = lv.VIR_DOMAIN_AFFECT_LIVE | lv.VIR_DOMAIN_DEVICE_MODIFY_FORCE
        asked = f"changing the context of {label_of(mark)}"
        # What came before has changed nothing of the context's drive.
        running = self._looked_at(mark, _ADJUSTED) or self._running(mark, asked)
        self._looked.last = _CHANGED, running
        domain, live = running.domain, running.definition
        with self._explained(asked):
            if vm.context is not None and not live_devices.has_drive(live, vm.context.target):
                # It becomes a drive, or is at that place, at the next start.
                return False
            with contextlib.suppress(lv.libvirtError):
                # To libvirt, and to QEMU, a new file of the same name is no change.
                other = live_devices.another_name(live, path)
                domain.updateDeviceFlags(domain_xml.context_medium(vm, other), flags)
                return True
            for left in range(TRAY_TRIES, 0, -1):
                try:
                    # Out and in again, which takes twice as long.
                    domain.updateDeviceFlags(domain_xml.context_medium(vm, None), flags)
                    domain.updateDeviceFlags(domain_xml.context_medium(vm, path), flags)
                    break
                except lv.libvirtError as error:
                    # A guest that looks for media, as it does while it boots, has drawn the tray in meanwhile.
                    if left == 1 or not TRAY_CLOSED.search(str(error)):
                        raise
                    RunningDisks(lv, self._uri, domain, asked).open_tray(vm.context.target if vm.context else "")
        return True

    def remove(self, mark: Mark) -> bool:
        found = self._remove(mark, self._libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        # libvirt does that with the definition, which a move that was broken off may have taken away before.
        self.remove_state_elsewhere(mark)
        return found

    def disown(self, mark: Mark) -> bool:
        lv = self._libvirt
        # Another host may have this very file; and what this one has of its TPM may be all that there is.
        keep: int = lv.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(lv, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        return self._remove(mark, keep)

    def state_elsewhere(self, vm: Vm) -> StateElsewhere | None:
        if vm.tpm is None:
            return None
        from .tpm_state import TpmState

        if not hasattr(self._libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM"):
            raise MissingDependency(
                f"virtual machine {vm.name}: move",
                "it has a TPM, and this host's libvirt is older than 8.9: it removes the state of a TPM with the "
                "definition of its machine",
                "Bring a newer libvirt on both hosts",
            )
        return TpmState(vm.uuid, vm.tpm)

    def has_state_elsewhere(self, mark: Mark) -> bool:
        from . import tpm_state

        return tpm_state.is_there(mark.uuid)

    def remove_state_elsewhere(self, mark: Mark) -> str:
        from . import tpm_state

        lv = self._libvirt
        asked = f"state of the TPM of {label_of(mark)}"
        try:
            # By the UUID libvirt finds the state: a domain that somebody has renamed or defined anew goes on with it.
            name = self._connection().lookupByUUIDString(mark.uuid).name()
        except lv.libvirtError as error:
            if error.get_error_code() != lv.VIR_ERR_NO_DOMAIN:
                raise self._error(asked, error) from error
            tpm_state.remove(mark.uuid)
            return ""
        return f"{asked}: it stays, as domain {name} of this host has the same UUID ({mark.uuid})"

    def state_files(self, vm: Vm) -> Mapping[str, int]:
        return {domain_xml.nvram_name(vm): domain_xml.MOST_NVRAM} if domain_xml.starts_by_uefi(vm) else {}

    def _remove(self, mark: Mark, with_state: int) -> bool:
        lv = self._libvirt
        domain = self._find(mark)
        if domain is None:
            return False
        self._destroy(domain, mark)
        # Before the domain is forgotten: killed in between, the next run still knows that they are ours.
        _remove_traces(domain_name(mark.vm_id), domain.UUIDString())
        flags = (
            lv.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | lv.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | with_state
            | getattr(lv, "VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA", 0)
        )
        self._undefine(domain, mark, flags)
        return True

    # -- state ----------------------------------------------------------------------------------------------------
    def _create(self, domain: Any) -> None:
        try:
            domain.create()
        except self._libvirt.libvirtError as error:
            # With version 1 cgroups, the first machines of a host race for the group that all of them share: libvirt
            # makes it, and writes its settings, without a lock. The loser finds it made the second time.
            if not lost_the_race_for_cgroups(str(error)):
                raise
            domain.create()

    def reboot(self, mark: Mark, timeout: int) -> None:
        with self._heard().rebooted(self._found(mark).UUIDString()) as happened:
            limit = time.monotonic() + timeout
            while time.monotonic() < limit:
                with self._explained(f"rebooting {label_of(mark)}"):
                    self._found(mark).reboot(self._libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
                if happened.wait(min(PRESS_AGAIN, max(limit - time.monotonic(), 0.0))):
                    return
        raise self._disobeyed(f"rebooting {label_of(mark)}", mark, timeout, "state: reset")

    def _heard(self) -> DomainEvents:
        with self._lock:
            if self._events is None:
                self._events = DomainEvents(self._libvirt, self._open)
            return self._events

    def press_key(self, mark: Mark) -> None:
        domain = self._found(mark)
        with self._explained(f"pressing a key of {label_of(mark)}"):
            domain.sendKey(self._libvirt.VIR_KEYCODE_SET_LINUX, 50, [SPACE], 1, 0)

    def written(self, mark: Mark) -> int | None:
        domain = self._found(mark)
        with self._explained(f"looking at the disks of {label_of(mark)}"):
            # Of all disks together: (reads, bytes read, writes, bytes written, errors).
            return int(domain.blockStats("")[3])

    def reset(self, mark: Mark) -> None:
        domain = self._found(mark)
        with self._explained(f"resetting {label_of(mark)}"):
            domain.reset()

    def ask_agent(self, mark: Mark) -> AgentAnswer:
        return guest_agent.ask(self._libvirt, self._found(mark), f"the guest agent of {label_of(mark)}")

    # -- moves ----------------------------------------------------------------------------------------------------
    def offer(self, mark: Mark) -> str:
        lv = self._libvirt
        domain = self._found(mark)
        with self._explained(f"moving {label_of(mark)}"):
            return str(domain.XMLDesc(lv.VIR_DOMAIN_XML_MIGRATABLE))

    def processor_offered(self, offered: str) -> str:
        from .arriving_hardware import processor_of_host

        with self._explained("looking at the processor of this host"):
            return processor_of_host(self._connection(), offered)

    def require_hardware(self, vm: Vm, site: Site, offered: str = "", processor: str = "") -> None:
        from . import arriving_belongings, arriving_hardware

        asked = f"virtual machine {vm.name}: move to this host"
        hardware = arriving_hardware.of_own(vm)
        if offered:
            hardware = arriving_hardware.of_running(offered, processor, asked)
        emulator = vm.emulator or site.emulator
        with self._explained(asked):
            arriving_hardware.require(self._libvirt, self._connection(), hardware, site, emulator, asked)
            arriving_belongings.require(self._libvirt, self._connection(), vm, site, emulator, asked)

    def accept(self, vm: Vm, site: Site, offered: str) -> str:
        from . import arriving_firmware
        from .arriving_definition import adapted

        disks = {disk.target for disk in vm.disks} | ({vm.context.target} if vm.context is not None else set())
        asked = f"virtual machine {vm.name}: move"
        own = arriving_firmware.explicit(self.render(vm, site).text, offered, asked)
        return adapted(offered, own, asked, disks)

    def depart(self, vm: Vm, mark: Mark, departure: Departure) -> None:
        from . import migration

        asked = f"moving {label_of(mark)}"
        self._found(mark)
        # What takes so long has a connection of its own.
        connection = self._open()
        try:
            with self._explained(asked):
                domain = connection.lookupByName(domain_name(mark.vm_id))
                owner = migration.user_of_qemu(connection.getCapabilities())
                migration.depart(self._libvirt, domain, vm, departure, owner, asked)
        except NebulaError as error:
            raise migration.explain(error) from error
        finally:
            with contextlib.suppress(self._libvirt.libvirtError):
                connection.close()
        left = self._find(mark)
        if left is not None and not left.isActive():
            # libvirt only warns where it could not forget it.
            self.disown(mark)
        _remove_traces(domain_name(mark.vm_id), vm.uuid)

    def settle_definitions(self) -> None:
        for place in DEFINITIONS:
            # libvirt makes each with the first that is in there.
            with contextlib.suppress(FileNotFoundError):
                sync_directory(place)

    def settle_departure(self, mark: Mark, token: str) -> str | None:
        from . import migration

        migration.forget(token)
        lv = self._libvirt
        limit = time.monotonic() + DEPARTING_SECONDS
        while True:
            domain = self._find(mark)
            if domain is None:
                return None
            # It may have ended in between.
            with contextlib.suppress(lv.libvirtError):
                if domain.state() == [lv.VIR_DOMAIN_SHUTOFF, lv.VIR_DOMAIN_SHUTOFF_MIGRATED]:
                    # It has gone, and libvirt was about to forget it.
                    self.disown(mark)
                    return None
                if not domain.isActive() or domain.jobInfo()[0] == lv.VIR_DOMAIN_JOB_NONE:
                    return self._state(domain, mark)
                domain.abortJob()
            if time.monotonic() > limit:
                raise TimedOut(
                    f"moving {label_of(mark)}",
                    f"libvirt still tries to move it after {DEPARTING_SECONDS:g} s, though nobody waits for that",
                    f"End that on this host (virsh domjobabort {domain_name(mark.vm_id)}), then run again",
                )
            time.sleep(STEP)

    def receive(self, mark: Mark, token: str, definition: str, disks: Collection[str]) -> Receiver:
        from . import migration

        asked, name = f"moving {label_of(mark)}", domain_name(mark.vm_id)
        with self._explained(asked):
            owner = migration.user_of_qemu(self._connection().getCapabilities())
        return migration.MigrationReceiver(self._libvirt, token, name, definition, disks, owner, asked)

    def has_arrived(self, mark: Mark) -> bool:
        lv = self._libvirt
        domain = self._find(mark)
        with self._explained(f"state of {label_of(mark)}"):
            return domain is not None and domain.state() == [lv.VIR_DOMAIN_PAUSED, lv.VIR_DOMAIN_PAUSED_USER]

    def announce(self, mark: Mark) -> None:
        from . import migration

        asked = f"announcing {label_of(mark)}"
        domain = self._found(mark)
        with self._explained(asked):
            migration.announce(domain, asked)

    def check_consistency(self, mark: Mark, disk: Disk, consistency: str) -> None:
        self._running_disks(mark, disk).check_agent(consistency)

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        self._running_disks(mark, disk).copy(disk, path, format, consistency)

    def snapshot_disk(self, mark: Mark, disk: Disk, tag: str, consistency: str) -> None:
        self._running_disks(mark, disk).create_snapshot(disk, tag, consistency)

    def delete_disk_snapshot(self, mark: Mark, disk: Disk, tag: str) -> None:
        self._running_disks(mark, disk).delete_snapshot(disk, tag)

    def snapshot_machine(self, mark: Mark, disks: Sequence[Disk], tag: str) -> None:
        self._running_snapshots(mark).create(disks, tag)

    def revert_machine(self, mark: Mark, tag: str) -> None:
        self._running_snapshots(mark).revert(tag)

    def delete_machine_snapshot(self, mark: Mark, disks: Sequence[Disk], tag: str) -> None:
        self._running_snapshots(mark).delete(disks, tag)

    def forget_machine_snapshot(self, mark: Mark, tag: str) -> None:
        if self._find(mark) is not None:
            self._running_snapshots(mark).forget(tag)

    def check_machine_snapshot(self, mark: Mark, tag: str = "", disks: Sequence[Disk] = ()) -> None:
        if self._find(mark) is not None:
            self._running_snapshots(mark).check(tag, disks)

    def _running_snapshots(self, mark: Mark) -> RunningSnapshots:
        return RunningSnapshots(self._libvirt, self._uri, self._found(mark), f"snapshot of {label_of(mark)}")

    def _running_disks(self, mark: Mark, disk: Disk) -> RunningDisks:
        return RunningDisks(self._libvirt, self._uri, self._found(mark), f"disk {disk.disk_id} of {label_of(mark)}")

    # -- backups --------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def back_up(self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp) -> Iterator[RunningBackup]:
        from .backup_job import BackupJob

        asked = f"backing up {label_of(mark)}"
        domain = self._found(mark)
        with BackupJob(self._libvirt, self._uri, domain, disks, order, asked).running() as job:
            yield job

    def end_left_backup(self, mark: Mark, datastores: str) -> None:
        places = disk_jobs.places_of(domain_name(mark.vm_id))
        if not any(map(os.path.lexists, places)):
            return
        asked = f"the backup of {label_of(mark)} that a killed run has left"
        disk_jobs.wait_for_watchdog(places[1], asked)
        domain = self._find(mark)
        if domain is not None and domain.isActive():
            disk_jobs.end_left(self._libvirt, domain, asked, datastores)
        for place in places:
            shutil.rmtree(place, ignore_errors=True)

    def forget_checkpoints(self, mark: Mark, files: Mapping[int, DiskFiles], prefix: str = "") -> None:
        from . import backup_checkpoints

        asked = f"forgetting the checkpoints of {label_of(mark)}"
        domain = self._find(mark)
        if domain is None:
            return
        with self._explained(asked):
            if not prefix:
                backup_checkpoints.refuse_foreign(self._libvirt, domain)
            known = backup_checkpoints.names(self._libvirt, domain)
            doomed = [name for name in known if disk_bitmaps.OURS.fullmatch(name) and name.startswith(prefix)]
            backup_checkpoints.forget(self._libvirt, domain, doomed, files, asked)

    def is_saved(self, file: BinaryIO) -> bool:
        return file.read(len(SAVED)) == SAVED


def _remove_traces(name: str, uuid: str) -> None:
    """Remove what libvirt keeps of a machine that it does not know any more."""
    qemu_logs.remove(name)
    for each in (f"libvirt-{uuid}", f"libvirt-{uuid}.files"):
        remove_file(str(PROFILES / each))


def lost_the_race_for_cgroups(message: str) -> bool:
    """Return whether the group's settings are missing, or still empty, so that no process fits below it."""
    found_none = "cpuset." in message and "No such file or directory" in message
    return found_none or ("/cpuset/" in message and "/tasks'" in message and "No space left on device" in message)
