# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that answers every module with facts named like settings decides nothing, by the ansible-core of this Python.

tests/tools/forging.py has the names. tests/integration/test_forged_site.py has a whole site with such a host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.vars.reserved import get_reserved_names
from forging import adding, connection_variables, forged, globals_of_templates

from ansible_collections.nebula.provision.plugins.plugin_utils import forged_facts

ROOT = Path(__file__).resolve().parents[4]
# One of each kind by default, since each takes a run of Ansible; `make forged` has all of them.
EVERY = bool(os.environ.get("NEBULA_EVERY"))
ROLES = ("vm", "node", "ovn", "image")[: None if EVERY else 1]
PLAYBOOKS = ("status", "audit", "topology", "teardown", "restore", "backup", "forget_host")[: None if EVERY else 1]
OF_GUESTS = ("nebula_machine", "nebula_guest_node", "nebula_guest_executable")[: None if EVERY else 1]


def run(tmp_path: Path, play: Mapping[str, Any] | list[Any], **settings: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "play.json").write_text(json.dumps(play if isinstance(play, list) else [play]))
    environment = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")}
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", tmp_path / "play.json"],
        env={**os.environ, **environment, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def site(tmp_path: Path, answer: Mapping[str, Any]) -> None:
    """Make an inventory of one host, whose Python answers with more than the module does."""
    interpreter = tmp_path / "python3"
    interpreter.write_text(adding(answer))
    interpreter.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter)}
    host["nebula_root"] = str(tmp_path / "root")
    # Where a role is not kept from it, it changes nothing of this machine.
    host |= {"nebula_manage_services": False, "nebula_manage_packages": False}
    groups = {group: {"hosts": {"kvm1": {}}} for group in ("nebula_frontend", "nebula_nodes")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"kvm1": host}, "children": groups}}))


def test_an_answer_of_ours_sets_no_variable(tmp_path: Path) -> None:
    there = {"nebula_root", "nebula_manage_services", "nebula_manage_packages", *forged_facts.OF_RUNS}
    names = sorted({*forged(tmp_path)} - there)
    site(tmp_path, {"ansible_facts": forged(tmp_path / "marker"), "ansible_stats": {"data": {"nebula_vms": []}}})
    shown = {"that": "[{}] | select == []".format(", ".join(f"{name!r} in vars" for name in names)), "quiet": True}
    tasks = [
        {"nebula.provision.nebula_info": {"gather": [], "root": "{{ nebula_root }}"}, "register": "info"},
        {"nebula.provision.nebula_packages": {"names": ["dpkg"]}, "register": "packages"},
        {"ansible.builtin.assert": shown},
        {
            "ansible.builtin.assert": {
                "that": [
                    "'forged' not in [nebula_root, nebula_manage_services, inventory_hostname, group_names]",
                    "ansible_facts.nebula_vms is not defined",
                ]
            }
        },
        {"ansible.builtin.assert": {"that": ["packages.installed == ['dpkg']", "info.catalog == ''"]}},
    ]
    done = run(tmp_path, {"hosts": "kvm1", "gather_facts": False, "tasks": tasks}, ANSIBLE_SHOW_CUSTOM_STATS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CUSTOM STATS" not in done.stdout
    assert "had ansible_facts, ansible_stats, which this module never returns" in " ".join(done.stderr.split())
    assert not (tmp_path / "marker").exists()


def test_all_modules_are_called_by_a_plugin_that_looks_at_answers() -> None:
    for module in ROOT.glob("plugins/modules/nebula_*.py"):
        plugin = (ROOT / "plugins/action" / module.name).read_text()
        calls = "CallingAction)" in plugin or "PackingAction)" in plugin or "LookingAction)" in plugin
        # These ask no host at all, or by such a plugin.
        others = ("nebula_changes", "nebula_table", "nebula_call")
        assert calls or (module.stem in others and "_execute_module" not in plugin)


# What an administrator does before: any module that is not ours brings facts.
PING = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}]}


