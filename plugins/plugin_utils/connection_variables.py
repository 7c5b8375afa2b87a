# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of a host while an inventory is still read: Ansible fills them in only afterwards."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ansible import template
from ansible.inventory.helpers import get_group_vars
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_path

# Of all variables those that say how a host is reached, and where the catalog is on it.
CONNECTION = "ansible_"
OURS = ("nebula_root", "nebula_engine")
# Those that say how a host is reached, of one that may have facts, too.
_REACHING = re.compile(
    r"ansible_(connection|host|port|user|password|private_key_file|host_key_checking|host_key_auto_add|pipelining"
    r"|python_interpreter|become|(ssh|paramiko|become|sudo|su|doas|remote|local|docker|podman|shell|control|scp|sftp)_.+)"
)


def connection_variables(inventory: Any, loader: Any, source: str, name: str) -> dict[str, Any]:
    """Return how Ansible would reach the host, templates filled in; {} for a host that the inventory does not have.

    inventory: as it is read so far. source: path of the source that is being read; files group_vars and host_vars
    count where they are beside it. Raises Ansible's own errors for a template that can't be filled in.
    """
    host = inventory.get_host(name)
    if host is None:
        return {}
    directory = os.path.dirname(os.path.abspath(source))
    groups = sorted(host.get_groups(), key=lambda group: (group.depth, group.priority, group.name))
    variables = get_group_vars(groups)
    if inventory.groups.get("all"):
        variables = combine_vars(inventory.groups["all"].get_vars(), variables)
    for entities in (groups, [host]):
        if entities == [host]:
            variables = combine_vars(variables, host.get_vars())
        variables = combine_vars(variables, get_vars_from_path(loader, directory, entities, "task"))
    wanted = {key: value for key, value in variables.items() if key.startswith(CONNECTION) or key in OURS}
    names = {"inventory_hostname": name, "inventory_dir": directory}
    return filled_in(loader, wanted, {**variables, **names})


def reaching(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a host's variables that say how it is reached. The others are not even filled in."""
    return {key: variables[key] for key in variables if _REACHING.fullmatch(key)}


def filled_in(loader: Any, values: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their templates filled in by variables."""
    templar = template.Templar(loader=loader, variables=dict(variables))
    return {key: templar.template(value) for key, value in values.items()}
