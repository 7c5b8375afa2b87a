# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenNebula's older documents show, from the texts that they give to the context that a machine gets."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks, templates
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

# Their public.net, with addresses for its letters and another name: the network Public is the fixture's.
OFFICE = """NAME = "Office"
TYPE = FIXED
BRIDGE = vbr7
BROADCAST=192.168.4.255
NETMASK=255.255.255.0
NETWORK=192.168.4.0
GATEWAY=192.168.4.1
PEERDNS=yes
DNS=192.168.4.9
LEASES = [IP=192.168.4.20]
LEASES = [IP=192.168.4.21]
"""
CONTEXT = r"""
CONTEXT = [
  hostname   = "$NAME.example.org",
  ip_private = $NIC[IP],
  ip_office  = "$NIC[IP, NETWORK=\"Office\"]",
  dns        = "$NETWORK[DNS, NAME=\"Office\"]",
  nameserver = "$NETWORK[DNS, NAME=\"Office\" ]",
  peerdns    = "$NETWORK[PEERDNS, NETWORK=\"Office\"]",
  ip_gen     = "10.0.0.$VMID",
  cost       = "$PRICE"
]
PRICE = "5$"
"""
VM = 'CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "demo" ]\nNIC = [ NETWORK = "Public" ]\n'


def stored(engine, text):
    with engine.session():
        done, _views, warnings = networks.apply_all(engine, [{"template": OFFICE}], False)
        more, doubts = templates.apply_all(engine, [{"name": "old", "template": text}])
    assert [item.error for item in (*done, *more)] == [None, None]
    return warnings + doubts


def contexts(engine, *items):
    with engine.session():
        outcomes, warnings = reconcile(engine, items)
        plans = engine.vms.plans()
    return outcomes, warnings, {p.vm.name: p.vm.context.variables for plan in plans.values() for p in plan.vms}


@pytest.mark.parametrize("nic", ["", 'NIC = [ NETWORK = "Office" ]\n'])
def test_the_context_of_a_machine_in_an_old_network(engine, nic):
    assert stored(engine, VM + nic + CONTEXT) == []
    outcomes, _warnings, made = contexts(engine, {"name": "vps145", "template": "old"})
    assert [outcome.error for outcome in outcomes] == [None]
    found = made["vps145"]
    assert {name: found[name] for name in ("HOSTNAME", "IP_PRIVATE", "DNS", "NAMESERVER", "PEERDNS", "COST")} == {
        "HOSTNAME": "vps145.example.org",
        "IP_PRIVATE": "10.66.0.10",
        "DNS": "192.168.4.9",
        "NAMESERVER": "192.168.4.9",
        "PEERDNS": "yes",
        "COST": "5$",
    }
    assert found["IP_OFFICE"] == ("192.168.4.20" if nic else "")
    assert found["IP_GEN"] == f"10.0.0.{outcomes[0].after.id}"


def test_its_leases_are_those_that_it_lists(engine):
    stored(engine, VM.replace("Public", "Office") + "CONTEXT = [ A = b ]")
    outcomes, _warnings, _made = contexts(engine, {"name": "web-%i", "count": 2, "template": "old"})
    assert [outcome.after.nics[0]["ip"] for outcome in outcomes] == ["192.168.4.20", "192.168.4.21"]
    outcomes, _warnings, _made = contexts(engine, {"name": "more", "template": "old"})
    assert "Office" in str(outcomes[0].error)


@pytest.mark.parametrize("name", ["PATH", "uid", "1A"])
@pytest.mark.parametrize("where", ["context", "attributes"])
def test_variables_of_a_machine_that_no_shell_gives_back_are_refused(engine, name, where):
    given = {name: "hunter2"} if where == "context" else {"CONTEXT": {name: "hunter2"}}
    outcomes, warnings, made = contexts(engine, {"name": "web", "template": "web", where: given})
    said = json.dumps([str(outcome.error) for outcome in outcomes]) + json.dumps(warnings)
    assert "VM web: " in said
    assert f"{name.upper()}" in said
    assert "hunter2" not in said
    assert made == {}


def test_those_of_a_text_are_warned_of(engine):
    stored(engine, VM + "CONTEXT = [ UID = 5, 1A = x, B = y ]")
    outcomes, warnings, made = contexts(engine, {"name": "web", "template": "old"})
    assert outcomes[0].error is None
    assert {name: made["web"].get(name) for name in ("UID", "1A", "B")} == {"UID": "5", "1A": None, "B": "y"}
    assert any("UID" in text for text in warnings)
    assert any("1A: left out" in text for text in warnings)
