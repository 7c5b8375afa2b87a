# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives machines of Xen by its own tools.

Xen knows a domain as long as it runs. What a machine is beyond that stands where Xen's administrators keep it, and
Xen's own script starts what is linked in there when the host boots: /etc/xen/NAME.cfg and /etc/xen/auto."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Callable

from ...dataclass import dataclass
from ...errors import (
    CommandFailed,
    Conflict,
    ForeignObject,
    HypervisorError,
    NebulaError,
    NoCapacity,
    NotFound,
    TimedOut,
)
from ...host import command
from ...host.command import run
from ...host.files import explained as files_explained
from ...host.files import (
    make_directory,
    read_limited,
    remove_empty_directory,
    remove_file,
    sync_directory,
    write_atomically,
)
from ...host.node_file import Changes, NodeFile
from ...model.audit import Domain
from ...model.dataclass_json import from_plain, json_value, to_plain
from ...model.disk import Disk, DiskFiles
from ...model.plan import ObservedVm
from ...model.vm import Vm
from ..base import (
    Adjusted,
    Adjustment,
    BackUp,
    Departure,
    Deployment,
    Driver,
    Mark,
    Receiver,
    RunningBackup,
    Site,
    Survey,
    copied_domains,
    domain_name,
    label_of,
    refuse_other,
)
from ..standing_still import Pausing, run_of
from . import config, switch_ports, xl_logs, xl_migration
from .dom0 import CONSOLES, GUEST, XenNode
from .xl import NAMELESS, ListedDomain, lock_holder

DEFINITIONS = Path("/etc/xen")
AUTO = DEFINITIONS / "auto"
LARGEST = 1 << 20
STEP = 0.1
CREATE_SECONDS = 600
SAVE_SECONDS = 1800
# A guest that reboots is no domain for two seconds: its tool ends one and makes another.
PASSING_SECONDS = 120.0
ASK_AGAIN = 10.0
# The fifth column is the state: the third sign of it says that a domain is paused.
_GO_ON = """
set -f; tool=$1 id=$2
set -- $("$tool" list "$id" | tail -n 1)
case $5 in ??p*) exec "$tool" unpause "$id" ;; esac
"""
_NAME = re.compile(r"one-(0|[1-9]\d{0,17})\.cfg")
_MARK = re.compile(
    re.escape(config.MARK)
    + r" catalog=(?P<catalog>\S+) id=(?P<id>\d+) generation=(?P<generation>\d+) directory=(?P<directory>.*)"
)
_UUID = re.compile(r"^uuid = '([0-9a-f-]{36})'$", re.MULTILINE)


@dataclass(frozen=True)
class Definition:
    """Holds a machine's file in /etc/xen. mark: None if the machine is not ours."""

    path: Path
    text: str
    mark: Mark | None
    directory: str = ""


@dataclass(frozen=True)
class Running:
    """Holds what the other host has to know of a running machine.
    disks: numbers of the devices. nics: MAC addresses."""

    vcpus: int
    disks: tuple[int, ...]
    nics: tuple[str, ...]


