# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords to consoles that nobody chose: from a machine's making to its end, and of those that were made without."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.states import LcmState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)

VNC = {"GRAPHICS": {"TYPE": "VNC"}}


def item(**changes):
    return {"name": "web", "template": "web", "attributes": VNC, **changes}


def graphics(engine):
    return json.loads(row(engine)["body"])["graphics"]


def planned(plans):
    ((machine,),) = (plan.vms for plan in plans.values())
    return machine.vm.graphics


def forget(engine):
    """What a version before has in its catalog."""
    body = json.loads(row(engine)["body"])
    body["graphics"]["password"] = ""
    del body["graphics"]["made_up"]
    engine.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))


def test_each_machine_gets_its_own_and_keeps_it(inside):
    plans = decide(inside, item(name="web-%i", count=3))
    passwords = {machine.vm.graphics.password for plan in plans.values() for machine in plan.vms}
    assert len(passwords) == 3 and all(len(each) == 8 for each in passwords)
    obey(inside, plans)
    first = graphics(inside)["password"]
    # The same list again is no change, and other changes leave it.
    assert not any(plan.vms for plan in decide(inside, item(name="web-%i", count=3)).values())
    for changes in ({"state": "poweroff"}, {"state": "running"}, {"cpu": 0.25}, {"context": {"A": "b"}}):
        obey(inside, decide(inside, item(name="web-%i", count=3, **changes)))
        assert graphics(inside)["password"] == first


@pytest.mark.parametrize(
    ("wanted", "password"),
    [({"PASSWD": "chosen"}, "chosen"), ({"RANDOM_PASSWD": "NO"}, ""), ({"PASSWD": "c", "RANDOM_PASSWD": "YES"}, "c")],
)
def test_what_the_template_says_counts(inside, wanted, password):
    plans = decide(inside, item(attributes={"GRAPHICS": {"TYPE": "VNC", **wanted}}))
    assert (planned(plans).password, planned(plans).made_up) == (password, False)


def test_a_machine_is_closed_and_opened_by_its_template(inside):
    obey(inside, decide(inside, item(state="poweroff")))
    opened = {"GRAPHICS": {"TYPE": "VNC", "RANDOM_PASSWD": "NO"}}
    assert planned(decide(inside, item(attributes=opened, state="poweroff"))).password == ""
    assert len(planned(decide(inside, item(state="poweroff"))).password) == 8


def test_one_that_was_made_without_gets_it_with_the_next_decision_and_not_by_itself(inside):
    obey(inside, decide(inside, item()))
    forget(inside)
    # Nothing is to be done, so nothing is changed.
    assert not any(plan.vms for plan in decide(inside, item()).values())
    assert graphics(inside)["password"] == ""
    plans = decide(inside, item(state="poweroff"))
    first = planned(plans).password
    assert len(first) == 8
    obey(inside, plans)
    assert planned(decide(inside, item())).password == first


def test_one_that_was_made_open_on_purpose_stays_so(inside):
    opened = {"GRAPHICS": {"TYPE": "VNC", "RANDOM_PASSWD": "NO"}}
    obey(inside, decide(inside, item(attributes=opened)))
    forget(inside)
    assert planned(decide(inside, item(attributes=opened, state="poweroff"))).password == ""


def test_it_ends_with_the_machine(inside):
    obey(inside, decide(inside, item()))
    password = graphics(inside)["password"]
    obey(inside, decide(inside, item(state="absent")))
    assert row(inside)["lcm_state"] == LcmState.LCM_INIT
    assert password not in "".join(str(tuple(each)) for each in inside.store.rows("SELECT * FROM vms"))
