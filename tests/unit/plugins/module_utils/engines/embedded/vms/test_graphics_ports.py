# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port the console of a machine gets, and how long the port is held for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.graphics_ports import (
    LAST_GRAPHICS_PORT,
    GraphicsPorts,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.polls import Polls
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ANEW,
    ERROR,
    PLAIN,
    VNC,
    WEB,
    console,
    ports,
    record,
    refused,
    say,
)


def test_a_port_follows_the_id_and_steps_aside_for_one_that_is_taken(inside):
    inside.vms.observe([Observed("node1", ports=(5901, 5902))])
    inside.vms.instantiate([VmRequest(name, VNC) for name in "ab"])
    assert ports(inside) == [(5900, 0), (5903, 1)]
    # What the catalog itself gave to a machine is taken too.
    inside.vms.observe([Observed("node1", ports=(5902,))])
    inside.vms.instantiate([VmRequest("c", VNC)])
    assert ports(inside) == [(5900, 0), (5903, 1), (5904, 2)]


def test_after_the_last_port_comes_the_first_and_then_none(inside):
    taken = tuple(range(5901, LAST_GRAPHICS_PORT + 1))
    inside.vms.observe([Observed("node1", ports=taken, foreign_ids=(0,))])
    inside.vms.instantiate([VmRequest("a", VNC)])
    assert ports(inside) == [(5900, 1)]
    with pytest.raises(NoCapacity) as caught, inside.attempt():
        inside.vms.instantiate([VmRequest("b", VNC)])
    assert caught.value.asked == "VM b: graphics port above 5900 on host node1"
    assert caught.value.found == "all are taken"
    assert "Leave GRAPHICS/PORT out" in caught.value.remedy


def test_a_port_that_is_asked_for_is_had_or_refused(inside):
    fixed = replace(PLAIN, attributes=(*PLAIN.attributes, ("GRAPHICS", (("TYPE", "VNC"), ("PORT", "6000")))))
    inside.vms.instantiate([VmRequest("a", fixed)])
    assert ports(inside) == [(6000, 0)]
    with pytest.raises(NoCapacity, match="VM b: graphics port 6000 on host node1: it is taken"), inside.attempt():
        inside.vms.instantiate([VmRequest("b", fixed)])
    # On another host it is free.
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    inside.vms.instantiate([VmRequest("b", fixed, host="node2")])
    assert ports(inside) == [(6000, 0), (6000, 1)]


def test_a_console_comes_and_goes_with_its_port(web):
    request = record(web).request
    with_console = web.vms.update(0, request.with_vector("GRAPHICS", {"TYPE": "VNC"}))
    assert with_console.graphics["port"] == 5900
    assert ports(web) == [(5900, 0)]
    moved = web.vms.update(0, request.with_vector("GRAPHICS", {"TYPE": "VNC", "PORT": "6001"}))
    # Its domain may listen on the old one until its node has done that.
    assert (moved.graphics["port"], ports(web)) == (6001, [(-5900, 0), (6001, 0)])
    say(web, "POWEROFF")
    assert ports(web) == [(6001, 0)]
    web.vms.update(0, request)
    assert ports(web) == [(-6001, 0)]
    say(web, "POWEROFF")
    assert ports(web) == []


def test_a_port_that_a_machine_is_to_have_no_more_is_its_own_until_that_is_done(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    anew, taker = dict(ANEW, **console(6001)), {"name": "taker", "template": "web", **console(6000)}
    decide(inside, anew)
    # Nobody gets it who did not ask for it, either.
    assert GraphicsPorts(inside.store, Polls())._free_port(inside.hosts.info("node1"), 6000, 7) == 6002
    (error,) = refused(inside, taker)
    assert "VM taker: graphics port 6000 on host node1: VM web (id 0) has it until it is made anew, or was off" in error
    assert "Run again when that is done, or leave GRAPHICS/PORT out" in error
    # Books and repair know of it.
    assert [each.kind for each in inside.ledger().findings] == ["machine-unfinished"]
    assert inside.repair() == []
    # A host that failed has the old one yet, whatever it does with it.
    say(inside, "RUNNING", ERROR)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    # On the way back it is the machine's own.
    decide(inside, dict(ANEW, **console(6000)))
    assert ports(inside) == [(-6001, 0), (6000, 0)]
    plans = decide(inside, anew)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    obey(inside, plans)
    assert ports(inside) == [(6001, 0)]
    obey(inside, decide(inside, taker))
    assert inside.ledger().findings == ()


def test_a_machine_that_is_made_anew_as_it_was_has_its_port_throughout(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    plans = decide(inside, dict(ANEW, **console(6000), memory=256))
    assert ports(inside) == [(6000, 0)]
    obey(inside, plans)
    assert ports(inside) == [(6000, 0)]


def test_a_port_goes_with_its_machine_whoever_held_it(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    decide(inside, dict(ANEW, **console(6001)))
    obey(inside, decide(inside, dict(WEB, state="absent")))
    assert ports(inside) == []
