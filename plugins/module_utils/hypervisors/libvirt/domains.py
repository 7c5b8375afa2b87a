# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what libvirt's words alone can do with machines, whatever runs them. It goes before Driver in the bases."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

from ...deps import require
from ...errors import Conflict, ForeignObject, HypervisorError, NebulaError, NoCapacity, NotFound, TimedOut
from ...model.audit import Domain
from ..base import Mark, copied_domains, domain_name, label_of
from ..standing_still import Pausing, run_of
from . import domain_hardware, domain_numa, domain_xml, live_devices

# How often a condition is looked at. libvirt itself polls the end of a QEMU process in steps of 0.2 s.
STEP = 0.1
PASSING_SECONDS = 300.0
# libvirt may fail to end a container whose cgroup systemd has taken away meanwhile, and which ends for all that.
ENDING_SECONDS = 10.0
# A guest that is still booting does not see the power button: it is pressed again.
PRESS_AGAIN = 10.0
# What versions of libvirt say of an interface on the host that has the name of a machine's NIC already.
_TAKEN = re.compile(
    r"[Tt]he (\S+) interface already exists|[Nn]etwork interface '?([^\s']+)'? (?:already exists|exists already)"
    r"|[Uu]nable to create tap device (\S+): (?:Device or resource busy|File exists|Invalid argument)"
    r"|[Uu]nable to create (\S+) <-> \S+ veth pair: File exists"
    r"|ip link add (?:name )?(\S+) type veth [^:]{0,200}: .{0,200}File exists"
    r"|[Uu]nable to rename '[^']+' to '([^']+)' ?: File exists"
    r"|[Uu]nable to add bridge \S+ port (\S+): Device or resource busy"
)
# The same of ports, which Open vSwitch keeps without their interfaces, and beyond a reboot.
_PORT_TAKEN = re.compile(r"[Uu]nable to add port (\S+) to OVS bridge (\S+?)(?:[:.]|$)")
_TAKE_OUT = (
    "See that Open vSwitch runs and has the bridge (ovs-vsctl br-exists {bridge}), and whether it has a port of that "
    "name in another one, which a machine that ended badly left (ovs-vsctl port-to-br {name}). If nothing needs that "
    "port, take it out (ovs-vsctl del-port {name}), then run again"
)
# Connections that all threads share. libvirtd works on no more than five requests of a connection at a time: so many
# that no thread of a run (carry_out/batch.py) ever waits for what another one asks, which may be a save of minutes.
CONNECTIONS = 7
_REMOVE = (
    "The host has an interface of that name: a machine that ended badly left it, or it is somebody else's. See what "
    "it is (ip -details link show {name}) and which process has it (grep -l {name} /proc/[0-9]*/fdinfo/*). If nothing "
    "needs it, remove it (ip link delete {name}), unless libvirt has done so by now, then run again"
)


# Has a machine go on that is paused, unless it has ended or been started anew.
_GO_ON = """
import sys
sys.path.append(sys.argv[1])
import libvirt
libvirt.registerErrorHandler(lambda _context, _error: None, None)
domain = libvirt.open(sys.argv[2]).lookupByUUIDString(sys.argv[3])
if domain.ID() == int(sys.argv[4]) and domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
    domain.resume()
"""


