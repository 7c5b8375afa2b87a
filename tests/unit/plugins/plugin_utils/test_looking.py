# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles' tasks are found and filled in as Ansible does it, and nothing that site.yml leaves out is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible import template
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.nebula.provision.plugins.plugin_utils.looking import (
    CATALOG,
    MACHINES,
    NODE,
    NotLooked,
    Part,
    Task,
    _Roles,
)

ROOT = Path(__file__).resolve().parents[4]
PARTS = [part for wanted in (CATALOG, NODE, MACHINES) for part in wanted.parts]
# Plays of site.yml that are left out where a look finds nothing to do, and what of their roles no look asks, and why.
LEFT_OUT = (
    "Prepare the front-end",
    "Prepare the nodes",
    "Provide networks, images and templates",
    "Provision the machines",
)
NOT_ASKED = {
    ("network", "nebula.provision.nebula_network"): "the second call takes back what no node can have",
    ("vm", "nebula.provision.nebula_transfer"): "only where a decision says so",
    ("vm", "nebula.provision.nebula_deploy"): "carries out what was decided; where nothing was, there is no call",
    ("vm", "nebula.provision.nebula_vm_record"): "what the call before it did",
    ("vm", "nebula.provision.nebula_changes"): "prints what was decided",
    ("node", "ansible.builtin.command"): "packages: each part names its own",
    ("node", "ansible.builtin.apt"): "installs packages that are missing",
    ("demo_image", "ansible.builtin.setup"): "before the image is built",
}
# They change nothing on any host.
HARMLESS = {
    f"ansible.builtin.{name}"
    for name in ("assert", "fail", "debug", "set_fact", "include_tasks", "include_role", "import_tasks")
}
KEYWORDS = {
    *(
        "name",
        "when",
        "vars",
        "register",
        "failed_when",
        "changed_when",
        "ignore_errors",
        "ignore_unreachable",
        "no_log",
    ),
    *("run_once", "delegate_to", "block", "check_mode", "tags"),
}


def tasks_below(entries):
    for entry in entries:
        yield from tasks_below(entry["block"]) if "block" in entry else [entry]


def test_what_site_yml_leaves_out_is_asked_before():
    plays = [play for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text()) if play["name"] in LEFT_OUT]
    assert len(plays) == len(LEFT_OUT)
    roles = [role["role"].removeprefix("nebula.provision.") for play in plays for role in play["roles"]]
    asked = {(part.role, f"nebula.provision.{part.module}") for part in PARTS}
    forgotten = []
    for role in roles:
        # Tasks of other files that are included by their name belong to the role, too.
        for file in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
            if file.stem in ("absent", "report", "end", "adopt"):
                continue
            for task in tasks_below(yaml.safe_load(file.read_text())):
                (action,) = set(task) - KEYWORDS
                if action not in HARMLESS and (role, action) not in asked and (role, action) not in NOT_ASKED:
                    forgotten.append(f"{role}/{file.name}: {task['name']}: {action}")
    assert forgotten == [], "name it in plugin_utils/looking.py, or say here why it need not be asked"


def test_each_play_is_left_out_by_its_first_task_and_only_without_tags():
    for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text()):
        if play["name"] in LEFT_OUT:
            (task,) = play["pre_tasks"]
            assert task["ansible.builtin.meta"] == "end_play" and task["when"] and "tags" not in task


@pytest.fixture
def roles():
    def of(**variables):
        given = {
            "inventory_hostname": "node1",
            "groups": {"nebula_frontend": ["front"], "nebula_nodes": ["node1"]},
            "hostvars": Hostvars({"front": {"inventory_hostname": "front", "nebula_root": "/srv/of-the-front-end"}}),
            **variables,
        }
        return _Roles(DataLoader(), Templar(loader=DataLoader(), variables={}), given)

    return of


class Hostvars(dict):
    def raw_get(self, name):
        return self[name]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.module)
def test_each_part_is_a_task_of_its_role(roles, part):
    task = roles().task(part)
    assert task.register.startswith("__nebula_") and task.options


def test_a_part_that_is_no_task_is_not_asked(roles):
    with pytest.raises(NotLooked, match="role network has no task nebula_vm"):
        roles().task(Part("network", "nebula_vm"))


