# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl_logs as xen_logs

START = "Waiting for domain {name} (domid {domid}) to die [pid {pid}]\n"
END = "Domain {domid} has shut down, reason code {code} {code:#x}\nAction for shutdown reason code {code} is {action}\n"
DONE = "Done. Exiting now\n"
POWEROFF = END.format(domid=3, code=0, action="destroy") + DONE
REBOOT = END.format(domid=3, code=1, action="restart")
SUSPENDED = END.format(domid=3, code=2, action="destroy") + "Domain has suspended.\n" + DONE
DESTROYED = "Domain 3 has been destroyed.\n"
CRASH = END.format(domid=3, code=3, action="destroy") + DONE


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(xen_logs, "LOGS", tmp_path)
    return tmp_path


def write(path: Path, text: str, age: int = 0, pid: int = 1 << 22) -> None:
    path.write_text(START.format(name="one-1", domid=3, pid=pid) + text)
    moment = 1_700_000_000 - age
    os.utime(path, (moment, moment))


@contextlib.contextmanager
def tool(log: Path) -> Iterator[int]:
    """A process whose output is the log, as that of Xen's is."""
    with log.open("a") as file, subprocess.Popen(["sleep", "60"], stdout=file, stderr=file) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        (POWEROFF, "guest"),
        (REBOOT, "guest"),
        (CRASH, ""),
        (SUSPENDED, "unknown"),
        (DESTROYED, ""),
        ("", ""),
        (None, "unknown"),
    ],
)
@pytest.mark.parametrize("file", ["xl-one-1.log", "xl-one-1--incoming.log"])
def test_how_it_ended(logs: Path, file: str, text: str | None, ended: str) -> None:
    if text is not None:
        write(logs / file, text)
    assert xen_logs.ended_by("one-1") == ended


def test_the_tool_that_had_it_last_is_believed(logs: Path) -> None:
    """It came back, or was started anew after it came."""
    for last, first in (("xl-one-1--incoming", "xl-one-1"), ("xl-one-1", "xl-one-1--incoming")):
        write(logs / f"{first}.log", CRASH, age=10)
        write(logs / f"{last}.log", POWEROFF)
        assert xen_logs.ended_by("one-1") == "guest"


def test_it_is_rebooting_as_long_as_its_tool_is_there_to_do_it(logs: Path) -> None:
    with tool(logs / "xl-one-1.log") as pid:
        write(logs / "xl-one-1.log", REBOOT, pid=pid)
        assert xen_logs.is_rebooting("one-1")
        write(logs / "xl-one-1.log", POWEROFF, pid=pid)
        assert not xen_logs.is_rebooting("one-1")
        # The tool of another domain has the number by now, or any program of root's.
        for text in (REBOOT, POWEROFF):
            write(logs / "xl-one-2.log", text, pid=pid)
            assert not xen_logs.is_rebooting("one-2")
    write(logs / "xl-one-1.log", REBOOT, pid=pid)
    assert not xen_logs.is_rebooting("one-1")
    write(logs / "xl-one-1.log", REBOOT, pid=os.getpid())
    assert not xen_logs.is_rebooting("one-1")


@pytest.mark.parametrize(
    ("argv", "making"),
    [
        (["/usr/sbin/xl", "create", "-q", "/there/one-1.cfg"], True),
        (["xl", "-f", "create", "/there/one-1.cfg"], True),
        (["/usr/bin/python3", "/usr/sbin/xm", "create", "/there/one-1.cfg"], True),
        (["/usr/sbin/xl", "create", "-q", "/there/one-11.cfg"], False),
        (["less", "create", "/there/one-1.cfg"], False),
        (["vi", "/usr/sbin/xl", "create", "/there/one-1.cfg"], False),
    ],
)
def test_it_is_made_by_its_tool_alone(monkeypatch: pytest.MonkeyPatch, argv: list[str], making: bool) -> None:
    def of_root(wanted: Callable[[list[bytes]], bool]) -> Iterator[tuple[int, list[bytes]]]:
        words = [word.encode() for word in argv]
        yield from [(7, words)] if wanted(words) else []

    monkeypatch.setattr(xen_logs.processes, "of_root", of_root)
    assert xen_logs.is_made("one-1") is making


def test_what_is_removed_is_of_this_domain_only(logs: Path) -> None:
    own = (
        "xl-one-1.log",
        "xl-one-1.log.1",
        "xl-one-1--incoming.log",
        "qemu-dm-one-1.log",
        "qemu-dm-one-1--incoming.log.2",
    )
    others = ("xl-one-11.log", "xl-one-1-other.log", "qemu-dm-one-2--incoming.log", "xen-hotplug.log")
    for name in (*own, *others):
        (logs / name).touch()
    xen_logs.remove("one-1")
    assert sorted(path.name for path in logs.iterdir()) == sorted(others)
