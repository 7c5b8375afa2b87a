# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups of the catalog."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import GroupRule, SecurityGroup


@pytest.fixture
def engine(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as opened, opened.session():
        yield opened


@pytest.fixture
def groups(engine):
    return engine.security_groups


def test_ids_begin_as_those_of_a_real_oned_and_are_used_once(groups):
    rules = (GroupRule("inbound", "TCP", "22"),)
    assert [groups.allocate(SecurityGroup(None, name, rules=rules)).id for name in ("a", "b")] == [100, 101]
    groups.delete("b")
    assert groups.allocate(SecurityGroup(None, "c")).id == 102
    assert [(each.id, each.name) for each in groups.pool()] == [(0, "default"), (100, "a"), (102, "c")]
    assert groups.info("a").rules == rules
    assert groups.update("a", rules=()).rules == groups.info("a").rules == ()
    with pytest.raises(Conflict, match="id 100 has that name"):
        groups.allocate(SecurityGroup(None, "a"))
    with pytest.raises(Conflict, match="id 100 has that name"):
        groups.update("c", name="a")
    with pytest.raises(NotFound):
        groups.info("b")


def test_group_0_is_every_catalogs(groups):
    assert groups.update("default", description="") == groups.info(0)
    with pytest.raises(Conflict, match="lets everything through"):
        groups.update(0, rules=())
    with pytest.raises(Conflict, match="every catalog's"):
        groups.delete(0)


def test_one_that_is_used_stays_whatever_older_versions_kept(engine, groups):
    for name in ("a", "b"):
        groups.allocate(SecurityGroup(None, name))
    engine.networks.allocate(Network(None, "Old", attributes={"SECURITY_GROUPS": "web, 1OO"}))
    engine.networks.allocate(Network(None, "New", vn_mad="ovn", attributes={"SECURITY_GROUPS": "0,100"}))
    nics = {"nics": [{"options": {"SECURITY_GROUPS": "x,101"}}, {}]}
    engine.store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
        " VALUES (1, 'web', 'u', 3, 3, 'RUNNING', 1, 1, '', ?, 0)",
        (json.dumps(nics),),
    )
    with pytest.raises(InUse, match="it is that of network New"):
        groups.delete("a")
    with pytest.raises(InUse, match="it is that of VM web"):
        groups.delete("b")
    groups.allocate(SecurityGroup(None, "c"))
    assert groups.delete("c").id == 102


def test_a_network_names_groups_that_there_are(engine):
    with pytest.raises(NotFound, match="there is no security group of that id"), engine.attempt():
        engine.networks.allocate(Network(None, "New", vn_mad="ovn", attributes={"SECURITY_GROUPS": "999"}))
