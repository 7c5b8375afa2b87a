# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU machines by libvirt's system daemon."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional
from xml.etree import ElementTree as ET

from ..deps import require
from ..errors import Conflict, ForeignObject, HypervisorError, NebulaError, NoCapacity, NotFound, TimedOut
from ..host import accelerator, kvm_device, services
from ..host.command import find
from ..host.files import remove_file
from ..host.node import Changes, NodeFile, Remember
from ..model.audit import Domain
from ..model.disk import Disk
from ..model.host import Overhead
from ..model.plan import ObservedVm
from ..model.vm import Vm
from . import libvirt_logs, libvirt_xml
from .base import Deployment, Driver, Mark, Secrets, Site, Survey
from .libvirt_disks import RunningDisks
from .libvirt_secrets import LibvirtSecrets

URI = "qemu:///system"
# Linux's number of the key.
SPACE = 57
# libvirt writes one for each machine that it confines, and keeps it for ever.
PROFILES = Path("/etc/apparmor.d/libvirt")
# How often a condition is looked at. libvirt itself polls the end of a QEMU process in steps of 0.2 s.
STEP = 0.1
PASSING_SECONDS = 300.0
# A guest that is still booting does not see the power button: it is pressed again.
PRESS_AGAIN = 10.0
# libvirt writes this first into a saved machine, and only when all the rest is in the file.
SAVED = b"LibvirtQemudSave"
# What libvirt says, and what to do about it.
# How often a context is put in again before a guest that keeps drawing the tray in is an error; QEMU's words for that,
# which name the device only where it has one to name.
TRAY_TRIES = 50
TRAY_CLOSED = re.compile(r"Tray of (?:the device|device '[^']*') is not open")
REMEDIES = (
    ("Cannot get interface MTU", "Its network's bridge is not there: run role nebula.provision.network first"),
    ("No such device", "Its network's bridge is not there: run role nebula.provision.network first"),
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
    ("could not read keymap file", "Check GRAPHICS KEYMAP: /usr/share/qemu/keymaps has what there is"),
    ("CPU model", "Check CPU_MODEL: virsh domcapabilities lists what there is"),
)


# At most, by what benchmarks/overhead.py measures. QEMU itself takes 21 MiB, and may take screen memory (16) and caches
# of disks; each processor its stack, and when emulated what its memory accesses are looked up in; page tables too.
# Emulated besides: translated code, which is limited (it was 510 MiB of a guest of 64, and growing), and what is noted
# of it: a guest that made all of it that it could took 209 MiB.
BY_KVM = Overhead(fixed=64, vcpu=4, share=1 / 256)
EMULATED = Overhead(fixed=128 + libvirt_xml.TRANSLATED, vcpu=8, share=1 / 32)


