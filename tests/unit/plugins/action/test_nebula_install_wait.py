# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each installation has its own line, shown when it is another one and not too often."""

from __future__ import annotations

import json

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action import nebula_install_wait
from ansible_collections.nebula.provision.plugins.action.nebula_install_wait import SAY_SECONDS, ActionModule, _Lines


@pytest.fixture
def told(monkeypatch):
    """The clock is the test's, and what the terminal gets is written down."""
    now, lines = [1000.0], []
    monkeypatch.setattr(nebula_install_wait.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(nebula_install_wait.Display, "display", lambda _self, text: lines.append(text))
    say = _Lines().say

    def tell(after, **installs):
        now[0] += after
        lines.clear()
        say(f"nebula_install on front: {json.dumps(installs)}")
        return list(lines)

    return tell


def test_each_installation_says_its_first_line_at_once(told):
    assert told(0, web="web: booting", db="db: booting") == [
        "nebula_install on front: web: booting",
        "nebula_install on front: db: booting",
    ]


def test_the_same_line_is_not_said_again(told):
    told(0, web="web: booting")
    assert told(100 * SAY_SECONDS, web="web: booting") == []


def test_another_line_waits_for_its_time(told):
    told(0, web="a", db="a")
    assert told(SAY_SECONDS - 1, web="b") == []
    # Those of one another do not wait for each other.
    assert told(1, web="c", db="b") == ["nebula_install on front: c", "nebula_install on front: b"]


@pytest.mark.parametrize("text", ["nebula_install: no json", "nebula_install: [1]", "nebula_install", ""])
def test_what_is_no_list_of_lines_is_not_shown(told, text, monkeypatch):
    monkeypatch.setattr(nebula_install_wait.Display, "display", lambda _self, text: pytest.fail(text))
    _Lines().say(text)


def test_the_module_waits_as_a_job():
    action = made(ActionModule, {"names": ["web"]})
    assert action.run(task_vars={"inventory_hostname": "front"}) == {"changed": True}
    assert action.ran[0]["module_name"] == "nebula.provision.nebula_install_wait"
    assert action.ran[0]["module_args"]["names"] == ["web"] and "_progress_file" in action.ran[0]["module_args"]


@pytest.mark.parametrize("options", [{"check_mode": True}, {"async_val": 60}])
def test_check_mode_and_async_are_plain_runs(options):
    action = made(ActionModule, {"names": ["web"]}, **options)
    action.run(task_vars={})
    assert "_progress_file" not in action.ran[0]["module_args"]
    assert action.ran[0]["wrap_async"] is bool(options.get("async_val"))
