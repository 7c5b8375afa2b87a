# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns plain data into what the modules of collection awx.awx take for job templates and workflows.

A job template is a dict: name, description, playbook, job_tags, questions (or questions_of, names of job templates
whose questions it has), variables, fixed (values that are not asked), options (further ones of awx.awx.job_template),
and state. A workflow is a dict: name, description, nodes, options and state. A node has a name, and one of
job_template, approval and inventory_source; after says which nodes have to succeed before it. It asks what its job
templates ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import questions as asked

Item = Mapping[str, Any]

TEMPLATE_KEYS = {
    "name", "description", "playbook", "job_tags", "questions", "questions_of", "variables", "fixed", "options",
    "state",
}  # fmt: skip
WORKFLOW_KEYS = {"name", "description", "nodes", "options", "state"}
NODE_KEYS = {"name", "job_template", "approval", "timeout", "inventory_source", "after"}
KINDS = ("job_template", "approval", "inventory_source")
STATES = ("present", "absent")
EVENTS = ("started", "success", "error", "approval")
_OF_BOTH = {
    "organization", "inventory", "limit", "skip_tags", "scm_branch", "labels", "allow_simultaneous", "webhook_service",
    "webhook_credential", "notification_templates_started", "notification_templates_success",
    "notification_templates_error", "ask_inventory_on_launch", "ask_labels_on_launch", "ask_limit_on_launch",
    "ask_scm_branch_on_launch", "ask_skip_tags_on_launch", "ask_tags_on_launch", "ask_variables_on_launch",
}  # fmt: skip
# What roles/awx/tasks/apply.yml hands over of `options`. All else of a job template has a key of its own.
JOB_OPTIONS = _OF_BOTH | {
    "project", "credentials", "execution_environment", "job_type", "forks", "verbosity", "force_handlers",
    "start_at_task", "diff_mode", "use_fact_cache", "host_config_key", "instance_groups",
    "prevent_instance_group_fallback", "become_enabled", "timeout", "job_slice_count", "ask_diff_mode_on_launch",
    "ask_job_type_on_launch", "ask_verbosity_on_launch", "ask_credential_on_launch",
    "ask_execution_environment_on_launch", "ask_forks_on_launch", "ask_instance_groups_on_launch",
    "ask_job_slice_count_on_launch", "ask_timeout_on_launch",
}  # fmt: skip
WORKFLOW_OPTIONS = _OF_BOTH | {"extra_vars", "job_tags", "notification_templates_approvals"}


def merge_items(ours: Sequence[Item], theirs: Sequence[Item]) -> list[dict[str, Any]]:
    """Return our items with those of the same name changed by theirs, key by key, and then the others of theirs."""
    items = {str(item["name"]): dict(item) for item in ours}
    for number, item in enumerate(theirs):
        # One without a name stays apart, for problems() to report.
        name = str(item.get("name") or f" {number}")
        items[name] = items.get(name, {}) | dict(item)
    return list(items.values())


def job_templates(items: Sequence[Item], prefix: str, options: Item) -> list[dict[str, Any]]:
    """Return the options of awx.awx.job_template for each item. options: those of all items; an item's own win."""
    made: list[dict[str, Any]] = []
    for item in items:
        name = f"{prefix}{item['name']}"
        if item.get("state") == "absent":
            made.append({"name": name, "state": "absent"})
            continue
        survey = asked.survey(name, questions_of(items, item))
        made.append(
            dict(options)
            | {
                "name": name,
                "description": str(item.get("description", "")),
                "playbook": item["playbook"],
                "job_tags": str(item.get("job_tags", "")),
                "extra_vars": asked.variables(questions_of(items, item), item.get("fixed"))
                | dict(item.get("variables") or {}),
                "survey_enabled": bool(survey),
                "survey_spec": survey,
                "state": "present",
            }
            | dict(item.get("options") or {})
        )
    return made


def questions_of(items: Iterable[Item], item: Item) -> list[Item]:
    """Return the questions of a job template: its own, and those of the job templates that it names."""
    named = {str(each["name"]): each for each in items}
    borrowed = [q for name in item.get("questions_of") or [] for q in named[name].get("questions") or []]
    return asked.without_repeats([*(item.get("questions") or []), *borrowed])


