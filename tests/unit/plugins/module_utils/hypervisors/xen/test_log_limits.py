# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests make a dom0 write down stays small: the unit's own command is run by a shell, on files as Xen's programs
write them; systemd is replaced, as it is another host's."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host import command, systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import log_limits
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.log_limits import LIMIT, MARK, UNIT

KEPT = 1000
SMALL = 4 * 4096


@pytest.fixture
def dom0(tmp_path, monkeypatch):
    """Directories of a dom0, and the machine's."""
    for name in ("log/console", "machine"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(log_limits, "LOGS", (f"{tmp_path}/log/qemu-dm-one-*.log", f"{tmp_path}/log/none-*.log"))
    monkeypatch.setattr(log_limits, "CONSOLES", str(tmp_path / "log/console"))
    return tmp_path


def look(limit: int = SMALL) -> None:
    """As the unit does it, whose words systemd takes apart."""
    line = next(line for line in log_limits.text().splitlines() if line.startswith("ExecStart=/bin/sh -c "))
    script = re.fullmatch(r'ExecStart=/bin/sh -c "(.*)" sh (\d+) (\d+) (\S+)', line)
    assert script is not None and (int(script[2]), int(script[3])) == (LIMIT, log_limits.KEPT)
    text = script[1].replace("$$", "$").replace("%%", "%")
    text = re.sub(r"\\(.)", r"\1", text)
    done = subprocess.run(["sh", "-c", text, "sh", str(limit), str(KEPT), script[4]], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["guest", "serial"])
def test_a_console_begins_anew_and_what_was_said_is_beside_it(dom0, kind):
    log, link = dom0 / "machine/console.log", dom0 / f"log/console/{kind}-one-7.log"
    link.symlink_to(log)
    with log.open("ab") as guest:
        for number in range(6):
            guest.write(b"%d" % number * 2 * SMALL)
            guest.flush()
            look()
            # It goes on in the same file, behind its end.
            assert log.stat().st_size == 0
            look()
    assert [(dom0 / f"machine/console.log.{n}").read_bytes()[:1] for n in range(3)] == [b"5", b"4", b"3"]
    assert sorted(os.listdir(dom0 / "machine")) == ["console.log", *(f"console.log.{n}" for n in range(3))]
    assert sum(path.stat().st_size for path in (dom0 / "machine").iterdir()) <= 3 * SMALL
    assert link.is_symlink()


def test_what_is_small_stays_and_what_nobody_writes_to_is_no_error(dom0):
    (dom0 / "log/console/guest-one-1.log").symlink_to(dom0 / "machine/console.log")
    look()
    (dom0 / "machine/console.log").write_bytes(b"x" * SMALL)
    (dom0 / "log/qemu-dm-one-1.log").write_bytes(b"x" * SMALL)
    look()
    assert (dom0 / "machine/console.log").stat().st_size == (dom0 / "log/qemu-dm-one-1.log").stat().st_size == SMALL


def test_of_other_logs_the_end_stays(dom0):
    log = dom0 / "log/qemu-dm-one-1.log"
    with log.open("ab") as program:
        program.write(b"%" * 4 * SMALL + b"the last words \\n %s\n")
        program.flush()
        look()
        assert log.stat().st_size == KEPT and log.read_bytes().endswith(b"%the last words \\n %s\n")
        program.write(b"more\n")
    assert log.stat().st_size == KEPT + 5


def test_what_xenconsoled_keeps_of_a_machine_with_a_serial_port_is_kept_small_too(dom0):
    log = dom0 / "log/console/guest-one-3.log"
    log.write_bytes(b"x" * 4 * SMALL)
    look()
    assert log.stat().st_size == 0 and os.listdir(dom0 / "log/console") == ["guest-one-3.log"]


def test_logs_of_others_and_directories_are_left_alone(dom0):
    for name in ("guest-theirs.log", "xl-theirs.log"):
        (dom0 / "log/console" / name).write_bytes(b"x" * 4 * SMALL)
    (dom0 / "log/console/guest-one-5.log").mkdir()
    (dom0 / "log/console/guest-one-6.log").symlink_to(dom0 / "machine")
    look()
    assert (dom0 / "log/console/guest-theirs.log").stat().st_size == 4 * SMALL


# -- the unit --------------------------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """It does what it is told and answers that all units run."""
    told: list[list[str]] = []

    def run(argv, **_options):
        told.append(list(argv))
        if argv[1] == "enable":
            link = tmp_path / "multi-user.target.wants" / argv[2]
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(tmp_path / argv[2])
        answer = "activating\n" if argv[1] == "is-active" else ""
        return command.Completed(tuple(argv), 0, answer, "", 0.0)

    monkeypatch.setattr(systemd_units, "PLACE", str(tmp_path))
    monkeypatch.setattr(systemd_units, "has_systemd", lambda: True)
    monkeypatch.setattr(systemd_units, "run", run)
    monkeypatch.setattr(log_limits, "run", run)
    return told


def test_it_is_made_once_and_given_back(systemd, tmp_path):
    foreseen = Changes(True)
    log_limits.prepare(foreseen)
    assert set(foreseen.after) == {UNIT} and not (tmp_path / UNIT).exists()
    done = Changes(False)
    log_limits.prepare(done)
    assert done.after == foreseen.after and ["systemctl", "restart", UNIT] in systemd
    assert (tmp_path / UNIT).read_text().startswith(f"{MARK}\n")
    again = Changes(False)
    log_limits.prepare(again)
    assert again.after == {}
    assert log_limits.give_back(Changes(True)) and (tmp_path / UNIT).exists()
    assert log_limits.give_back(Changes(False)) and not (tmp_path / UNIT).exists()
    assert not log_limits.give_back(Changes(False))


def test_somebody_elses_unit_of_that_name_is_not_replaced(systemd, tmp_path):
    (tmp_path / UNIT).write_text("[Unit]\n")
    with pytest.raises(ForeignObject):
        log_limits.prepare(Changes(False))


def test_one_that_was_stopped_is_started_again(systemd, monkeypatch):
    log_limits.prepare(Changes(False))
    real = log_limits.run

    def run(argv, **options):
        done = real(argv, **options)
        return command.Completed(done.argv, 3, "inactive\n", "", 0.0) if argv[1] == "is-active" else done

    monkeypatch.setattr(log_limits, "run", run)
    changes = Changes(False)
    log_limits.prepare(changes)
    assert set(changes.after) == {UNIT}


def test_without_systemd_there_is_none(monkeypatch):
    monkeypatch.setattr(systemd_units, "has_systemd", lambda: False)
    changes = Changes(False)
    log_limits.prepare(changes)
    assert changes.after == {} and not log_limits.give_back(changes)


def test_the_unit_is_one_that_systemd_reads(tmp_path):
    path = Path(tmp_path, UNIT)
    path.write_text(log_limits.text())
    try:
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("systemd is not on this host")
    assert UNIT not in done.stderr, done.stderr
