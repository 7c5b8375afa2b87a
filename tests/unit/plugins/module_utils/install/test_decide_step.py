# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of an installation are ended by role vm. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.install import decide_step
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Work
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import Machine


def test_what_has_no_machine_ends_none() -> None:
    assert decide_step.ends(Work("debian")) == []


def test_a_machine_is_ended_as_it_is_asked_for() -> None:
    work = Work("debian", machine=Machine(3, "RUNNING", "RUNNING", "RUNNING"))
    (end,) = decide_step.ends(work, hard=False)
    assert (end["name"], end["state"], end["hard"]) == ("install-debian", "absent", False)
