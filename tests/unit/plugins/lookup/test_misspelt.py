# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A misspelt variable is named with the one that was meant, and nothing is told of its value."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.lookup.misspelt import LookupModule, known_variables, misspelt_names

ROOT = Path(__file__).parents[4]
SECRET = "in-the-clear"


def told(variables, *hosts):
    return LookupModule().run(list(hosts), variables=variables)


def test_a_slip_is_named_with_the_right_name_and_no_value():
    said = told({"nebula_netwroks": [{"password": SECRET}]})
    assert said == ["nebula_netwroks: nothing reads a variable of this name. nebula_networks is one that is read"]

    assert "nebula_vms is one that is read" in told({"nebula_vsm": []})[0]


def test_variables_of_the_hosts_are_looked_at_too():
    hosts = {"node1": {"nebula_reserved_memroy": 1}, "node2": {"nebula_hypervisr": "kvm"}}
    said = told({"hostvars": hosts, "nebula_vms": []}, "node1", "node2", "nowhere")
    assert [sentence.split(":")[0] for sentence in said] == ["nebula_hypervisr", "nebula_reserved_memroy"]


@pytest.mark.parametrize(
    "name", ["nebula_team_of_our_own", "__nebula_netwroks", "netwroks", "nebula_", "nebula_lists_of_ours"]
)
def test_names_of_ones_own_are_nobodys_business(name):
    assert told({name: SECRET}) == []


def test_every_documented_variable_is_known():
    known = known_variables(ROOT)
    documented = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            documented.update(entry.get("options") or {})
    assert documented and documented <= known
    assert misspelt_names(documented, known) == []


def test_the_demo_and_its_group_variables_have_no_slip():
    found = set()
    for path in (ROOT / "inventories").rglob("*.yml"):
        content = yaml.safe_load(path.read_text())
        if path.parent.name in ("group_vars", "host_vars") or "group_vars" in path.parts:
            found.update(content or {})
    assert misspelt_names(found, known_variables(ROOT)) == []