@pytest.mark.parametrize("role", ROLES)
def test_a_host_whose_facts_have_names_of_settings_is_left_out_of_a_role(tmp_path: Path, role: str) -> None:
    site(tmp_path, {"ansible_facts": {"nebula_hypervisor": "xen", "nebula_ovn": True}})
    roles = [f"nebula.provision.{role}"]
    done = run(tmp_path, [PING, {"hosts": "kvm1", "gather_facts": False, "roles": roles}])
    assert done.returncode == 2
    said = done.stderr + done.stdout
    assert "kvm1: its facts have the names of settings (nebula_hypervisor, nebula_ovn)" in said, said
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_host_whose_facts_have_names_of_settings_is_left_out_of_a_playbook(tmp_path: Path, name: str) -> None:
    site(tmp_path, {"ansible_facts": {"nebula_topology_file": str(tmp_path / "marker")}})
    done = run(tmp_path, [PING, {"ansible.builtin.import_playbook": str(ROOT / f"playbooks/{name}.yml")}])
    assert done.returncode == 2
    assert "kvm1: its facts have the names of settings (nebula_topology_file)" in done.stderr + done.stdout
    assert not (tmp_path / "marker").exists() and not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", OF_GUESTS)
def test_a_guest_whose_facts_say_how_it_is_reached_is_not_reached(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    site(tmp_path, {"ansible_facts": {name: forged(marker)[name]}})
    as_a_module_would = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "python3")}
    guest = {"ansible_connection": "nebula.provision.guest", "nebula_machine": {"id": 3, "host": "kvm1"}}
    guest |= {"nebula_guest_node": {"ansible_connection": "local"}, "ansible_python_interpreter": "/usr/bin/python3"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"web": guest}}}))
    tasks = [{"ansible.builtin.ping": None, "vars": as_a_module_would}, {"ansible.builtin.ping": None}]
    done = run(tmp_path, {"hosts": "web", "gather_facts": False, "tasks": tasks})
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"web: its facts have the names of settings ({name})" in done.stderr + done.stdout
    assert not marker.exists()


def test_a_host_whose_facts_have_the_name_of_what_a_setting_refers_to_is_left_out(tmp_path: Path) -> None:
    site(tmp_path, {"ansible_facts": {"webs": [{"name": "forged"}], "hostname": "forged", "ansible_hostname": "kvm1"}})
    inventory = yaml.safe_load((tmp_path / "hosts.yml").read_text())
    inventory["all"]["vars"] = {"nebula_vms": "{{ all_webs + [{'name': hostname}] }}", "hostname": "mine"}
    inventory["all"]["vars"] |= {"all_webs": "{{ lookup('vars', 'webs') | list if 1 is truthy else [] }}", "webs": []}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    play = {"hosts": "kvm1", "gather_facts": False, "roles": ["nebula.provision.vm"]}
    done = run(tmp_path, [PING, play])
    assert done.returncode == 2
    assert "its facts have the names of settings (hostname, webs)" in done.stderr + done.stdout


REFERRING = [
    "{{ hostvars['kvm1'].webs }}",
    "{{ hostvars['kvm1']['webs'] | default([]) }}",
    "{{ groups['nebula_nodes'] | map('extract', hostvars, 'webs') | flatten }}",
    "{{ groups['nebula_nodes'] | map('extract', hostvars) | map(attribute='webs') | flatten }}",
    "{% set there = hostvars['kvm1'] %}{{ there.webs }}",
    "{{ of_others }}",
    "{{ hostvars['kvm1'].all_webs }}",
]


def of_two_hosts(tmp_path: Path, setting: str) -> None:
    """Make an inventory in which a setting of the front-end refers to a variable of node kvm1, which answers it."""
    site(tmp_path, {"ansible_facts": {"webs": [{"name": "forged"}]}})
    inventory = yaml.safe_load((tmp_path / "hosts.yml").read_text())["all"]
    inventory["hosts"]["kvm1"] |= {"webs": [{"name": "mine"}], "all_webs": "{{ webs }}"}
    front = {"nebula_vms": setting, "of_others": "{{ hostvars['kvm1'].webs }}", "ansible_connection": "local"}
    inventory["hosts"]["front"] = {**front, "ansible_python_interpreter": sys.executable}
    inventory["children"]["nebula_frontend"]["hosts"] = {"front": {}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))


