# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: topology_page
short_description: A picture of what the catalog holds
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Draws tenants, virtual networks, routers, nodes and machines with their addresses. The result is an HTML page with
    the picture as SVG, and with the same facts as tables.
  - The page has everything within itself. It holds no scripts, and forbids the browser to load anything.
  - The same facts give the same page, byte for byte.
options:
  _input:
    description:
      - The result of M(nebula.provision.nebula_info), which gathered C(hosts), C(networks) and C(vms). Lists that are
        not there are taken as empty.
      - With C(routers), each of which has C(name), C(tenant) or C(owner), C(host), C(interfaces) (each with C(network)
        and C(ip)), C(gateway) (C(network) and C(ip)) and C(floating) (each with C(external), C(internal) and C(vm)), it
        draws these, too. With C(security_groups), each of which has C(name) and C(rules), it lists them.
    type: dict
    required: true
  earlier:
    description:
      - The page as it was written before, as the C(content) that M(ansible.builtin.slurp) returns. If nothing but the
        time has changed since then, the result is this page.
    type: str
    default: ""
positional: earlier
"""

EXAMPLES = r"""
- name: Write the picture
  ansible.builtin.copy:
    content: "{{ info | nebula.provision.topology_page }}"
    dest: /srv/www/topology.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def topology_page(info: Mapping[str, Any], earlier: str = "") -> str:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.plugin_utils.topology.page import page

    try:
        content = base64.b64decode(str(earlier or ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnsibleFilterError(
            f"topology_page: earlier: it is no base64: {error}. Give what slurp returned"
        ) from error
    return page(info, content.decode("utf-8", "replace"))


class FilterModule:
    def filters(self) -> Filters:
        return {"topology_page": returns_no_templates(topology_page)}
