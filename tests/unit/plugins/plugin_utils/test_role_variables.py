# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests what plugins know of roles, and that each call gives its module what it takes."""

from __future__ import annotations

import importlib

import pytest
from filled_in import ROOT, filled_in, load, tasks_of

from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables

NAMED = {name: call for name, call in role_variables.variables().items() if name.endswith("_call")}
FILES = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
OURS = "nebula.provision."


def test_options_are_as_the_specification_says():
    options = role_variables.options_of("network")
    assert options["nebula_networks"]["type"] == "list" and options["nebula_networks"]["default"] == []
    given = load(ROOT / "roles/network/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert [*options] == [*given]


def test_defaults_and_variables_are_templates_that_ansible_fills_in():
    known = {**role_variables.defaults(), **role_variables.variables(), "inventory_hostname": "kvm1"}
    known |= {"groups": {"nebula_nodes": ["kvm1"], "nebula_frontend": ["front"]}, "nebula_root": "/srv/nebula"}
    assert filled_in("{{ __nebula_ovn_is_node }}", known) is True
    options = filled_in("{{ __nebula_ovn_request_call.options }}", {**known, "__nebula_ovn_catalog": "c"})
    assert options["name"] == "kvm1" and options["root"] == "/srv/nebula"


def test_each_call_says_what_a_task_or_a_look_needs():
    assert NAMED
    for name, call in NAMED.items():
        assert {"role", "module", "result", "options"} <= {*call}, name
        others = {"host", "when", "unless", "packages", "packages_of", "listed"}
        assert {*call} - {"role", "module", "result", "options"} <= others, name
        assert name in load(ROOT / f"roles/{call['role']}/vars/main.yml")


def problems(module, options):
    """Return what is wrong with options of a module, whatever their values."""
    file = module.removeprefix("nebula_")
    calls = "ansible_collections.nebula.provision.plugins.module_utils.calls."
    arguments = importlib.import_module(calls + file).ARGUMENTS
    taken = arguments["argument_spec"]
    aliases = {alias: name for name, each in taken.items() for alias in each.get("aliases", ())}
    given = {aliases.get(name, name) for name in options}
    found = [f"{name} is none of its options" for name in sorted(given - {*taken})]
    return found + [f"{name} is missing" for name in taken if taken[name].get("required") and name not in given]


@pytest.mark.parametrize("name", NAMED)
def test_a_call_has_the_options_that_its_module_takes(name):
    assert problems(NAMED[name]["module"], NAMED[name]["options"]) == []


def called():
    """Yield the tasks with modules of ours that have a file of calls/: where each is, its module, and its options."""
    for path in FILES:
        for task in tasks_of(path):
            for key in task:
                module = key.removeprefix(OURS)
                file = ROOT / f"plugins/module_utils/calls/{module.removeprefix('nebula_')}.py"
                if key.startswith(OURS) and file.is_file() and not module.endswith("_look"):
                    yield f"{path.relative_to(ROOT)}: {task['name']}", module, task[key]


def test_every_task_gives_its_module_what_it_takes():
    found = {where: wrong for where, module, options in called() if (wrong := problems(module, options or {}))}
    assert found == {}


def test_what_a_module_does_not_take_is_seen():
    assert problems("nebula_node_network", {"networks": [], "colour": 1}) == [
        "colour is none of its options",
        "catalog is missing",
    ]
