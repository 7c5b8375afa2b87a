# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In place of a dom0, for tests of what the drivers of Xen ask of one: `xl` prints what the manual page xl(1) and its
own output on Xen 4.17 have, and xenstore holds what docs/misc/xenstore-paths says. The real ones are asked in
tests/integration/test_xen.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.host import command
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import (
    dom0,
    driver,
    switch_ports,
    vif_script,
    xenstore,
    xl,
    xl_logs,
)

HEADING = f"{'Name':<43} ID   Mem VCPUs\tState\tTime(s)\tUUID\t\t\t\tReason-Code\tSecurity Label\n"
NO_UUID = "00000000-0000-0000-0000-000000000000"
INFO = {
    "nr_cpus": "4",
    "total_memory": "8190",
    "free_memory": "6012",
    "xen_version": "4.17.3",
    "xen_scheduler": "credit2",
}


@dataclass
class Running:
    domid: int
    uuid: str
    memory: int = 128
    vcpus: int = 1
    flags: str = "-b----"
    seconds: float = 1.5


class Dom0:
    """domains: what runs, by name. ran: the words of each command that changes something. fails: by a verb, what it
    prints when it ends with an error. then: by a verb, what happens at it. answers: by a verb, what it prints. store:
    xenstore's paths. disks: of all domains, as xenstore.disks_in_use() tells them.
    served: by a domain, what xenstore.devices_of() tells."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.domains: dict[str, Running] = {"Domain-0": Running(0, NO_UUID, 1536, 2, "r-----")}
        self.ran: list[str] = []
        self.fails: dict[str, str] = {}
        self.then: dict[str, Callable[[], Any]] = {}
        self.answers: dict[str, str] = {}
        self.info = dict(INFO)
        self.store: dict[str, str] = {}
        self.served: dict[int, tuple[dict[int, str], dict[str, str]]] = {}
        self.disks: list[tuple[int, str, bool]] = []
        self.etc, self.consoles, self.network = root / "etc", root / "console", root / "net"
        self.logs = root / "log"
        for place in (self.etc, self.consoles, self.network, self.logs):
            place.mkdir()
        self.capabilities = root / "capabilities"
        self.capabilities.write_text("control_d\n", encoding="ascii")
        monkeypatch.setattr(xl, "CAPABILITIES", self.capabilities)
        monkeypatch.setattr(xl, "LOCK", root / "lock")
        monkeypatch.setattr(xl, "find", lambda name: f"/usr/sbin/{name}")
        for module in (xl, driver):
            monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(driver, "DEFINITIONS", self.etc)
        monkeypatch.setattr(driver, "AUTO", self.etc / "auto")
        for module in (driver, dom0):
            monkeypatch.setattr(module, "CONSOLES", self.consoles)
        monkeypatch.setattr(dom0, "NETWORK", self.network)
        monkeypatch.setattr(switch_ports, "PORTS", self.etc / "nebula-ports")
        monkeypatch.setattr(vif_script, "SCRIPTS", self.etc / "scripts")
        monkeypatch.setattr(xl_logs, "LOGS", self.logs)
        monkeypatch.setattr(xenstore, "is_named", self.domains.__contains__)
        monkeypatch.setattr(xenstore, "read", self.store.get)
        monkeypatch.setattr(xenstore, "disks_in_use", lambda: self.disks)
        monkeypatch.setattr(xenstore, "devices_of", self.served.__getitem__)

    def did(self) -> list[str]:
        """What was run since the last time."""
        found, self.ran = self.ran, []
        return found

    def run(self, argv: Sequence[str], **options: Any) -> command.Completed:
        """As host.command.run()."""
        if argv[0] == "sh":
            return command.run(argv, **options)
        verb = argv[1] if argv[0] == "xl" else argv[0]
        said = ""
        if verb == "list":
            said = HEADING + "".join(self._line(name, each) for name, each in self.domains.items())
        elif verb == "info":
            said = "".join(f"{name:<23}: {value}\n" for name, value in self.info.items())
        elif verb in ("block-list", "network-list", "dmesg", "losetup"):
            said = self.answers.get(verb, "")
        else:
            self.ran.append(" ".join(argv[1:]))
        if verb in self.then:
            self.then[verb]()
        if verb in self.fails:
            if options.get("check", True):
                raise CommandFailed(" ".join(argv), f"ended with code 1: {self.fails[verb]}")
            return command.Completed(argv, 1, said, self.fails[verb], 0.0)
        if verb == "destroy":
            self.domains.pop(argv[2], None)
        return command.Completed(argv, 0, said, "", 0.0)

    def _line(self, name: str, domain: Running) -> str:
        columns = f"{domain.memory:>5} {domain.vcpus:>5}     {domain.flags} {domain.seconds:>9.1f}"
        return f"{name:<40} {domain.domid:>5} {columns} {domain.uuid} {'-':>16} {'none':>16}\n"
