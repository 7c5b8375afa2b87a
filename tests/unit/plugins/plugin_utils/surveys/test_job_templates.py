# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Job templates and workflows as AWX's modules take them, and what is wrong with those that somebody wrote."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys import job_templates
from ansible_collections.nebula.provision.tests.integration.awx_runs import role_data
from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT

KEEP = {"variable": "nebula_backup_keep", "ask": "How many", "type": "integer", "default": 10}
JOBS = [
    {"name": "back up", "playbook": "backup.yml", "questions": [KEEP], "variables": {"nebula_x": "{{ 1 }}"}},
    {"name": "same", "playbook": "backup.yml", "questions_of": ["back up"], "options": {"forks": 5, "timeout": 3}},
    {"name": "gone", "state": "absent"},
]
FLOW = {
    "name": "all",
    "nodes": [
        {"name": "first", "job_template": "back up"},
        {"name": "ask", "approval": "Is it well?", "timeout": 60, "after": ["first"]},
        {"name": "other", "job_template": "same", "after": ["first"]},
        {"name": "last", "inventory_source": "machines", "after": ["ask", "other"]},
    ],
}


def test_an_item_of_the_same_name_goes_over_ours_key_by_key():
    assert job_templates.merge_items(JOBS[:1], [{"name": "back up", "playbook": "own.yml"}, {"name": "new"}]) == [
        {**JOBS[0], "playbook": "own.yml"},
        {"name": "new"},
    ]
    assert job_templates.merge_items(JOBS[:1], [{"playbook": "x"}])[1] == {"playbook": "x"}


def test_a_job_template_has_its_survey_and_its_variables():
    one, two, three = job_templates.job_templates(JOBS, "nebula ", {"timeout": 9, "ask_limit_on_launch": True})
    assert (one["name"], one["playbook"], one["state"], one["timeout"]) == (
        "nebula back up",
        "backup.yml",
        "present",
        9,
    )
    assert one["survey_enabled"] and [q["variable"] for q in one["survey_spec"]["spec"]] == ["answer_backup_keep"]
    assert (
        set(one["extra_vars"]) == {"nebula_backup_keep", "nebula_x", "answer_blanks"}
        and one["extra_vars"]["nebula_x"] == "{{ 1 }}"
    )
    assert two["survey_spec"]["spec"] == one["survey_spec"]["spec"]
    assert (two["forks"], two["timeout"], two["ask_limit_on_launch"]) == (5, 3, True)
    assert three == {"name": "nebula gone", "state": "absent"}


def test_a_workflow_asks_what_its_jobs_ask_once():
    (flow, gone) = job_templates.workflows([FLOW, {"name": "old", "state": "absent"}], JOBS, "nebula ")
    assert [q["variable"] for q in flow["survey_spec"]["spec"]] == ["answer_backup_keep"] and flow["survey_enabled"]
    assert gone == {"name": "nebula old", "state": "absent"}


def known(identifier: str, kind: str = "job", workflow: str = "nebula all") -> dict[str, Any]:
    return {
        "identifier": identifier,
        "summary_fields": {
            "workflow_job_template": {"name": workflow},
            "unified_job_template": {"unified_job_type": kind},
        },
    }


def test_each_node_names_only_those_that_are_there_already():
    there = [known("first"), known("stale"), known("stranger", workflow="somebody's")]
    ids = {"job_template": {"nebula back up": 7}, "inventory_source": {"machines": 9}}
    made = job_templates.nodes([FLOW, {"name": "old", "state": "absent"}], "nebula ", there, ids)
    seen = set()
    for node in made[1:]:
        assert node["workflow_job_template"] == "nebula all" and set(node.get("success_nodes", [])) <= seen
        seen.add(node["identifier"])
    assert [node["identifier"] for node in made] == ["stale", "last", "other", "ask", "ask", "first"]
    stale, last, other, approval, links, first = made
    assert last["unified_job_template"] == "9" and last["all_parents_must_converge"]
    assert approval["approval_node"] == {"name": "ask", "description": "Is it well?", "timeout": 60}
    # The module can't link an approval in the call that makes it.
    assert "success_nodes" not in approval and links["success_nodes"] == ["last"] and "approval_node" not in links
    assert first["success_nodes"] == ["ask", "other"] and not first["all_parents_must_converge"]
    assert (first["unified_job_template"], other["unified_job_template"]) == ("7", "nebula same")
    assert stale == {"workflow_job_template": "nebula all", "identifier": "stale", "state": "absent"}


