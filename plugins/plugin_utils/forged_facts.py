# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells facts from settings: a fact is what a host says of itself.

Ansible puts the facts of a host above the variables that the inventory has for it, whatever module brought them, and
keeps them in caches. So an answer of one of our modules never brings any, and a host whose facts have the name of a
setting, or of a variable that a setting refers to, is left out until they are removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible.utils.display import Display
from jinja2 import Environment, TemplateSyntaxError, nodes

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable

# The variables of this collection, and what its roles and playbooks keep during a run.
PREFIXES = ("nebula_", "__nebula_")
# Under this name playbook site registers what its look at a node has found.
LOOK = "__nebula_node_look"
# What playbooks are asked by on the command line.
ASKED = frozenset({"vm", "do"})
# Variables by which ansible-core and its plugins for connections, shells and becoming another user are set, and that it
# does not take out of facts (ansible.vars.clean.clean_facts). Some name programs that run on the control node.
CONNECTION_VARIABLES = frozenset(
    {
        *("ansible_deprecation_warnings", "ansible_display_skipped_hosts", "ansible_facts_modules"),
        *("ansible_inject_invocation", "ansible_interpreter_python_fallback", "ansible_no_target_syslog"),
        *("ansible_python_module_rlimit_nofile", "ansible_target_log_info", "ansible_win_async_startup_timeout"),
        *("ansible_worker_session_isolation",),
        *("ansible_admin_users", "ansible_async_dir", "ansible_common_remote_group", "ansible_control_path"),
        *("ansible_control_path_dir", "ansible_host_key_checking", "ansible_private_key"),
        *("ansible_private_key_passphrase", "ansible_remote_tmp", "ansible_runas_flags", "ansible_runas_pass"),
        *("ansible_runas_user", "ansible_scp_executable", "ansible_scp_if_ssh", "ansible_sftp_batch_mode"),
        *("ansible_sftp_executable", "ansible_shell_allow_world_readable_temp", "ansible_ssh_host_key_checking"),
        *("ansible_sshpass_prompt", "ansible_su_exe", "ansible_su_flags", "ansible_su_pass", "ansible_su_prompt_l10n"),
        *("ansible_su_user", "ansible_sudo_chdir", "ansible_sudo_exe", "ansible_sudo_flags", "ansible_sudo_pass"),
        *("ansible_sudo_user", "ansible_system_tmpdirs"),
    }
)
_CONNECTION_PREFIXES = ("ansible_paramiko_", "ansible_lookup_")
# What templates call. A fact of such a name stands in its place.
FUNCTIONS = frozenset(
    {
        *("lookup", "query", "q", "now", "undef", "omit", "range", "dict", "namespace", "cycler", "joiner", "lipsum"),
    }
)
# Results by which an answer would set variables, statistics (in AWX the variables of the next job of a workflow), or
# hosts of the inventory.
_COMMANDS = ("ansible_facts", "ansible_stats", "add_host", "add_group")
# What Ansible says of a run, a role and a host, and AWX of a job. Facts stand above most of these as well; those of
# inventory_hostname would have a host taken for another.
OF_RUNS = frozenset(
    {
        *("ansible_async_path", "ansible_collection_name", "ansible_config_file", "ansible_delegated_vars"),
        *("ansible_dependent_role_names", "ansible_diff_mode", "ansible_failed_result", "ansible_failed_task"),
        *("ansible_forks", "ansible_index_var", "ansible_inventory_sources", "ansible_limit", "ansible_loop"),
        *("ansible_loop_var", "ansible_parent_role_names", "ansible_play_batch", "ansible_play_hosts"),
        *("ansible_play_hosts_all", "ansible_play_name", "ansible_play_role_names", "ansible_role_name"),
        *("ansible_role_names", "ansible_run_tags", "ansible_search_path", "ansible_skip_tags", "ansible_verbosity"),
        *("ansible_version", "awx_inventory_name", "awx_job_id", "environment", "group_names", "groups", "hostvars"),
        *("inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short", "play_hosts"),
        *("playbook_dir", "role_name", "role_names", "role_path", "role_uuid", "vars"),
    }
)
# Facts of gathering that are variables without the prefix ansible_.
_GATHERED = frozenset({"gather_subset", "module_setup"})
# Variables that begin with ansible_, reach no host, and hold much.
_OF_HOSTS = ("ansible_facts", "ansible_local")
# Variables that are not filled in themselves, and hold all others.
_LARGE = (*_OF_HOSTS, "groups", "hostvars", "vars")
# What gives a variable by a name that a template has as a string.
_BY_NAME = frozenset({"lookup", "query", "q", "vars", "hostvars"})
# The filter that gives what is no fact (plugins/filter/variable.py).
_NO_FACT = "nebula.provision.variable"
# Found by Ansible itself, and put into the answer by it after it has removed a module's own.
_OF_ANSIBLE = ("discovered_interpreter_",)


