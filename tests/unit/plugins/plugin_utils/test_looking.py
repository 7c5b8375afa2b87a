# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks ask what the roles' tasks ask, with the variables that these see, and nothing that site.yml leaves out is
forgotten."""

from __future__ import annotations

from pathlib import Path

import yaml
from looking_runs import CALLS, LOOKS

from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables
from ansible_collections.nebula.provision.plugins.plugin_utils.looking import LookingAction

ROOT = Path(__file__).resolve().parents[4]
SITE = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
# Plays of site.yml that are left out where a look finds nothing to do, and what of their roles no look asks, and why.
LEFT_OUT = (
    "Prepare the front-end",
    "Prepare the nodes",
    "Set OVN up",
    "Provide networks, images and templates",
    "Provision the machines",
)
NOT_ASKED = {
    ("network", "nebula_network"): "takes back what no node can have",
    ("ovn", "nebula_frontend"): "looks for the catalog, which role frontend has asked about",
    ("ovn", "nebula_ovn_central"): "only looks, or does what the call for a host has found to be done",
    ("vm", "nebula_transfer"): "only where a decision says so",
    ("vm", "nebula_deploy"): "looks at machines that are to be adopted, which no look does",
    ("vm", "nebula_vm_round"): "what follows does the same by several calls",
    ("vm", "__nebula_act_call"): "carries out what was decided; where nothing was, there is no call",
    ("vm", "__nebula_record_call"): "what the call before it did",
    ("vm", "__nebula_restart_call"): "only where the decision says that machines are to be started anew",
    ("vm", "__nebula_move_call"): "only where the decision says that machines are to move",
    ("vm", "nebula_vm"): "only looks whether the list goes too far",
    ("vm", "nebula_changes"): "prints what was decided",
    ("node", "nebula_packages"): "each call names its own",
}
# Files of a role that playbook maintenance alone uses.
OF_MAINTENANCE = ("maintenance", "maintain", "relocate")
# They change nothing on any host.
HARMLESS = {"assert", "fail", "debug", "set_fact", "include_tasks", "include_role", "import_tasks", "nebula_table"}


def tasks_below(entries):
    for entry in entries:
        yield from tasks_below(entry["block"]) if "block" in entry else [entry]


def called(task):
    """What a task calls: the name of a call, or of a module."""
    (action,) = [key for key in task if "." in key]
    given = task[action]
    name = action.rpartition(".")[2]
    return given.get("call") or given["module"] if name == "nebula_call" else name


def test_what_site_yml_leaves_out_is_asked_before():
    plays = [play for play in SITE if play["name"] in LEFT_OUT]
    assert len(plays) == len(LEFT_OUT)
    roles = [role["role"].removeprefix("nebula.provision.") for play in plays for role in play["roles"]]
    forgotten = []
    for role in roles:
        # Tasks of other files that are included by their name belong to the role, too.
        for file in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
            if file.stem in ("absent", "report", "end", "adopt", "audited", "forgotten", *OF_MAINTENANCE):
                continue
            for task in tasks_below(yaml.safe_load(file.read_text())):
                name = called(task)
                if name not in HARMLESS and name not in CALLS and (role, name) not in NOT_ASKED:
                    forgotten.append(f"{role}/{file.name}: {task['name']}: {name}")
    assert forgotten == [], "name it in a look of playbooks/site.yml, or say here why it need not be asked"


def test_each_call_is_that_of_one_task_which_registers_its_result():
    tasks = [
        task for file in ROOT.glob("roles/*/tasks/*.yml") for task in tasks_below(yaml.safe_load(file.read_text()))
    ]
    found = {called(task): task for task in tasks if set(task) & {"nebula.provision.nebula_call"}}
    for name in CALLS:
        call = role_variables.variables()[name]
        assert found[name]["register"] == call["result"]
        assert ("loop" in found[name]) == call.get("listed", False)


def test_each_play_is_left_out_by_its_first_task_and_only_without_tags():
    for play in SITE:
        if play["name"] in LEFT_OUT:
            for task in play["pre_tasks"]:
                assert task["ansible.builtin.meta"] == "end_play" and task["when"] and "tags" not in task


def test_what_a_look_has_begun_is_not_done_with_tags():
    """With tags nobody looked, and what ends the play is left out."""
    (play,) = [play for play in SITE if play["name"] == "Move machines"]
    (end,) = play["pre_tasks"]
    assert end["ansible.builtin.meta"] == "end_play" and "tags" not in end
    assert [
        task for task in play["tasks"] if "tags" in task or "apply" in task.get("ansible.builtin.include_role", {})
    ] == []


def test_of_a_run_with_nothing_to_do_a_further_node_runs_one_task():
    everywhere, left = [], False
    for play in SITE:
        if "hosts" not in play:
            continue
        left = any("ansible.builtin.meta" in task for task in play.get("pre_tasks", ()))
        for task in [] if left else play["tasks"]:
            if task.get("ansible.builtin.meta") == "end_play":
                break
            if "ansible.builtin.import_tasks" in task:
                found = yaml.safe_load((ROOT / "playbooks" / task["ansible.builtin.import_tasks"]).read_text())
                everywhere += [inner["name"] for inner in found if not inner.get("run_once")]
            elif not task.get("run_once"):
                everywhere.append(task["name"])
        assert left or "roles" not in play
    assert everywhere == ["Look at each node"]


def test_the_plugins_of_both_looks_are_this_one():
    assert LookingAction._supports_check_mode and {name for name, _calls in LOOKS} == {
        *("nebula_frontend_look", "nebula_node_look"),
    }


def test_what_holds_plans_is_kept_without_a_word():
    """Plans have contexts, passwords and keys, and -v shows what a task keeps."""
    files = [*(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    plays = [entry for file in files for entry in yaml.safe_load(file.read_text()) or []]
    entries = [
        each for play in plays for each in (play.get("pre_tasks", []) + play["tasks"] if "tasks" in play else [play])
    ]
    kept = [
        task
        for task in tasks_below(entries)
        if any(
            "first_round" in str(value) or str(value).endswith("__nebula_vm }}")
            for value in (task.get("ansible.builtin.set_fact") or {}).values()
        )
    ]
    assert len(kept) >= 3
    assert [task["name"] for task in kept if not task.get("no_log")] == []