class KvmDriver(Driver):
    name = "kvm"
    capabilities = Driver.OPTIONAL
    programs = (accelerator.EMULATOR, "libvirtd", "virtlogd")
    libraries = ("libvirt",)
    services = services.LIBVIRT

    def __init__(self, uri: str = URI) -> None:
        self._libvirt: Any = require("libvirt")
        # By default the library prints every error, also those that are answers, to a stream that Ansible reads.
        self._libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._uri = uri
        self._local = threading.local()
        self._connections: list[Any] = []
        self._lock = threading.Lock()
        self._events: Optional[_Events] = None
        self._connection()

    def close(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
            if self._events is not None:
                self._events.close()
                self._events = None
        for connection in connections:
            with contextlib.suppress(self._libvirt.libvirtError):
                connection.close()
        self._local = threading.local()

    def _connection(self) -> Any:
        # One for each thread: libvirtd works on no more than five requests of a connection at a time.
        connection = getattr(self._local, "connection", None)
        if connection is None or not self._is_alive(connection):
            opened = self._open()
            with self._lock:
                if connection in self._connections:
                    self._connections.remove(connection)
                self._connections.append(opened)
            connection = self._local.connection = opened
        return connection

    def _is_alive(self, connection: Any) -> bool:
        """Whether libvirtd still had it when it was last used: one that was started anew does not know it."""
        try:
            return bool(connection.isAlive())
        except self._libvirt.libvirtError:
            return False

    def _open(self) -> Any:
        try:
            return self._libvirt.open(self._uri)
        except self._libvirt.libvirtError as error:
            raise HypervisorError(
                f"connecting to libvirt ({self._uri})",
                _message(error),
                "Start libvirtd; role nebula.provision.node does it with nebula_manage_services: true",
            ) from error

    # -- the node -------------------------------------------------------------------------------------------------
    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        return accelerator.choose(wanted, cached)

    @classmethod
    def prepare(cls, changes: Changes, remember: Remember) -> None:
        kvm_device.take(changes, remember)

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        return kvm_device.give_back(changes, known)

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"qemu": accelerator.qemu_version(), "libvirt": services.libvirt_version()}

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        return BY_KVM if accelerator == "kvm" else EMULATED

    def site(self, common: Site) -> Site:
        return replace(common, emulator=find(accelerator.EMULATOR))

    def secrets(self, owner: str) -> Optional[Secrets]:
        return LibvirtSecrets(self._libvirt, self._connection(), owner)

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        return libvirt_xml.render(vm, site)

    def survey(self, catalog: str) -> Survey:
        lv = self._libvirt
        connection = self._connection()
        groups = (
            lv.VIR_DOMAIN_STATS_STATE
            | lv.VIR_DOMAIN_STATS_CPU_TOTAL
            | lv.VIR_DOMAIN_STATS_BALLOON
            | lv.VIR_DOMAIN_STATS_VCPU
        )
        with self._explained("listing the machines of this node"):
            records: list[tuple[Any, dict[str, Any]]] = connection.getAllDomainStats(
                groups, lv.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            )
        vms: list[ObservedVm] = []
        foreign, ids = 0, set()
        for domain, stats in records:
            memory = int(stats.get("balloon.maximum", 0)) // 1024
            state = self._state_name(int(stats.get("state.state", 0)))
            mark = self._mark_of(domain)
            if mark is None or mark.catalog != catalog:
                foreign += 0 if state == "POWEROFF" else memory + self._overhead_of(domain, memory, stats)
                named = re.fullmatch(libvirt_xml.domain_name(0)[:-1] + r"(0|[1-9]\d{0,17})", domain.name())
                ids |= {int(named[1])} if named else set()
                continue
            vms.append(
                ObservedVm(
                    vm_id=mark.vm_id,
                    uuid=domain.UUIDString(),
                    state=state,
                    generation=mark.generation,
                    cpu_time=int(stats.get("cpu.time", 0)) / 1e9,
                    memory=0 if state == "POWEROFF" else memory,
                    ended=self._ended_by(domain.name(), state, int(stats.get("state.reason", 0))),
                )
            )
        return Survey(
            vms=tuple(sorted(vms, key=lambda vm: vm.vm_id)), foreign_memory=foreign, foreign_ids=frozenset(ids)
        )

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        lv = self._libvirt
        ours: list[Domain] = []
        foreign: list[str] = []
        with self._explained("listing the machines of this node"):
            domains = self._connection().listAllDomains()
        for domain in domains:
            mark = self._mark_of(domain)
            if mark is None:
                foreign.append(domain.name())
                continue
            try:
                ours.append(self._inventoried(domain, mark))
            except lv.libvirtError as error:
                # It may have ended in between.
                if error.get_error_code() != lv.VIR_ERR_NO_DOMAIN:
                    raise _hypervisor_error(f"looking at domain {domain.name()}", error) from error
        return tuple(sorted(ours, key=lambda each: (each.vm_id, each.name))), tuple(sorted(foreign))

    def _inventoried(self, domain: Any, mark: Mark) -> Domain:
        name, persistent = domain.name(), bool(domain.isPersistent())
        autostart = persistent and bool(domain.autostart())
        devices = ET.fromstring(domain.XMLDesc(0)).find("devices")
        found = ET.Element("devices") if devices is None else devices
        own = ET.fromstring(domain.metadata(self._libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt_xml.NAMESPACE))
        ports = [int(each.get("port") or 0) for each in found.iterfind("graphics")]
        virsh = f"virsh -c {self._uri}"
        end = [f"{virsh} destroy {name}"] * bool(domain.isActive())
        return Domain(
            name=name,
            catalog=mark.catalog,
            vm_id=mark.vm_id,
            uuid=domain.UUIDString(),
            state=self._state_name(domain.state()[0]),
            generation=mark.generation,
            persistent=persistent,
            directory=own.get("directory", ""),
            autostart=autostart,
            port=max([port for port in ports if port > 0], default=0),
            macs=tuple(each.get("address", "") for each in found.iterfind("interface/mac")),
            disks=tuple(each.get("file", "") for each in found.iterfind("disk/source") if each.get("file")),
            turn=f"{virsh} autostart {'--disable ' * autostart}{name}",
            undefine="; ".join(end + [f"{virsh} undefine --keep-nvram {name}"] * persistent),
            forget="; ".join(
                end + [f"{virsh} undefine --managed-save --snapshots-metadata --nvram {name}"] * persistent
            ),
        )

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        lv = self._libvirt
        name = libvirt_xml.domain_name(mark.vm_id)
        try:
            domain = self._connection().lookupByName(name)
            found = self._mark_of(domain)
            return (found is None or found.catalog != mark.catalog) and f"{directory}/" not in domain.XMLDesc(0)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return False
            raise _hypervisor_error(f"looking for domain {name}", error) from error

    def _overhead_of(self, domain: Any, memory: int, stats: Mapping[str, Any]) -> int:
        try:
            kind = ET.fromstring(domain.XMLDesc(0)).get("type", "")
        except (self._libvirt.libvirtError, ET.ParseError):
            kind = ""  # it may have ended in between
        return self.overhead(kind).of(memory, int(stats.get("vcpu.current", 1)))

    def state(self, mark: Mark) -> Optional[str]:
        domain = self._find(mark)
        return None if domain is None else self._state(domain, mark)

    def _state(self, domain: Any, mark: Mark) -> str:
        """Waits for the end of what is under way: a start or a save that a killed run asked for goes on in libvirtd."""
        lv = self._libvirt
        passing = (
            lv.VIR_DOMAIN_PAUSED_STARTING_UP,
            lv.VIR_DOMAIN_PAUSED_SAVE,
            lv.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
            lv.VIR_DOMAIN_PAUSED_SNAPSHOT,
        )
        limit = time.monotonic() + PASSING_SECONDS
        with self._explained(f"state of {_called(mark)}"):
            state, reason = domain.state()
            while state == lv.VIR_DOMAIN_PAUSED and reason in passing and time.monotonic() < limit:
                time.sleep(STEP)
                state, reason = domain.state()
        return self._state_name(state)

    def _ended_by(self, name: str, state: str, reason: int) -> str:
        """As ObservedVm.ended."""
        lv = self._libvirt
        # A guest that reboots where that ends the machine is told as one that switched off, and so is a QEMU that
        # somebody asked to end; a killed QEMU and one that was destroyed are not.
        if state != "POWEROFF" or reason not in (lv.VIR_DOMAIN_SHUTOFF_SHUTDOWN, lv.VIR_DOMAIN_SHUTOFF_UNKNOWN):
            return ""
        by_guest = libvirt_logs.ended_by_guest(name)
        if by_guest is None:
            # A libvirtd that was started anew has forgotten the reason.
            return "guest" if reason == lv.VIR_DOMAIN_SHUTOFF_SHUTDOWN else "unknown"
        return "guest" if by_guest else ""

    def _state_name(self, state: int) -> str:
        lv = self._libvirt
        if state in (lv.VIR_DOMAIN_RUNNING, lv.VIR_DOMAIN_BLOCKED, lv.VIR_DOMAIN_SHUTDOWN):
            return "RUNNING"
        return "POWEROFF" if state == lv.VIR_DOMAIN_SHUTOFF else "UNKNOWN"

    def _find(self, mark: Mark) -> Any:
        """The machine's domain, None if there is none of its name; ForeignObject if it is not ours."""
        lv = self._libvirt
        name = libvirt_xml.domain_name(mark.vm_id)
        try:
            domain = self._connection().lookupByName(name)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return None
            raise _hypervisor_error(f"looking for domain {name}", error) from error
        found = self._mark_of(domain)
        if found is None or (found.catalog, found.vm_id) != (mark.catalog, mark.vm_id):
            raise ForeignObject(
                f"{_called(mark)}: domain {name}",
                "libvirt has one of this name without our mark"
                if found is None
                else f"libvirt has one of this name that belongs to catalog {found.catalog}",
                "Rename or undefine it: it will not be touched",
            )
        if mark.uuid and domain.UUIDString() != mark.uuid:
            raise Conflict(
                f"{_called(mark)}: domain {name}",
                f"it has the UUID {domain.UUIDString()}, this machine's is {mark.uuid}",
                "The catalog was replaced by another copy of itself? Undefine the domain if it is not needed",
            )
        return domain

    def _found(self, mark: Mark) -> Any:
        domain = self._find(mark)
        if domain is None:
            raise NotFound(
                _called(mark),
                f"libvirt has no domain {libvirt_xml.domain_name(mark.vm_id)}",
                "Run again: it is defined anew",
            )
        return domain

    def _mark_of(self, domain: Any) -> Optional[Mark]:
        lv = self._libvirt
        try:
            text = domain.metadata(lv.VIR_DOMAIN_METADATA_ELEMENT, libvirt_xml.NAMESPACE)
            element = ET.fromstring(text)
            return Mark(
                catalog=element.get("catalog", ""),
                vm_id=int(element.get("id", "")),
                generation=int(element.get("generation", "0")),
            )
        except (lv.libvirtError, ET.ParseError, ValueError):
            return None

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        lv = self._libvirt
        with self._explained(f"defining {_called(mark)}"):
            domain = self._connection().defineXML(deployment.text)
            if domain.isActive():
                shares = ET.fromstring(deployment.text).findtext("./cputune/shares")
                if shares:
                    domain.setSchedulerParametersFlags({"cpu_shares": int(shares)}, lv.VIR_DOMAIN_AFFECT_LIVE)

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        flags = lv.VIR_DOMAIN_AFFECT_LIVE | lv.VIR_DOMAIN_DEVICE_MODIFY_FORCE
        asked = f"changing the context of {_called(mark)}"
        with self._explained(asked):
            for left in range(TRAY_TRIES, 0, -1):
                try:
                    # Out and in again: to libvirt, and to QEMU, a new file of the same name is no change.
                    domain.updateDeviceFlags(libvirt_xml.context_medium(vm, None), flags)
                    domain.updateDeviceFlags(libvirt_xml.context_medium(vm, path), flags)
                    return
                except lv.libvirtError as error:
                    # A guest that looks for media, as it does while it boots, has drawn the tray in meanwhile.
                    if left == 1 or not TRAY_CLOSED.search(str(error)):
                        raise
                    RunningDisks(lv, self._uri, domain, asked).open_tray(vm.context.target if vm.context else "")

    def remove(self, mark: Mark) -> bool:
        lv = self._libvirt
        domain = self._find(mark)
        if domain is None:
            return False
        self._destroy(domain, mark)
        # Before the domain is forgotten: killed in between, the next run still knows that they are ours.
        libvirt_logs.remove(libvirt_xml.domain_name(mark.vm_id))
        for name in (f"libvirt-{domain.UUIDString()}", f"libvirt-{domain.UUIDString()}.files"):
            remove_file(str(PROFILES / name))
        flags = (
            lv.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | lv.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | lv.VIR_DOMAIN_UNDEFINE_NVRAM
            | getattr(lv, "VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA", 0)
        )
        try:
            domain.undefineFlags(flags)
        except lv.libvirtError as error:
            # A domain that was transient is gone with its process.
            if error.get_error_code() != lv.VIR_ERR_NO_DOMAIN:
                raise _hypervisor_error(f"undefining {_called(mark)}", error) from error
        return True

    def starts_with_host(self, mark: Mark) -> Optional[bool]:
        domain = self._find(mark)
        with self._explained(f"looking at {_called(mark)}"):
            return None if domain is None else bool(domain.autostart())

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        domain = self._found(mark)
        with self._explained(f"setting whether {_called(mark)} starts with its host"):
            domain.setAutostart(int(wanted))

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        with self._explained(f"starting {_called(mark)}"):
            state = domain.state()[0]
            if state == lv.VIR_DOMAIN_PAUSED:
                domain.resume()
            elif state == lv.VIR_DOMAIN_PMSUSPENDED:
                domain.pMWakeup()
            elif self._state_name(state) != "RUNNING":
                if domain.isActive():
                    domain.destroy()
                self._create(domain)

    def _create(self, domain: Any) -> None:
        try:
            domain.create()
        except self._libvirt.libvirtError as error:
            # With version 1 cgroups, the first machines of a host race for the group that all of them share: libvirt
            # makes it, and writes its settings, without a lock. The loser finds it made the second time.
            if not lost_the_race_for_cgroups(str(error)):
                raise
            domain.create()

    def shutdown(self, mark: Mark, timeout: int) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        limit = time.monotonic() + timeout
        press = 0.0
        while self._state(domain, mark) != "POWEROFF":
            now = time.monotonic()
            if now >= limit:
                raise TimedOut(
                    f"shutting {_called(mark)} down",
                    f"the guest did not obey the power button within {timeout} s; it runs on",
                    "Raise shutdown_timeout, see its console, or set hard: true",
                )
            if now >= press:
                press = now + PRESS_AGAIN
                try:
                    domain.shutdownFlags(lv.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                except lv.libvirtError as error:
                    # It may have ended in between.
                    if error.get_error_code() != lv.VIR_ERR_OPERATION_INVALID:
                        raise _hypervisor_error(f"shutting {_called(mark)} down", error) from error
            time.sleep(STEP)

    def cancel(self, mark: Mark) -> None:
        self._destroy(self._found(mark), mark)

    def _destroy(self, domain: Any, mark: Mark) -> None:
        lv = self._libvirt
        try:
            if domain.isActive():
                domain.destroy()
        except lv.libvirtError as error:
            if error.get_error_code() not in (lv.VIR_ERR_OPERATION_INVALID, lv.VIR_ERR_NO_DOMAIN):
                raise _hypervisor_error(f"ending {_called(mark)}", error) from error

    def reboot(self, mark: Mark, timeout: int) -> None:
        with self._lock:
            if self._events is None:
                self._events = _Events(self._libvirt, self._open)
        with self._events.rebooted(self._found(mark).UUIDString()) as happened:
            limit = time.monotonic() + timeout
            while time.monotonic() < limit:
                with self._explained(f"rebooting {_called(mark)}"):
                    self._found(mark).reboot(self._libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
                if happened.wait(min(PRESS_AGAIN, max(limit - time.monotonic(), 0.0))):
                    return
        raise TimedOut(
            f"rebooting {_called(mark)}",
            f"the guest did not obey the power button within {timeout} s; it runs on",
            "Raise shutdown_timeout, see its console, or set state: reset",
        )

    def press_key(self, mark: Mark) -> None:
        domain = self._found(mark)
        with self._explained(f"pressing a key of {_called(mark)}"):
            domain.sendKey(self._libvirt.VIR_KEYCODE_SET_LINUX, 50, [SPACE], 1, 0)

    def written(self, mark: Mark) -> Optional[int]:
        domain = self._found(mark)
        with self._explained(f"looking at the disks of {_called(mark)}"):
            # Of all disks together: (reads, bytes read, writes, bytes written, errors).
            return int(domain.blockStats("")[3])

    def reset(self, mark: Mark) -> None:
        domain = self._found(mark)
        with self._explained(f"resetting {_called(mark)}"):
            domain.reset()

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        domain = self._found(mark)
        with self._explained(f"suspending {_called(mark)}"):
            domain.save(checkpoint)

    def resume(self, mark: Mark, checkpoint: str) -> None:
        with self._explained(f"resuming {_called(mark)}"):
            self._connection().restoreFlags(checkpoint, None, self._libvirt.VIR_DOMAIN_SAVE_RUNNING)

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        self._running_disks(mark, disk).copy(disk, path, format, consistency)

    def snapshot_disk(self, mark: Mark, disk: Disk, tag: str, consistency: str) -> None:
        self._running_disks(mark, disk).create_snapshot(disk, tag, consistency)

    def delete_disk_snapshot(self, mark: Mark, disk: Disk, tag: str) -> None:
        self._running_disks(mark, disk).delete_snapshot(disk, tag)

    def _running_disks(self, mark: Mark, disk: Disk) -> RunningDisks:
        return RunningDisks(self._libvirt, self._uri, self._found(mark), f"disk {disk.disk_id} of {_called(mark)}")

    def checkpoint_complete(self, checkpoint: str) -> bool:
        try:
            with Path(checkpoint).open("rb") as file:
                return file.read(len(SAVED)) == SAVED
        except OSError:
            return False

    @contextlib.contextmanager
    def _explained(self, asked: str) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            raise _hypervisor_error(asked, error) from error


class _Events:
    """Waits for guests to reboot: nothing but an event tells. Has a thread and a connection of its own, since libvirt
    gives events only to connections that were opened after the event loop was registered."""

    _registered = False

    def __init__(self, libvirt: Any, connect: Any) -> None:
        self._libvirt = libvirt
        if not _Events._registered:
            libvirt.virEventRegisterDefaultImpl()
            _Events._registered = True
        self._waiting: dict[str, threading.Event] = {}
        self._ended = False
        # The loop sleeps in poll() until something happens; a timer wakes it, so that it sees that it is to end.
        self._timer = libvirt.virEventAddTimeout(500, lambda _timer, _opaque: None, None)
        self._connection = connect()
        self._connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._happened, None)
        self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            self._libvirt.virEventRunDefaultImpl()

    def _happened(self, _connection: Any, domain: Any, _opaque: Any) -> None:
        event = self._waiting.get(domain.UUIDString())
        if event is not None:
            event.set()

    @contextlib.contextmanager
    def rebooted(self, uuid: str) -> Iterator[threading.Event]:
        event = self._waiting[uuid] = threading.Event()
        try:
            yield event
        finally:
            del self._waiting[uuid]

    def close(self) -> None:
        self._ended = True
        self._thread.join(5)
        self._libvirt.virEventRemoveTimeout(self._timer)
        with contextlib.suppress(self._libvirt.libvirtError):
            self._connection.close()


def _called(mark: Mark) -> str:
    return f"virtual machine {mark.vm_id}"


def _message(error: Any) -> str:
    return " ".join(str(error.get_error_message() or error).split())


def lost_the_race_for_cgroups(message: str) -> bool:
    return "cpuset." in message and "No such file or directory" in message


def _hypervisor_error(asked: str, error: Any) -> NebulaError:
    text = _message(error)
    if "Address already in use" in text or "Failed to find an available port" in text:
        return NoCapacity(asked, text, "Run again: the next plan takes another port")
    remedy = next((remedy for pattern, remedy in REMEDIES if pattern in text), "")
    return HypervisorError(asked, text, remedy)
