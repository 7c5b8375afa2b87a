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
from ansible.plugins.loader import filter_loader
from ansible.template import Templar
from looking_runs import looked

from ansible_collections.nebula.provision.plugins.filter import (
    inner_mtus,
    ovn_connection,
    ovn_members,
    ovn_requests,
    variable,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.looking import (
    CATALOG,
    MACHINES,
    NODE,
    OVN,
    OVN_CENTRAL,
    NotLooked,
    Part,
    Task,
    _Roles,
)

ROOT = Path(__file__).resolve().parents[4]
PARTS = [part for wanted in (CATALOG, OVN_CENTRAL, NODE, OVN, MACHINES) for part in wanted.parts]
# Plays of site.yml that are left out where a look finds nothing to do, and what of their roles no look asks, and why.
LEFT_OUT = (
    "Prepare the front-end",
    "Prepare the nodes",
    "Set OVN up",
    "Provide networks, images and templates",
    "Provision the machines",
)
NOT_ASKED = {
    ("network", "nebula.provision.nebula_network"): "the second call takes back what no node can have",
    ("ovn", "nebula.provision.nebula_frontend"): "looks for the catalog, which role frontend has asked about",
    ("vm", "nebula.provision.nebula_transfer"): "only where a decision says so",
    ("vm", "nebula.provision.nebula_deploy"): "carries out what was decided; where nothing was, there is no call",
    ("vm", "nebula.provision.nebula_vm_record"): "what the call before it did",
    ("vm", "nebula.provision.nebula_changes"): "prints what was decided",
    ("node", "nebula.provision.nebula_packages"): "each part names its own",
}
# They change nothing on any host.
HARMLESS = {
    f"ansible.builtin.{name}"
    for name in ("assert", "fail", "debug", "set_fact", "include_tasks", "include_role", "import_tasks")
} | {"nebula.provision.nebula_table"}
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
    *("run_once", "delegate_to", "block", "check_mode", "tags", "loop", "loop_control"),
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


def test_of_role_ovn_each_call_is_asked():
    """It calls a module more than once, so that the module's name does not tell that all of it is asked. What only
    looks, before anything is done, finds nothing that the calls after it do not find."""
    files = [ROOT / f"roles/ovn/tasks/{name}.yml" for name in ("present", "central", "host")]
    tasks = [task for file in files for task in tasks_below(yaml.safe_load(file.read_text()))]
    tasks = [task for task in tasks if not task.get("check_mode")]
    calls = {task["register"] for task in tasks if any(key.startswith("nebula.provision.nebula_ovn") for key in task)}
    # It is called only where the call for a host has found something to do.
    assert calls - {"__nebula_ovn_registered"} == {part.register for part in PARTS if part.role == "ovn"}


def test_each_play_is_left_out_by_its_first_task_and_only_without_tags():
    for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text()):
        if play["name"] in LEFT_OUT:
            (task,) = play["pre_tasks"]
            assert task["ansible.builtin.meta"] == "end_play" and task["when"] and "tags" not in task


def _as_plugin(name, function):
    # ansible-core 2.16 has no such function, and its plugins are classes.
    if hasattr(filter_loader, "_wrap_func"):
        return filter_loader._wrap_func(name, name, function)
    from ansible.plugins.filter import AnsibleJinja2Filter

    return AnsibleJinja2Filter(function)


@pytest.fixture
def roles(monkeypatch):
    # Here no collection is installed, whose filters Ansible would find.
    ours = {
        f"nebula.provision.{name}": _as_plugin(name, function)
        for module in (inner_mtus, ovn_connection, ovn_members, ovn_requests, variable)
        for name, function in module.FilterModule().filters().items()
    }
    found = filter_loader.get
    monkeypatch.setattr(filter_loader, "get", lambda name, *rest: ours.get(name) or found(name, *rest))

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
    beside = {"with_security_groups": [], "with_routers": [], "inner_mtus": {}}
    assert filled == {"networks": [], **beside, "engine": "embedded", "root": expected}


@pytest.mark.parametrize(("said", "mtu"), [({"__nebula_ovn_host": {"host": {"inner_mtu": 1392}}}, 1392), ({}, 0)])
def test_what_tunnels_leave_is_told_of_each_host_that_has_said_it(tmp_path, said, mtu):
    tasks = [
        {"ansible.builtin.include_vars": str(ROOT / "roles/network/vars/main.yml")},
        {"ansible.builtin.set_fact": {"looked": {"mtus": "{{ __nebula_inner_mtus }}"}, **said}},
        {"ansible.builtin.set_fact": {"looked": {"mtus": "{{ __nebula_inner_mtus }}"}}},
    ]
    assert looked(tmp_path, tasks, nebula_ovn=True, nebula_ovn_remote={})["mtus"] == {"here": mtu}


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


OVN_CALLS = [part for part in PARTS if part.role == "ovn"]


