#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_ovn
short_description: What OVN has of the catalog's networks, routers and security groups
version_added: 0.2.0
description:
  - Makes OVN's northbound database hold what the catalog says, which is all networks with driver V(ovn), the NICs of
    machines in them with their leases, routers with their floating addresses, and security groups. It runs on the
    front-end.
  - Everything is read once, compared, and written in one transaction, which takes effect only if nobody else has
    changed the same rows meanwhile. Rows carry the catalog's UUID in C(external_ids). What carries none of this catalog
    is never changed.
requirements:
  - Python module C(ovs), which is Debian's package C(python3-openvswitch)
options:
  northbound:
    description:
      - How to connect to the northbound database, as V(ssl:192.0.2.1:6641) or V(unix:/run/ovn/ovnnb_db.sock). Several
        for the members of a cluster.
      - By default the socket of Debian's package on this host.
    type: list
    elements: str
  private_key:
    description: File with the client's private key, for V(ssl).
    type: path
  certificate:
    description: File with the client's certificate.
    type: path
  ca_certificate:
    description: File with the certificate of the authority that signs those of the database.
    type: path
  southbound:
    description:
      - How to connect to the southbound database. Where the host has no socket of it, and this is not given, what nodes
        have written there is not looked at, nor which of them have a bridge mapping for an external network, nor
        whether OVN carries out the routes of routers.
      - By default the socket of Debian's package on this host, unless O(northbound) is given.
    type: list
    elements: str
    version_added: 0.2.0
  southbound_certificate:
    description: File with the client's certificate for O(southbound), to which O(private_key) belongs.
    type: path
    version_added: 0.2.0
  southbound_ca_certificate:
    description: File with the certificate of the authority that signs those of the southbound database.
    type: path
    version_added: 0.2.0
  inner_mtus:
    description:
      - The bytes that the tunnels leave for packets of machines, by the hosts' names, as
        RV(nebula.provision.nebula_ovn_host#module:host.inner_mtu) says it of each. 0 is for a host of which it is not
        known.
      - A network whose machines send larger packets is a warning.
    type: dict
    default: {}
  userspace_hosts:
    description:
      - Hosts with the userspace datapath, on which a machine may announce itself as a router to others of its network.
        OVN lets that pass; with the kernel's datapath M(nebula.provision.nebula_node_network) has nftables drop it.
      - Networks with IPv6 whose machines may hear that are a warning, unless this is an empty list. Without this option
        it is not known which hosts these are.
    type: list
    elements: str
  state:
    description:
      - V(absent) takes back everything that this catalog has in OVN.
      - V(audited) changes nothing, and returns how OVN differs, and what the southbound database has of machines' ports
        and addresses that contradicts the catalog.
    type: str
    choices: [present, absent, audited]
    default: present
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Tell OVN of the catalog's networks
  nebula.provision.nebula_ovn:
  run_once: true
  delegate_to: "{{ groups['nebula_frontend'][0] }}"

- name: The same where the databases are on other hosts
  nebula.provision.nebula_ovn:
    northbound: ["ssl:192.0.2.1:6641", "ssl:192.0.2.2:6641", "ssl:192.0.2.3:6641"]
    private_key: /var/lib/nebula/ovn/client/key.pem
    certificate: /var/lib/nebula/ovn/client/northbound.pem
    ca_certificate: /var/lib/nebula/ovn/client/northbound-authority.pem
  run_once: true
  delegate_to: "{{ groups['nebula_frontend'][0] }}"
"""

RETURN = r"""
networks:
  description: Number of networks that OVN has of this catalog.
  returned: always
  type: int
ports:
  description: Number of NICs that OVN has of this catalog.
  returned: always
  type: int
consistency:
  description: How OVN differs from the catalog, as M(nebula.provision.nebula_info) returns it of the rest.
  returned: if O(state=audited)
  type: list
  elements: dict
routers:
  description: Number of routers that OVN has of this catalog.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import ovn as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
