# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What convinced of a guest is kept while its report is rotated away."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log, kept_evidence
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.host.console.conftest import (
    DEMO,
    feed,
    judge,
    rotate,
    wanted,
)


def test_a_login_that_was_believed_is_so_when_it_has_been_rotated_away(log: Path) -> None:
    assert judge(log, "web-0 login: ").verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    (verdict,) = wait([wanted(log)], timeout=0)
    assert (verdict.verified, verdict.evidence, verdict.text) == (True, "login", "login: web-0")
    assert not wait([wanted(log, by=("console",))], timeout=0)[0].verified


def test_who_was_believed_is_so_when_the_report_has_been_rotated_away(log: Path) -> None:
    assert judge(log, DEMO).verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\nnebula-guest: ready\n")
    (verdict,) = wait([wanted(log)], timeout=0)
    assert verdict.verified and verdict.text.startswith("nebula-guest: web-0")
    assert not wait([wanted(log, hostname="web-1")], timeout=0)[0].verified, "another is wanted now"
    assert not wait([wanted(log, pattern="login:")], timeout=0)[0].verified
    assert wait([wanted(log)], timeout=0)[0].verified
    feed(log, "nebula-guest: booting\n")
    assert not wait([wanted(log)], timeout=0)[0].verified, "it has booted since"


def test_a_new_start_makes_what_was_believed_void(log: Path) -> None:
    assert judge(log, DEMO).verified
    console_log.mark_start(str(log))
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    assert not wait([wanted(log)], timeout=0)[0].verified


def test_a_boot_of_the_host_makes_what_was_believed_void(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(log, DEMO).verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    assert wait([wanted(log)], timeout=0)[0].verified
    monkeypatch.setattr(kept_evidence, "boot_id", lambda: "another boot")
    assert not wait([wanted(log)], timeout=0)[0].verified


def test_what_was_believed_is_no_console(log: Path) -> None:
    assert judge(log, DEMO).verified
    log.unlink()
    assert wait([wanted(log)], timeout=0)[0].missing == ("a console log",)


def test_what_was_believed_is_for_nobody_else(log: Path) -> None:
    assert judge(log, DEMO).verified
    assert stat.S_IMODE(os.stat(f"{log}{console_log.VERIFIED}").st_mode) == 0o600


def test_check_mode_remembers_nothing(log: Path) -> None:
    log.write_bytes(DEMO.encode())
    assert wait([wanted(log)], timeout=0, keep=False)[0].verified
    assert list(log.parent.iterdir()) == [log]


def test_what_convinced_under_the_old_name_is_remembered(log: Path) -> None:
    assert judge(log, DEMO).verified
    rotated = "the report of its boot was rotated away\n"
    Path(f"{log}.0").write_text(rotated)
    log.write_text(rotated)
    before = wanted(log)
    assert kept_evidence.recall(before)
    assert kept_evidence.recall(wanted(log, name="db", hostname="db", former="web-0"))
    assert not kept_evidence.recall(wanted(log, name="db", hostname="db"))
    assert not kept_evidence.recall(wanted(log, name="db", hostname="db", former="web-1"))
    assert not kept_evidence.recall(wanted(log, name="db", hostname="db", former="web-0", addresses=("10.66.0.11",)))


def test_what_was_believed_is_read_from_no_file_that_a_link_names(log: Path, tmp_path: Path) -> None:
    assert judge(log, DEMO).verified
    kept, elsewhere = Path(f"{log}{kept_evidence.VERIFIED}"), tmp_path / "elsewhere"
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    assert kept_evidence.recall(wanted(log)) == ""
    elsewhere.replace(kept)
    assert kept_evidence.recall(wanted(log))
