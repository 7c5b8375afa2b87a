#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_node_network
short_description: Bridges, rules and NAT of virtual networks on a node
version_added: 0.1.0
description:
  - Makes on this node what the virtual networks with driver V(bridge) need, which are the bridge and, where the network
    asks for it, the gateway's address on the bridge, masquerading by nftables, and IPv4 forwarding.
  - Networks with driver V(ovswitch) have a bridge of Open vSwitch with the catalog's UUID in C(external_ids), which
    several networks may have together. Nothing else in Open vSwitch is changed. The host's own port of it stays down.
  - Before the bridge comes up, the kernel is told to take nothing for its own from what machines send on it (no IPv6,
    no router advertisements, no redirects), and to answer for the bridge's own address alone.
  - Without the gateway's address on its bridge no packet passes between machines and node. With it, nftables rules drop
    what C(node_access) of the network does not name, and everything to 169.254.0.0/16.
  - Networks with driver V(bridge) may have one bridge together. It has the gateways' addresses of all of them, and
    each of them has its own rules. It is made for the first of them, and for another one once that has gone.
  - Where C(GUEST_MTU) of a network is above 1500, its bridge and its machines' interfaces there get that MTU. Bridges
    of Open vSwitch get it as well, that of OVN among them.
  - A bridge carries the mark of its catalog and network as its alias, and the nftables rules lie in a table of their
    own. What carries no mark of this catalog is never touched. An interface of the wanted name without the mark is an
    error.
  - With NAT, machines reach what the node reaches, and nothing but answers reaches them from outside. The node itself
    reaches them.
  - A bridge that is the host's own (V(dummy)) is never changed. If the host believes routers on it, that is a warning
    with the command that ends it.
  - IPv4 forwarding is switched on with the first network with NAT, and back to what it was with the last.
  - A network whose addresses overlap a route of the node is an error, before anything of it is made. So is one whose
    packets a firewall of the node drops. The rules of nftables, iptables and iptables-legacy are read, and only read.
  - Where systemd runs the node, all of it comes back when the node boots, before libvirt starts its machines. The unit
    C(nebula-network-<catalog>.service) carries out what lies below O(root) in C(boot/<catalog>). An interface or a
    table of one of these names that somebody else made meanwhile is left alone, and the unit fails with a line in the
    journal that names it. Unit and files go with O(state=absent) of the last network.
  - Where there is no systemd, running the playbook again makes it anew.
options:
  networks:
    description:
      - Networks, as M(nebula.provision.nebula_network) returns them. Those with driver V(dummy) or V(ovn) are
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
  as_of:
    description:
      - When O(known) was read, as M(nebula.provision.nebula_network) returns it.
      - Where another run has made a bridge meanwhile for a network that it read later, nothing is removed as left over.
    type: float
    version_added: 0.2.0
  node:
    description:
      - Whether this host was made a node in this run. If it is none any more by now, another run has given it back, and
        that is an error, since nobody would take away again what is made here.
    type: bool
    default: false
    version_added: 0.2.0
  guards:
    description:
      - What is filtered of the NICs of this host's virtual machines, as
        RV(nebula.provision.nebula_network#module:guards) has it for the host, or empty if that has nothing for it.
        What is there and was decided later than O(as_of) stays.
      - A virtual machine that the catalog does not have on this host, such as one that was given up with the host, goes
        on with the rules that it had for as long as it runs.
      - Without it, nothing of this is changed.
    type: str
    version_added: 0.2.0
  ignore_forward_drop:
    description:
      - Whether to go on where a firewall of the host drops what machines of a network send, with a warning. For those
        who see to it themselves.
      - Without it, that is an error which names the chain, the rule, and the commands that would let it through.
    type: bool
    default: false
    version_added: 0.2.0
  moved:
    description:
      - Bridges to which addresses of the host were moved, as RV(moved) names them.
    type: list
    elements: str
    version_added: 0.2.0
  state:
    description:
      - V(absent) removes the networks. A bridge to which interfaces are still attached is an error.
      - V(kept) gives the second word for O(moved). The task itself does so by a new connection, where it has moved any.
    type: str
    choices: [present, absent, kept]
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
    as_of: "{{ result.as_of }}"
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
refused:
  description:
    - Names of the networks that can't be as O(networks) says on this host. RV(errors) says why. The others were done;
      of these, what was there is as it was.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
moved:
  description:
    - Bridges to which addresses and routes of the host were moved, as C(phydev_forced) of their networks says. The host
      puts them back after 60 seconds, unless this module runs with O(state=kept) by then.
    - Empty once that is done.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
errors:
  description: The networks that failed, with C(name), C(asked), C(found) and C(remedy).
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import node_network as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
