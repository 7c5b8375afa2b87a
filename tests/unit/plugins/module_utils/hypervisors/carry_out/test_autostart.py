# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine starts with its host if it is wanted to run."""

from __future__ import annotations

from memory_node import Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, TimedOut


def test_a_machine_that_could_not_be_saved_runs_on_and_starts_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["suspend"] = HypervisorError("suspending it", "no room")
    assert told(here.one("SUSPENDED", 2))[::2] == ("RUNNING", "HypervisorError")
    assert here.driver.machines[0].autostart


def test_a_guest_that_does_not_obey_runs_on_and_starts_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    here.driver.fails["shutdown"] = TimedOut("shutting it down", "it did not obey", "hard: true")
    assert told(here.one("POWEROFF", 2))[::2] == ("RUNNING", "TimedOut")
    assert here.driver.names() == ["no autostart", "shutdown", "autostart"]


def test_a_machine_that_ended_before_something_failed_does_not_start_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["define"] = HypervisorError("defining it", "no")
    assert told(here.one("POWEROFF", 2, machine(memory=128)))[2] == "HypervisorError"
    assert not here.driver.machines[0].autostart
