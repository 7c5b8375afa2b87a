# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles' tasks would call, asked of all their modules in one call (module_utils/looking.py).

Options, conditions and defaults stay in the roles alone. Here the tasks are read from the roles' files, and filled in
as Ansible would fill them in when the role runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible import template

from ansible_collections.nebula.provision.plugins.lookup import unfit, unresolved
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import looked
from ansible_collections.nebula.provision.plugins.plugin_utils.calling import CallingAction
from ansible_collections.nebula.provision.plugins.plugin_utils.facts import (
    forged_for,
    refusal,
    refusal_for,
    settings_among,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.packing import pack
from ansible_collections.nebula.provision.plugins.plugin_utils.resolving import why_not
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import untrusted

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMESPACE = "nebula.provision."
FRONTEND = "groups['nebula_frontend'][0]"


@dataclass(frozen=True)
class Part:
    """A module that a task of a role calls, in a file of its tasks. register: which of them, where several call it.
    only: a condition under which the role does what is in this file. packages: the variable with the packages that the
    role installs before. packages_on: an expression that names the host whose variable that is, where it is not the one
    that the look is for. unless: a condition under which the role does more than this one call. on_frontend: the role
    runs on the front-end itself, with its variables. agreed: the role runs it once, for the front-end or for a node,
    whichever comes first: if both do not ask the same, the look can't tell. item: where the role does it in a loop, the
    loop's variable and an expression that is its only item. listed: what the task registers is then a list of results.
    """

    role: str
    module: str
    file: str = "main"
    register: str = ""
    only: str = ""
    packages: str = ""
    packages_on: str = ""
    unless: str = ""
    on_frontend: bool = False
    agreed: bool = False
    item: tuple[str, str] = ("", "")
    listed: bool = False

    @property
    def hosts(self) -> Sequence[str]:
        """Expressions that name the other hosts for which the role does something."""
        return [host for host in (FRONTEND if self.agreed else "", self.packages_on) if host]


@dataclass(frozen=True)
class Look:
    """parts: what is called, in turn. facts: (role, name) of what a role sets by set_fact from the answers. checked:
    the roles whose variables have to be as their specification says. later: what tasks register that are asked about
    by a later look, though the roles run them before."""

    parts: Sequence[Part]
    facts: Sequence[tuple[str, str]] = ()
    checked: Sequence[str] = ()
    later: Sequence[str] = ()


WITH_OVN = "nebula_ovn | bool"
WITH_OWN_OVN = "nebula_ovn | bool and __nebula_ovn_own | bool"
# A host whose OVN is taken back, and several central hosts: all of that is the role's alone.
OVN_OTHERWISE = "nebula_ovn_state != 'present' or (__nebula_ovn_own | bool and __nebula_ovn_centrals | length != 1)"
# The looks at OVN are those of all nodes or of none.
OVN_HERE_AND_THERE = (
    "groups['nebula_nodes'] | map('extract', hostvars) | map(attribute='nebula_ovn', default=false) | map('bool')"
    " | unique | length > 1"
)
SIGNED = "__nebula_ovn_signed"

CATALOG = Look(
    (
        Part("frontend", "nebula_frontend", packages="nebula_frontend_packages", on_frontend=True),
        Part("demo_image", "nebula_demo_image", packages="__nebula_demo_packages", on_frontend=True),
        Part("network", "nebula_network", unless=OVN_HERE_AND_THERE),
        Part("image", "nebula_datastore"),
        Part("image", "nebula_image"),
        Part("template", "nebula_template"),
    ),
    checked=("frontend", "demo_image", "image", "template"),
)
# Its answer says how nodes connect. Whether its certificates are the right ones the look at what OVN has tells, on the
# front-end, which has signed them.
OVN_CENTRAL = Look(
    (
        Part(
            *("ovn", "nebula_ovn_central", "present", "__nebula_ovn_central_request", WITH_OWN_OVN),
            packages="nebula_ovn_central_packages",
            packages_on="__nebula_ovn_centrals[0]",
            unless=OVN_OTHERWISE,
            agreed=True,
            item=("__nebula_central", "__nebula_ovn_centrals[0]"),
            listed=True,
        ),
        Part(
            *("ovn", "nebula_ovn_central", "central", "__nebula_ovn_central", WITH_OWN_OVN),
            agreed=True,
            item=("__nebula_member", "{'name': __nebula_ovn_centrals[0]}"),
        ),
    ),
    checked=("ovn",),
    later=(SIGNED,),
)
NODE = Look(
    (
        Part("node", "nebula_node", packages="nebula_node_packages"),
        Part("ovn", "nebula_ovn_host", "present", "__nebula_ovn_request", WITH_OVN, unless=OVN_OTHERWISE),
        Part(
            *("ovn", "nebula_ovn_host", "host", "__nebula_ovn_host", WITH_OVN),
            packages="nebula_ovn_host_packages",
            unless="nebula_ovn_restart | bool",
        ),
        Part("network", "nebula_node_network"),
        Part("vm", "nebula_deploy", "decide", unless="nebula_adopt_unknown | length > 0"),
    ),
    facts=(("node", "__nebula_host"),),
    checked=("node", "ovn", "network", "vm", "verify"),
    later=(SIGNED,),
)
OVN = Look(
    (
        Part("ovn", "nebula_ovn_central", "present", SIGNED, WITH_OVN, agreed=True),
        Part(
            *("network", "nebula_ovn", "ovn", "__nebula_ovn_told", WITH_OVN),
            packages="nebula_ovn_frontend_packages",
            packages_on=FRONTEND,
        ),
    ),
)
MACHINES = Look((Part("node", "nebula_host"), Part("vm", "nebula_vm", "decide")))


class NotLooked(Exception):
    """Something can't be asked in this way. The roles do what is to be done, and say what is wrong."""


@dataclass
class Task:
    """A task of a role's file. variables: its own and those of the blocks around it."""

    options: Mapping[str, Any]
    conditions: list[Any] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    register: str = ""


class LookingAction(CallingAction):
    """Asks the modules of LOOK, all in one call."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def look(self, wanted: Look, options: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """Return the module's result, with facts: its answers by the names under which the roles register them."""
        known = untrusted(dict(self._task.args.get("known") or {}))
        roles = _Roles(self._loader, self._templar, {**task_vars, **known})
        try:
            forged = settings_among(task_vars.get("ansible_facts") or {}, task_vars)
            if forged:
                raise NotLooked(refusal(str(task_vars.get("inventory_hostname")), forged))
            others = refusal_for(str(task_vars.get("inventory_hostname")), forged_for(task_vars))
            if others:
                raise NotLooked(others[0])
            for name in wanted.later:
                roles.expect(name)
            for role in wanted.checked:
                roles.check(role, next((part for part in wanted.parts if part.role == role), None))
            for part in wanted.parts:
                for host in part.hosts if part.role in wanted.checked else ():
                    roles.on(host, part).check(part.role, part)
            calls = [call for part in wanted.parts for call in self._calls(part, roles)]
            packages = [name for part in wanted.parts for name in roles.packages(part)]
            given = {**options, "calls": pack(calls, "calls"), "packages": packages}
        except NotLooked as problem:
            return {"changed": False, "differs": str(problem), "facts": {}, "answers": {}}
        except Exception as error:
            # Whatever it is, the role meets it, too, and says more. Of Ansible's own message only names are taken.
            return {"changed": False, "differs": why_not(error), "facts": {}, "answers": {}}
        result = dict(self._execute_module(module_args=given, task_vars=task_vars))
        answers, result["differs"] = looked.read(result, [call["name"] for call in calls])
        listed = {part.register for part in wanted.parts if part.listed}
        found = {
            name: {"results": [answer]} if name in listed and answer else answer for name, answer in answers.items()
        }
        facts = {**known, **found}
        if not result["differs"]:
            for role, name in wanted.facts:
                facts[name] = roles.fact(role, name, facts)
        result["facts"] = facts
        # These are large, and each is shown by the role's own task where something is done.
        result["_ansible_verbose_override"] = True
        return result

    def _calls(self, part: Part, roles: _Roles) -> Iterator[dict[str, Any]]:
        """Yield name, module and options of the part's call, if its conditions hold."""
        task = roles.task(part)
        variables = roles.variables_of(part, task)
        if not roles.is_included(part):
            return
        if part.unless and roles.holds([part.unless], variables):
            raise NotLooked(f"{part.module}: {part.unless}")
        options = roles.asked(part, task)
        front = roles.on(FRONTEND, part) if part.agreed else roles
        if front.is_included(part) and front.asked(part, task) != options:
            raise NotLooked(f"{task.register}: the front-end's variables ask otherwise than those of a node")
        # What the tasks before it register is there when it runs.
        roles.expect(task.register, listed=part.listed)
        if options is None:
            return
        new_task = self._task.copy()
        new_task.args = options
        templar = self._templar.copy_with_new_env(available_variables=variables)
        action = self._shared_loader_obj.action_loader.get(
            NAMESPACE + part.module,
            task=new_task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        yield {"name": task.register, "module": part.module, "options": action.prepared(variables)}


class _Roles:
    """The tasks and variables of the roles, filled in for one host."""

    def __init__(self, loader: Any, templar: Any, variables: Mapping[str, Any]) -> None:
        self._loader = loader
        self._templar = templar
        self._variables = dict(variables)
        self._expected: dict[str, Any] = {}
        names = sorted(role.name for role in ROLES.iterdir() if (role / "defaults/main.yml").is_file())
        # A play that has these roles sees the defaults of all of them.
        self._defaults = {key: value for name in names for key, value in self._load(name, "defaults").items()}

    def task(self, part: Part) -> Task:
        """Return the first task of the role's file that calls the module, or the one that registers its result so."""
        for task in _walk(self._load(part.role, "tasks", part.file), NAMESPACE + part.module, Task({})):
            if part.register in ("", task.register):
                variable, expression = part.item
                if variable:
                    task.variables[variable] = _as_template("{{ " + expression + " }}")
                return task
        raise NotLooked(f"role {part.role} has no task {part.module}")

    def is_included(self, part: Part) -> bool:
        """Return whether the role does what is in the part's file."""
        return not part.only or self.holds([part.only], self.variables_of(part, Task({})))

    def asked(self, part: Part, task: Task) -> dict[str, Any] | None:
        """Return the options of the part's call, None if its conditions do not hold."""
        variables = self.variables_of(part, task)
        return self.filled_in(task.options, variables) if self.holds(task.conditions, variables) else None

    def on(self, host: str, part: Part) -> _Roles:
        """Return the roles' tasks and variables as another host sees them. host: an expression that names it."""
        name = self.filled_in({"name": _as_template("{{ " + host + " }}")}, self.variables_of(part, Task({})))["name"]
        # What the play knows is there for all hosts, and so is what these looks have found.
        shared = {key: value for key, value in self._variables.items() if key.startswith(("ansible_play", "__nebula_"))}
        shared |= {key: self._variables[key] for key in ("hostvars", "omit") if key in self._variables}
        there = _Roles(self._loader, self._templar, {**self._variables["hostvars"].raw_get(name), **shared})
        there._expected = self._expected
        return there

    def fact(self, role: str, name: str, facts: Mapping[str, Any]) -> Any:
        """Return what the role's set_fact makes of the answers."""
        for task in _walk(self._load(role, "tasks"), "ansible.builtin.set_fact", Task({})):
            if name in task.options:
                variables = {**self.variables_of(Part(role, ""), task), **untrusted(dict(facts))}
                return self.filled_in({name: task.options[name]}, variables)[name]
        raise NotLooked(f"role {role} does not set {name}")

    def packages(self, part: Part) -> list[str]:
        """Return the packages that the role installs before the part's task."""
        if not part.packages:
            return []
        if part.packages_on:
            return self.on(part.packages_on, part).packages(replace(part, packages_on=""))
        if not self.is_included(part):
            return []
        task = self.task(part)
        # Role node installs packages for other roles, too, and names those that several of them need.
        variables = {**self._load("node", "vars"), **self.variables_of(part, task)}
        if not self.holds([*task.conditions, "nebula_manage_packages | bool"], variables):
            return []
        return [str(name) for name in self._templar_of(variables).template(variables[part.packages])]

    def check(self, role: str, part: Part | None) -> None:
        """Raise NotLooked if variables of the role can't be filled in, or are of another kind than it takes."""
        if part is not None and not self.is_included(part):
            return
        variables = self.variables_of(part or Part(role, ""), Task({}))
        for lookup in (unresolved, unfit):
            asked = lookup.LookupModule(loader=self._loader, templar=self._templar_of(variables))
            problems = asked.run([], variables=variables, role=role)
            if problems:
                raise NotLooked("; ".join(problems))

    def variables_of(self, part: Part, task: Task) -> dict[str, Any]:
        """Return the variables that a task of this part sees, least of all the defaults."""
        own = self._variables
        if part.on_frontend:
            own = {**own, **own["hostvars"].raw_get(own["groups"]["nebula_frontend"][0])}
        return {**self._defaults, **own, **self._load(part.role, "vars"), **self._expected, **task.variables}

    def expect(self, register: str, listed: bool = False) -> None:
        self._expected.setdefault(register, {"results": []} if listed else {})

    def holds(self, conditions: Sequence[Any], variables: Mapping[str, Any]) -> bool:
        templar = self._templar_of(variables)
        return all(_holds(condition, templar, self._loader, variables) for condition in conditions)

    def filled_in(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without those that their template omits."""
        templar = self._templar_of(variables)
        found = {}
        for name, value in options.items():
            try:
                filled = templar.template(value)
            except Exception as error:
                if type(error).__name__ != "AnsibleValueOmittedError":
                    raise
                continue
            if filled != variables.get("omit", NAMESPACE):
                found[name] = filled
        return found

    def _templar_of(self, variables: Mapping[str, Any]) -> Any:
        return self._templar.copy_with_new_env(available_variables=dict(variables))

    def _load(self, role: str, part: str, name: str = "main") -> Any:
        file = ROLES / role / part / f"{name}.yml"
        if not file.is_file():
            return {}
        try:
            return self._loader.load_from_file(str(file), trusted_as_template=True) or {}
        except TypeError:
            # ansible-core before 2.19 takes each text of a file for a template.
            return self._loader.load_from_file(str(file)) or {}


def _walk(tasks: Sequence[Mapping[str, Any]], action: str, around: Task) -> Iterator[Task]:
    for task in tasks:
        conditions = task.get("when", [])
        inner = Task(
            task.get(action) or {},
            [*around.conditions, *(conditions if isinstance(conditions, list) else [conditions])],
            {**around.variables, **task.get("vars", {})},
            str(task.get("register") or ""),
        )
        if action in task:
            yield inner
        for part in ("block", "rescue", "always"):
            yield from _walk(task.get(part, ()), action, inner)


if hasattr(template.Templar, "evaluate_conditional"):

    def _holds(condition: Any, templar: Any, _loader: Any, _variables: Mapping[str, Any]) -> bool:
        # A condition of this collection's own files, or of the table above.
        return bool(templar.evaluate_conditional(_as_template(condition)))

    def _as_template(text: Any) -> Any:
        return template.trust_as_template(text) if isinstance(text, str) else text

else:
    from ansible.playbook.conditional import Conditional

    def _as_template(text: Any) -> Any:
        # Before ansible-core 2.19 each text is one.
        return text

    def _holds(condition: Any, templar: Any, loader: Any, variables: Mapping[str, Any]) -> bool:
        conditional = Conditional(loader=loader)
        conditional.when = [condition]
        return bool(conditional.evaluate_conditional(templar, dict(variables)))
