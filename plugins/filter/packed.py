# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: packed
short_description: A list from YAML as JSON text, for options that take one
version_added: 0.1.0
description:
  - Turns lists and dicts into the JSON text that options such as O(nebula.provision.nebula_vm#module:vms) take.
  - Unlike P(ansible.builtin.to_json#filter) it keeps all characters as they are, keeps dates as they were written, and
    refuses times of day, of which YAML does not say how they were written.
options:
  _input:
    description: The list or dict.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Machines whose contexts may hold dates
  nebula.provision.nebula_vm:
    vms: "{{ nebula_vms | nebula.provision.packed }}"
"""

RETURN = r"""
_value:
  description: JSON text.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from jinja2 import Undefined

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def packed(value: Any) -> str | None:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import NotPlainError, pack
    from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import reason_of

    # The lists may hold passwords, which Ansible's own message about a failing template would show.
    if isinstance(value, Undefined):
        raise AnsibleFilterError(f"packed: {reason_of(ValueError(value._undefined_message))}")
    try:
        return pack(value, "packed")
    except NotPlainError as error:
        raise AnsibleFilterError(str(error)) from None
    except Exception as error:
        raise AnsibleFilterError(f"packed: {reason_of(error)}") from None


# Since ansible-core 2.19 a template that cannot be filled in arrives as a marker value, which filters have to accept.
vars(packed).update(accept_args_markers=True)


class FilterModule:
    def filters(self) -> Filters:
        return {"packed": returns_no_templates(packed)}
