#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_security_group
short_description: Security groups of the catalog
version_added: 0.2.0
description:
  - Keeps security groups, which say what machines of networks with driver V(ovn) let through, in OpenNebula's form. OVN
    carries them out statefully, so that answers always pass, once M(nebula.provision.nebula_ovn) has told it.
  - A machine has the groups of its network and those of its NIC. One with group 0, which every catalog has, is not
    filtered. So is one without any group.

options:
  # begin: security_group.yml keys
  name:
    description: Name of the group. C(default), with id 0, is in every catalog, lets everything through, and stays so.
    type: str
  description:
    description: A description, for people.
    type: str
  rules:
    description:
      - What is let through. Everything else is dropped, but for answers to what was let through.
      - The list is the whole of it. What it does not have is removed.
    type: list
    elements: dict
    suboptions:
      rule_type:
        description: V(inbound) for what comes to the machine, V(outbound) for what it sends.
        type: str
        choices: [inbound, outbound]
        required: true
      protocol:
        description: The protocol. V(IPSEC) is ESP and AH.
        type: str
        choices: [ALL, TCP, UDP, ICMP, ICMPV6, IPSEC]
        default: ALL
      range:
        description: Ports of the destination, with V(TCP) and V(UDP), as V(22,80,8000:8010). All if nothing is said.
        type: str
      ip:
        description: First address of the other side, or a prefix as V(10.0.0.0/8). Everybody if nothing is said.
        type: str
      size:
        description: Number of addresses from O(rules[].ip) on. 1 if nothing is said.
        type: int
      network:
        description: Name or id of a network. The other side has one of its addresses.
        type: str
      icmp_type:
        description: Type of ICMP, with V(ICMP) and V(ICMPV6). All if nothing is said.
        type: int
  state:
    description: V(absent) removes the group, if no network and no machine has it.
    type: str
    choices: [present, absent]
    default: present
  # end: security_group.yml keys
  security_groups:
    description: Many of them, a list of dicts with the keys above.
    type: list
    elements: raw
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Web servers, which are reached by everybody, and by ssh from one place
  nebula.provision.nebula_security_group:
    name: web
    rules:
      - {rule_type: inbound, protocol: TCP, range: "80,443"}
      - {rule_type: inbound, protocol: TCP, range: "22", ip: 10.9.0.0/16}
      - {rule_type: inbound, protocol: ICMP}
      - {rule_type: outbound}

- name: Databases, which only machines of one network reach
  nebula.provision.nebula_security_group:
    name: database
    rules:
      - {rule_type: inbound, protocol: TCP, range: "5432", network: Tenant}
      - {rule_type: outbound}
"""

RETURN = r"""
security_group:
  description: The group, if one was asked for. The same keys as an item of RV(security_groups).
  returned: when O(security_groups) is not given and it exists
  type: dict
security_groups:
  description: Those of the list that exist, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    uuid: {description: UUID. Null in check mode for one that would be created., type: str}
    name: {description: Name., type: str}
    description: {description: Description., type: str}
    rules:
      description: The rules, in their one form.
      type: list
      elements: dict
      sample: [{rule_type: inbound, protocol: TCP, range: "80,443", ip: "", size: 1, network_id: null, icmp_type: null}]
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
errors:
  description: The items that failed, with C(name), C(asked), C(found) and C(remedy). Nothing was kept of them.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import security_group as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