def with_ovn(roles, front=None, groups=None, **variables):
    """The roles' tasks as node1 sees them. front: the variables of the front-end."""
    known = {"__nebula_frontend": {"frontend": {"catalog": "c"}}, "ansible_play_hosts": ["node1"]}
    known["ansible_play_hosts_all"] = known["ansible_play_hosts"]
    found = roles(nebula_ovn=True, **known, **variables)
    names = {"nebula_frontend": ["front"], "nebula_nodes": ["node1"], **(groups or {})}
    own = {"nebula_ovn": True, "inventory_hostname": "front", "groups": names, **(front or {})}
    found._variables |= {"hostvars": Hostvars({"front": own, "node1": {}}), "groups": names}
    found.expect("__nebula_ovn_signed")
    return found


@pytest.mark.parametrize("part", OVN_CALLS, ids=lambda part: part.register)
def test_of_several_tasks_each_part_is_its_own(roles, part):
    assert roles().task(part).register == part.register


def test_what_a_role_includes_under_a_condition_is_asked_only_then(roles):
    for part in (*OVN_CALLS, *(part for part in PARTS if part.module == "nebula_ovn")):
        assert with_ovn(roles).is_included(part)
        assert not roles(nebula_ovn="no").is_included(part) and roles(nebula_ovn="no").packages(part) == []


def test_the_central_host_is_asked_with_the_catalog_that_a_look_before_has_found(roles):
    request, present = OVN_CENTRAL.parts
    found = with_ovn(roles, nebula_ovn_ports={"northbound": 7641, "southbound": 7642})
    asked = found.asked(request, found.task(request))
    assert (asked["catalog"], asked["name"]) == ("c", "front")
    found.expect(request.register, listed=True)
    task = found.task(present)
    options = found.filled_in(task.options, found.variables_of(present, task))
    # Which certificates it is to have, a later look asks.
    assert (options["ports"]["southbound"], options["certificates"]) == (7642, {})
    assert (options["name"], options["cluster"]) == ("front", [])


def test_what_the_front_end_would_ask_otherwise_is_seen(roles):
    (signed,) = [part for part in OVN.parts if part.agreed]
    for front, agree in [({}, True), ({"nebula_ovn_certificate_days": 9}, False), ({"nebula_root": "/srv/x"}, True)]:
        found = with_ovn(roles, front, __nebula_ovn_central_request={"results": [{"request": {"request": "R"}}]})
        there = found.on("groups['nebula_frontend'][0]", signed)
        task = found.task(signed)
        assert (there.asked(signed, task) == found.asked(signed, task)) is agree
    # An OVN of others, for which nothing is signed, is another thing altogether.
    found = with_ovn(roles, nebula_ovn_remote={"southbound": "ssl:192.0.2.1:6642"})
    assert found.asked(signed, found.task(signed)) is None


def test_packages_of_ovn_are_those_of_the_host_that_they_are_for(roles):
    (central,) = [part for part in OVN_CENTRAL.parts if part.packages]
    (node,) = [part for part in NODE.parts if part.packages and part.role == "ovn"]
    (front,) = [part for part in OVN.parts if part.packages]
    found = with_ovn(roles, {"nebula_ovn_central_packages": ["ovn-central-of-the-front-end"]})
    assert found.packages(central) == ["ovn-central-of-the-front-end"]
    assert "ovn-host" in found.packages(node)
    assert found.packages(front) == ["python3-openvswitch"]
    # Its own variables say whether they are installed there.
    for own in ({"nebula_ovn": False}, {"nebula_manage_packages": False}):
        found = with_ovn(roles, own)
        assert found.packages(central) == found.packages(front) == [] and found.packages(node)


@pytest.mark.parametrize(
    ("given", "otherwise"),
    [
        ({}, False),
        ({"nebula_ovn_state": "absent"}, True),
        ({"groups": {"nebula_ovn_central": ["a", "b", "c"]}}, True),
        (
            {
                "groups": {"nebula_ovn_central": ["a", "b", "c"]},
                "nebula_ovn_remote": {"southbound": "ssl:192.0.2.1:6642"},
            },
            False,
        ),
    ],
)
def test_what_role_ovn_does_besides_is_left_to_it(roles, given, otherwise):
    for part in (OVN_CENTRAL.parts[0], *(part for part in NODE.parts if part.register == "__nebula_ovn_request")):
        found = with_ovn(roles, **given)
        assert found.holds([part.unless], found.variables_of(part, Task({}))) is otherwise


@pytest.mark.parametrize(("other", "otherwise"), [(True, False), ("yes", False), (False, True), (None, True)])
def test_nodes_of_which_some_have_ovn_are_left_to_the_roles(roles, other, otherwise):
    (network,) = [part for part in CATALOG.parts if part.module == "nebula_network"]
    found = with_ovn(roles, groups={"nebula_nodes": ["node1", "node2"]})
    second = {} if other is None else {"nebula_ovn": other}
    found._variables["hostvars"] = Hostvars({"node1": {"nebula_ovn": True}, "node2": second})
    assert found.holds([network.unless], found.variables_of(network, Task({}))) is otherwise


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
    node = {"memory": 4096, "cpu": 2, "overhead": {}, "transfer": "shared", "catalog": "c", "mark": "m"}
    node["machine_id"] = "i"
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
