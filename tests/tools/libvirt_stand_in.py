# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In place of the library libvirt, which is the system interpreter's and not that of the unit tests: the few calls that
the drivers make, by the reference of its API (libvirt-domain, libvirt-secret, virterror), with the numbers of its
constants. What the real one does with them is shown in tests/integration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

NAMESPACE = "urn:nebula:provision:vm:1"
CONSTANTS = {
    "VIR_ERR_INTERNAL_ERROR": 1,
    "VIR_ERR_NO_DOMAIN": 42,
    "VIR_ERR_OPERATION_INVALID": 55,
    "VIR_ERR_NO_SECRET": 66,
    "VIR_ERR_NO_DOMAIN_METADATA": 80,
    "VIR_ERR_NO_DOMAIN_BACKUP": 104,
    "VIR_DOMAIN_NOSTATE": 0,
    "VIR_DOMAIN_RUNNING": 1,
    "VIR_DOMAIN_BLOCKED": 2,
    "VIR_DOMAIN_PAUSED": 3,
    "VIR_DOMAIN_SHUTDOWN": 4,
    "VIR_DOMAIN_SHUTOFF": 5,
    "VIR_DOMAIN_CRASHED": 6,
    "VIR_DOMAIN_PMSUSPENDED": 7,
    "VIR_DOMAIN_PAUSED_USER": 1,
    "VIR_DOMAIN_PAUSED_SAVE": 3,
    "VIR_DOMAIN_PAUSED_IOERROR": 5,
    "VIR_DOMAIN_PAUSED_SHUTTING_DOWN": 8,
    "VIR_DOMAIN_PAUSED_SNAPSHOT": 9,
    "VIR_DOMAIN_PAUSED_STARTING_UP": 11,
    "VIR_DOMAIN_SHUTOFF_UNKNOWN": 0,
    "VIR_DOMAIN_SHUTOFF_SHUTDOWN": 1,
    "VIR_DOMAIN_SHUTOFF_DESTROYED": 2,
    "VIR_DOMAIN_METADATA_ELEMENT": 2,
    "VIR_DOMAIN_XML_SECURE": 1,
    "VIR_DOMAIN_XML_INACTIVE": 2,
    "VIR_DOMAIN_AFFECT_LIVE": 1,
    "VIR_DOMAIN_SAVE_RUNNING": 2,
    "VIR_DOMAIN_UNDEFINE_MANAGED_SAVE": 1,
    "VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN": 1,
    "VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL": 1,
    "VIR_DOMAIN_JOB_NONE": 0,
    "VIR_DOMAIN_JOB_UNBOUNDED": 2,
    "VIR_DOMAIN_JOB_COMPLETED": 3,
    "VIR_DOMAIN_JOB_FAILED": 4,
    "VIR_DOMAIN_JOB_STATS_COMPLETED": 1,
    "VIR_DOMAIN_JOB_ERRMSG": "errmsg",
    "VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK": -2,
}


class LibvirtError(Exception):
    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code

    def get_error_code(self) -> int:
        return self.code

    def get_error_message(self) -> str:
        return str(self)


def metadata(catalog: str, vm_id: object, generation: object = 1, directory: str = "", **more: str) -> str:
    rest = "".join(f" {name}='{value}'" for name, value in more.items())
    return (
        f"<vm xmlns='{NAMESPACE}' catalog='{catalog}' id='{vm_id}' generation='{generation}'"
        f" directory='{directory}'{rest}/>"
    )


