# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nebula_node_network has moved to a bridge is kept by a connection that is made after that, and by no other."""

from __future__ import annotations

import pytest
from action_stand_in import made
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.nebula.provision.plugins.action import nebula_node_network
from ansible_collections.nebula.provision.plugins.action.nebula_node_network import ActionModule

ARGUMENTS = {"catalog": "c", "root": "/srv", "networks": [{"name": "Lan"}]}
FIRST = {"changed": True, "moved": ["nbr0"], "links": [{"network": "Lan", "bridge": "nbr0"}], "refused": []}


def plugin(second, first=FIRST, **arguments):
    """second: what is said to the second word, or that there is no connection."""
    steps = []

    def answer(asked):
        steps.append(asked.get("state", "present"))
        if asked.get("state") != "kept":
            return first
        result = second.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    action = made(ActionModule, {**ARGUMENTS, **arguments}, answer=answer)
    action._connection.reset = lambda: steps.append("reset")
    return action, steps


def test_a_new_connection_gives_the_second_word():
    action, steps = plugin([{"changed": False}])
    assert action.run() == {**FIRST, "moved": []}
    assert steps == ["present", "reset", "kept"]
    assert action.ran[1]["module_args"] == {"catalog": "c", "root": "/srv", "moved": ["nbr0"], "state": "kept"}


def test_where_nothing_has_moved_the_connection_stays():
    for first in ({"changed": False, "moved": []}, {"failed": True, "msg": "no"}):
        action, steps = plugin([], first)
        assert action.run() == first and steps == ["present"]


def test_it_is_tried_until_the_node_is_reached_and_then_says_what_became_of_it():
    late = {"failed": True, "msg": "no second word came within 60 s", "errors": [{"name": "nbr0"}]}
    action, steps = plugin([AnsibleConnectionFailure("gone"), late])
    result = action.run()
    assert steps == ["present", "reset", "kept", "reset", "kept"]
    assert (result["failed"], result["msg"], result["refused"]) == (True, late["msg"], ["Lan"])
    assert result["errors"] == late["errors"] and result["moved"] == []


def test_a_node_that_stays_away_is_unreachable(monkeypatch):
    monkeypatch.setattr(nebula_node_network, "SECONDS", -1.0)
    action, _steps = plugin([AnsibleConnectionFailure("gone")])
    with pytest.raises(AnsibleConnectionFailure):
        action.run()
