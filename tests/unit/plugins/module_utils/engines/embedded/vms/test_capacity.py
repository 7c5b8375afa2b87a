# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines take of their hosts."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.dataclass import replace
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import record


def books(engine):
    """What is wrong with what the catalog counts."""
    return [each for each in engine.ledger().findings if each.kind == "catalog-books"]


def test_what_a_machine_takes_more_of_has_to_be_there(web):
    with pytest.raises(NoCapacity, match="VM web: 5000 MiB"), web.attempt():
        web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "5000"})))
    assert web.hosts.info("node1").memory_used == 128
    # What it has itself counts for it.
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "4096"})))
    assert web.hosts.info("node1").memory_used == 4096
    # It keeps what it has even where that is more than there is by now.
    web.hosts.update("node1", memory=1000)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "2000"})))
    assert web.hosts.info("node1").memory_used == 2000


def test_a_running_machine_is_counted_with_the_larger_of_what_it_has_and_what_it_gets(web):
    def resize(**attributes):
        template = record(web).request.merged(Template.from_mapping(attributes))
        web.vms.update(0, template)
        return web.hosts.info("node1").memory_used

    with web.attempt():
        assert resize(MEMORY="64") == 128
        assert resize(MEMORY="200") == 200
        assert resize(MEMORY="100") == 128
        # Back to what it runs with, it waits for nothing.
        assert resize(MEMORY="128") == 128 and record(web).waits == []
        assert resize(MEMORY="64") == 128
        assert books(web) == []
        (planned,) = web.vms.plans()["node1"].vms
        assert planned.waits and planned.gives_memory == 0
        web.vms.record("node1", [VmOutcome(0, planned.generation, "RUNNING", True, waits=True)])
        assert web.hosts.info("node1").memory_used == 128
    # Somebody restarts it by hand.
    seen = ObservedVm(0, record(web).uuid, "RUNNING", record(web).generation, waits=True)
    for waits, used in ((True, 128), (False, 64)):
        with web.attempt():
            web.vms.observe([Observed("node1", vms=(replace(seen, waits=waits),))])
        assert (web.hosts.info("node1").memory_used, bool(record(web).waits)) == (used, waits)
    assert books(web) == []


def test_a_machine_that_ends_gives_back_what_it_held_until_its_next_start(web):
    with web.attempt():
        web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "64"})))
        web.vms.action(0, "DONE", VmOrders())
        (planned,) = web.vms.plans()["node1"].vms
        assert planned.gives_memory == 128
        web.vms.record("node1", [VmOutcome(0, planned.generation, "DONE", True)])
    assert web.hosts.info("node1").memory_used == 0 and books(web) == []
