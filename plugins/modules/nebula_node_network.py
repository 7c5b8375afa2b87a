#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_node_network
short_description: Bridges and NAT of virtual networks on a node
version_added: 0.1.0
description:
  - Makes on this node what the virtual networks with driver V(bridge) need, which are the bridge and, where the network
    asks for it, the gateway's address on the bridge, masquerading by nftables, and IPv4 forwarding.
  - A bridge carries the mark of its catalog and network as its alias, and the nftables rules lie in a table of their
    own. What carries no mark of this catalog is never touched. An interface of the wanted name without the mark is an
    error.
  - With NAT, machines reach what the node reaches, and nothing but answers reaches them from outside. The node itself
    reaches them.
  - IPv4 forwarding is switched on with the first network with NAT, and back to what it was with the last.
  - A network whose addresses overlap a route of the node is an error, before anything of it is made.
  - Nothing here outlasts a reboot of the node. Running the playbook again makes it anew.
options:
  networks:
    description:
      - Networks, as M(nebula.provision.nebula_network) returns them. Those with another driver than V(bridge) are
        passed over; those in state C(DONE) are removed.
      - With O(state=absent), none means all that carry the mark of O(catalog).
    type: list
    elements: dict
  catalog:
    description: UUID of the catalog, as M(nebula.provision.nebula_network) returns it.
    type: str
    required: true
  known:
    description:
      - UUIDs of all networks of the catalog, as M(nebula.provision.nebula_network) returns them.
      - Bridges and rules of this catalog that were made for other networks are left over from removed ones. They are
        removed too, with a warning where interfaces are still attached.
    type: list
    elements: str
  state:
    description: V(absent) removes the networks. A bridge to which interfaces are still attached is an error.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - nebula.provision.engine.root
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: A network in the catalog
  nebula.provision.nebula_network:
    networks:
      - name: Public
        bridge: nbr0
        network_address: 10.66.0.0/24
        gateway: 10.66.0.1
        nat: true
        address_ranges:
          - {type: IP4, ip: 10.66.0.10, size: 100}
  register: result
  run_once: true
  delegate_to: "{{ groups['nebula_frontend'][0] }}"

- name: Its bridge on each node
  nebula.provision.nebula_node_network:
    networks: "{{ result.networks }}"
    known: "{{ result.known }}"
    catalog: "{{ result.catalog }}"

- name: Take everything of this catalog's off the node
  nebula.provision.nebula_node_network:
    catalog: "{{ result.catalog }}"
    state: absent
"""

RETURN = r"""
links:
  description: The bridges that were looked after.
  returned: always
  type: list
  elements: dict
  contains:
    network: {description: Name of the network., type: str, sample: Public}
    bridge: {description: Name of the bridge., type: str, sample: nbr0}
    created: {description: Whether it was not there before., type: bool}
    removed: {description: Whether it is not there any more., type: bool}
    address:
      description: The gateway's address on it, with its prefix length. Empty if it carries none.
      type: str
      sample: 10.66.0.1/24
    nat: {description: Whether the network's machines reach out through the node., type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nebula.provision.plugins.module_utils.arguments import ROOT
from ansible_collections.nebula.provision.plugins.module_utils.model.network import from_item
from ansible_collections.nebula.provision.plugins.module_utils.network.bridge import Node
from ansible_collections.nebula.provision.plugins.module_utils.runner import execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result


def run(params, check_mode):
    networks = None if params["networks"] is None else [from_item(item) for item in params["networks"]]
    node = Node(params["catalog"], act=not check_mode)
    absent = params["state"] == "absent"
    done = node.remove(networks) if absent else node.ensure(networks or [], params["known"])
    return Result(
        items=[Item(f"{item.network}: {item.bridge}", item.before, item.after, item.error) for item in done],
        payload={"links": [shown(item) for item in done]},
        warnings=list(dict.fromkeys(node.warnings)),
    )


def shown(item):
    now = item.after or {}
    return {
        "network": item.network,
        "bridge": item.bridge,
        "created": item.before is None and item.after is not None,
        "removed": item.before is not None and item.after is None,
        "address": now.get("address", ""),
        "nat": now.get("nat", False),
    }


def main():
    spec = dict(
        networks={"type": "list", "elements": "dict"},
        catalog={"type": "str", "required": True},
        known={"type": "list", "elements": "str"},
        state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        **ROOT,
    )
    module = AnsibleModule(
        argument_spec=spec, supports_check_mode=True, required_if=[("state", "present", ("networks",))]
    )
    execute(module, run)


if __name__ == "__main__":
    main()
