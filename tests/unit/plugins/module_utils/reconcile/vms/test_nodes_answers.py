# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the answers of nodes are read, and whose answer is refused."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    Observed,
    ObservedVm,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import nodes_answers
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ROOT = "/var/lib/nebula"

NIC = {"nic_id": 0, "network": "Public", "ip": "10.66.0.10", "ip6": "", "mac": "02:00:0a:42:00:0a"}

RECORD = VmRecord(
    id=0,
    name="web",
    uuid="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10",
    state="RUNNING",
    wanted="RUNNING",
    host="node1",
    hypervisor="kvm",
    generation=1,
    cpu=0.5,
    vcpu=None,
    memory=128,
    addresses=("10.66.0.10",),
    nics=(NIC,),
    disks=({"disk_id": 0, "image": "demo", "target": "vda", "size": 16},),
    graphics={"type": "vnc", "listen": "127.0.0.1", "port": 5900},
    request=parse('CONTEXT = [ PASSWORD = "s3cr3t" ]'),
)

# -- what was given up -------------------------------------------------------------------------------------------------
LEFT, ENDED = "it is left as it is.", "it is powered off, and its disks stay."

REMEDY = "nebula_end_given_up: true (end_given_up of nebula_vm) powers it off and leaves its disks"


# -- answers ----------------------------------------------------------------------------------------------------------
def test_polls_are_read_bare_or_as_registered():
    seen = Observed("node1", vms=(ObservedVm(0, "u", "RUNNING"),), as_of=5)
    for answer in (to_plain(seen), {"observed": to_plain(seen), "changed": False}):
        assert nodes_answers.polls_of([answer]) == [seen]


@pytest.mark.parametrize("answer", [{}, {"msg": "no route", "unreachable": True}, {"observed": {}}, {"host": ""}])
def test_a_node_that_does_not_even_say_its_name_is_left_out(answer):
    assert nodes_answers.polls_of([answer]) == []


def test_a_node_that_was_not_reached_says_its_name():
    (node,) = nodes_answers.polls_of([{"host": "node1", "reached": False}])
    assert (node.host, node.reached) == ("node1", False)


@pytest.mark.parametrize(
    ("answer", "kind"), [("x", "str"), (None, "NoneType"), ({"observed": [1]}, "list"), (5, "int")]
)
def test_what_is_no_poll_is_refused(answer, kind):
    with pytest.raises(InvalidValue) as caught:
        nodes_answers.polls_of([answer])
    assert f"what a node observed: it is a {kind}. Give the registered results of polls" in str(caught.value)


def test_a_poll_of_another_version_is_refused_with_the_key():
    honest = Observed("node2", vms=(ObservedVm(0, "u", "RUNNING"),))
    found = nodes_answers.polls_of([{"host": "node1", "mood": "good"}, to_plain(honest)])
    assert [(node.host, node.reached) for node in found] == [("node1", False), ("node2", True)]
    assert found[1] == honest
    (host, why), *others = nodes_answers.refused_answers(found).items()
    assert (host, others) == ("node1", []) and "host node1" in why and "'mood'" in why


def test_who_answers_is_who_was_asked():
    forged = to_plain(Observed("node2", vms=(ObservedVm(0, "u", "POWEROFF"),)))
    honest = Observed("node2", vms=(ObservedVm(0, "u", "RUNNING"),))
    found = nodes_answers.polls_of([to_plain(honest), {"observed": forged, "host": "node1"}])
    assert found[0] == honest and (found[1].host, found[1].reached) == ("node1", False)
    # A name that two answers have is nobody's.
    (both,) = nodes_answers.polls_of([to_plain(honest), {"observed": forged}])
    assert not both.reached