class LibvirtDomains:
    """Drives the machines of one libvirt daemon.
    uri: where libvirt is, unless a driver is told otherwise.
    remedies: what libvirt says, and what to do about it.
    keep, forget: options of `virsh undefine`, for a machine that is defined anew and for any other."""

    uri: ClassVar[str]
    names_runs: ClassVar[bool] = True
    remedies: ClassVar[tuple[tuple[str, str], ...]] = ()
    keep: ClassVar[str] = ""
    forget: ClassVar[str] = "--managed-save"

    def __init__(self, uri: str = "") -> None:
        self._libvirt: Any = require("libvirt")
        # By default the library prints every error, also those that are answers, to a stream that Ansible reads.
        self._libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._uri = uri or self.uri
        self._local = threading.local()
        self._connections: list[Any] = []
        # How many threads have asked for one.
        self._threads = 0
        self._lock = threading.Lock()
        self._connection()

    def close(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(self._libvirt.libvirtError):
                connection.close()
        self._local = threading.local()

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._is_alive(connection):
            return connection
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)
            shared = self._connections[self._threads % CONNECTIONS] if len(self._connections) >= CONNECTIONS else None
            self._threads += 1
        if shared is not None and not self._answers(shared):
            with self._lock:
                if shared in self._connections:
                    self._connections.remove(shared)
            shared = None
        if shared is None:
            shared = self._open()
            with self._lock:
                self._connections.append(shared)
        self._local.connection = shared
        return shared

    def _answers(self, connection: Any) -> bool:
        """Return whether libvirtd knows a connection that other threads have used: it may have been started anew since,
        which only a question shows."""
        try:
            connection.getLibVersion()
        except self._libvirt.libvirtError:
            return False
        return True

    def _is_alive(self, connection: Any) -> bool:
        """Return whether libvirtd still knew the connection when it was last used: a restarted libvirtd does not."""
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
                message_of(error),
                "Start libvirtd; role nebula.provision.node does it with nebula_manage_services: true",
            ) from error

    def _pausing(self, domain: Any, mark: Mark, pause: Callable[[], None]) -> Pausing | None:
        """Return how the machine stands still, by libvirt; None for one that does not run."""
        lv, asked = self._libvirt, f"having {label_of(mark)} stand still"
        with self._explained(asked):
            number, uuid = domain.ID(), domain.UUIDString()

        def is_still() -> bool:
            with self._explained(asked):
                return bool(domain.state()[0] == lv.VIR_DOMAIN_PAUSED)

        def go_on() -> bool:
            if not is_still():
                return False
            with self._explained(asked):
                domain.resume()
            return True

        library = os.path.dirname(os.path.abspath(lv.__file__))
        words = [sys.executable, "-I", "-c", _GO_ON, library, self._uri, uuid, str(number)]
        return Pausing(run_of(number), words, pause, go_on, is_still) if number > 0 else None

    # -- what is there --------------------------------------------------------------------------------------------
    def running(self) -> tuple[str, ...]:
        with self._explained("listing the machines that run on this node"):
            domains = self._connection().listAllDomains(self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        # Xen's domain 0 is the node itself.
        return tuple(sorted(domain.name() for domain in domains if domain.ID() != 0))

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
                    raise self._error(f"looking at domain {domain.name()}", error) from error
        return tuple(sorted(ours, key=lambda each: (each.vm_id, each.name))), tuple(sorted(foreign))

    def _inventoried(self, domain: Any, mark: Mark) -> Domain:
        name, persistent = domain.name(), bool(domain.isPersistent())
        autostart = persistent and bool(domain.autostart())
        definition = ET.fromstring(domain.XMLDesc(0))
        devices = definition.find("devices")
        found = ET.Element("devices") if devices is None else devices
        own = ET.fromstring(domain.metadata(self._libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE))
        ports = [int(each.get("port") or 0) for each in found.iterfind("graphics")]
        virsh = f"virsh -c {self._uri}"
        # virsh takes a name of another form for an id or an option, and a shell for more than a word. By its name a
        # copy could be taken for a machine of the catalog.
        word = name if name == domain_name(mark.vm_id) else domain.UUIDString()
        active = bool(domain.isActive())
        stored = self._stored(domain, definition, active and persistent)
        keep = self._options_that_keep(found)
        kept = [*(["--config"] if persistent else []), *(["--live"] if active else [])]

        def undefining(options: str) -> str:
            lines = [f"{virsh} destroy {word}"] if active else []
            lines += [" ".join(filter(None, (virsh, "undefine", options, word)))] if persistent else []
            return "; ".join(lines)

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
            topology=domain_xml.topology_of(definition.find("cpu")),
            growth=domain_xml.growth_of(stored),
            hotplug_slots=domain_xml.hotplug_slots_of(stored),
            numa_nodes=domain_numa.numa_nodes_of(stored),
            host_devices=domain_hardware.host_devices_of(stored),
            hardware_version=domain_xml.hardware_version_of(stored),
            disks=(
                *(
                    live_devices.usual_name(each.get("file", ""))
                    for each in found.iterfind("disk/source")
                    if each.get("file")
                ),
                # Of a container, its root and its context.
                *(each.get("dir", "") for each in found.iterfind("filesystem/source") if each.get("dir")),
            ),
            turn=f"{virsh} autostart {'--disable ' if autostart else ''}{word}",
            undefine=undefining(keep) if keep is not None else "",
            forget=undefining(self.forget),
            unmark=" ".join([virsh, "metadata", word, domain_xml.NAMESPACE, "--remove", *kept]),
        )

    def _options_that_keep(self, devices: ET.Element) -> str | None:
        """Return the options of `virsh undefine` for a domain that is defined anew, None where it would lose something.

        libvirt removes the state of a TPM with the definition, and knows since 8.9 how not to."""
        if devices.find("tpm/backend[@type='emulator']") is None:
            return self.keep
        knows = hasattr(self._libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM")
        return f"{self.keep} --keep-tpm".strip() if knows else None

    def _stored(self, domain: Any, definition: ET.Element, runs: bool) -> ET.Element:
        """Return the definition with which the machine is started: while it runs its memory is what its guest has."""
        return ET.fromstring(domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE)) if runs else definition

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        lv = self._libvirt
        name = domain_name(mark.vm_id)
        try:
            domain = self._connection().lookupByName(name)
            found = self._mark_of(domain)
            return (found is None or found.catalog != mark.catalog) and f"{directory}/" not in domain.XMLDesc(0)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return False
            raise self._error(f"looking for domain {name}", error) from error

    def password_in(self, text: str) -> str:
        graphics = ET.fromstring(text).find("devices/graphics")
        return "" if graphics is None else graphics.get("passwd", "")

    def has_open_console(self, mark: Mark) -> bool:
        lv = self._libvirt
        domain = self._find(mark)
        try:
            text = domain.XMLDesc(lv.VIR_DOMAIN_XML_SECURE) if domain is not None else ""
        except lv.libvirtError as error:
            # It may have ended in between.
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return False
            raise self._error(f"looking at domain {domain_name(mark.vm_id)}", error) from error
        return bool(text) and any(not each.get("passwd") for each in ET.fromstring(text).iterfind("devices/graphics"))

    def state(self, mark: Mark) -> str | None:
        domain = self._find(mark)
        return None if domain is None else self._state(domain, mark)

    def _state(self, domain: Any, mark: Mark) -> str:
        """Return the state after what is under way: a start or a save of a killed run goes on in libvirtd."""
        lv = self._libvirt
        passing = (
            lv.VIR_DOMAIN_PAUSED_STARTING_UP,
            lv.VIR_DOMAIN_PAUSED_SAVE,
            lv.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
            lv.VIR_DOMAIN_PAUSED_SNAPSHOT,
        )
        limit = time.monotonic() + PASSING_SECONDS
        with self._explained(f"state of {label_of(mark)}"):
            state, reason = domain.state()
            while state == lv.VIR_DOMAIN_PAUSED and reason in passing and time.monotonic() < limit:
                time.sleep(STEP)
                state, reason = domain.state()
        return self._state_name(state)

    def _state_name(self, state: int) -> str:
        lv = self._libvirt
        if state in (lv.VIR_DOMAIN_RUNNING, lv.VIR_DOMAIN_BLOCKED, lv.VIR_DOMAIN_SHUTDOWN):
            return "RUNNING"
        return "POWEROFF" if state == lv.VIR_DOMAIN_SHUTOFF else "UNKNOWN"

    def _find(self, mark: Mark) -> Any:
        """Return the machine's domain or None. Raise ForeignObject if it is not ours, Conflict for another UUID."""
        lv = self._libvirt
        name = domain_name(mark.vm_id)
        try:
            domain = self._connection().lookupByName(name)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
                return None
            raise self._error(f"looking for domain {name}", error) from error
        found = self._mark_of(domain)
        if found is None or (found.catalog, found.vm_id) != (mark.catalog, mark.vm_id):
            raise ForeignObject(
                f"{label_of(mark)}: domain {name}",
                "libvirt has one of this name without our mark"
                if found is None
                else f"libvirt has one of this name that belongs to catalog {found.catalog}",
                "Rename or undefine it: it will not be touched",
            )
        if mark.uuid and domain.UUIDString() != mark.uuid:
            raise Conflict(
                f"{label_of(mark)}: domain {name}",
                f"it has the UUID {domain.UUIDString()}, this machine's is {mark.uuid}",
                "The catalog was replaced by another copy of itself? Undefine the domain if it is not needed",
            )
        return domain

    def _found(self, mark: Mark) -> Any:
        domain = self._find(mark)
        if domain is None:
            raise NotFound(
                label_of(mark), f"libvirt has no domain {domain_name(mark.vm_id)}", "Run again: it is defined anew"
            )
        return domain

    def name_run(self, mark: Mark, name: str) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        with self._explained(f"noting what {label_of(mark)} waits for"):
            # Of the running definition alone: it goes with that.
            element = ET.fromstring(domain.metadata(lv.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE))
            element.set(domain_xml.RUN, name)
            domain.setMetadata(
                lv.VIR_DOMAIN_METADATA_ELEMENT,
                ET.tostring(element, encoding="unicode"),
                "nebula",
                domain_xml.NAMESPACE,
                lv.VIR_DOMAIN_AFFECT_LIVE,
            )

    def run_name(self, mark: Mark) -> str:
        domain = self._find(mark)
        found = None if domain is None else self._mark_of(domain)
        return "" if found is None else found.run

    def _mark_of(self, domain: Any) -> Mark | None:
        lv = self._libvirt
        try:
            text = domain.metadata(lv.VIR_DOMAIN_METADATA_ELEMENT, domain_xml.NAMESPACE)
            element = ET.fromstring(text)
            return Mark(
                catalog=element.get("catalog", ""),
                vm_id=int(element.get("id", "")),
                generation=int(element.get("generation", "0")),
                run=element.get(domain_xml.RUN, ""),
            )
        except (lv.libvirtError, ET.ParseError, ValueError):
            return None

    def _marks_of(self, domains: Iterable[Any], catalog: str) -> list[Mark | None]:
        """Return the mark of each domain that is a machine of the catalog; None for others, and for somebody's copies
        of such machines."""
        found = [(domain.name(), self._mark_of(domain)) for domain in domains]
        ours = [(name, mark) if mark is not None and mark.catalog == catalog else (name, None) for name, mark in found]
        copies = copied_domains((name, mark.vm_id) for name, mark in ours if mark is not None)
        return [None if name in copies else mark for name, mark in ours]

    # -- definition -----------------------------------------------------------------------------------------------
    def _undefine(self, domain: Any, mark: Mark, flags: int) -> None:
        try:
            domain.undefineFlags(flags)
        except self._libvirt.libvirtError as error:
            # A domain that was transient is gone with its process.
            if error.get_error_code() != self._libvirt.VIR_ERR_NO_DOMAIN:
                raise self._error(f"undefining {label_of(mark)}", error) from error

    def starts_with_host(self, mark: Mark) -> bool | None:
        domain = self._find(mark)
        with self._explained(f"looking at {label_of(mark)}"):
            return None if domain is None else bool(domain.autostart())

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        domain = self._found(mark)
        with self._explained(f"setting whether {label_of(mark)} starts with its host"):
            domain.setAutostart(int(wanted))

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        with self._explained(f"starting {label_of(mark)}"):
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
        domain.create()

    def shutdown(self, mark: Mark, timeout: int) -> None:
        lv = self._libvirt
        domain = self._found(mark)
        limit = time.monotonic() + timeout
        press = 0.0
        while self._state(domain, mark) != "POWEROFF":
            now = time.monotonic()
            if now >= limit:
                raise self._disobeyed(f"shutting {label_of(mark)} down", mark, timeout)
            if now >= press:
                press = now + PRESS_AGAIN
                try:
                    self._press(domain)
                except lv.libvirtError as error:
                    # It may have ended in between.
                    if error.get_error_code() != lv.VIR_ERR_OPERATION_INVALID:
                        raise self._error(f"shutting {label_of(mark)} down", error) from error
            time.sleep(STEP)

    def _press(self, domain: Any) -> None:
        """Ask the domain's guest to shut down."""
        domain.shutdownFlags(self._libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def _disobeyed(self, asked: str, mark: Mark, timeout: int, instead: str = "hard: true") -> TimedOut:
        return TimedOut(
            asked,
            f"the guest did not obey the power button within {timeout} s; it runs on",
            f"Raise shutdown_timeout, see its console, or set {instead}",
        )

    def cancel(self, mark: Mark) -> None:
        self._destroy(self._found(mark), mark)

    def _destroy(self, domain: Any, mark: Mark) -> None:
        lv = self._libvirt
        try:
            if domain.isActive():
                domain.destroy()
        except lv.libvirtError as error:
            if error.get_error_code() not in (lv.VIR_ERR_OPERATION_INVALID, lv.VIR_ERR_NO_DOMAIN):
                limit = time.monotonic() + ENDING_SECONDS
                while self._state(domain, mark) != "POWEROFF":
                    if time.monotonic() > limit:
                        raise self._error(f"ending {label_of(mark)}", error) from error
                    time.sleep(STEP)

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        domain = self._found(mark)
        with self._explained(f"suspending {label_of(mark)}"):
            domain.save(checkpoint)

    def resume(self, mark: Mark, checkpoint: str) -> None:
        with self._explained(f"resuming {label_of(mark)}"):
            self._connection().restoreFlags(checkpoint, None, self._libvirt.VIR_DOMAIN_SAVE_RUNNING)

    @contextlib.contextmanager
    def _explained(self, asked: str) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            raise self._error(asked, error) from error

    def _error(self, asked: str, error: Any) -> NebulaError:
        return error_of_libvirt(asked, message_of(error), self.remedies)


def runs_of(marks: Iterable[Mark | None]) -> dict[int, str]:
    """Return what name_run() gave to machines, by id, as far as it did."""
    return {mark.vm_id: mark.run for mark in marks if mark is not None and mark.run}


def error_of_libvirt(asked: str, text: str, remedies: Iterable[tuple[str, str]]) -> NebulaError:
    """Return the error that libvirt's words mean."""
    if "Address already in use" in text or "Failed to find an available port" in text:
        return NoCapacity(asked, text, "Run again: the next plan takes another port")
    taken = _TAKEN.search(text)
    if taken is not None:
        name = next(filter(None, taken.groups()))
        return HypervisorError(asked, text, _REMOVE.format(name=name))
    switched = _PORT_TAKEN.search(text)
    if switched is not None:
        return HypervisorError(asked, text, _TAKE_OUT.format(name=switched[1], bridge=switched[2]))
    return HypervisorError(asked, text, next((remedy for pattern, remedy in remedies if pattern in text), ""))


def message_of(error: Any) -> str:
    return " ".join(str(error.get_error_message() or error).split())
