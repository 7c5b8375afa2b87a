# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InvalidValue,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.install import (
    installation_end,
    watch_machines,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.installation_end import FINISHED
from ansible_collections.nebula.provision.plugins.module_utils.install.watch_machines import Watch, Watched

RUNS, OFF = ("RUNNING", ""), ("POWEROFF", "guest")


@pytest.fixture
def watched(tmp_path: Path):
    def make(**changes) -> Watched:
        return Watched(
            **{
                "name": "debian",
                "vm_id": 3,
                "machine": "install-debian",
                "console": str(tmp_path / "console.log"),
                "disk": str(tmp_path / "disk.0"),
                "size": 8,
                **changes,
            }
        )

    return make


def say(watched: Watched, text: str) -> None:
    with Path(watched.console).open("a") as file:
        file.write(text)


def test_a_line_says_how_far_it_is(watched):
    found = Watch(watched(end="manual", access="VNC 127.0.0.1:5903"))
    assert found.look(RUNS, 0) is None
    assert found.line(0) == "debian 0 % written after 0:00 (VNC 127.0.0.1:5903): its console is silent"
    Path(found.watched.disk).write_bytes(b"x" * (2 << 20))
    say(found.watched, "first\r\nPartitioning \x1b[31mthe disk\x1b[0m …")
    assert found.look(RUNS, 61) is None
    assert found.line(61) == ("debian 25 % written after 1:01 (VNC 127.0.0.1:5903): Partitioning the disk …")


def test_the_word_of_an_earlier_boot_does_not_count(watched):
    found = Watch(watched(marker=True))
    say(found.watched, f"{FINISHED}\nnebula-node: starting\nagain\n")
    assert found.look(RUNS, 0) is None
    assert found.look(OFF, 1) is None
    ending = found.look(OFF, 4)
    assert isinstance(ending.error, WrongState) and "without having said" in ending.error.found
    assert ending.last_lines == ("nebula-node: starting", "again")


def test_a_last_word_that_comes_late(watched):
    found = Watch(watched(marker=True))
    say(found.watched, "working\n")
    assert found.look(RUNS, 0) is None and found.look(OFF, 1) is None
    say(found.watched, f"{FINISHED}")
    assert found.look(OFF, 1.5).installed


def test_a_pattern_waits_for_silence(watched):
    found = Watch(watched(end="pattern", pattern="^press enter"))
    say(found.watched, "press enter to reboot: ")
    assert found.look(RUNS, 0) is None
    assert found.look(RUNS, 4) is None
    Path(found.watched.disk).write_bytes(b"x" * 8192)
    assert found.look(RUNS, 60) is None
    # What is written over takes no more blocks.
    assert found.look(RUNS, 120, lambda _vm_id: 512) is None
    assert found.look(RUNS, 180, lambda _vm_id: 1024) is None
    ending = found.look(RUNS, 181 + installation_end.QUIET, lambda _vm_id: 1024)
    assert ending.installed and ending.how == "its console said 'press enter to reboot:'"


def test_what_no_installer_recovers_from(watched):
    found = Watch(watched(failures=("No space left",)))
    say(found.watched, "tar: No space left on device\n")
    assert found.look(RUNS, 0) is None
    ending = found.look(RUNS, 20)
    assert "tar: No space left on device" in ending.error.found and "state: absent" in ending.error.remedy


def test_a_time_limit(watched):
    ending = Watch(watched(timeout=5, access="virsh console one-3")).look(RUNS, 5)
    assert isinstance(ending.error, TimedOut)
    assert "virsh console one-3" in str(ending.error) and "goes on waiting" in str(ending.error).replace(
        "go on", "goes on"
    )


def test_a_pattern_that_is_none(watched):
    with pytest.raises(InvalidValue, match="not a regular expression"):
        Watch(watched(end="pattern", pattern="("))


def test_several_at_once(watched, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_machines, "POLL_INTERVAL", 0)
    machines = [watched(), watched(name="other", vm_id=4), watched(name="gone", vm_id=9)]
    answers = iter([{3: RUNS, 4: OFF}, {3: RUNS, 4: OFF}, {3: OFF}])
    said = []
    endings = watch_machines.watch(machines, lambda: next(answers), lambda lines: said.append(dict(lines)))
    assert [(ending.watched.name, ending.installed) for ending in endings] == [
        ("debian", True), ("other", True), ("gone", False),
    ]  # fmt: skip
    assert "its machine is gone" in str(endings[2].error)
    assert said[-1]["other"].startswith("other: its guest ended the machine")


