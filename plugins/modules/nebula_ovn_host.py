#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_ovn_host
short_description: Open vSwitch and ovn-controller of a host that belongs to OVN
version_added: 0.2.0
description:
  - Sets up Open vSwitch on this host for OVN, which is the bridge C(br-int), the bridges of physical networks, the
    address and kind of the tunnels, the connection to the southbound database, and starts C(ovn-controller). The
    packages
    are C(ovn-host) and C(openvswitch-switch).
  - Bridges, ports and Open vSwitch itself carry the catalog's UUID in C(external_ids). An Open vSwitch that somebody
    else
    has set up for an OVN, a bridge of a wanted name that somebody else has made, and a system-id that somebody has
    chosen
    are errors, and are never changed.
  - Where systemd runs the host, the bridges' addresses come back when the host boots, by the unit
    C(nebula-ovn-<catalog>.service), and C(ovn-controller) is restarted without cutting the machines' traffic, also by
    an
    upgrade of its package (a drop-in of C(ovn-controller.service)).
  - An interface over which the host's default route leads, or on whose address somebody is connected by ssh, is never
    put
    into a bridge.
options:
  name:
    description: Name of this host in OVN, which becomes its system-id and which its certificate carries.
    type: str
    required: true
  catalog:
    description: UUID of the catalog, as M(nebula.provision.nebula_frontend) returns it.
    type: str
    required: true
  state:
    description:
      - V(requested) makes a private key on this host, and returns the request for its certificate, which
        M(nebula.provision.nebula_ovn_central) signs on the front-end.
      - V(absent) ends ovn-controller and removes bridges, keys of C(external_ids), certificates and units that are this
        catalog's. It is an error while machines are attached to C(br-int). Packages stay, and so do an Open vSwitch
        that
        was there before and bridges of others.
      - V(audited) changes nothing, and returns how the host differs from what O(state=present) would make of it.
    type: str
    choices: [requested, present, absent, audited]
    default: present
  southbound:
    description: >-
      How to connect to the southbound database. Several by commas. Needed with O(state=present) and O(state=audited).
    type: str
  certificates:
    description: What RV(nebula.provision.nebula_ovn_central#module:certificates) has for this host.
    type: dict
    default: {}
  private_key:
    description: File on this host, for an OVN that somebody else has set up. By default that of O(certificates).
    type: path
  certificate:
    description: The same of the certificate. Its subject has to be O(name) where the database has roles.
    type: path
  ca_certificate:
    description: The same of the certificate of the authority.
    type: path
  encap_type:
    description: Kind of the tunnels between hosts.
    type: str
    choices: [geneve, vxlan]
    default: geneve
  encap_ip:
    description: This host's address for the tunnels. By default the one by which it reaches the southbound database.
    type: str
  datapath:
    description:
      - V(system) is the kernel's, which needs its module C(openvswitch).
      - V(netdev) is that of Open vSwitch itself. The address of the tunnels then has to be on a bridge of
        O(bridge_mappings), which may be one without O(bridge_mappings[].network).
    type: str
    choices: [system, netdev]
    default: system
  bridge_mappings:
    description: Bridges by which networks of OVN reach physical ones.
    type: list
    elements: dict
    default: []
    suboptions:
      bridge: {description: Name of the bridge., type: str, required: true}
      network:
        description: Name of the physical network in OVN. Without it, OVN does not use the bridge.
        type: str
      interface:
        description: >-
          Interface of the host that is put into it. It may have no other address than O(bridge_mappings[].address).
        type: str
      address:
        description: Address of the host on it, with its prefix length. If the interface has it, it is moved.
        type: str
  mtu:
    description:
      - What the machines' networks need. If the tunnels leave less, that is a warning that says how much they leave,
        which is the MTU of the interface less 58 with V(geneve) and 50 with V(vxlan), and less another 20 over IPv6.
    type: int
    default: 1442
  restart:
    description: Restart ovn-controller, without cutting the machines' traffic. It is always a change.
    type: bool
    default: false
  directories:
    description:
      - Directories of the daemons where they are others than those of the distribution's packages. The daemons are then
        started by the packages' scripts, also where there is systemd, since its units know the packages' own only.
    type: dict
    suboptions:
      ovs_run: {description: Sockets and pid files of Open vSwitch., type: path}
      ovs_log: {description: Logs of Open vSwitch., type: path}
      ovs_database: {description: Database of Open vSwitch., type: path}
      ovn_run: {description: Sockets and pid files of OVN., type: path}
      ovn_log: {description: Logs of OVN., type: path}
      ovn_database: {description: Databases of OVN., type: path}
      configuration: {description: The directory that holds C(openvswitch) and C(ovn)., type: path}
extends_documentation_fragment:
  - nebula.provision.engine.root
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: A key of the host
  nebula.provision.nebula_ovn_host:
    name: "{{ inventory_hostname }}"
    catalog: "{{ catalog }}"
    state: requested
  register: asked

- name: Its part in OVN, with a bridge to the outside
  nebula.provision.nebula_ovn_host:
    name: "{{ inventory_hostname }}"
    catalog: "{{ catalog }}"
    southbound: ssl:192.0.2.1:6642
    certificates: "{{ signed.certificates['host:' ~ inventory_hostname] }}"
    bridge_mappings:
      - {network: physnet1, bridge: br-ex, interface: eth1}

- name: Take it back
  nebula.provision.nebula_ovn_host:
    name: "{{ inventory_hostname }}"
    catalog: "{{ catalog }}"
    state: absent
"""

RETURN = r"""
request:
  description: The request for a certificate. Its C(request) is empty in check mode, if there is none yet.
  returned: if O(state=requested)
  type: dict
  sample: {name: node1, kind: host, request: "-----BEGIN CERTIFICATE REQUEST-----…", installed: {}}
host:
  description: The host's part in OVN.
  returned: if O(state=present)
  type: dict
  contains:
    name: {description: Its name in OVN., type: str, sample: node1}
    southbound: {description: The connection., type: str, sample: "ssl:192.0.2.1:6642"}
    encap_type: {description: Kind of the tunnels., type: str, sample: geneve}
    encap_ip: {description: Its address for them., type: str, sample: 192.0.2.11}
    inner_mtu: {description: What they leave for the machines' packets., type: int, sample: 1442}
    integration_bridge: {description: To which machines are attached., type: str, sample: br-int}
    physical_networks: {description: Bridges by the names of the networks., type: dict, sample: {physnet1: br-ex}}
    connected:
      description: Whether ovn-controller has its connection, and the southbound database has this host at its address.
      type: bool
    held_by: {description: The chassis that the database has there instead., type: str, sample: ''}
    managed: {description: V(false) if somebody else has set it up for the same OVN., type: bool}
consistency:
  description: How the host differs, as M(nebula.provision.nebula_info) returns it of the rest.
  returned: if O(state=audited)
  type: list
  elements: dict
part:
  description: The host's part in OVN, as nebula.provision.status shows it.
  returned: if O(state=audited)
  type: dict
  sample: {host: node1, part: node, state: connected, address: 192.0.2.11}
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import ovn_host as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