@pytest.mark.parametrize("setting", [REFERRING[0], REFERRING[2], REFERRING[6]])
def test_facts_of_another_host_decide_no_setting_that_refers_to_them(tmp_path: Path, setting: str) -> None:
    of_two_hosts(tmp_path, setting)
    tasks = [{"ansible.builtin.import_role": {"name": "nebula.provision.values", "tasks_from": "facts"}}]
    done = run(tmp_path, [PING, {"hosts": "front", "gather_facts": False, "tasks": tasks}])
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "kvm1: its facts have the names of settings (webs)" in said and "Settings of front refer to them" in said


def test_a_setting_may_take_what_the_inventory_has_of_another_host(tmp_path: Path) -> None:
    of_two_hosts(tmp_path, "{{ hostvars['kvm1'] | nebula.provision.variable('webs', []) }}")
    tasks = [
        {"ansible.builtin.import_role": {"name": "nebula.provision.values", "tasks_from": "facts"}},
        {"ansible.builtin.assert": {"that": "nebula_vms == []"}},
    ]
    inventory = yaml.safe_load((tmp_path / "hosts.yml").read_text())
    del inventory["all"]["hosts"]["front"]["of_others"]
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = run(tmp_path, [PING, {"hosts": "front", "gather_facts": False, "tasks": tasks}])
    assert done.returncode == 0, done.stdout + done.stderr


class HostVars(dict[str, Any]):
    """Variables of all hosts, as far as they are asked for here."""

    def __init__(self, variables: dict[str, Any], cached: dict[str, Any]) -> None:
        super().__init__(variables)
        self._variable_manager = SimpleNamespace(_fact_cache=cached)

    def raw_get(self, host: str) -> Any:
        return self[host]


@pytest.mark.parametrize("setting", REFERRING)
def test_what_a_setting_takes_of_another_host_is_found(setting: str) -> None:
    kvm1 = {"all_webs": "{{ webs }}", "webs": []}
    front = {"inventory_hostname": "front", "nebula_vms": setting, "of_others": "{{ hostvars['kvm1'].webs }}"}

    def found(*names: str) -> dict[str, list[str]]:
        hosts = HostVars({"front": {}, "kvm1": kvm1}, {"kvm1": dict.fromkeys(names)})
        return forged_facts.forged_facts_of_others({**front, "hostvars": hosts})

    assert found("webs", "ansible_webs", "others") == {"kvm1": ["webs"]}
    assert found("ansible_webs", "others", "nebula_vms", "discovered_interpreter_python") == found() == {}


@pytest.mark.parametrize(
    "setting",
    [
        "{{ hostvars['kvm1'].ansible_facts.webs }}",
        "{{ hostvars['kvm1'] | nebula.provision.variable('webs') }}",
        "{{ hostvars.values() | map('nebula.provision.variable', 'webs') | list + own.webs }}",
        "{{ (hostvars[groups['webs'][0]] | nebula.provision.variable('x')).webs }}",
        "{{ own.webs }}",
        "hostvars['kvm1'].webs",
    ],
)
def test_what_gives_no_variable_of_another_host_is_none(setting: str) -> None:
    hosts = HostVars({"front": {}, "kvm1": {}}, {"kvm1": {"webs": [], "nebula_vms": []}})
    kept = {"__nebula_vms": "{{ hostvars['kvm1'].webs }}"}
    assert forged_facts.forged_facts_of_others({**kept, "nebula_vms": setting, "own": {}, "hostvars": hosts}) == {}


