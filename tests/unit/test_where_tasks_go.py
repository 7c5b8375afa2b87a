# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where roles and playbooks go, and what they run there, is said by the inventory and by themselves, not by answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.playbook.block import Block
from ansible.playbook.play import Play
from ansible.playbook.task import Task

ROOT = Path(__file__).parents[2]
FOUND = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/**/*.yml"), *ROOT.glob("playbooks/*.yml")]
FILES = sorted([*FOUND, *ROOT.glob("roles/project/files/project/*.yml"), ROOT / "site.yml"])
# What is no playbook there.
FILES = [path for path in FILES if path.name not in ("execution-environment.yml", "machines.nebula.yml")]
BLOCKS = ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers")
# They ask no host.
OF_ANSIBLE = {
    *("assert", "debug", "fail", "import_playbook", "import_role", "import_tasks", "include_role", "include_tasks"),
    *("meta", "set_fact"),
}
# All that stands in a task beside its module.
KEYWORDS = {*Task.fattributes, *Block.fattributes, *Play.fattributes, "import_playbook"} - {"action", "local_action"}
# Roles whose plays are for localhost alone: what answers there is the control node itself, or AWX.
OF_LOCALHOST = {"awx", "project"}
# Where a task goes beside the host of its play: the inventory names it, or a variable that the inventory sets.
PLACES = {
    "localhost",
    "{{ groups['nebula_frontend'][0] }}",
    "{{ groups['nebula_ovn_central'] | default([]) | first | default(groups['nebula_frontend'][0]) }}",
    "{{ nebula_lost_host }}",
    "{{ __nebula_central }}",
    "{{ __nebula_ovn_centrals[0] }}",
    "{{ __nebula_member.name }}",
}
# The loops whose items are such names.
LOOPS = {"__nebula_central": "__nebula_ovn_centrals", "__nebula_member": "__nebula_ovn_members"}


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    waiting = list(yaml.safe_load(path.read_text()) or ())
    while waiting:
        task = waiting.pop(0)
        waiting += [inner for key in BLOCKS for inner in task.get(key) or ()]
        yield task


def taken(tasks: Iterable[dict[str, Any]], local: bool = False) -> Iterator[str]:
    """Yield what is asked of a host that is not the control node, and whose answer Ansible would take as it is."""
    for task in tasks:
        here = (
            task["delegate_to"] == "localhost" if "delegate_to" in task else task.get("hosts") == "localhost" or local
        )
        yield from (each for key in BLOCKS for each in taken(task.get(key) or (), here))
        if here:
            continue
        if "hosts" in task and task.get("gather_facts") is not False:
            yield "gather_facts"
        if task.get("async"):
            # Another module than the task's brings what it answers in the end.
            yield "async"
        for key in {*task} - KEYWORDS:
            if (
                not key.startswith(("nebula.provision.", "with_"))
                and key.removeprefix("ansible.builtin.") not in OF_ANSIBLE
            ):
                yield key


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_of_others_are_asked_of_the_control_node_alone(path: Path) -> None:
    local = path.parts[-4:-2] != ("files", "project") and path.parts[-3] in OF_LOCALHOST
    assert [*taken(yaml.safe_load(path.read_text()) or (), local)] == [], (
        "Ansible takes facts from its answer. Call it by nebula.provision.nebula_builtin, or from an action plugin"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[{ansible.builtin.copy: {}}]", ["ansible.builtin.copy"]),
        ("[{copy: {}, when: x, register: y, loop: z}]", ["copy"]),
        ("[{ansible.legacy.stat: {}, name: x}]", ["ansible.legacy.stat"]),
        ("[{community.general.x: {}, delegate_to: '{{ groups.nebula_frontend[0] }}'}]", ["community.general.x"]),
        ("[{action: copy src=x dest=y}]", ["action"]),
        ("[{local_action: copy src=x dest=y}]", ["local_action"]),
        ("[{hosts: all, tasks: []}]", ["gather_facts"]),
        ("[{hosts: all, gather_facts: false, post_tasks: [{setup: }]}]", ["setup"]),
        ("[{block: [{block: [], rescue: [{ping: }]}]}]", ["ping"]),
        ("[{delegate_to: localhost, block: [{ping: , delegate_to: kvm1}, {ping: }]}]", ["ping"]),
        ("[{hosts: localhost, tasks: [{ping: , delegate_to: kvm1}, {ping: }]}]", ["ping"]),
        ("[{nebula.provision.nebula_info: , async: 60, poll: 5}]", ["async"]),
        ("[{ping: , delegate_to: localhost}, {nebula.provision.nebula_info: }, {meta: x, when: y}]", []),
        ("[{import_playbook: x}, {ansible.builtin.import_playbook: x}, {include_tasks: x, with_items: y}]", []),
    ],
)
def test_what_asks_a_host_is_found(text: str, found: list[str]) -> None:
    assert [*taken(yaml.safe_load(text))] == found


def test_roles_of_localhost_are_asked_for_by_its_plays_alone() -> None:
    for path in FILES:
        for task in tasks_of(path):
            if task.get("hosts") != "localhost":
                named = {*re.findall(r"nebula\.provision\.(\w+)", str([task.get("roles"), *includes(task)]))}
                assert not named & OF_LOCALHOST, path
    for path in ROOT.glob("roles/*/meta/main.yml"):
        assert not re.findall(r"nebula\.provision\.(awx|project)\b", path.read_text()), path


def includes(task: dict[str, Any]) -> list[Any]:
    return [value for key, value in task.items() if key.rpartition(".")[2] in ("include_role", "import_role")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_answer_says_where_a_task_goes(path: Path) -> None:
    places = {task["delegate_to"] for task in tasks_of(path) if "delegate_to" in task}
    assert places <= PLACES
    hosts = {str(play["hosts"]) for play in tasks_of(path) if "hosts" in play}
    assert not [text for text in hosts if "__nebula" in text or "hostvars" in text]


# Filters of ours that take variables of hosts as they are: they read none of them that is a fact.
READERS = {"variable", "peers", "meeting_places", "last_observed", "backed_up", "of_restores"}
# As an option of not_as_asked, which reads them in the same way.
GIVEN_HOSTS = "hosts=ansible_play_hosts_all | map('extract', "


def test_what_is_read_of_another_host_is_no_fact_of_it() -> None:
    sources = [*FILES, *ROOT.glob("roles/*/vars/*.yml"), *ROOT.glob("roles/*/defaults/*.yml")]
    beside = []
    for path in sources:
        text = re.sub(r"\s+", " ", path.read_text())
        for found in re.finditer(r"hostvars(\[(?:[^\[\]]|\[[^\]]*\])*\])?\)?", text):
            reader = re.match(r" \| (?:map\('nebula\.provision\.(\w+)'|nebula\.provision\.(\w+))", text[found.end() :])
            if text[: found.start()].endswith(GIVEN_HOSTS):
                continue
            if not reader or (reader[1] or reader[2]) not in READERS:
                beside.append(f"{path.relative_to(ROOT)}: {text[found.start() - 30 : found.end() + 60]}")
    assert beside == []


def test_names_of_central_hosts_are_of_the_inventory() -> None:
    for path in FILES:
        for task in tasks_of(path):
            loop = task.get("loop")
            variable = (task.get("loop_control") or {}).get("loop_var", "")
            if variable in LOOPS:
                assert LOOPS[variable] in loop
    variables = yaml.safe_load((ROOT / "roles/ovn/vars/main.yml").read_text())
    assert variables["__nebula_ovn_centrals"].startswith("{{ groups[")
