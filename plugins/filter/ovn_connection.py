# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: ovn_connection
short_description: How hosts connect to a database of OVN
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description: Reads the registered results of M(nebula.provision.nebula_ovn_central), and takes nothing but a connection.
positional: _input, database, addresses, port
options:
  _input:
    description: The registered results of central hosts.
    type: list
    elements: raw
    required: true
  database:
    description: Which database.
    type: str
    choices: [northbound, southbound]
    required: true
  addresses:
    description: The addresses of central hosts in the inventory, with an empty string for one that names its own.
    type: list
    elements: str
    default: ['']
  port:
    description: The port of the database in the inventory. Without one, any port is taken.
    type: int
"""

EXAMPLES = r"""
- name: Show the way to the southbound database
  ansible.builtin.debug:
    msg: "{{ central.results | nebula.provision.ovn_connection('southbound', ['192.0.2.1'], 6642) }}"
"""

RETURN = r"""
_value:
  description: The first one that is a connection by TLS, as C(ssl:192.0.2.1:6642), several by commas; or nothing.
  type: str
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def ovn_connection(
    results: Iterable[Any] | None, database: str, addresses: Sequence[str] = ("",), port: Any = None
) -> str:
    given = list(results or ())
    found = (
        ovn_answers.connection(result, database, addresses, int(port) if port else None)
        for _host, result in ovn_answers.answers_by_host(given, [""] * len(given))
    )
    return next(filter(None, found), "")


class FilterModule:
    def filters(self) -> Filters:
        return {"ovn_connection": returns_no_templates(ovn_connection)}