def text(value):
    """A text that Ansible takes for a template: in a file of a role it does so by itself."""
    return template.trust_as_template(value) if hasattr(template, "trust_as_template") else value


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "/var/lib/nebula"), ({"nebula_root": text("{{ place }}"), "place": "/srv/x"}, "/srv/x")],
)
def test_options_are_filled_in_with_the_roles_defaults_and_the_users_variables(roles, given, expected):
    found = roles(**given)
    network = Part("network", "nebula_network")
    filled = found.filled_in(found.task(network).options, found.variables_of(network, found.task(network)))
    assert filled == {"networks": [], "engine": "embedded", "root": expected}


def test_what_runs_on_the_front_end_has_its_variables(roles):
    found = roles(nebula_root="/srv/of-the-node")
    for part, root in [(CATALOG.parts[0], "/srv/of-the-front-end"), (NODE.parts[0], "/srv/of-the-node")]:
        assert found.filled_in({"r": text("{{ nebula_root }}")}, found.variables_of(part, Task({}))) == {"r": root}


def test_options_that_are_omitted_are_left_out(roles):
    variables = {"omit": "__omit_place_holder__x", "there": "y"}
    options = {"a": text("{{ there | default(omit) }}"), "b": text("{{ lost | default(omit) }}"), "c": "x"}
    assert roles().filled_in(options, variables) == {"a": "y", "c": "x"}


def test_a_task_sees_what_the_tasks_before_it_register(roles):
    found = roles()
    network = Part("network", "nebula_node_network")
    given = {"node": found.task(network).options["node"]}
    assert found.filled_in(given, found.variables_of(network, Task({}))) == {"node": False}
    found.expect("__nebula_node")
    assert found.filled_in(given, found.variables_of(network, Task({}))) == {"node": True}


def test_conditions_of_blocks_and_tasks_hold_together(roles):
    (demo,) = [part for part in PARTS if part.module == "nebula_demo_image"]
    for images, wanted in [([], False), ([{"name": "a", "path": "/x"}], False), ([{"path": "/demo"}], True)]:
        found = roles(nebula_images=images, nebula_demo_image="/demo")
        task = found.task(demo)
        assert found.holds(task.conditions, found.variables_of(demo, task)) is wanted


def test_packages_are_those_of_the_role_where_it_installs_them(roles):
    (node,) = [part for part in PARTS if part.module == "nebula_node"]
    (demo,) = [part for part in PARTS if part.module == "nebula_demo_image"]
    assert "libvirt-daemon-system" in roles().packages(node)
    assert roles(nebula_manage_packages="no").packages(node) == []
    assert roles(nebula_images=[]).packages(demo) == []
    assert "mtools" in roles(nebula_images=[{"path": "/demo"}], nebula_demo_image="/demo").packages(demo)
    assert roles().packages(Part("vm", "nebula_vm", "decide")) == []


@pytest.mark.parametrize(
    ("role", "given", "why"),
    [
        ("node", {"nebula_reserved_memory": "much"}, "nebula_reserved_memory: it is text. Give a whole number"),
        ("image", {"nebula_images": text("{{ lost }}")}, "nebula_images: variable lost is undefined"),
    ],
)
def test_variables_that_a_role_would_refuse_are_left_to_it(roles, role, given, why):
    with pytest.raises(NotLooked, match=why):
        roles(**given).check(role, None)
    roles().check(role, None)


def test_facts_are_made_of_the_answers_as_the_role_does(roles):
    node = {"memory": 4096, "cpu": 2, "overhead": {}, "transfer": "shared", "catalog": "c"}
    host = roles(nebula_reserved_memory=100).fact("node", "__nebula_host", {"__nebula_node": {"node": node}})
    # Before ansible-core 2.19 numbers become text here, as they do in the role.
    assert {key: str(host[key]) for key in ("name", "memory", "reserved_memory", "catalog")} == {
        "name": "node1",
        "memory": "4096",
        "reserved_memory": "100",
        "catalog": "c",
    }
    with pytest.raises(NotLooked, match="role node does not set __nebula_nothing"):
        roles().fact("node", "__nebula_nothing", {})