class XenDriver(XenNode, Driver):
    name = "xen"
    capabilities = frozenset(("shutdown", "reboot", "reset", "suspend", "resume", "adjust", "depart", "back_up"))
    programs = ("xl|xm",)
    stands_still = True

    def close(self) -> None:
        pass

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        undone = super().give_back(changes, known)
        if undone and not changes.check_mode:
            # No package has it: it was made for the first machine that starts with the host.
            remove_empty_directory(str(AUTO))
        return undone

    # -- what is there --------------------------------------------------------------------------------------------
    def render(self, vm: Vm, site: Site) -> Deployment:
        return config.render(vm, site)

    def survey(self, catalog: str) -> Survey:
        listed = [domain for domain in self._tool.listed() if domain.domid]
        running = {domain.name: domain for domain in listed if domain.name != NAMELESS}
        nameless = {domain.uuid: domain for domain in listed if domain.name == NAMELESS}
        definitions = self._definitions()
        vms: list[ObservedVm] = []
        ids: set[int] = set()
        marks = [(name, each.mark) for name, each in definitions.items()]
        copies = copied_domains(
            (name, mark.vm_id) for name, mark in marks if mark is not None and mark.catalog == catalog
        )
        for name, definition in definitions.items():
            mark, domain = definition.mark, running.get(name)
            if (
                mark is None
                or mark.catalog != catalog
                or name in copies
                or (domain is not None and not _is_its(domain, mark))
            ):
                ids.add(int(name[4:]))
                continue
            # A domain that xenstore has forgotten runs all the same.
            domain = running.pop(name, None) or nameless.pop(mark.uuid, None)
            state = self._state_of(domain)
            ended = xl_logs.ended_by(name) if state == "POWEROFF" else ""
            vms.append(self._observed(mark, state, domain, ended))
        return self._make_survey(vms, ids, [*running.values(), *nameless.values()])

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        running = {domain.name: domain for domain in self._tool.listed() if domain.domid}
        ours = []
        for name, definition in self._definitions().items():
            if definition.mark is None:
                continue
            domain = running.pop(name, None)
            autostart = (AUTO / definition.path.name).is_symlink()
            link = AUTO / definition.path.name
            end = [f"{self._tool.name} destroy {name}"] if domain is not None else []
            left = [definition.path, link, CONSOLES / f"{GUEST}-{name}.log"]
            if name == domain_name(definition.mark.vm_id):
                # A copy has the UUID of the machine in its mark, whose file this is.
                left += [path for path in (switch_ports.PORTS / definition.mark.uuid,) if path.exists()]
            ours.append(
                Domain(
                    name=name,
                    catalog=definition.mark.catalog,
                    vm_id=definition.mark.vm_id,
                    uuid=definition.mark.uuid,
                    state=self._state_of(domain),
                    generation=definition.mark.generation,
                    directory=definition.directory,
                    autostart=autostart,
                    port=config.port_of(definition.text),
                    macs=tuple(config.macs_of(definition.text)),
                    disks=tuple(config.disks_of(definition.text)),
                    turn=f"rm {link}" if autostart else f"ln -s {definition.path} {link}",
                    undefine="; ".join([*end, f"rm -f {definition.path} {link}"]),
                    forget="; ".join([*end, " ".join(["rm -f", *map(str, left)])]),
                )
            )
        return tuple(sorted(ours, key=lambda each: (each.vm_id, each.name))), tuple(sorted(running))

    def password_in(self, text: str) -> str:
        return config.password_of(text)

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        name = domain_name(mark.vm_id)
        definition = self._read(DEFINITIONS / f"{name}.cfg")
        if definition is not None:
            found = definition.mark
            return (found is None or found.catalog != mark.catalog) and f"{directory}/" not in definition.text
        domain = self._tool.named(name)
        return domain is not None and not _is_its(domain, mark)

    def state(self, mark: Mark) -> str | None:
        found = self._find(mark)
        if found is None:
            return None
        _definition, domain = found
        name = domain_name(mark.vm_id)
        limit = time.monotonic() + PASSING_SECONDS
        while self._is_passing(name, domain) and time.monotonic() < limit:
            time.sleep(STEP)
            domain = self._tool.named(name)
        return self._state_of(domain)

    def _is_passing(self, name: str, domain: ListedDomain | None) -> bool:
        """Return whether a tool at work is making or ending the domain: the tool of a killed run goes on by itself."""
        if domain is None:
            return xl_logs.is_rebooting(name)
        return "d" in domain.flags or ("p" in domain.flags and xl_logs.is_made(name))

    def _state_of(self, domain: ListedDomain | None) -> str:
        if domain is None or "d" in domain.flags:
            return "POWEROFF"
        if "c" in domain.flags or "p" in domain.flags:
            return "UNKNOWN"
        # Shut down, and nobody there to take it away: its tool was killed.
        return "POWEROFF" if "s" in domain.flags else "RUNNING"

    def _definition(self, mark: Mark) -> Definition | None:
        """Return the machine's definition or None. Raise ForeignObject if it is not ours, Conflict for another UUID."""
        name = domain_name(mark.vm_id)
        definition = self._read(DEFINITIONS / f"{name}.cfg")
        if definition is not None:
            asked = f"{label_of(mark)}: domain {name}"
            refuse_other(mark, definition.mark, asked, definition.path, "Rename or remove it", "file")
        return definition

    def _find(self, mark: Mark) -> tuple[Definition | None, ListedDomain | None] | None:
        """Return the machine's definition and domain, None without either. Raise ForeignObject if they are not ours."""
        name = domain_name(mark.vm_id)
        definition = self._definition(mark)
        domain = self._tool.named(name)
        if definition is None and domain is None:
            return None
        if definition is not None and definition.mark is not None:
            mark = definition.mark
        if domain is not None and not _is_its(domain, mark):
            raise ForeignObject(
                f"{label_of(mark)}: domain {name}",
                f"Xen has one of this name with another UUID, {domain.uuid}",
                f"End or rename it ({self._tool.name} rename): it will not be touched",
            )
        return definition, domain

    def _found(self, mark: Mark) -> Definition:
        found = self._definition(mark)
        if found is None:
            raise NotFound(
                label_of(mark),
                f"there is no {DEFINITIONS}/{domain_name(mark.vm_id)}.cfg",
                "Run again: it is defined anew",
            )
        return found

    def _running_or_none(self, mark: Mark) -> ListedDomain | None:
        found = self._find(mark)
        return None if found is None else found[1]

    def _running(self, mark: Mark) -> ListedDomain:
        domain = self._running_or_none(mark)
        if domain is None:
            raise NotFound(label_of(mark), "Xen has no domain of it", "Start it first")
        return domain

    def _definitions(self) -> dict[str, Definition]:
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(os.listdir(DEFINITIONS)):
                if _NAME.fullmatch(entry):
                    definition = self._read(DEFINITIONS / entry)
                    if definition is not None:
                        found[entry[:-4]] = definition
        return found

    def _read(self, path: Path) -> Definition | None:
        try:
            text = read_limited(str(path), LARGEST, follow=False).decode("utf-8", "replace")
        except NotFound:
            return None
        except NebulaError:
            # A link or a directory of that name is somebody's, and not ours.
            return Definition(path, "", None)
        line = text.partition("\n")[0]
        match, uuid = _MARK.fullmatch(line), _UUID.search(text)
        if match is None or uuid is None:
            return Definition(path, text, None)
        mark = Mark(match["catalog"], int(match["id"]), uuid[1], int(match["generation"]))
        return Definition(path, text, mark, match["directory"])

    # -- definition -----------------------------------------------------------------------------------------------
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        name = domain_name(mark.vm_id)
        domain = self._running_or_none(mark)
        switch_ports.write_ports_file(vm)
        write_atomically(str(DEFINITIONS / f"{name}.cfg"), self._tool.written(deployment.text), mode=0o600)
        match = _MARK.fullmatch(deployment.text.partition("\n")[0])
        if match is not None:
            self._link_console(vm, name, match["directory"])
        if domain is not None:
            self._weigh(name, config.credits(vm.cpu), vm.cpu_limit)

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        target, asked = self._target_of_drive(vm), f"changing the context of {label_of(mark)}"
        if not target:
            return False
        return self._change_medium(asked, domain_name(mark.vm_id), self._running(mark).domid, target, path)

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        name, asked = domain_name(mark.vm_id), f"changing {label_of(mark)} while it runs"
        domain = self._running(mark)
        wanted = config.devices_of(vm, site)
        there = self._tool.blocks(asked, name)
        macs = self._tool.macs(asked, name)
        changed = False
        going = (there - set(wanted.disks), macs - set(wanted.nics))
        if order.removes and any(going):
            names = self._own_names(domain.domid, vm, site.directory)
            for number in sorted(going[0]):
                self._tool.ask(f"{asked}: {names.get(number, f'disk {number}')}", "block-detach", name, str(number))
            for mac in sorted(going[1]):
                self._tool.ask(f"{asked}: {names.get(mac, f'NIC {mac}')}", "network-detach", name, mac)
            changed = True
        for number in sorted(set(wanted.disks) - there):
            self._tool.ask(asked, "block-attach", name, wanted.disks[number])
            changed = True
        for mac in sorted(set(wanted.nics) - macs):
            self._tool.ask(asked, "network-attach", name, *wanted.nics[mac].split(","))
            changed = True
        if domain.memory != vm.memory and self._is_asked(domain.domid, domain.memory) != vm.memory:
            self._tool.ask(asked, "mem-set", name, f"{vm.memory}m")
            changed = True
        return Adjusted(changed, not order.removes and any(going))

    def devices_left(self, vm: Vm, directory: str, mark: Mark) -> tuple[str, ...]:
        return self._names_left(self._running(mark).domid, vm, directory)

    def remove(self, mark: Mark) -> bool:
        name = domain_name(mark.vm_id)
        found = self._find(mark)
        self._end_copies(mark)
        if found is None and _away(name).exists():
            found = self._read(_away(name)), None
        if found is None:
            return False
        if found[1] is not None:
            self._destroy(name, mark)
        # While it is still known to be ours.
        xl_logs.remove(name)
        self._forget(name, found[0])
        return True

    def _forget(self, name: str, definition: Definition | None) -> None:
        # The definition last: killed in between, the next run still knows that the rest is ours.
        remove_file(str(AUTO / f"{name}.cfg"))
        if definition is not None and definition.mark is not None:
            switch_ports.remove_ports_file(definition.mark.uuid)
        self._unlink_console(name)
        remove_file(str(_away(name)))
        remove_file(str(DEFINITIONS / f"{name}.cfg"))

    def starts_with_host(self, mark: Mark) -> bool | None:
        return None if self._definition(mark) is None else (AUTO / f"{domain_name(mark.vm_id)}.cfg").is_symlink()

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        definition = self._found(mark)
        link = AUTO / definition.path.name
        make_directory(str(AUTO), 0o755)
        remove_file(str(link))
        if wanted:
            with files_explained(str(link)):
                os.symlink(definition.path, link)
        sync_directory(str(AUTO))

    def settle_definitions(self) -> None:
        for place in (DEFINITIONS, AUTO):
            with contextlib.suppress(FileNotFoundError):
                sync_directory(str(place))

    # -- state ----------------------------------------------------------------------------------------------------
    def start(self, mark: Mark) -> None:
        name, asked = domain_name(mark.vm_id), f"starting {label_of(mark)}"
        definition = self._found(mark)
        domain = self._running_or_none(mark)
        if domain is None:
            self._refuse_nameless(mark, asked)
            # One that came half has its interfaces and disks.
            self._end_copies(mark)
        if domain is not None and "p" in domain.flags:
            self._tool.ask(asked, "unpause", name)
            return
        self._tool.refuse(asked, definition.text)
        self._refuse(asked, config.needs_of(definition.text))
        if domain is not None:
            self._destroy(name, mark)
        self._tool.wait_for_lock(asked)
        try:
            self._tool.ask(asked, "create", "-q", str(definition.path), timeout=CREATE_SECONDS)
        except NebulaError as error:
            cause = error.__cause__
            xens = self._words_of_hypervisor(cause.found) if isinstance(cause, CommandFailed) else []
            words = [error.found, *xens, xl_logs.last_words(name)]
            if isinstance(error, NoCapacity):
                words.append(f"Xen has {self._tool.information().get('free_memory', '?')} MiB to give")
            self._remove_failed_start(name, mark, definition)
            error.found = "\n".join(filter(None, words))
            raise

    def _refuse_nameless(self, mark: Mark, asked: str) -> None:
        """Raise HypervisorError if it runs and Xen's tools lost its name: two would write to the same disks."""
        for domain in self._tool.listed():
            if domain.name == NAMELESS and domain.uuid == mark.uuid and "d" not in domain.flags:
                raise HypervisorError(
                    asked,
                    f"it runs as domain {domain.domid}, and xenstore has no name of that: xenstored was started anew",
                    f"Shut its guest down from within, or end it by its number, {self._tool.name} destroy "
                    f"{domain.domid}; then run again",
                )

    def _remove_failed_start(self, name: str, mark: Mark, definition: Definition) -> None:
        """Remove what a failed start left; xl mostly does so itself."""
        with contextlib.suppress(NebulaError):
            domain = self._tool.named(name)
            # Its name may be what it failed for: somebody's who was there first.
            if domain is not None and _is_its(domain, definition.mark or mark):
                self._destroy(name, mark)
        for path in config.disks_of(definition.text):
            with contextlib.suppress(NebulaError):
                for line in run(
                    ["losetup", "--associated", path, "--noheadings", "--output", "NAME"], timeout=30
                ).stdout.split():
                    run(["losetup", "--detach", line], timeout=30)

    def _destroy(self, name: str, mark: Mark) -> None:
        with contextlib.suppress(HypervisorError):
            self._tool.ask(f"ending {label_of(mark)}", "destroy", name)
        limit = time.monotonic() + PASSING_SECONDS
        while (domain := self._tool.named(name)) is not None:
            if time.monotonic() > limit:
                raise TimedOut(
                    f"ending {label_of(mark)}",
                    f"domain {domain.domid} is still there, {domain.flags}",
                    f"See {self._tool.name} dmesg; a domain whose memory is still mapped by a backend goes with that",
                )
            time.sleep(STEP)

    def cancel(self, mark: Mark) -> None:
        self._found(mark)
        self._find(mark)
        self._destroy(domain_name(mark.vm_id), mark)

    def shutdown(self, mark: Mark, timeout: int) -> None:
        name, asked = domain_name(mark.vm_id), f"shutting {label_of(mark)} down"
        self._wait_for(mark, asked, "shutdown", timeout, lambda: self.state(mark) == "POWEROFF")
        if self._tool.named(name) is not None:
            # Its tool is not there to take it away.
            self._destroy(name, mark)

    def reboot(self, mark: Mark, timeout: int) -> None:
        before = self._running(mark).domid
        name, asked = domain_name(mark.vm_id), f"rebooting {label_of(mark)}"

        def rebooted() -> bool:
            domain = self._tool.named(name)
            return domain is not None and domain.domid != before and self._state_of(domain) == "RUNNING"

        self._wait_for(mark, asked, "reboot", timeout, rebooted)
        # xl makes it anew as it was made first, whatever was changed since.
        definition = self._definition(mark)
        if definition is not None:
            self._weigh(name, *config.weights_of(definition.text))

    def _wait_for(self, mark: Mark, asked: str, verb: str, timeout: int, happened: Callable[[], bool]) -> None:
        name, first = domain_name(mark.vm_id), self._running(mark).domid
        limit, again = time.monotonic() + timeout, 0.0
        while not happened():
            now = time.monotonic()
            if now >= limit:
                raise TimedOut(
                    asked,
                    f"the guest did not obey within {timeout} s; it runs on. "
                    + ("It has no handler for it" if self._is_deaf(first) else "It has heard of it"),
                    "Raise shutdown_timeout, see its console, or set hard: true; a guest needs /sbin/poweroff, and one "
                    "without Xen's drivers acpid",
                )
            if now >= again:
                again = now + ASK_AGAIN
                domain = self._tool.named(name)
                # Not of the domain that comes after it, nor of a domain that is ending.
                if domain is not None and domain.domid == first and not set(domain.flags) & set("scd"):
                    try:
                        # -F: by ACPI where the guest has no drivers of Xen's.
                        self._tool.ask(asked, verb, "-F", name)
                    except HypervisorError:
                        # It may have ended in between.
                        pass
                    except TimedOut:
                        if lock_holder():
                            raise
                        # xl waits for the guest's word, which may never come.
            time.sleep(STEP)

    def reset(self, mark: Mark) -> None:
        self._running(mark)
        self._destroy(domain_name(mark.vm_id), mark)
        self.start(mark)

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        self._running(mark)
        name = domain_name(mark.vm_id)
        self._tool.ask(f"suspending {label_of(mark)}", "save", name, checkpoint, timeout=SAVE_SECONDS)

    def resume(self, mark: Mark, checkpoint: str) -> None:
        definition = self._found(mark)
        asked = f"resuming {label_of(mark)}"
        self._tool.wait_for_lock(asked)
        self._tool.ask(asked, "restore", str(definition.path), checkpoint, timeout=SAVE_SECONDS)

    def pausing(self, mark: Mark) -> Pausing | None:
        asked, domain = f"having {label_of(mark)} stand still", self._running_or_none(mark)
        if domain is None or self._state_of(domain) == "POWEROFF":
            return None
        number = str(domain.domid)

        def is_still() -> bool:
            now = self._tool.named(domain_name(mark.vm_id))
            return now is not None and now.domid == domain.domid and "p" in now.flags

        def pause() -> None:
            self._tool.ask(asked, "pause", number)
            self._let_requests_end()

        def go_on() -> bool:
            if not is_still():
                return False
            self._tool.ask(asked, "unpause", number)
            return True

        # With another state than this one, there is nothing to be done.
        words = ["sh", "-c", _GO_ON, "go-on", command.find(self._tool.name), number]
        return Pausing(run_of(number), words, pause, go_on, is_still)

    def back_up(
        self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
    ) -> AbstractContextManager[RunningBackup]:
        from ..still_disks import back_up

        return back_up(self, mark, disks, order)

    # -- to another host ------------------------------------------------------------------------------------------
    def offer(self, mark: Mark) -> str:
        asked, name = f"moving {label_of(mark)}", domain_name(mark.vm_id)
        self._tool.require_migration(asked)
        domain = self._running(mark)
        there = Running(
            domain.vcpus, tuple(sorted(self._tool.blocks(asked, name))), tuple(sorted(self._tool.macs(asked, name)))
        )
        return json.dumps(to_plain(there))

    def accept(self, vm: Vm, site: Site, offered: str) -> str:
        mark = Mark(site.catalog, vm.vm_id, vm.uuid, site.generation)
        asked = f"moving {label_of(mark)}"
        self._tool.require_migration(asked)
        try:
            runs = from_plain(Running, json_value(offered))
        except (ValueError, NebulaError) as error:
            raise ForeignObject(asked, f"that host does not say what runs there: {error}") from error
        devices = config.devices_of(vm, site)
        wanted = Running(vm.vcpu or 1, tuple(sorted(devices.disks)), tuple(sorted(devices.nics)))
        if runs != wanted:
            raise Conflict(
                asked,
                f"it runs with {_words_of(runs)}; by its plan it has {_words_of(wanted)}",
                "Start it anew first (restart: rolling), or move it cold (move: cold)",
            )
        deployment = self.render(vm, site)
        self._refuse(asked, config.needs_of(deployment.text))
        # Nothing starts with the host by this file alone.
        self.define(vm, deployment, mark)
        return self._tool.written(deployment.text)

    def receive(self, mark: Mark, token: str, definition: str, disks: Collection[str]) -> Receiver:
        asked = f"moving {label_of(mark)}"
        self._tool.wait_for_lock(asked)
        return xl_migration.XlReceiver(self._tool.name, definition, asked)

    def has_arrived(self, mark: Mark) -> bool:
        domain = self._running_or_none(mark)
        return domain is not None and "p" in domain.flags

    def depart(self, vm: Vm, mark: Mark, departure: Departure) -> None:
        name, asked = domain_name(mark.vm_id), f"moving {label_of(mark)}"
        self._found(mark)
        self._running(mark)
        self._tool.wait_for_lock(asked)
        xl_migration.depart(self._tool.name, name, departure, lambda: self._put_away(name), asked)
        self.remove(mark)

    def let_go(self, mark: Mark) -> None:
        # One that Xen's tools have lost the name of looks like one that is off.
        self._refuse_nameless(mark, f"moving {label_of(mark)}")

    def settle_departure(self, mark: Mark, token: str) -> str | None:
        name = domain_name(mark.vm_id)
        xl_migration.wait_for_tool(name, f"moving {label_of(mark)}")
        if not _away(name).exists():
            # One that xl has called away, and not given away, can't go on: its memory is lost with its xl.
            if self._tool.named(name) is None:
                self._end_copies(mark)
        else:
            # The other host has all of it, or has said that it can't start it: then xl lets this one go on.
            domain = self._tool.named(name)
            if domain is None or not _is_its(domain, mark):
                self.remove(mark)
                return None
            with files_explained(str(_away(name))):
                os.replace(_away(name), DEFINITIONS / f"{name}.cfg")
            sync_directory(str(DEFINITIONS))
        return self.state(mark)

    @staticmethod
    def _put_away(name: str) -> None:
        """Have the machine be none of this host's any more, whatever comes."""
        with files_explained(str(_away(name))):
            os.replace(DEFINITIONS / f"{name}.cfg", _away(name))
        sync_directory(str(DEFINITIONS))

    def _end_copies(self, mark: Mark) -> None:
        """End what xl has left of the machine, on its way here or from here."""
        for name in (f"{domain_name(mark.vm_id)}{suffix}" for suffix in (xl_logs.INCOMING, xl_migration.AWAY)):
            domain = self._tool.named(name)
            if domain is not None and domain.uuid == mark.uuid:
                self._destroy(name, mark)

    def is_saved(self, file: BinaryIO) -> bool:
        return self._tool.is_saved(file)


def _away(name: str) -> Path:
    """Return where the definition of a machine is that has left."""
    return DEFINITIONS / f"{name}.left"


def _words_of(runs: Running) -> str:
    disks, nics = (", ".join(map(str, each)) or "none" for each in (runs.disks, runs.nics))
    return f"{runs.vcpus} processors, disks {disks} and NICs {nics}"


def _is_its(domain: ListedDomain, mark: Mark) -> bool:
    return not domain.uuid or domain.uuid == mark.uuid
