# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of machines may say, and what can't be meant."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_item import Templates, spec_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.test_vm_update import (
    VM,
    refusal,
    run,
)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"template": True}, "VM web: template: it is a bool. Give the name or the id of a stored template"),
        ({"template": ["web"]}, "VM web: template: it is a list"),
        ({"attributes": ["A"]}, "VM web: attributes: it is a list. Give a dict"),
        ({"context": "A=b"}, "VM web: context: it is a str. Give a dict"),
        ({"shutdown_timeout": 86_401}, "it is not a whole number of seconds, 0 to 86400"),
        ({"state": "runing"}, "Did you mean 'running'? Known are running, poweroff"),
        (
            {"move": "life"},
            "VM web: move 'life': there is no such move. Did you mean 'live'? Known are never, live, cold",
        ),
        ({"count": 100_001, "name": "w-%i"}, "it is not a whole number of machines, 0 to 100000"),
        ({"count": 2}, "Put %i where the index belongs, as in name: web-%i"),
        (
            {"disks": [{"IMGAE": "demo"}]},
            "VM web: DISK 0: it names no IMAGE, and is neither TYPE = swap nor TYPE = fs; DISK",
        ),
        ({"nics": [{"NETWROK": "Public"}]}, "NIC/NETWROK is not a known attribute: did you mean NETWORK?"),
        ({"hard": "maybe"}, "VM web: hard 'maybe': it is neither true nor false"),
    ],
)
def test_an_item_that_can_not_be_meant_is_refused(engine, item, says):
    assert says in refusal(engine, {**VM, **item})
    assert engine.vms.pool() == []


def test_an_empty_list_of_nics_takes_away_those_of_the_template(engine):
    (planned,) = run(engine, dict(VM, nics=[]))
    assert planned.vm.nics == ()


def test_a_template_may_be_named_by_its_id(engine):
    (planned,) = run(engine, dict(VM, template=engine.templates.info("web").id))
    assert planned.vm.name == "web"
    assert engine.vms.pool()[0].template == "web"


def test_strict_refuses_an_unknown_key_of_a_new_machine_and_warns_of_one_that_is_there(engine):
    item = dict(VM, attributes={"FEATURES": {"FOOBAR": "1"}})
    assert "FEATURES/FOOBAR is not a known attribute" in refusal(engine, dict(item, strict=True))
    assert engine.vms.pool() == []
    run(engine, item)
    assert run(engine, dict(item, strict=True)) == []
    assert [record.name for record in engine.vms.pool()] == ["web"]


def test_the_name_of_an_image_that_a_disk_is_saved_as_is_told_until_it_is_there(engine):
    item = dict(VM, save_as=[{"disk": 0, "image": "a:b"}])
    with engine.session():
        _outcomes, warnings = reconcile(engine, [item])
    assert [text.partition(" could not go")[0] for text in warnings] == ["image 'a:b'"]
    with engine.session():
        _outcomes, warnings = reconcile(engine, [item])
    assert warnings == []


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ({}, "never"),
        ({"move": "live"}, "live"),
        ({"move": "cold", "state": "poweroff"}, "cold"),
        ({"state": "migrated"}, "all"),
        ({"state": "migrated", "move": "never"}, "all"),
        ({"state": "migrated", "move": "live"}, "all"),
        ({"state": "migrated", "move": "all"}, "all"),
        ({"state": "migrated", "move": "cold"}, "cold"),
        # Nothing else is read of it then.
        ({"state": "absent", "move": "live"}, "never"),
    ],
)
def test_an_item_says_how_its_machines_move(engine, item, word):
    with engine.session():
        assert spec_of({**VM, **item}, Templates(engine), []).move_word == word
