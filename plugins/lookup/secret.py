# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: A secret by its name, out of the credential of a job
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads C(nebula_secrets), a dict of names and values, or a text in YAML that means one. In AWX a credential of the
    type that role P(nebula.provision.awx#role) makes sets it. Elsewhere it is a variable, best in a vaulted file.
  - A name that it does not have is an error, which names those that it has. Values are in no error.
options:
  _terms:
    description: Names of secrets.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Give a password to a guest
  nebula.provision.nebula_vm:
    name: web
    template: web
    context:
      PASSWORD: "{{ lookup('nebula.provision.secret', 'web_password') }}"
"""

RETURN = r"""
_raw:
  description: The values.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.named_secrets import NoSecret, secret_of
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import HarmlessLookupError

VARIABLE = "nebula_secrets"


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        # A vaulted value, or one that is a template, is evaluated by Ansible where a variable is used.
        given = self._templar.template((variables or {}).get(VARIABLE)) if self._templar else None
        try:
            return without_templates([secret_of(given, str(term)) for term in terms])
        except NoSecret as error:
            raise HarmlessLookupError(str(error)) from None
