# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each problem has a sentence that says what to do."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.guest.ask_agent import PROBLEMS
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.problems import explained


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_problem_is_explained(problem: str) -> None:
    text = explained({"problem": problem, "found": "because {x}."}, "one-3", "kvm1", "run", "")
    assert text.startswith("Running a command in guest one-3 on node kvm1: ") and len(text) > 60
    assert ("because {x}" in text) == (problem not in {"foreign", "off", "truncated"})


def test_files_are_named() -> None:
    problem = {"problem": "failed", "found": "no room"}
    assert explained(problem, "one-3", "kvm1", "write", "/a {b}").startswith("Writing /a {b} in guest one-3")
    assert explained(problem, "one-3", "kvm1", "read", "/a").endswith("it failed in the machine: no room")
