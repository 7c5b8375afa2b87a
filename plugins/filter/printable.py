# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: printable
short_description: Text of others in a message
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes a message of what guests, hosts and strangers' files say, whose lines cannot be taken for Ansible's own.
  - A character that a terminal obeys, that is not seen, or that turns the direction of writing is shown as an escape.
    Lines below the first are indented.
positional: _input, heading
options:
  _input:
    description: The text, or a list of sentences. Several sentences, or those with a heading, are the items of a list.
    type: raw
    required: true
  heading:
    description: The first line of the message.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Report what failed
  ansible.builtin.fail:
    msg: "{{ results | map(attribute='msg') | nebula.provision.printable }}"
"""

RETURN = r"""
_value:
  description: The message.
  type: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import message
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def printable(value: Any, heading: str = "") -> str:
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    return message(value if is_list else [value], heading)


class FilterModule:
    def filters(self) -> Filters:
        return {"printable": returns_no_templates(printable)}
