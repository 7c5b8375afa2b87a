# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of roles' and playbooks' tasks, filled in by Ansible as in a run, with what hosts have answered."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, test_loader
from ansible.template import Templar

from ansible_collections.nebula.provision.plugins.plugin_utils import no_templates

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.nebula.provision.plugins."
BLOCKS = ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers")
CALL = "nebula.provision.nebula_call"


# libyaml's, which takes a tenth of the time, where PyYAML was built with it; Ansible does the same.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """As Ansible reads YAML, as far as the files of this collection need it."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    """What a file of a role or playbook says."""
    return yaml.load(path.read_text(), Loader)


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each task of a file as tasks_as_written() does, but a task of nebula_call as one of the called module."""
    known = variables_of(path)
    for task in tasks_as_written(path):
        yield _with_its_module(task, known)


def tasks_as_written(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each task of a file of a role or playbook, with what blocks and plays around it say and it does not."""
    waiting = [(entry, {}) for entry in load(path) or ()]
    while waiting:
        entry, around = waiting.pop(0)
        if not isinstance(entry, dict):
            continue
        inner = {**around, **{key: entry[key] for key in ("run_once", "delegate_to", "hosts") if key in entry}}
        inner["vars"] = {**around.get("vars", {}), **(entry.get("vars") or {})}
        waiting = [(each, inner) for key in BLOCKS for each in entry.get(key) or ()] + waiting
        if not any(key in entry for key in BLOCKS):
            yield {**inner, **entry, "vars": inner["vars"]}


def _with_its_module(task: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    if CALL not in task:
        return task
    call = variables[task[CALL]["call"]] if "call" in task[CALL] else task[CALL]
    others = {key: each for key, each in task.items() if key != CALL}
    return {**others, f"nebula.provision.{call['module']}": call["options"]}


def variables_of(path: Path) -> dict[str, Any]:
    """Return the variables of the role that a file of tasks is of."""
    file = path.parent.parent / "vars/main.yml"
    return load(file) or {} if path.parent.name == "tasks" and file.is_file() else {}


@contextmanager
def our_filters() -> Iterator[None]:
    """Within it Ansible finds the filters and tests of this checkout, where no collection is installed."""
    ours: dict[str, Any] = {}
    for kind, base, of in (("filter", "FilterModule", "filters"), ("test", "TestModule", "tests")):
        for path in sorted((ROOT / "plugins" / kind).glob("*.py")):
            plugins = getattr(getattr(importlib.import_module(f"{PACKAGE}{kind}.{path.stem}"), base)(), of)()
            ours |= {f"nebula.provision.{name}": _as_plugin(kind, name, each) for name, each in plugins.items()}
    found = [(loader, loader.get) for loader in (filter_loader, test_loader)]
    for loader, get in found:
        loader.get = lambda name, *rest, _get=get: ours.get(name) or _get(name, *rest)
    try:
        yield
    finally:
        for loader, _get in found:
            del loader.get


def _as_plugin(kind: str, name: str, function: Any) -> Any:
    loader = filter_loader if kind == "filter" else test_loader
    # ansible-core 2.16 has no such function, and its plugins are classes.
    if hasattr(loader, "_wrap_func"):
        return loader._wrap_func(name, name, function)
    from ansible.plugins import filter, test

    return filter.AnsibleJinja2Filter(function) if kind == "filter" else test.AnsibleJinja2Test(function)


def filled_in(text: Any, variables: Mapping[str, Any]) -> Any:
    """A template of ours, filled in. Other templates in variables have to be marked by as_template()."""
    return Templar(loader=DataLoader(), variables=dict(variables)).template(as_template(text))


def as_template(value: Any) -> Any:
    """The value, whose texts are templates of ours."""
    if isinstance(value, dict):
        return {key: as_template(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_template(each) for each in value]
    return no_templates.as_template(value) if isinstance(value, str) else value


def option(file: str, task: str, name: str, variables: Mapping[str, Any]) -> Any:
    """What the task of a file hands to an option of its module, or puts into a variable."""
    path = ROOT / file
    wanted = next(each for each in tasks_of(path) if each.get("name") == task)
    (module,) = (key for key in wanted if "." in key)
    own = as_template({**variables_of(path), **wanted["vars"]})
    return filled_in(wanted[module][name], {**own, **variables})
