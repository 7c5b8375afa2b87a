# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of calls are filled in with the variables that a task of their role sees on the same host."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from filled_in import our_filters
from looking_runs import looked

from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import filled_in
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import as_template as text
from ansible_collections.nebula.provision.plugins.plugin_utils.role_hosts import RoleHost

ROOT = Path(__file__).resolve().parents[4]


class Hostvars(dict):
    def raw_get(self, name):
        return self[name]


FRONT = {"inventory_hostname": "front", "nebula_root": "/srv/of-the-front-end", "nebula_ovn": True}


@pytest.fixture
def host():
    """The variables of node1, with those of the front-end beside them."""
    action = SimpleNamespace(_loader=DataLoader(), _templar=Templar(loader=DataLoader(), variables={}), _task=None)

    def of(front=None, groups=None, **variables):
        names = {"nebula_frontend": ["front"], "nebula_nodes": ["node1"], **(groups or {})}
        own = {**FRONT, "groups": names, **(front or {})}
        given = {"inventory_hostname": "node1", "groups": names, "ansible_play_hosts": ["node1"], **variables}
        given |= {"hostvars": Hostvars({"node1": variables, "node2": {}, "front": own})}
        return RoleHost(action, {**given, "ansible_play_hosts_all": ["node1"]})

    with our_filters():
        yield of


def call(name):
    return role_variables.variables()[f"__nebula_{name}_call"]


def options(there, name):
    """As a look fills them in, which is as a task does."""
    given = call(name)["options"]
    found = there.options(given)
    assert found == filled_in(given, there.templar, there.all)
    return found


@pytest.mark.parametrize(
    "value",
    [
        *("/srv/x", "", "3", "True", " [1]", "[1]", "{}", "a\n", text("{{ 3 }}")),
        *(3, 1.5, float("inf"), True, None, [], ["a", "True", None, 1.5, "it's"], ("a",), {"a": [{}]}, {"items": 1}),
    ],
)
def test_a_variable_that_is_no_template_is_the_same_without_jinja(host, value):
    for variable in (value, {"a": value}, {"a": {"b": value}}, {"values": value}):
        here = host(nebula_root=variable, lost={})
        for path in ("nebula_root", "nebula_root.a", "nebula_root.a.b", "nebula_root.values", "inventory_hostname"):
            given = {"x": text("{{ " + path + " }}"), "y": text("{{ omit }}")}
            # A part that is not there, and what has no value, are Jinja's.
            with_jinja = outcome(filled_in, given, here.templar, here.all)
            assert outcome(here.options, given) == with_jinja, (variable, path)


def outcome(fills, *arguments):
    try:
        return repr(fills(*arguments))
    except Exception as error:
        return type(error)


def test_what_a_host_is_asked_is_filled_in_once(host, monkeypatch):
    here = host(nebula_images=text("{{ [] }}"), nebula_root=text("{{ '/srv' }}"))
    filled: list[object] = []
    template = here.templar.template
    monkeypatch.setattr(here.templar, "template", lambda value, *rest: filled.append(value) or template(value, *rest))
    for role in ("image", "template", "vm", "image"):
        assert here.problems(role) == []
    # Defaults of roles that are templates come beside them.
    assert sorted(filled, key=str) == sorted(set(filled), key=str) and "{{ '/srv' }}" in filled and len(filled) < 8
    assert here.other("front") is here.other("front")


def test_options_are_filled_in_with_the_roles_defaults_and_the_users_variables(host):
    beside = {"networks": [], "with_security_groups": [], "with_routers": [], "inner_mtus": {}, "engine": "embedded"}
    for given, root in [({}, "/var/lib/nebula"), ({"nebula_root": text("{{ place }}"), "place": "/srv/x"}, "/srv/x")]:
        assert options(host(**given), "network") == {**beside, "root": root}


@pytest.mark.parametrize(("answer", "mtu"), [({"__nebula_ovn_host": {"host": {"inner_mtu": 1392}}}, 1392), ({}, 0)])
def test_what_tunnels_leave_is_told_of_each_host_that_has_said_it(tmp_path, answer, mtu):
    tasks = [
        {"ansible.builtin.include_vars": str(ROOT / "roles/network/vars/main.yml")},
        {"ansible.builtin.set_fact": {"looked": {"mtus": "{{ __nebula_inner_mtus }}"}, **answer}},
        {"ansible.builtin.set_fact": {"looked": {"mtus": "{{ __nebula_inner_mtus }}"}}},
    ]
    assert looked(tmp_path, tasks, nebula_ovn=True, nebula_ovn_remote={})["mtus"] == {"here": mtu}


def test_what_runs_on_the_front_end_has_its_variables(host):
    here = host(nebula_root="/srv/of-the-node")
    there = here.other(call("frontend")["host"])
    assert options(there, "frontend")["root"] == "/srv/of-the-front-end"
    assert options(here, "poll")["root"] == "/srv/of-the-node"