def test_a_node_of_another_kind_goes_before_it_is_made_anew():
    """The module would write the approval over the job template that the node has."""
    made = job_templates.nodes(
        [FLOW], "nebula ", [known("ask"), known("first", "workflow_approval"), known("other")], {}
    )
    assert [(node["identifier"], node["state"]) for node in made[:2]] == [("ask", "absent"), ("first", "absent")]
    assert all(node["state"] == "present" for node in made[2:])
    made = job_templates.nodes([FLOW], "nebula ", [known("ask", "workflow_approval"), known("first")], {})
    assert all(node["state"] == "present" for node in made)


def test_what_apply_hands_over_is_what_may_be_said():
    tasks = yaml.safe_load((ROOT / "roles/awx/tasks/apply.yml").read_text())[0]["block"]
    for module, options in (
        ("job_template", job_templates.JOB_OPTIONS),
        ("workflow_job_template", job_templates.WORKFLOW_OPTIONS),
    ):
        (task,) = (task for task in tasks if f"awx.awx.{module}" in task)
        own = {"name", "state", "description", "survey_enabled", "survey_spec"}
        own |= {"playbook", "job_tags", "extra_vars"} if module == "job_template" else set()
        assert set(task[f"awx.awx.{module}"]) == options | own
        for key, value in task[f"awx.awx.{module}"].items():
            assert f"item.{key}" in value


@pytest.mark.parametrize(
    ("job", "text"),
    [
        ({"playbook": ""}, "back up: there is no playbook. Name a file of the project"),
        ({"state": "gone"}, "back up: state 'gone' is none of present, absent"),
        ({"survey": []}, "back up: survey: no such key. These are: description, fixed"),
        ({"questions_of": ["nobody"]}, "back up: questions_of: there is no job template nobody"),
        ({"options": ["forks"]}, "back up: options: give a dict"),
        ({"options": {"forkz": 5}}, "back up: options: forkz: no such key. These are: allow_simultaneous"),
        ({"options": {"extra_vars": {}}}, "back up: options: extra_vars: no such key"),
        ({"fixed": {"nebula_backup": 1}}, "back up: fixed: nebula_backup: name a key of an item, as nebula_vms[].host"),
        ({"fixed": {"nebula_vms[].host": "{{ x }}"}}, "back up: fixed: nebula_vms[].host: name a key of an item"),
        ({"questions_of": "back up"}, "back up: questions_of: give a list of names"),
        ({"name": "a++b"}, "'a++b': AWX takes no name with blanks at its ends, nor one with ++"),
        ({"name": "a "}, "'a ': AWX takes no name with blanks"),
        ({"variables": "x"}, "back up: variables: give a dict"),
        ({"questions": "x"}, "back up: questions: give a list of dicts"),
        ({"name": ""}, "nebula_awx_job_templates[0]: there is no name"),
    ],
)
def test_what_is_wrong_with_a_job_template_is_reported(job, text):
    (problem,) = job_templates.problems([{**JOBS[0], **job}], [])
    assert text in problem


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([], "nodes: give a list of dicts, each with a name"),
        ([{"job_template": "back up"}], "nodes: give a list of dicts, each with a name"),
        ([{"name": "a"}], "node a: give one of job_template, approval, inventory_source"),
        ([{"name": "a", "job_template": "back up", "approval": "x"}], "node a: give one of"),
        ([{"name": "a", "job_template": "gone"}], "node a: there is no job template gone"),
        ([{"name": "a", "job_template": "back up", "after": ["a"]}], "node a: after: no node before it is called a"),
        ([{"name": "a", "job_template": "back up", "then": []}], "node a: then: no such key"),
        ([{"name": "a", "approval": "x"}, {"name": "a", "approval": "y"}], "node a is there twice"),
        ([{"name": "a", "approval": None}], "node a: give one of job_template, approval, inventory_source, as a text"),
        ([{"name": "a", "job_template": ["x"]}], "node a: give one of"),
        ([{"name": "a", "approval": "x", "timeout": "1h"}], "node a: timeout '1h': give seconds, as a whole number"),
        ([{"name": "a", "approval": "x"}, {"name": "b", "approval": "y", "after": "a"}], "node b: after: give a list"),
        ([{"name": 1, "approval": "x"}], "nodes: give a list of dicts, each with a name"),
    ],
)
def test_what_is_wrong_with_a_workflow_is_reported(nodes, text):
    problems = job_templates.problems(JOBS, [{"name": "all", "nodes": nodes}])
    assert any(text in problem for problem in problems), problems