class Domain:
    """states: what state() answers, one after another; the last stays. did: the calls that change something. fails: by
    a method's name, what it raises."""

    def __init__(self, name: str, uuid: str, mark: str = "", state: int = 5, reason: int = 0) -> None:
        self._name, self._uuid, self.mark = name, uuid, mark
        self.states = [(state, reason)]
        self.xml, self.domid, self.memory = "<domain/>", 7, 0
        self.persistent, self.starts = True, 0
        self.did: list[tuple[Any, ...]] = []
        self.fails: dict[str, LibvirtError] = {}
        self.then: dict[str, Callable[[], None]] = {}

    def _do(self, name: str, *arguments: Any) -> None:
        self.did.append((name, *arguments))
        if name in self.then:
            self.then[name]()
        if name in self.fails:
            raise self.fails[name]

    def names(self) -> list[str]:
        return [each[0] for each in self.did]

    def become(self, state: int, reason: int = 0) -> None:
        self.states = [(state, reason)]

    # -- what it is ---------------------------------------------------------------------------------------------------
    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return self._uuid

    def ID(self) -> int:
        return self.domid

    def XMLDesc(self, _flags: int) -> str:
        if "XMLDesc" in self.fails:
            raise self.fails["XMLDesc"]
        return self.xml

    def metadata(self, kind: int, uri: str) -> str:
        if (kind, uri) != (CONSTANTS["VIR_DOMAIN_METADATA_ELEMENT"], NAMESPACE) or not self.mark:
            raise LibvirtError("metadata not found: Requested metadata element is not present", 80)
        return self.mark

    def state(self) -> list[int]:
        if "state" in self.fails:
            raise self.fails["state"]
        return list(self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def info(self) -> list[int]:
        if "info" in self.fails:
            raise self.fails["info"]
        return [self.states[0][0], self.memory, self.memory, 1, 0]

    def isActive(self) -> int:
        return int(self.states[0][0] != CONSTANTS["VIR_DOMAIN_SHUTOFF"])

    def snapshotNum(self, _flags: int) -> int:
        return 0

    def isPersistent(self) -> int:
        return int(self.persistent)

    def autostart(self) -> int:
        if "autostart" in self.fails:
            raise self.fails["autostart"]
        return self.starts

    # -- what is done to it -------------------------------------------------------------------------------------------
    def setAutostart(self, wanted: int) -> None:
        self._do("setAutostart", wanted)
        self.starts = wanted

    def create(self) -> None:
        self._do("create")
        self.become(1)

    def destroy(self) -> None:
        self._do("destroy")
        self.become(5)

    def __getattr__(self, name: str) -> Callable[..., None]:
        known = ("resume", "pMWakeup", "shutdownFlags", "save", "undefineFlags", "reboot", "attachDeviceFlags",
                 "detachDeviceFlags", "setMemoryFlags")  # fmt: skip
        if name not in known:
            raise AttributeError(name)
        return lambda *arguments: self._do(name, *arguments)


class Connection:
    def __init__(self, *domains: Domain) -> None:
        self.domains = list(domains)
        self.alive: Any = 1
        self.closed = 0
        self.restored: list[tuple[Any, ...]] = []
        self.defined: list[str] = []
        self.fails: dict[str, LibvirtError] = {}

    def _fail(self, name: str) -> None:
        if name in self.fails:
            raise self.fails[name]

    def lookupByName(self, name: str) -> Domain:
        self._fail("lookupByName")
        for domain in self.domains:
            if domain.name() == name:
                return domain
        raise LibvirtError(f"Domain not found: no domain with matching name '{name}'", 42)

    def lookupByUUIDString(self, uuid: str) -> Domain:
        self._fail("lookupByUUIDString")
        for domain in self.domains:
            if domain.UUIDString() == uuid:
                return domain
        raise LibvirtError(f"Domain not found: no domain with matching uuid '{uuid}'", 42)

    def listAllDomains(self, _flags: int = 0) -> list[Domain]:
        self._fail("listAllDomains")
        return list(self.domains)

    def defineXML(self, text: str) -> Domain:
        self._fail("defineXML")
        self.defined.append(text)
        return self.domains[0]

    def getLibVersion(self) -> int:
        self._fail("getLibVersion")
        return 9000000

    def restoreFlags(self, *arguments: Any) -> None:
        self._fail("restoreFlags")
        self.restored.append(arguments)

    def isAlive(self) -> int:
        if isinstance(self.alive, Exception):
            raise self.alive
        return int(self.alive)

    def close(self) -> None:
        self.closed += 1
        self._fail("close")


class Clock:
    """In place of the module time: what waits goes on at once, and what was to happen meanwhile has happened. then:
    called each time that somebody sleeps, with the seconds since the start."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.then: Callable[[float], None] | None = None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        # At least a little, so that nothing waits for ever.
        self.now += max(seconds, 0.001)
        if self.then is not None:
            self.then(self.now - 1000.0)


def libvirt(connect: Callable[[str], Any] = lambda _uri: Connection()) -> Any:
    """The library. connect: its open()."""
    return SimpleNamespace(
        **CONSTANTS, libvirtError=LibvirtError, open=connect, registerErrorHandler=lambda handler, context: None
    )


def install(monkeypatch: pytest.MonkeyPatch, library: Any, **more: Any) -> None:
    """The library is what `import libvirt` finds; more: other modules by name."""
    for name, module in {"libvirt": library, **more}.items():
        monkeypatch.setitem(sys.modules, name, module)
