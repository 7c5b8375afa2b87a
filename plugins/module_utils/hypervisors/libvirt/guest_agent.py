# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks guests' agents what they say of their guests, in threads of its own, as libvirt waits for an agent that does
not answer. The answers are the guest's own word, untrusted and bounded."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ...dataclass import dataclass, replace
from ...deps import require
from ...errors import HypervisorError, NebulaError
from ...host.console.console_log import harmless
from ...host.console.expected_guest import AGENT, Wanted, what_differs
from ..base import AgentAnswer, Driver, Mark

# Seconds until an agent is asked again: longer where there are many, or where asking one takes long.
INTERVAL = 2.0
LONGEST_INTERVAL = 60.0
# Of the time, what may be spent on asking: one part in so many. What one question takes beyond this is waiting.
SHARE = 10
LONGEST_WORK = 0.1
# So many that do not answer hold up no others.
THREADS = 4
# Seconds that an agent may take, and characters of its answer that are read.
PATIENCE = 2
LIMIT = 256 * 1024
_ADDRESSES = 256
_LONGEST_NAME = 256


def ask(libvirt: Any, domain: Any, asked: str) -> AgentAnswer:
    """Return the answer of a running domain's agent. Raise HypervisorError, with the reason, if there is none."""
    reply = command(libvirt, domain, asked, "guest-get-host-name")
    name = reply.get("host-name") if isinstance(reply, Mapping) else ""
    return AgentAnswer(
        str(name or "")[:_LONGEST_NAME], _addresses(command(libvirt, domain, asked, "guest-network-get-interfaces"))
    )


def command(libvirt: Any, domain: Any, asked: str, name: str, **arguments: Any) -> Any:
    """Return the agent's answer; None if it does not know the command, or may not carry it out. Raise HypervisorError
    if it does not answer."""
    refused = (libvirt.VIR_ERR_INTERNAL_ERROR, getattr(libvirt, "VIR_ERR_AGENT_COMMAND_FAILED", None))
    try:
        question = json.dumps({"execute": name, "arguments": arguments} if arguments else {"execute": name})
        text = require("libvirt_qemu").qemuAgentCommand(domain, question, PATIENCE, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in refused:
            return None
        raise HypervisorError(asked, " ".join(str(error.get_error_message() or error).split())) from error
    try:
        return json.loads(text[:LIMIT])["return"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HypervisorError(asked, f"its answer to {name} can't be read") from error


def _addresses(interfaces: Any) -> tuple[str, ...] | None:
    """Return the addresses of all interfaces but loopback; None if they are not told."""
    if not isinstance(interfaces, list):
        return None
    found: list[str] = []
    for interface in interfaces:
        addresses = interface.get("ip-addresses") if isinstance(interface, Mapping) else None
        for each in addresses if isinstance(addresses, list) else ():
            with contextlib.suppress(ValueError, AttributeError):
                address = ipaddress.ip_address(str(each.get("ip-address")))
                found += [] if address.is_loopback else [str(address)]
    return tuple(found[:_ADDRESSES])


@dataclass(frozen=True)
class Machine:
    """Holds what is wanted of a guest whose agent is to be asked, its hypervisor, and its mark."""

    wanted: Wanted
    hypervisor: str
    mark: Mark


class Agents:
    """Asks the agents of all machines of a node. drivers: connects to a hypervisor."""

    kind = AGENT

    def __init__(self, machines: Collection[Machine], drivers: Callable[[str], Driver]) -> None:
        self._machines = {machine.wanted.vm_id: machine for machine in machines}
        self._open = drivers
        self._drivers: dict[str, Driver] = {}
        self._lock = threading.Lock()
        self._due: queue.SimpleQueue[Machine | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._next: dict[int, float] = {}
        self._answers: dict[int, AgentAnswer] = {}
        self._problems: dict[int, str] = {}
        self._many = 1

    def look(self, waiting: Collection[int], now: float) -> None:
        asked = [vm_id for vm_id in waiting if vm_id in self._machines]
        self._many = max(1, len(asked))
        moment = time.monotonic()
        for vm_id in asked:
            if moment >= self._next.get(vm_id, 0.0):
                # Until it has answered.
                self._next[vm_id] = float("inf")
                self._start_thread()
                self._due.put(self._machines[vm_id])

    def evidence(self, vm_id: int) -> str:
        """Return what the agent told, if it has the wanted name and addresses as far as it tells; else ""."""
        answer = self._answers.get(vm_id)
        if answer is None or self._what_is_missing(vm_id, answer):
            return ""
        return harmless(
            f"agent: {', '.join(filter(None, [answer.hostname, *(answer.addresses or ())])) or 'it answers'}"
        )

    def found(self, vm_id: int) -> str:
        answer = self._answers.get(vm_id)
        if answer is not None:
            return f"missing {'; '.join(self._what_is_missing(vm_id, answer))}"
        if vm_id not in self._machines:
            return "none can be asked here"
        return self._problems.get(vm_id) or "it has not answered yet"

    def close(self) -> None:
        for _thread in self._threads:
            self._due.put(None)
        # A thread that hangs keeps its connection until this process ends.
        for thread in self._threads:
            thread.join(0.05)
        if not any(thread.is_alive() for thread in self._threads):
            for driver in self._drivers.values():
                driver.close()

    def _what_is_missing(self, vm_id: int, answer: AgentAnswer) -> list[str]:
        """Return what the answer lacks. An agent that may not tell addresses is believed for its name."""
        wanted = self._machines[vm_id].wanted
        if not answer.hostname and not answer.addresses and (wanted.hostname or wanted.addresses):
            return ["a word of its name or its addresses"]
        if answer.addresses is None:
            wanted = replace(wanted, addresses=())
        if not answer.hostname and answer.addresses:
            wanted = replace(wanted, hostname="")
        return what_differs(wanted, answer.hostname, answer.addresses or ())

    def _start_thread(self) -> None:
        if len(self._threads) < min(THREADS, self._many):
            thread = threading.Thread(target=self._work, name="guest-agents", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (machine := self._due.get()) is not None:
            vm_id, began = machine.wanted.vm_id, time.monotonic()
            try:
                self._answers[vm_id] = self._driver(machine.hypervisor).ask_agent(machine.mark)
            except NebulaError as error:
                self._answers.pop(vm_id, None)
                self._problems[vm_id] = error.found
            except Exception as error:  # whatever it is, there are other ways to believe a guest
                self._answers.pop(vm_id, None)
                self._problems[vm_id] = f"{type(error).__name__}: {error}"
            ended = time.monotonic()
            took = ended - began
            # Waiting for an agent that hangs costs the node nothing.
            pause = max(INTERVAL, took, min(took, LONGEST_WORK) * SHARE * self._many)
            self._next[vm_id] = ended + min(pause, LONGEST_INTERVAL)

    def _driver(self, name: str) -> Driver:
        with self._lock:
            if name not in self._drivers:
                self._drivers[name] = self._open(name)
            driver = self._drivers[name]
        if "ask_agent" not in driver.capabilities:
            raise driver.lacks("ask a guest's agent")
        return driver