def workflows(items: Sequence[Item], templates: Sequence[Item], prefix: str) -> list[dict[str, Any]]:
    """Return the options of awx.awx.workflow_job_template for each item."""
    made: list[dict[str, Any]] = []
    for item in items:
        name = f"{prefix}{item['name']}"
        if item.get("state") == "absent":
            made.append({"name": name, "state": "absent"})
            continue
        named = {str(each["name"]): each for each in templates}
        jobs = [named[node["job_template"]] for node in item["nodes"] if "job_template" in node]
        survey = asked.survey(name, asked.without_repeats(q for job in jobs for q in questions_of(templates, job)))
        made.append(
            {
                "name": name,
                "description": str(item.get("description", "")),
                "survey_enabled": bool(survey),
                "survey_spec": survey,
                "state": "present",
            }
            | dict(item.get("options") or {})
        )
    return made


def nodes(
    items: Sequence[Item], prefix: str, known: Iterable[Item], ids: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the options of awx.awx.workflow_job_template_node for each node of the workflows, and for each node that
    AWX has and the workflows no longer have.

    A node comes after the nodes that follow it, since it names them. If a node has become an approval, or is none any
    more, its removal comes first: otherwise the module would make an approval of the job template that the node has.
    known: the nodes that AWX has, as its API shows them.
    ids: ids of job templates and inventory sources, by their names, since other organizations may have the same names.
    """
    made: list[dict[str, Any]] = []
    wanted = {
        f"{prefix}{item['name']}": {str(node["name"]): node for node in item["nodes"]}
        for item in items
        if item.get("state") != "absent"
    }
    gone: list[dict[str, Any]] = []
    for each in known:
        workflow = str(each["summary_fields"]["workflow_job_template"]["name"])
        if workflow not in wanted:
            continue
        node = wanted[workflow].get(each["identifier"])
        job = each["summary_fields"].get("unified_job_template") or {}
        is_approval = job.get("unified_job_type") == "workflow_approval"
        if node is None or is_approval != ("approval" in node):
            gone.append({"workflow_job_template": workflow, "identifier": each["identifier"], "state": "absent"})
    for workflow, each_of in wanted.items():
        every = list(each_of.values())
        for node in reversed(every):
            same = {"workflow_job_template": workflow, "identifier": str(node["name"]), "state": "present"}
            made += [same | part for part in _options_of_node(node, every, prefix, ids)]
    return gone + made


def _options_of_node(
    node: Item, every: Sequence[Item], prefix: str, ids: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the options of each call for a node. An approval needs two: the module can't link what it makes."""
    before = list(map(str, node.get("after") or []))
    links = {
        "success_nodes": [
            str(each["name"]) for each in every if str(node["name"]) in map(str, each.get("after") or [])
        ],
        # A node that waits for several starts when all of them have succeeded.
        "all_parents_must_converge": len(before) > 1,
    }
    if "approval" in node:
        approval = {
            "name": str(node["name"]),
            "description": str(node["approval"]),
            "timeout": int(node.get("timeout", 0)),
        }
        return [{"approval_node": approval}, links]
    if "job_template" in node:
        name = f"{prefix}{node['job_template']}"
        return [links | {"unified_job_template": str(ids.get("job_template", {}).get(name, name))}]
    name = str(node["inventory_source"])
    return [links | {"unified_job_template": str(ids.get("inventory_source", {}).get(name, name))}]


def problems(
    templates: Any, flows: Any, prefix: str = "", options: Item | None = None, notifications: Item | None = None
) -> list[str]:
    """Return what is wrong with the merged items, a sentence each.
    options: those of all job templates.
    notifications: names of notification templates by the event that they report."""
    found = _problems_of_items("nebula_awx_job_templates", templates, TEMPLATE_KEYS, prefix)
    found += _problems_of_items("nebula_awx_workflows", flows, WORKFLOW_KEYS, prefix)
    found += _unknown("nebula_awx_options", options or {}, JOB_OPTIONS)
    found += _unknown("nebula_awx_notifications", notifications or {}, set(EVENTS))
    if found:
        return found
    names = {str(item["name"]) for item in templates}
    kept = {str(item["name"]) for item in templates if item.get("state") != "absent"}
    for item in templates:
        found += _problems_of_template(item, kept)
    for item in flows:
        found += _problems_of_workflow(item, kept) if item.get("state") != "absent" else []
    both = names & {str(item["name"]) for item in flows}
    return found + [
        f"nebula_awx_workflows: {name}: a job template has this name. Call it otherwise" for name in sorted(both)
    ]


def _unknown(place: str, given: Item, known: set[str]) -> list[str]:
    unknown = sorted(set(map(str, given)) - known)
    return [f"{place}: {', '.join(unknown)}: no such key. These are: {', '.join(sorted(known))}"] if unknown else []


def _problems_of_items(variable: str, items: Any, keys: set[str], prefix: str) -> list[str]:
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return [f"{variable}: give a list of dicts"]
    found = []
    for number, item in enumerate(items):
        name = item.get("name")
        if not isinstance(name, str) or not name.strip():
            found.append(f"{variable}[{number}]: there is no name")
        elif (prefix + name) != (prefix + name).strip() or "++" in prefix + name:
            found.append(f"{variable}: {name!r}: AWX takes no name with blanks at its ends, nor one with ++")
        elif item.get("state", "present") not in STATES:
            found.append(f"{variable}: {name}: state {item['state']!r} is none of {', '.join(STATES)}")
        else:
            found += _unknown(f"{variable}: {name}", item, keys)
    return found


def _problems_of_template(item: Item, kept: set[str]) -> list[str]:
    place = f"nebula_awx_job_templates: {item['name']}"
    if item.get("state") == "absent":
        return []
    found = asked.problems(f"{place}: questions", item.get("questions") or [])
    if not isinstance(item.get("playbook"), str) or not item["playbook"].strip():
        found.append(f"{place}: there is no playbook. Name a file of the project, as site.yml")
    borrowed = item.get("questions_of") or []
    if not isinstance(borrowed, list):
        found.append(f"{place}: questions_of: give a list of names of job templates")
    else:
        unknown = [each for each in borrowed if str(each) not in kept]
        found += [f"{place}: questions_of: there is no job template {each}" for each in unknown]
    for key in ("variables", "fixed", "options"):
        if not isinstance(item.get(key) or {}, Mapping):
            found.append(f"{place}: {key}: give a dict")
        elif key == "options":
            found += _unknown(f"{place}: options", item.get(key) or {}, JOB_OPTIONS)
        elif key == "fixed":
            found += [f"{place}: {problem}" for problem in asked.problems_of_fixed(item.get(key) or {})]
    return found


def _problems_of_workflow(item: Item, templates: set[str]) -> list[str]:
    place = f"nebula_awx_workflows: {item['name']}"
    every = item.get("nodes")
    if (
        not isinstance(every, list)
        or not every
        or not all(isinstance(node, Mapping) and isinstance(node.get("name"), str) and node["name"] for node in every)
    ):
        return [f"{place}: nodes: give a list of dicts, each with a name"]
    if not isinstance(item.get("options") or {}, Mapping):
        return [f"{place}: options: give a dict"]
    names = [node["name"] for node in every]
    found = [f"{place}: node {name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    found += _unknown(f"{place}: options", item.get("options") or {}, WORKFLOW_OPTIONS)
    for number, node in enumerate(every):
        where = f"{place}: node {node['name']}"
        found += _unknown(where, node, NODE_KEYS)
        kinds = [kind for kind in KINDS if kind in node]
        if len(kinds) != 1 or not isinstance(node[kinds[0]], str) or not node[kinds[0]].strip():
            found.append(f"{where}: give one of {', '.join(KINDS)}, as a text")
        elif "job_template" in node and node["job_template"] not in templates:
            found.append(f"{where}: there is no job template {node['job_template']}")
        timeout = node.get("timeout", 0)
        if isinstance(timeout, bool) or not isinstance(timeout, int):
            found.append(f"{where}: timeout {timeout!r}: give seconds, as a whole number")
        # Who comes later can't be waited for, so that no circle can be written.
        before = node.get("after") or []
        if not isinstance(before, list):
            found.append(f"{where}: after: give a list of names of nodes")
        else:
            unknown = [each for each in before if each not in names[:number]]
            found += [f"{where}: after: no node before it is called {each}" for each in unknown]
    return found
