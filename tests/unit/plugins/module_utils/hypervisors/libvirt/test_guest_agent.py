# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What agents say, and how many are asked at once. A real one is asked in tests/integration/test_disk_frozen.py; the
errors here are those of libvirt 9."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import Wanted
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import AgentAnswer, Driver, Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import guest_agent
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.guest_agent import (
    Agents,
    Machine,
    ask,
)

INTERFACES = [
    {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}, {"ip-address": "::1"}]},
    {"name": "eth0", "ip-addresses": [{"ip-address": "10.66.0.10", "prefix": 24}, {"ip-address": "fe80::1"}]},
    {"name": "eth1"},
]


class Libvirt:
    """libvirt and libvirt_qemu: what the agent returns for each command, or libvirt's code and words."""

    VIR_ERR_INTERNAL_ERROR = 1
    VIR_ERR_AGENT_UNRESPONSIVE = 86

    class libvirtError(Exception):
        def get_error_code(self) -> int:
            return int(self.args[0])

        def get_error_message(self) -> str:
            return str(self.args[1])

    def __init__(self, **answers: Any) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}

    def qemuAgentCommand(self, _domain: Any, command: str, timeout: int, _flags: int) -> str:
        assert timeout == guest_agent.PATIENCE
        answer = self.answers.get(json.loads(command)["execute"], (1, "unable to execute QEMU agent command"))
        if isinstance(answer, tuple):
            raise self.libvirtError(*answer)
        return answer if isinstance(answer, str) else json.dumps({"return": answer})


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AgentAnswer]:
    def made(**answers: Any) -> AgentAnswer:
        library = Libvirt(**answers)
        monkeypatch.setattr(guest_agent, "require", lambda _name: library)
        return ask(library, None, "the guest agent of virtual machine 7")

    return made


def test_an_agent_tells_name_and_addresses(asks: Callable[..., AgentAnswer]) -> None:
    answer = asks(guest_get_host_name={"host-name": "web-0"}, guest_network_get_interfaces=INTERFACES)
    assert answer == AgentAnswer("web-0", ("10.66.0.10", "fe80::1"))


def test_what_an_agent_may_not_tell_is_left_open(asks: Callable[..., AgentAnswer]) -> None:
    assert asks(guest_get_host_name={"host-name": "web-0"}) == AgentAnswer("web-0", None)
    assert asks(guest_network_get_interfaces=INTERFACES[:1]) == AgentAnswer("", ())
    assert asks() == AgentAnswer("", None)


@pytest.mark.parametrize(
    "name",
    [
        (86, "Guest agent is not responding: QEMU guest agent is not\nconnected"),
        "{",
        '{"error": {}}',
        "[" * 200_000,
        "5",
    ],
)
def test_an_agent_that_can_not_be_understood_is_none(asks: Callable[..., AgentAnswer], name: Any) -> None:
    with pytest.raises(HypervisorError, match=r"not responding: QEMU guest agent is not connected|can't be read"):
        asks(guest_get_host_name=name)


@pytest.mark.parametrize(
    "interfaces", [{}, [5, None], [{"ip-addresses": 5}], [{"ip-addresses": [5, {}, {"ip-address": "x; rm"}]}]]
)
def test_addresses_that_are_none_are_passed_over(asks: Callable[..., AgentAnswer], interfaces: Any) -> None:
    assert asks(guest_get_host_name={"host-name": 5}, guest_network_get_interfaces=interfaces).addresses in (None, ())


def test_an_answer_has_bounds(asks: Callable[..., AgentAnswer]) -> None:
    many = [{"ip-addresses": [{"ip-address": f"10.0.{n >> 8}.{n & 255}"} for n in range(2000)]}]
    answer = asks(guest_get_host_name={"host-name": "x" * 1000}, guest_network_get_interfaces=many)
    assert len(answer.hostname) == 256 and answer.addresses is not None and len(answer.addresses) == 256


