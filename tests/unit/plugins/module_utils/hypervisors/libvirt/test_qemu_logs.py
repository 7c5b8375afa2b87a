# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who ended a domain, by its log. The lines are what libvirt 9.0 and QEMU 7.2 wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import qemu_logs

START = "2026-11-21 04:11:50.424+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4, qemu version: 7.2.19\n"
BY = "2026-11-21T04:11:52.424290Z qemu-system-x86_64: terminating on signal 15 from pid {}\n"
END = "2026-11-21 04:11:52.626+0000: shutting down, reason={}\n"
OFF = START + BY.format("24 (libvirtd)") + END.format("shutdown")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(qemu_logs, "LOGS", tmp_path)
    return tmp_path / "one-1.log"


@pytest.mark.parametrize(
    ("text", "by_guest"),
    [
        (OFF, True),
        (START + BY.format("24 (/usr/sbin/virtqemud)") + END.format("shutdown"), True),
        (START + BY.format("24 (<unknown process>)") + END.format("shutdown"), True),
        (START + END.format("shutdown"), True),
        (START + BY.format("24 (/usr/bin/python3)") + END.format("shutdown"), False),
        (START + BY.format("1 (<unknown process>)") + END.format("shutdown"), False),
        (START + "qemu-system-x86_64: terminating on signal 2\n" + END.format("shutdown"), False),
        (START + BY.format("24 (libvirtd)") + END.format("destroyed"), False),
        (START + END.format("crashed"), False),
        # Its host went down.
        (START, False),
        (OFF + START, False),
        (START + END.format("destroyed") + OFF, True),
        # A guest's own words are not at a line's beginning.
        (START + "said: 2026-11-21 04:11:52.626+0000: shutting down, reason=shutdown\n", False),
        ("", None),
        (END.format("shutdown"), None),
    ],
)
def test_what_the_log_tells(log, text, by_guest):
    log.write_text(text)
    assert qemu_logs.ended_by_guest("one-1") is by_guest


def test_no_log(log):
    assert qemu_logs.ended_by_guest("one-1") is None


def test_a_log_that_was_begun_anew_meanwhile(log):
    older = Path(f"{log}.0")
    older.write_text(START)
    os.utime(older, (1, 1))
    Path(f"{log}.1").write_text(OFF)
    os.utime(f"{log}.1", (0, 0))
    log.write_text(BY.format("24 (libvirtd)") + END.format("shutdown"))
    (log.parent / "one-11.log").write_text(START)
    assert qemu_logs.ended_by_guest("one-1") is True
    log.write_text(END.format("crashed"))
    assert qemu_logs.ended_by_guest("one-1") is False


def test_all_logs_of_a_domain_are_removed_and_no_others(log):
    for name in ("one-1.log", "one-1.log.0", "one-1.log.2.gz", "one-1.log-20261121", "one-11.log", "one-1.logs"):
        (log.parent / name).write_text(START)
    qemu_logs.remove("one-1")
    assert sorted(path.name for path in log.parent.iterdir()) == ["one-1.logs", "one-11.log"]
