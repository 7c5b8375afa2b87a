# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills in variables of a host while an inventory is still read: Ansible fills them in only afterwards."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible import template
from ansible.inventory.helpers import get_group_vars
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_path

from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import has_fact

# Of all variables those that say where the catalog is on a host, and how it is reached. A host may have facts, too.
OURS = ("nebula_root", "nebula_engine")
_REACHING = re.compile(
    r"ansible_(connection|host|port|user|password|private_key_file|host_key_checking|host_key_auto_add|pipelining"
    r"|python_interpreter|become|(ssh|paramiko|become|sudo|su|doas|remote|local|docker|podman|shell|control|scp|sftp)_.+)"
)


def connection_variables(
    inventory: Any, loader: Any, source: str, name: str, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the variables by which Ansible would reach the host, with templates filled in; {} if the inventory has no
    such host. Raise Ansible's own errors for a template that can't be filled in.

    Files group_vars and host_vars count if they are beside the source, beside the sources before it, or beside the
    playbook.
    inventory: as it is read so far.
    source: path of the source that is being read.
    only: names of the variables that are wanted; None for all."""
    host = inventory.get_host(name)
    if host is None:
        return {}
    groups = {group.name: group for group in host.get_groups()}
    if "all" in inventory.groups:
        # Before the inventory is complete, not every host is in it.
        groups.setdefault("all", inventory.groups["all"])
    ordered = sorted(groups.values(), key=lambda group: (group.depth, group.priority, group.name))
    variables: dict[str, Any] = {}
    places = _places(inventory, loader, source)
    for entities, own in ((ordered, get_group_vars(ordered)), ([host], host.get_vars())):
        variables = combine_vars(variables, own)
        for place in places:
            variables = combine_vars(variables, get_vars_from_path(loader, place, entities, "task"))
    wanted = {key: value for key, value in variables.items() if key in (only or ()) or (only is None and _counts(key))}
    names = {"inventory_hostname": name, "inventory_dir": places[-2]}
    return filled_in(loader, wanted, {**variables, **names})


def _counts(key: str) -> bool:
    return key in OURS or bool(_REACHING.fullmatch(key))


def _places(inventory: Any, loader: Any, source: str) -> list[str]:
    """Return the directories that may have files of variables: those of the sources in order, and the playbook's."""
    before = [str(each) for each in getattr(inventory, "processed_sources", ())]
    found = [each if os.path.isdir(each) else os.path.dirname(os.path.abspath(each)) for each in [*before, source]]
    return [*found, loader.get_basedir()]


def variables_reaching_host(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host's name, and those of its variables that say how it is reached.

    No other variable is even filled in, and no fact is taken: other hosts are reached by what is returned here."""
    return {
        key: variables[key]
        for key in variables
        if key == "inventory_hostname" or (_REACHING.fullmatch(key) and not has_fact(variables, key))
    }


def filled_in(loader: Any, values: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their templates filled in by variables."""
    templar = template.Templar(loader=loader, variables=dict(variables))
    return {key: templar.template(value) for key, value in values.items()}
