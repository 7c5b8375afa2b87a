#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_router
short_description: Routers between networks of OVN
version_added: 0.2.0
description:
  - Keeps routers in the catalog, which connect networks with driver V(ovn) with each other and with an external
    network. The router's addresses are leased, so that no machine gets one of them. OVN carries them out, once
    M(nebula.provision.nebula_ovn) has told it.

options:
  # begin: router.yml keys
  name:
    description: Name of the router.
    type: str
  description:
    description: A description, for people.
    type: str
  interfaces:
    description:
      - Networks that it connects, with O(nebula.provision.nebula_network#module:vn_mad=ovn).
      - The list is the whole of it. What it does not have is removed.
    type: list
    elements: dict
    suboptions:
      network:
        description: Name or id of the network.
        type: str
        required: true
      ip:
        description: The router's IPv4 address there. By default the network's GATEWAY.
        type: str
  gateway:
    description:
      - Its interface in an external network, by which machines reach what is outside. An empty dict takes it away, if
        there are no floating addresses.
    type: dict
    suboptions:
      network:
        description:
          - Name or id of the external network, which has a O(nebula.provision.nebula_network#module:physical_network).
            It has to be given.
        type: str
      ip:
        description:
          - The router's address there. By default the lowest free one of the network's address ranges, which it keeps.
        type: str
      snat:
        description:
          - Whether machines without a floating address reach out, with the router's address. It is so if nothing is
            said.
        type: bool
      next_hop:
        description: Where everything goes that no other route leads to. By default the external network's GATEWAY.
        type: str
      hosts:
        description: Nodes that may carry it. The first that is alive does. By default all, in the order of the catalog.
        type: list
        elements: str
  floating:
    description:
      - Floating addresses, which lead from the external network to machines.
      - The list is the whole of it. What it does not have is released.
    type: list
    elements: dict
    suboptions:
      ip:
        description: The address. By default the lowest free one of the external network, which the machine keeps.
        type: str
      vm:
        description:
          - Name of the machine. Without one, the address is kept for later. It may be a machine that does not exist
            yet.
        type: str
      network:
        description:
          - Name or id of the network of the NIC that it leads to. By default the first that the router connects.
        type: str
      distributed:
        description:
          - Whether the machine's own node sends and takes its packets, in place of the node that has the gateway.
        type: bool
  routes:
    description: Further routes. The list is the whole of it.
    type: list
    elements: dict
    suboptions:
      destination:
        description: Where it leads to, as V(10.9.0.0/16).
        type: str
        required: true
      next_hop:
        description: Address of the neighbour that is next on the way.
        type: str
        required: true
  state:
    description: V(absent) removes the router, if it has no floating addresses.
    type: str
    choices: [present, absent]
    default: present
  # end: router.yml keys
  routers:
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
- name: A tenant's way out, and one machine that is reached from outside
  nebula.provision.nebula_router:
    name: tenant-router
    interfaces:
      - network: Tenant
    gateway:
      network: Public
    floating:
      - {vm: web}

- name: Two networks that reach each other, and nothing else
  nebula.provision.nebula_router:
    name: between
    interfaces:
      - network: Red
      - {network: Blue, ip: 10.20.0.254}
"""

RETURN = r"""
router:
  description: The router, if one was asked for. The same keys as an item of RV(routers).
  returned: when O(routers) is not given and it exists
  type: dict
routers:
  description: Those of the list that exist, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    uuid: {description: UUID. Null in check mode for one that would be created., type: str}
    name: {description: Name., type: str}
    description: {description: Description., type: str}
    interfaces:
      description: Its interfaces, with C(network_id) and C(ip).
      type: list
      elements: dict
    gateway:
      description: Its interface in an external network. Null if it has none.
      type: dict
      sample: {network_id: 2, ip: 172.24.1.100, snat: true, next_hop: "", hosts: []}
    floating:
      description: Its floating addresses.
      type: list
      elements: dict
      sample: [{ip: 172.24.1.101, vm: web, network_id: null, distributed: false}]
    routes:
      description: Further routes, with C(destination) and C(next_hop).
      type: list
      elements: dict
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
from ansible_collections.nebula.provision.plugins.module_utils.calls import router as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
