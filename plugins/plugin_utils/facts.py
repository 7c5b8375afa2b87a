# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts are what a host says of itself, and no settings.

Ansible puts the facts of a host above the variables that the inventory has for it, whatever module brought them, and
keeps them in caches. So an answer of one of our modules never brings any, and a host whose facts have the name of a
setting is left out until they are removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless

# The variables of this collection, and what its roles and playbooks keep during a run.
PREFIXES = ("nebula_", "__nebula_")
# Variables by which connections, shells and become plugins of ansible-core are set, and that ansible-core itself does
# not take out of facts (ansible.vars.clean.clean_facts). Some name programs that run on the control node.
CONNECTION_VARIABLES = frozenset(
    {
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
_CONNECTION_PREFIXES = ("ansible_paramiko_",)
# What templates call. A fact of such a name stands in its place.
FUNCTIONS = frozenset({"lookup", "query", "q", "now", "undef", "range", "dict", "namespace", "cycler", "joiner"})
# Results by which an answer would set variables, statistics (in AWX the variables of the next job of a workflow), or
# hosts of the inventory.
_COMMANDS = ("ansible_facts", "ansible_stats", "add_host", "add_group")
# Found by Ansible itself, and put into the answer by it after it has removed a module's own.
_OF_ANSIBLE = ("discovered_interpreter_",)


def settings_among(facts: Mapping[str, Any]) -> list[str]:
    """Return the names among a host's facts that are names of settings.

    facts: the host's variable ansible_facts, in which Ansible leaves out the prefix ansible_ of names.
    """
    return sorted({name for fact in facts for name in (str(fact), f"ansible_{fact}") if is_setting(name)})


def is_setting(name: str) -> bool:
    """Return whether the variable decides what this collection does, or how Ansible reaches a host."""
    return name.startswith((*PREFIXES, *_CONNECTION_PREFIXES)) or name in CONNECTION_VARIABLES or name in FUNCTIONS


def has_fact(variables: Mapping[str, Any], name: str) -> bool:
    """Return whether a fact of a host has the name of a variable. variables: an entry of hostvars."""
    facts = variables.get("ansible_facts") or {}
    return name in facts or name.removeprefix("ansible_") in facts


def variable_of(variables: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return what the inventory sets for a host, or the run has registered for it, and never what is a fact of it."""
    return default if has_fact(variables, name) else variables.get(name, default)


def refusal(host: str, names: Iterable[str]) -> str:
    """Return the sentence that says why a host is left out. names: of settings_among()."""
    found = sorted(names)
    shown = ", ".join(harmless(name, 60) for name in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"{host}: its facts have the names of settings ({shown}{more}). Only the inventory sets these, so the host is "
        "left out. See what answered with them: a module that ran there, its /etc/ansible/facts.d, or a set_fact with "
        "cacheable. Then remove them from the cache of facts (a task with ansible.builtin.meta: clear_facts)"
    )


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
        Display().warning(
            f"{host}: the answer of {module} had {', '.join(removed)}, which this module never returns. It was not "
            "taken. See what answers in the module's place on this host"
        )
    return result
