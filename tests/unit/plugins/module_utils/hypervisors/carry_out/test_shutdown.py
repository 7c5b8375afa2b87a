# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest is asked to end, or ended."""

from __future__ import annotations

import pytest
from memory_node import Node, suspended, told


@pytest.mark.parametrize(
    ("was", "hard", "asked"),
    [
        ("RUNNING", False, ["no autostart", "shutdown"]),
        ("RUNNING", True, ["no autostart", "cancel"]),
        # One that is paused can't obey.
        ("UNKNOWN", False, ["no autostart", "start", "shutdown"]),
        ("UNKNOWN", True, ["no autostart", "cancel"]),
    ],
)
def test_a_machine_is_ended_as_the_plan_says(here: Node, was: str, hard: bool, asked: list[str]) -> None:
    here.one("RUNNING")
    here.driver.machines[0].state = was
    here.driver.names()
    assert told(here.one("POWEROFF", 2, hard=hard, shutdown_timeout=9)) == ("POWEROFF", True, "")
    assert here.driver.names() == asked
    assert here.driver.timeouts == ([] if hard else [9])
    assert told(here.one("POWEROFF", 2, hard=hard)) == ("POWEROFF", False, "")
    assert here.driver.names() == []


@pytest.mark.parametrize(("hard", "asked"), [(True, []), (False, ["resume", "shutdown"])])
def test_a_suspended_machine_is_ended_with_or_without_its_guest(here: Node, hard: bool, asked: list[str]) -> None:
    saved = suspended(here)
    assert told(here.one("POWEROFF", 3, hard=hard)) == ("POWEROFF", True, "")
    assert here.driver.names() == asked
    assert not saved.exists()