# -- all machines of a node -------------------------------------------------------------------------------------------
class Asked(MemoryDriver):
    """Answers for machines by their ids. hangs: until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, Any] = {}
        self.asked: list[int] = []
        self.let_go = threading.Event()
        self.hangs: set[int] = set()
        self.closed = False

    def ask_agent(self, mark: Mark) -> AgentAnswer:
        self.asked.append(mark.vm_id)
        if mark.vm_id in self.hangs:
            self.let_go.wait(30)
        answer = self.answers.get(mark.vm_id, HypervisorError("it", "QEMU guest agent is not connected"))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, AgentAnswer)
        return answer

    def close(self) -> None:
        self.closed = True


def machine(vm_id: int = 7, **changes: Any) -> Machine:
    values = {"hostname": "web-0", "addresses": ("10.66.0.10",), **changes}
    return Machine(Wanted(vm_id, "web", "/x", **values), "kvm", Mark("catalog", vm_id))


def judged(answer: Any, **changes: Any) -> tuple[str, str]:
    driver = Asked()
    driver.answers[7] = answer
    agents = Agents([machine(**changes)], lambda _name: driver)
    agents.look({7}, 0.2)
    until(lambda: agents._next.get(7) != float("inf"))
    found = agents.evidence(7), agents.found(7)
    agents.close()
    assert driver.closed
    return found


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("answer", "changes", "evidence"),
    [
        (AgentAnswer("web-0", ("10.66.0.10",)), {}, "agent: web-0, 10.66.0.10"),
        (
            AgentAnswer("WEB-0.example.org", ("10.66.0.10", "fe80::1")),
            {},
            "agent: WEB-0.example.org, 10.66.0.10, fe80::1",
        ),
        # What it may not tell does not count against it.
        (AgentAnswer("web-0"), {}, "agent: web-0"),
        (AgentAnswer("", ("10.66.0.10",)), {}, "agent: 10.66.0.10"),
        (AgentAnswer(), {"hostname": "", "addresses": ()}, "agent: it answers"),
    ],
)
def test_an_agent_is_believed(answer: AgentAnswer, changes: dict[str, Any], evidence: str) -> None:
    assert judged(answer, **changes)[0] == evidence


@pytest.mark.parametrize(
    ("answer", "changes", "found"),
    [
        (AgentAnswer("debian", ("10.66.0.10",)), {}, "missing hostname web-0 (it says debian)"),
        (AgentAnswer("web-0", ()), {}, "missing address 10.66.0.10 (none said)"),
        (AgentAnswer("web-0", ("10.66.0.9",)), {}, "missing address 10.66.0.10 (it has 10.66.0.9)"),
        (AgentAnswer(), {}, "missing a word of its name or its addresses"),
        (HypervisorError("x", "QEMU guest agent is not connected"), {}, "QEMU guest agent is not connected"),
        (ValueError("surprise"), {}, "ValueError: surprise"),
    ],
)
def test_an_agent_is_not_believed(answer: Any, changes: dict[str, Any], found: str) -> None:
    assert judged(answer, **changes) == ("", found)


def test_a_hypervisor_that_has_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asked, "capabilities", frozenset())
    monkeypatch.setattr(Asked, "name", "shelf")
    assert judged(AgentAnswer("web-0")) == ("", "hypervisor shelf can't ask a guest's agent")


def test_a_hypervisor_that_is_not_there_is_no_fault_of_the_machine() -> None:
    def failing(_name: str) -> Driver:
        raise HypervisorError("connecting to libvirt", "no such socket")

    agents = Agents([machine()], failing)
    agents.look({7}, 0.2)
    until(lambda: agents.found(7) == "no such socket")
    agents.close()


def test_nobody_is_connected_to_before_somebody_is_asked() -> None:
    agents = Agents([machine()], lambda _name: pytest.fail("connected"))
    agents.look(set(), 0.2)
    agents.look({8}, 0.4)
    assert agents.found(8) == "none can be asked here"
    assert agents.found(7) == "it has not answered yet"
    agents.close()


def test_those_that_hang_hold_up_no_others() -> None:
    driver = Asked()
    driver.hangs = {0, 1, 2}
    driver.answers = dict.fromkeys(range(200), AgentAnswer("web-0", ("10.66.0.10",)))
    agents = Agents([machine(n) for n in range(200)], lambda _name: driver)
    for moment in range(1, 9):
        # Threads begin with the first looks; who was asked is not asked again while there is no answer.
        agents.look(set(range(200)), moment / 5)
    until(lambda: sum(bool(agents.evidence(n)) for n in range(200)) == 197)
    assert sorted(driver.asked) == list(range(200))
    assert len(agents._threads) == guest_agent.THREADS
    # Many are asked again later than one would be.
    pauses = [when - time.monotonic() for when in agents._next.values() if when != float("inf")]
    assert max(pauses) <= guest_agent.LONGEST_INTERVAL
    driver.let_go.set()
    agents.close()


def test_an_answer_that_is_no_more_does_not_count() -> None:
    driver = Asked()
    driver.answers[7] = AgentAnswer("web-0", ("10.66.0.10",))
    agents = Agents([machine()], lambda _name: driver)
    agents.look({7}, 0.2)
    until(lambda: agents.evidence(7))
    driver.answers.clear()
    agents._next.clear()
    agents.look({7}, 0.4)
    until(lambda: not agents.evidence(7))
    assert agents.found(7) == "QEMU guest agent is not connected"
    agents.close()
