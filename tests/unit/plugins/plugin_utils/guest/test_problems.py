# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each problem has a sentence that says what to do."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.guest import ask_agent, use_console
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.problems import sentence_about

ALL = sorted({*ask_agent.PROBLEMS, *use_console.PROBLEMS})


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize("problem", ALL)
def test_every_problem_is_explained(problem: str, console: bool) -> None:
    answer = {"problem": problem, "found": "because {x}."}
    text = sentence_about(answer, "one-3", "kvm1", "run", "", console)
    assert text.startswith("Running a command in guest one-3 on node kvm1: ") and len(text) > 60
    assert ("because {x}" in text) == (problem not in {"foreign", "off", "truncated", "busy", "garbled"})
    assert ("console" in text) == ((console and problem == "silent") or problem in {"busy", "login", "garbled"})


def test_files_are_named() -> None:
    problem = {"problem": "failed", "found": "no room"}
    assert sentence_about(problem, "one-3", "kvm1", "write", "/a {b}").startswith("Writing /a {b} in guest one-3")
    assert sentence_about(problem, "one-3", "kvm1", "read", "/a").endswith("it failed in the machine: no room")
