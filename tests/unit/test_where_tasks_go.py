# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where roles and playbooks go, and what they run there, is said by the inventory and by themselves, not by answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")])
BLOCKS = ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers")
# They ask no host.
OF_ANSIBLE = {
    *("assert", "debug", "fail", "import_playbook", "import_role", "import_tasks", "include_role", "include_tasks"),
    *("meta", "set_fact"),
}
# Modules of others bring facts, which Ansible puts above the variables of a host. These do no harm by it, and why.
OF_OTHERS = {
    ("awx", "apply.yml"): "the play is for localhost alone, and asks AWX",
    ("project", "main.yml"): "the play is for localhost alone",
    ("guest_context", "live.yml"): "the play is for machines, and the role does nothing outside them",
    ("playbooks", "backup.yml"): "on the control node; what is fetched is checked before",
    ("playbooks", "topology.yml"): "nothing is decided after the page is written",
}
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_of_others_are_asked_where_they_do_no_harm(path: Path) -> None:
    room = path.parent.name if path.parent.name == "playbooks" else path.parts[-3]
    asked = {
        key
        for task in tasks_of(path)
        for key in task
        if re.fullmatch(r"(?!nebula\.)\w+\.\w+\.\w+", key) and key.removeprefix("ansible.builtin.") not in OF_ANSIBLE
    }
    assert not asked or (room, path.name) in OF_OTHERS, (
        f"{asked}: Ansible takes facts from its answer. Call it from an action plugin, as nebula_packages does, "
        "or say in OF_OTHERS why that does no harm"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_answer_says_where_a_task_goes(path: Path) -> None:
    places = {task["delegate_to"] for task in tasks_of(path) if "delegate_to" in task}
    assert places <= PLACES
    hosts = {str(play["hosts"]) for play in tasks_of(path) if "hosts" in play}
    assert not [text for text in hosts if "__nebula" in text or "hostvars" in text]


def test_what_was_said_of_others_is_so() -> None:
    for room, name in OF_OTHERS:
        assert (ROOT / room / name).is_file() or (ROOT / "roles" / room / "tasks" / name).is_file()


# Filters of ours that take variables of hosts as they are: they read none of them that is a fact.
READERS = {"variable", "peers", "last_observed"}
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