def facts_named_like_settings(facts: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names among a host's facts that are names of settings, or of variables that settings refer to.
    facts: the host's variable ansible_facts, in which Ansible leaves out the prefix ansible_ of names.
    variables: all of the host, not filled in yet."""
    named = {name for fact in facts for name in (str(fact), f"ansible_{fact}") if is_setting(name)}
    others = _facts_as_variables(facts, variables) if variables else set()
    return sorted(named | (others & _names_in_settings(variables) if variables and others else set()))


def forged_facts_of_others(variables: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return by host the names of facts that settings of this host, which refer to it by hostvars, would take for
    variables. variables: all of this host, not filled in yet."""
    hosts: Any = variables.get("hostvars")
    # What this collection keeps itself asks others by filter `variable`.
    own = {name: value for name, value in variables.items() if not str(name).startswith(PREFIXES[1])}
    asked: set[str] = set()
    if any("hostvars" in text for name, value in own.items() if name not in _LARGE for text in _templates(value)):
        asked = {name for text in _templates_of_settings(own) for name in _named_of_others(text, own)}
    found: dict[str, list[str]] = {}
    for host in map(str, hosts or ()) if asked else ():
        facts = set() if host == str(variables.get("inventory_hostname")) else _names_in_cache(variables, host)
        names = {name for name in facts if is_setting(name) or not name.startswith(("ansible_", *_OF_ANSIBLE))}
        if names - _GATHERED:
            # What it has there may refer to further variables of that host.
            there = hosts.raw_get(host)
            forged = (names - _GATHERED) & (asked | _names_in_settings(there, asked))
            found |= {host: sorted(forged)} if forged else {}
    return found


def _names_in_cache(variables: Mapping[str, Any], host: str) -> set[str]:
    """Return the names of a host's facts in the cache, as the modules gave them."""
    try:
        return {str(name) for name in variables["hostvars"]._variable_manager._fact_cache.get(host)}
    except (KeyError, AttributeError, TypeError):
        return set()


def _facts_as_variables(facts: Mapping[str, Any], variables: Mapping[str, Any]) -> set[str]:
    """Return the names of facts that are variables of the host under exactly that name.

    What is gathered is a variable under ansible_ and its name. Only the cache tells whether a fact came as NAME or as
    ansible_NAME; without it, a fact that is there under both counts as one that came as ansible_NAME."""
    names = _names_in_cache(variables, str(variables.get("inventory_hostname")))
    names = names or {str(name) for name in facts if f"ansible_{name}" not in variables}
    return {name for name in names if not name.startswith(("ansible_", *_OF_ANSIBLE))} - _GATHERED


def _names_in_settings(variables: Mapping[str, Any], named: Iterable[str] = ()) -> set[str]:
    """Return the names that settings refer to in their templates, by themselves or through other variables.
    named: other variables, whose templates are read instead of those of settings."""
    return {name for text in _templates_of_settings(variables, named) for name in names_in(text) | _named_in(text)}


def _templates_of_settings(variables: Mapping[str, Any], named: Iterable[str] = ()) -> Iterator[str]:
    """Yield the templates of settings, and the templates of the variables that settings refer to."""
    begin = {name for name in variables if name in named} if named else {*filter(_decides, map(str, variables))}
    seen, left = {*begin}, [variables[name] for name in begin]
    while left:
        for text in _templates(left.pop()):
            yield text
            for name in (names_in(text) | _named_in(text)) - seen:
                seen.add(name)
                if name in variables:
                    left.append(variables[name])


def _decides(name: str) -> bool:
    """Return whether a variable is a setting, or says how a host is reached: all of the latter begin with ansible_."""
    return name not in OF_RUNS and (is_setting(name) or (name.startswith("ansible_") and name not in _OF_HOSTS))


def _templates(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _templates(key)
            yield from _templates(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _templates(inner)


def names_in(text: str) -> set[str]:
    """Return the names that a template reads as variables."""
    try:
        return {each.name for each in _parsed(text).find_all(nodes.Name) if each.ctx == "load"}
    except TemplateSyntaxError:
        return set(re.findall(r"[A-Za-z_]\w*", text))


def _named_in(text: str) -> set[str]:
    """Return the words of a template that may be names of variables for lookup(), vars or hostvars."""
    if not _BY_NAME & names_in(text):
        return set()
    with contextlib.suppress(TemplateSyntaxError):
        parsed = _parsed(text)
        return {
            *(str(each.value) for each in parsed.find_all(nodes.Const)),
            *(each.attr for each in parsed.find_all(nodes.Getattr)),
        }
    return set()


def _named_of_others(text: str, variables: Mapping[str, Any]) -> set[str]:
    """Return the words of a template that may be names of variables of other hosts, which it takes from hostvars. What
    filter `variable` is asked for is not among them, since that filter never returns a fact."""
    if "hostvars" not in names_in(text):
        return set()
    try:
        parsed = _parsed(text)
    except TemplateSyntaxError:
        return names_in(text)
    groups = (each for each in parsed.find_all(nodes.Getitem) if getattr(each.node, "name", "") == "groups")
    safe = {id(each.arg) for each in groups}
    for call in parsed.find_all(nodes.Filter):
        first = call.args[0] if call.args else None
        name = first.value if call.name == "map" and isinstance(first, nodes.Const) else call.name
        if name == _NO_FACT:
            safe |= {id(each) for argument in call.args for each in (argument, *argument.find_all(nodes.Const))}
    words = {str(each.value) for each in parsed.find_all(nodes.Const) if id(each) not in safe}
    for each in parsed.find_all(nodes.Getattr):
        root = each.node
        gathered = False
        while isinstance(root, (nodes.Getattr, nodes.Getitem)):
            gathered = gathered or getattr(root, "attr", "") == "ansible_facts"
            root = root.node
        of_others = root.name == "hostvars" or root.name not in variables if isinstance(root, nodes.Name) else True
        if of_others and not gathered and getattr(root, "name", "") != _NO_FACT:
            words.add(each.attr)
    return words


def _parsed(text: str) -> nodes.Template:
    return Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=True).parse(text)


def is_setting(name: str) -> bool:
    """Return whether the variable decides what this collection does, or how Ansible reaches a host."""
    if name.startswith((*PREFIXES, *_CONNECTION_PREFIXES)):
        return True
    return name in CONNECTION_VARIABLES or name in FUNCTIONS or name in OF_RUNS or name in ASKED


def has_fact(variables: Mapping[str, Any], name: str) -> bool:
    """Return whether a fact of a host has the name of a variable. variables: an entry of hostvars."""
    facts = variables.get("ansible_facts") or {}
    return name in facts or name.removeprefix("ansible_") in facts


def variable_of(variables: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return what the inventory sets for a host, or the run has registered for it; never a fact. What a look at the
    host has found counts as registered, unless something differs there."""
    if has_fact(variables, name):
        return default
    if name in variables or not name.startswith(PREFIXES[1]) or has_fact(variables, LOOK):
        return variables.get(name, default)
    look = variables.get(LOOK)
    if not isinstance(look, Mapping) or look.get("differs", True):
        return default
    return look["facts"].get(name, default)


def refusal_of_host(host: str, names: Iterable[str]) -> str:
    """Return the sentence that says why a host is left out. names: what settings_among() returned."""
    found = sorted(names)
    # Then its name is a fact, too. Ansible's own line has the right one.
    host = "This host" if "inventory_hostname" in found else host
    shown = ", ".join(harmless(name, 60, ONE_LINE) for name in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"{host}: its facts have the names of settings ({shown}{more}). Only the inventory sets these, so the host is "
        "left out. See what answered with them: a module that ran there, its /etc/ansible/facts.d, or a set_fact with "
        "cacheable. Then remove them from the cache of facts (a task with ansible.builtin.meta: clear_facts)"
    )


def refusals_for_others(host: str, forged: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the sentences that say why facts of others leave a host out. forged: what forged_for() returned."""
    shown = harmless(host, 60, ONE_LINE)
    return [
        f"{refusal_of_host(other, names)}. Settings of {shown} refer to them by hostvars, so that it is left out as "
        f"well. There, filter {_NO_FACT} takes the inventory's alone"
        for other, names in forged.items()
    ]


def refusals(variables: Mapping[str, Any]) -> list[str]:
    """Return why a host is left out for its facts, or for those of others; nothing if it is not.
    variables: all of the host, not filled in yet"""
    host = str(variables.get("inventory_hostname"))
    forged = facts_named_like_settings(variables.get("ansible_facts") or {}, variables)
    return [refusal_of_host(host, forged)] if forged else refusals_for_others(host, forged_facts_of_others(variables))


def without_facts(result: dict[str, Any], host: str, module: str) -> dict[str, Any]:
    """Return a module's answer without what Ansible would take for variables, statistics or hosts, and warn of it."""
    facts = result.get("ansible_facts")
    kept = {}
    if isinstance(facts, Mapping):
        kept = {name: value for name, value in facts.items() if str(name).startswith(_OF_ANSIBLE)}
    removed = [name for name in _COMMANDS if name in result and not (name == "ansible_facts" and facts == kept)]
    for name in _COMMANDS:
        result.pop(name, None)
    if kept:
        result["ansible_facts"] = kept
    if removed:
        warning = (
            f"{host}: the answer of {module} had {', '.join(removed)}, which this module never returns. It was not "
            "taken. See what answers in the module's place on this host"
        )
        Display().warning(printable(warning, ONE_LINE))
    return result