def test_lists_are_lists_of_dicts():
    assert job_templates.problems({"a": 1}, ["x"]) == [
        "nebula_awx_job_templates: give a list of dicts",
        "nebula_awx_workflows: give a list of dicts",
    ]


def test_names_and_options_of_all_are_checked():
    flow = {"name": "back up", "nodes": [{"name": "a", "approval": "x"}]}
    assert job_templates.problems(JOBS, [flow]) == [
        "nebula_awx_workflows: back up: a job template has this name. Call it otherwise"
    ]
    found = job_templates.problems(JOBS, [], " n", {"timeot": 5}, {"failure": ["mail"]})
    for text in (
        "AWX takes no name with blanks",
        "nebula_awx_options: timeot: no such key",
        "nebula_awx_notifications: failure",
    ):
        assert any(text in each for each in found), found


def test_the_roles_own_data_is_right_and_has_each_playbook_of_the_project():
    data = role_data()
    assert job_templates.problems(data["__nebula_awx_job_templates"], data["__nebula_awx_workflows"]) == []
    playbooks = {path.name for path in (ROOT / "roles/project/files/project").glob("*.yml")}
    # What no job of AWX does: the inventory of machines, an image's recipe, the role itself, and a part of deploy.
    others = {"machines.nebula.yml", "execution-environment.yml", "awx.yml", "ovn.yml"}
    assert {item["playbook"] for item in data["__nebula_awx_job_templates"]} == playbooks - others
    assert [item["name"] for item in data["__nebula_awx_workflows"]] == ["deploy", "install from ISO"]


def test_machines_are_backed_up_each_night_once_somebody_turns_that_on():
    jobs = {item["name"]: item for item in role_data()["__nebula_awx_job_templates"]}
    assert jobs["back up machines"]["playbook"] == "backup_machines.yml"
    assert [each["variable"] for each in jobs["back up machines"]["questions"]] == [
        "vm",
        "nebula_machine_backup_owner",
        "nebula_machine_backup_state",
        "nebula_machine_backup_full",
    ]
    (schedule,) = yaml.safe_load((ROOT / "roles/awx/defaults/main.yml").read_text())["nebula_awx_schedules"]
    assert schedule["job_template"] in jobs
    assert (schedule["name"], schedule["job_template"]) == ("back up machines daily", "back up machines")
    assert schedule["enabled"] is False and re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=DAILY;.*", schedule["rrule"])


def test_tags_and_variables_of_job_templates_are_those_of_the_playbooks():
    """A tag that no play has would make an empty job, and a variable that nothing reads a question for nothing."""
    text = "\n".join(path.read_text() for path in ROOT.glob("playbooks/*.yml"))
    text += "\n".join(
        path.read_text() for path in ROOT.glob("roles/*/meta/argument_specs.yml") if "awx" not in str(path)
    )
    tags = set(re.findall(r"tags: \[(\w+)", (ROOT / "playbooks/site.yml").read_text()))
    for item in role_data()["__nebula_awx_job_templates"]:
        assert set(filter(None, item.get("job_tags", "").split(","))) <= tags, item["name"]
        for question in item.get("questions", []):
            name, _, key = question["variable"].partition("[].")
            assert re.search(rf"\b{name}\b", text), question
            role = next(
                (p for p in ROOT.glob("roles/*/meta/argument_specs.yml") if f"      {name}:" in p.read_text()), None
            )
            if key and role:
                options = yaml.safe_load(role.read_text())["argument_specs"]["main"]["options"][name].get("options")
                assert options is None or key in options, question