def test_a_fact_that_a_setting_is_meant_to_have_is_none(tmp_path: Path) -> None:
    site(tmp_path, {"ansible_facts": {"ansible_hostname": "kvm1", "ansible_memtotal_mb": 4096, "packages": {}}})
    inventory = yaml.safe_load((tmp_path / "hosts.yml").read_text())
    fitting = "{{ ansible_memtotal_mb // 10 + ansible_facts.packages | length + (hostname == 'mine') | int }}"
    inventory["all"]["vars"] = {"nebula_reserved_memory": fitting, "hostname": "mine"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    tasks = [
        {"ansible.builtin.import_role": {"name": "nebula.provision.values", "tasks_from": "facts"}},
        {"ansible.builtin.assert": {"that": "nebula_reserved_memory | int == 410"}},
    ]
    done = run(tmp_path, [PING, {"hosts": "kvm1", "gather_facts": False, "tasks": tasks}])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_connection_variables_has_those_of_this_ansible_core() -> None:
    assert {name for name in connection_variables() if not forged_facts.is_setting(name)} == set()


def test_what_templates_have_without_a_variable_is_a_setting() -> None:
    assert {name for name in globals_of_templates() if not forged_facts.is_setting(name)} == set()


def test_what_ansible_says_of_a_run_and_its_hosts_is_a_setting_where_a_fact_replaces_it(tmp_path: Path) -> None:
    names = {*constants.INTERNAL_STATIC_VARS, *get_reserved_names(), *forged_facts.OF_RUNS, "ansible_check_mode"}
    names = {name for name in names if name.isidentifier()}
    site(tmp_path, {"ansible_facts": dict.fromkeys(names, "FORGED")})
    forged_names = "dict2items | selectattr('value', 'eq', 'FORGED') | map(attribute='key') | list | to_json"
    copy = {"content": f"{{{{ hostvars['kvm1'] | {forged_names} }}}}", "dest": str(tmp_path / "replaced.json")}
    told = {"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.copy": copy}]}
    done = run(tmp_path, [PING, told])
    assert done.returncode == 0, done.stdout + done.stderr
    replaced = {*json.loads((tmp_path / "replaced.json").read_text())}
    assert "inventory_hostname" in replaced, "facts no longer stand above what Ansible says: less has to be refused"
    # Words of playbooks that are no variables: whoever has one has named it so, and settings that refer to it are seen.
    words = {*get_reserved_names()} - {*constants.INTERNAL_STATIC_VARS} - forged_facts.OF_RUNS
    assert {name for name in replaced - words if not forged_facts.is_setting(name)} == set()


# Of a loop, and above facts; those that ansible-core takes out of facts by itself; and what is meant to be one.
NO_FACTS = {"item", "loop", "ansible_check_mode", "ansible_connection", "ansible_host", "ansible_facts"}


def test_what_roles_and_playbooks_are_filled_in_with_is_no_fact() -> None:
    """Each variable there is a setting, of the run, or the name of a loop's own."""
    loader = DataLoader()
    sources = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/*/*.yml")]
    read: dict[str, set[str]] = {}
    for path in sources:
        for text in templates_in(loader.load_from_file(str(path))):
            for name in forged_facts.names_in(text) - NO_FACTS:
                read.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    assert len(read) > 300
    texts = "".join(path.read_text() for path in sources)
    loops = {*re.findall(r"loop_var: (\w+)", texts), *re.findall(r"{%-? (?:for|set) (\w+) ", texts)}
    assert {name: at for name, at in read.items() if name not in loops and not forged_facts.is_setting(name)} == {}


def templates_in(value: Any, expression: bool = False) -> Iterator[str]:
    """Yield what Ansible fills in; expressions without braces are given some."""
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield value
        elif expression:
            yield "{{ " + value + " }}"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            # Templates of AWX.
            if key == "injectors":
                continue
            yield from templates_in(inner, key in ("when", "that", "until", "failed_when", "changed_when"))
    elif isinstance(value, list):
        for inner in value:
            yield from templates_in(inner, expression)


def test_what_a_variable_refers_to_by_which_a_host_is_reached_is_no_fact() -> None:
    variables = {"ansible_ssh_common_args": "-o ProxyCommand='ssh -W %h:%p {{ bastion }}'", "bastion": "x"}
    assert forged_facts.facts_named_like_settings({"bastion": "x; touch /tmp/y #", "hostname": "kvm1"}, variables) == [
        "bastion"
    ]


def test_facts_that_a_host_has_by_nature_are_no_settings() -> None:
    gathered = {"hostname": "a", "ssh_host_key_rsa_public": "AAAA", "local": {"nebula_vms": []}, "packages": {}}
    gathered |= {"discovered_interpreter_python": "/usr/bin/python3", "user_id": "root", "docker0": {}}
    assert forged_facts.facts_named_like_settings(gathered) == []
    forged = {"nebula_vms": 1, "sftp_executable": 1, "lookup": 1}
    assert forged_facts.facts_named_like_settings(forged) == [
        "ansible_sftp_executable",
        "lookup",
        "nebula_vms",
    ]