def test_a_hypervisor_that_does_not_answer_for_a_while(watched, monkeypatch):
    monkeypatch.setattr(watch_machines, "POLL_INTERVAL", 0)
    answers = iter([{3: RUNS}, None, None, {3: OFF}])

    def states():
        found = next(answers)
        if found is None:
            raise HypervisorError("listing the machines of this node", "Cannot recv data", "Start libvirtd")
        return found

    (ending,) = watch_machines.watch([watched()], states)
    assert ending.installed


def test_a_hypervisor_that_answers_no_more(watched, monkeypatch):
    monkeypatch.setattr(watch_machines, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(watch_machines, "TOLERANCE", 0.05)

    def states():
        raise HypervisorError("listing the machines of this node", "Cannot recv data", "Start libvirtd")

    endings = watch_machines.watch([watched(), watched(name="other", vm_id=4)], states)
    assert [str(ending.error).split(":")[0] for ending in endings] == ["install debian", "install other"]
    assert all("Start libvirtd. Then run again" in str(ending.error) for ending in endings)


@pytest.mark.parametrize(("fresh", "pressed"), [(True, True), (False, False)])
def test_keys_are_only_pressed_where_this_run_has_started_it(watched, fresh, pressed):
    assert Watch(watched(keys=True, fresh=fresh)).wants_key(RUNS, 1) is pressed


# As Debian's installer draws it, in a terminal multiplexer, whenever the minute changes.
BAR = (
    "\x1b[H\x1b[7m\x1b[m\x1b[32m\x1b[40m[           \x1b[37m\x1b[31m (\x1b[37m1*installer\x1b[31m)\x1b[37m  2 shell"
    "  3 shell  4- log           \x1b[32m][\x1b[34m Nov 21 \x1b[37m 3:16 \x1b[32m]"
)
OTHER_BAR = "\x1b[H\x1b[40m[        \x1b[37m0 start  \x1b[31m (\x1b[37m1*shell\x1b[31m)\x1b[37m  2 shell  3- shell"
PARTITIONER = "Loading additional components  ... 25%... 100%\r\nStarting up the partitioner  ... 4%"


def newest(found: Watch) -> str:
    assert found.look(RUNS, 0) is None
    return found.line(0).split(": ", 1)[1]


def test_the_bar_of_debians_installer_is_never_shown(watched):
    found = Watch(watched(marker=True))
    text = f"{BAR}\r\n\x1b[0m{OTHER_BAR}\x1b[24;80H\x1b[0m\x1b[2;1H{PARTITIONER}{BAR}\x1b[15;36H\x1b[0m... 75%... 79%"
    shown = []
    for begin in range(0, len(text), 3):
        say(found.watched, text[begin : begin + 3].replace("\r\n", "\n"))
        shown.append(newest(found))
    assert shown[-1] == "Starting up the partitioner ... 79%"
    assert "Starting up the partitioner ... 4%" in shown
    assert not [line for line in shown if "*" in line or "shell" in line or "Nov" in line or line.startswith("[")]


@pytest.mark.parametrize("cut", ["[ ", "[            ", "[            (", "[            (1*inst", "[     0 st"])
def test_a_bar_that_is_cut(watched, cut):
    found = Watch(watched(marker=True))
    say(found.watched, f"{PARTITIONER}\x1b[H{cut}")
    assert newest(found) == "Starting up the partitioner ... 4%"


@pytest.mark.parametrize("line", ["[    0.123456] Linux version 6.1", "[  OK  ] Started Login Service", "[1] + done"])
def test_what_only_begins_like_a_bar_is_shown(watched, line):
    found = Watch(watched())
    say(found.watched, line)
    assert newest(found) == line


def test_progress_is_shown_with_what_it_is_of(watched):
    found = Watch(watched(marker=True))
    say(found.watched, f"Finishing the installation  ... 3%... 11%{FINISHED}\n... 23%{BAR}\x1b[24;49H\x1b[0m... 30%")
    assert newest(found) == "Finishing the installation ... 30%"
    assert found._last_lines() == [
        f"Finishing the installation  ... 3%... 11%{FINISHED}", "Finishing the installation ... 30%",
    ]  # fmt: skip


def test_percent():
    assert watch_machines.percent(512 * 1024 * 1024, 1024) == 50
    assert watch_machines.percent(1 << 50, 1) == 100 and watch_machines.percent(1, 0) == 0
