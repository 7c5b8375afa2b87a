# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import progress
from ansible_collections.nebula.provision.plugins.module_utils.host.progress import Reporter


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_path_it_does_nothing():
    Reporter(None).report(1, 0, 2)


def test_a_line_at_most_every_half_second(tmp_path, clock):
    path = tmp_path / "progress"
    reporter = Reporter(str(path))
    reporter.report(1, 0, 10, word="running")
    assert path.read_text() == "1 of 10 running\n"
    clock[0] += 0.4
    reporter.report(2, 1, 10, word="running")
    assert path.read_text() == "1 of 10 running\n"
    clock[0] += 0.2
    reporter.report(3, 1, 10, word="running")
    assert path.read_text() == "3 of 10 running, 1 failed\n"
    assert os.listdir(tmp_path) == ["progress"]


@pytest.mark.parametrize("path", ["$NEBULA_JOB/progress", "progress", "./progress", ""])
def test_a_path_that_is_not_absolute_is_none(tmp_path, monkeypatch, path):
    """A task without a place for it has the name of the variable left in its path, and runs wherever Ansible is."""
    (tmp_path / "$NEBULA_JOB").mkdir()
    monkeypatch.chdir(tmp_path)
    Reporter(path).report(1, 0, 2)
    assert os.listdir(tmp_path) == ["$NEBULA_JOB"] and os.listdir(tmp_path / "$NEBULA_JOB") == []


def test_it_is_one_line_whatever_the_text(tmp_path):
    Reporter(str(tmp_path / "p")).report(0, 0, 0, text="demo\n 61 %\tat")
    assert (tmp_path / "p").read_text() == "demo 61 % at\n"


def test_a_place_where_it_can_not_write_is_no_error(tmp_path):
    reporter = Reporter(str(tmp_path / "nowhere" / "progress"))
    reporter.say("x")
    reporter.say("y")
