# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for guests, by their consoles and by other sources."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log, guest_wait
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import KINDS
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.host.console.conftest import (
    CLOUD_INIT,
    DEMO,
    feed,
    judge,
    wanted,
)


class Other:
    """Convinced of a machine from the first look on at which `tells` says so."""

    def __init__(self, kind: str = "address", tells: str = "address: 10.66.0.10") -> None:
        self.kind = kind
        self.tells = tells
        self.looks: list[set[int]] = []

    def look(self, waiting: Collection[int], now: float) -> None:
        self.looks.append(set(waiting))

    def evidence(self, vm_id: int) -> str:
        return self.tells if self.looks else ""

    def found(self, vm_id: int) -> str:
        return f"nothing of {vm_id}\x1b[2J"

    def close(self) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_wait, "POLL_INTERVAL", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["agent", "address"])
@pytest.mark.parametrize("text", ["", "GRUB\r\n", "localhost login: ", CLOUD_INIT.replace("web-0", "debian")])
def test_another_source_is_enough(log: Path, kind: str, text: str) -> None:
    log.write_bytes(text.encode())
    source = Other(kind)
    (verdict,) = wait([wanted(log)], timeout=60, sources=[source])
    assert (verdict.verified, verdict.evidence, verdict.text) == (True, kind, "address: 10.66.0.10")
    assert source.looks == [{3}]
    # It is asked again the next time: nothing of it is remembered.
    assert not Path(f"{log}{console_log.VERIFIED}").exists()


@pytest.mark.usefixtures("quick")
def test_a_machine_without_a_console_can_be_believed(log: Path) -> None:
    (verdict,) = wait([wanted(log)], timeout=60, sources=[Other()])
    assert verdict.verified


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (DEMO.replace("nebula-guest: ready", "nebula-guest: error init.sh exit 3\r\nnebula-guest: ready"), {}),
        (DEMO, {"hostname": "other"}),
        ("nebula-guest: booting\r\n", {}),
        ("web-0 login: ", {"pattern": "^up"}),
        ("", {"by": ("console", "login")}),
    ],
)
def test_who_tells_what_goes_wrong_is_not_passed_over(log: Path, text: str, changes: dict[str, object]) -> None:
    log.write_bytes(text.encode())
    source = Other()
    (verdict,) = wait([wanted(log, **changes)], timeout=0.1, sources=[source])
    assert not verdict.verified
    assert not any(source.looks)
    assert "address" not in verdict.tried


@pytest.mark.usefixtures("quick")
def test_a_guest_that_begins_to_report_meanwhile_is_heard_first(log: Path) -> None:
    class Late(Other):
        def look(self, waiting: Collection[int], now: float) -> None:
            super().look(waiting, now)
            feed(log, "nebula-guest: booting\n")

    (verdict,) = wait([wanted(log)], timeout=0.1, sources=[Late()])
    assert not verdict.verified


def test_nobody_is_asked_of_a_guest_that_has_told_already(log: Path) -> None:
    log.write_bytes(DEMO.encode())
    source = Other()
    assert wait([wanted(log)], timeout=60, sources=[source])[0].verified
    assert source.looks == []


@pytest.mark.usefixtures("quick")
def test_the_error_says_what_was_tried_and_what_can_be_done(log: Path) -> None:
    log.write_bytes(b"GRUB\r\n")
    sources = [Other("agent", ""), Other("address", "")]
    (verdict,) = wait([wanted(log)], timeout=0.05, sources=sources)
    assert list(verdict.tried) == list(KINDS)
    message = str(verdict.error)
    for part in (
        "console: missing hostname web-0 (none said); address 10.66.0.10 (none said); login: no prompt web-0 login:; ",
        "agent: nothing of 3; address: nothing of 3. ",
        *("nebula_verify_pattern ", "nebula_verify_patterns", "nebula_verify_by", "nebula_verify_timeout"),
        "nebula_verify: false",
        f"Last lines of {log}:\n    GRUB",
    ):
        assert part in message, message


def test_the_error_says_what_is_missing_and_shows_the_end(log: Path) -> None:
    text = (
        "".join(f"line {n}\r\n" for n in range(40)) + "\x1b[31mevil\x07\u202e\x1b]0;title\x07 \x9b2J{{ x }}\r\nlogin: "
    )
    verdict = judge(log, text)
    message = str(verdict.error)
    assert "VM 3 (web)" in message
    assert "hostname web-0" in message
    assert "address 10.66.0.10" in message
    assert len(verdict.last_lines) == 20
    assert verdict.last_lines[0] == "line 22"
    assert verdict.last_lines[-2:] == (r"evil\x07\u202e \x9b2J{{ x }}", "login: ")
    assert all(c.isprintable() or c in "\n\t" for c in message)


def test_waiting_ends_when_the_last_guest_is_up_and_counts_on_the_way(log: Path, tmp_path: Path) -> None:
    late, never = tmp_path / "late.log", tmp_path / "never.log"
    log.write_bytes(DEMO.encode())
    counts: list[tuple[int, int, int]] = []
    machines = [wanted(late), wanted(log), wanted(never, pattern="(")]
    began = threading.Event()

    def report(*now: int) -> None:
        counts.append(now)  # type: ignore[arg-type]
        began.set()

    def write() -> None:
        began.wait(30)
        feed(late, DEMO)

    writer = threading.Thread(target=write)
    writer.start()
    verdicts = wait(machines, 60, report)
    writer.join()
    assert [verdict.verified for verdict in verdicts] == [True, True, False]
    assert list(dict.fromkeys(counts)) == [(1, 1, 3), (2, 1, 3)]
    assert verdicts[0].seconds < 30


@pytest.mark.parametrize(("cost", "expected"), [(0.0, 0.2), (0.02, 0.2), (0.1, 1.0), (3.0, 2.0)])
def test_looking_takes_a_tenth_of_the_time_where_a_look_is_dear(
    log: Path, monkeypatch: pytest.MonkeyPatch, cost: float, expected: float
) -> None:
    clock = [0.0]
    slept: list[float] = []

    def attempt(guest: guest_wait.Guest, now: float) -> guest_wait.Verdict | None:
        clock[0] += cost
        return guest.given_up(now) if now >= 20 else None

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(guest_wait, "attempt", attempt)
    monkeypatch.setattr(guest_wait.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(guest_wait.time, "sleep", sleep)
    assert not wait([wanted(log)], 60)[0].verified
    assert slept == pytest.approx([expected] * len(slept))
    assert len(slept) > 3


def test_a_guest_that_is_ready_and_silent_is_not_waited_for_to_the_end(log: Path) -> None:
    feed(log, DEMO)
    guest = guest_wait.Guest(wanted(log, hostname="other"))
    assert guest.look(1.0) is None
    assert guest.look(1.0 + guest_wait.SETTLED_AFTER - 0.1) is None
    feed(log, "a word\n")
    assert guest.look(1.0 + guest_wait.SETTLED_AFTER + 0.1) is None
    verdict = guest.look(2.0 + 2 * guest_wait.SETTLED_AFTER + 0.1)
    assert verdict is not None
    assert not verdict.verified