def test_a_task_sees_what_the_tasks_before_it_register(host):
    result = {"networks": [], "known": [], "as_of": 1.0, "catalog": "c", "guards": {}}
    for registered, node in [({}, False), ({"__nebula_node": {}}, True)]:
        assert options(host(__nebula_networks=result, **registered), "node_network")["node"] is node


CATALOG = {"__nebula_frontend": {"frontend": {"catalog": "c"}}}


def test_the_central_host_is_asked_with_the_catalog_that_a_look_before_has_found(host):
    here = host({"nebula_ovn_ports": {"northbound": 7641, "southbound": 7642}}, nebula_ovn=True, **CATALOG)
    there = here.other(call("ovn_central_request")["host"])
    request = options(there, "ovn_central_request")
    assert (request["catalog"], request["name"]) == ("c", "front")
    there = host({}, nebula_ovn=True, **CATALOG, __nebula_ovn_central_request={"results": []}).other("front")
    given = options(there, "ovn_central")
    # Which certificates it is to have, a later look asks.
    assert (given["ports"]["southbound"], given["certificates"]) == (6642, {})
    assert (given["name"], given["cluster"]) == ("front", [])


def test_packages_of_ovn_are_those_of_the_host_that_they_are_for(host):
    def found(name, **front):
        here = host(front, nebula_ovn=True, **CATALOG)
        there = here.other(call(name)["host"]) if "host" in call(name) else here
        return (there.other(call(name)["packages_of"]) if "packages_of" in call(name) else there).packages(call(name))

    assert found("ovn_central_request", nebula_ovn_central_packages=["of-the-front-end"]) == ["of-the-front-end"]
    assert "ovn-host" in found("ovn_host") and found("ovn") == ["python3-openvswitch"]
    # Its own variables say whether they are installed there.
    assert found("ovn", nebula_manage_packages=False) == [] and found("ovn_host", nebula_manage_packages=False)


REMOTE = {"nebula_ovn_remote": {"southbound": "ssl:192.0.2.1:6642"}}
THREE = {"groups": {"nebula_ovn_central": ["a", "b", "c"]}}


@pytest.mark.parametrize(
    ("given", "otherwise"),
    [({}, False), ({"nebula_ovn_state": "absent"}, True), (THREE, True), ({**THREE, **REMOTE}, False)],
)
def test_what_role_ovn_does_besides_is_left_to_it(host, given, otherwise):
    assert host(**given).holds(call("ovn_host")["unless"]) is otherwise
    assert host(**given).holds(call("ovn_central_request")["unless"]) is otherwise


@pytest.mark.parametrize(("given", "asked"), [({}, True), ({"nebula_ovn": "no"}, False), (REMOTE, False)])
def test_what_a_role_does_under_a_condition_is_asked_only_then(host, given, asked):
    for name in ("ovn_central_request", "ovn_central", "ovn_request", "ovn_signed"):
        assert host(**{"nebula_ovn": True, **given}).holds(call(name)["when"]) is asked
    for images, wanted in [([], False), ([{"name": "a", "path": "/x"}], False), ([{"path": "/demo"}], True)]:
        here = host(nebula_images=images, nebula_demo_image="/demo")
        assert here.holds(call("demo_image")["when"]) is wanted


@pytest.mark.parametrize(("other", "otherwise"), [(True, False), ("yes", False), (False, True), (None, True)])
def test_nodes_of_which_some_have_ovn_are_left_to_the_roles(host, other, otherwise):
    here = host(groups={"nebula_nodes": ["node1", "node2"]}, nebula_ovn=True)
    here.own["hostvars"]["node2"] = {} if other is None else {"nebula_ovn": other}
    assert here.holds(call("network")["unless"]) is otherwise


@pytest.mark.parametrize(
    ("role", "given", "why"),
    [
        ("node", {"nebula_reserved_memory": "much"}, "nebula_reserved_memory: it is text. Give a whole number"),
        ("image", {"nebula_images": text("{{ lost }}")}, "nebula_images: variable lost is undefined"),
    ],
)
def test_variables_that_a_role_would_refuse_are_left_to_it(host, role, given, why):
    assert [why in problem for problem in host(**given).problems(role)] == [True]
    assert host().problems(role) == []


def test_the_item_of_a_host_is_made_of_what_it_answered(host):
    node = {"memory": 4096, "cpu": 2, "overhead": {}, "hardware": {}, "transfer": "shared", "catalog": "c", "mark": "m"}
    here = host(nebula_reserved_memory=100, __nebula_node={"node": {**node, "machine_id": "i"}})
    found = here.options(here.all["__nebula_host_found"])
    assert found == here.value(here.all["__nebula_host_found"])
    # Before ansible-core 2.19 numbers become text here, as they do in the role.
    names = ("name", "memory", "reserved_memory", "catalog")
    assert [str(found[key]) for key in names] == ["node1", "4096", "100", "c"]
