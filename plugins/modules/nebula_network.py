#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_network
short_description: Virtual networks of the catalog
version_added: 0.1.0
description:
  - Creates, changes and removes virtual networks and their address ranges, from which machines lease their addresses.
  - Only what is set here is compared and changed. An empty string takes an attribute away.
  - It does nothing on the nodes. M(nebula.provision.nebula_node_network) makes the bridges there.
options:
  # begin: network.yml keys
  name:
    description: Name of the network. It may be in O(template) instead.
    type: str
  vn_mad:
    description:
      - The driver. With V(bridge), V(802.1Q) and V(vxlan), M(nebula.provision.nebula_node_network) makes a bridge for
        the network on each node. V(dummy) uses a bridge that the node has already, as it is.
      - O(phydev) joins the bridges of a network on several nodes. With V(bridge) they are otherwise separate. V(802.1Q)
        puts the network's frames on O(phydev) into a VLAN, and V(vxlan) into a VXLAN tunnel, with O(vlan_id).
      - V(ovn) is a network of OVN, which role P(nebula.provision.ovn#role) sets up and M(nebula.provision.nebula_ovn)
        tells of it. It spans all nodes, may have the same addresses as another one, and
        M(nebula.provision.nebula_router) connects it with others.
      - V(ovswitch) makes a bridge of Open vSwitch on each node. Several networks may have one bridge, told apart by
        O(vlan_id), and a machine may be in several VLANs by O(vlan_tagged_id). O(phydev) joins the bridges of the
        nodes.
      - A new network gets V(bridge). It can't be changed while addresses are leased.
    type: str
    choices: [bridge, dummy, 802.1Q, vxlan, ovn, ovswitch]
  bridge:
    description:
      - Name of the bridge on the nodes, up to 15 characters. A new network with driver V(bridge) gets V(onebr<id>). One
        with V(ovswitch) gets the bridge that has its O(phydev) already, if there is one.
      - Several networks with V(bridge) may have one bridge, if they say the same O(phydev) and have no addresses in
        common. Each of them has its gateway's address and its NAT there.
      - It can't be changed while addresses are leased.
    type: str
  phydev:
    description:
      - Name of the interface of the nodes that leads to the other nodes, the same on all of them.
      - With V(bridge) and V(ovswitch) it becomes a port of the bridge. It must have no addresses of the node then, and
        not carry the connection by which Ansible works. With V(802.1Q) and V(vxlan) it stays as it is.
    type: str
    version_added: 0.2.0
  phydev_forced:
    description:
      - Whether O(phydev) may be the interface that has a node's own addresses, also the one by which Ansible comes.
        With O(vn_mad=bridge) its addresses and routes move to the bridge then. Before anything is changed, a program on
        the node is started that puts all of it back after 60 seconds. It ends only when the run has connected to the
        node anew.
      - The machines of the network reach the node as all do that are on its physical network, so O(node_access) has to
        be V(all).
    type: bool
    version_added: 0.2.0
  vlan_id:
    description:
      - VLAN id, 1 to 4094, with V(802.1Q) and V(ovswitch). VXLAN network identifier, 1 to 16777215, with
        O(vn_mad=vxlan).
      - A new network without it gets a free one of O(vlan_ids), and keeps it. No two networks have the same on one
        O(phydev), and with V(ovswitch) on one bridge.
      - A network with V(ovswitch) that has neither this nor O(vlan_ids) is the one whose frames have no tag on its
        bridge. With V(ovswitch) it can't be changed while addresses are leased.
    type: int
    version_added: 0.2.0
  vlan_ids:
    description:
      - Range from which O(vlan_id) is chosen where it is not given, as V(100-199).
      - By default 2 to the last that there is.
    type: str
    version_added: 0.2.0
  vlan_tagged_id:
    description:
      - With O(vn_mad=ovswitch), VLANs whose frames its machines send and get with their tag (a trunk), as
        V(10,20,100-199). Frames without a tag are in the network itself. A NIC may have C(VLAN_TAGGED_ID) of its own,
        which goes before this.
      - It can't be changed while addresses are leased.
    type: str
    version_added: 0.2.0
  mtu:
    description:
      - MTU in bytes of the VLAN or VXLAN device, and with it of the bridge. By default all that O(phydev) leaves, which
        is its own MTU, and for V(vxlan) 50 less.
      - A node whose O(phydev) can't carry O(mtu), or else O(guest_mtu), is an error there.
    type: int
    version_added: 0.2.0
  physical_network:
    description:
      - With O(vn_mad=ovn), the name that the nodes' bridge mappings have for what is outside
        (C(nebula_ovn_bridge_mappings)), which makes it an external network. O(vlan_id) is its tag there, if it has one.
      - It has no DHCP unless O(dhcp) says so.
    type: str
    version_added: 0.2.0
  dhcp:
    description:
      - With O(vn_mad=ovn), whether OVN answers machines that ask for their address by DHCP, with exactly the one that
        they lease. It does if nothing is said, but not in an external network.
    type: bool
    version_added: 0.2.0
  security_groups:
    description:
      - Names or ids of the security groups (M(nebula.provision.nebula_security_group)) that its machines have, besides
        those that their NICs name. Group 0, if nothing is said, which lets everything through.
      - OVN acts on them, and for networks on Linux bridges the nodes do. It is an error with O(vn_mad=ovswitch).
    type: list
    elements: str
    version_added: 0.2.0
  filter_mac_spoofing:
    description:
      - Whether what a machine sends has to carry the MAC address of its lease. It has to if nothing is said, but not in
        a network without O(vn_mad=ovn) that is older than this option there. It is an error with O(vn_mad=ovswitch).
    type: bool
    version_added: 0.2.0
  filter_ip_spoofing:
    description:
      - Whether what a machine sends has to carry the addresses of its lease, and is neither an answer of a DHCP server
        nor a router advertisement. The same is so if nothing is said as for O(filter_mac_spoofing).
    type: bool
    version_added: 0.2.0
  ethertypes:
    description:
      - What machines send and get besides ARP, IPv4 and IPv6 in Ethernet II, where they are filtered. Everything else
        is dropped, in both directions. It is filtered where O(filter_mac_spoofing), O(filter_ip_spoofing),
        O(security_groups) or a FIREWALL in a context says so.
      - Names, or numbers as V(0x88b5). V(llc) are IEEE 802.3 frames with LLC or SNAP, V(vlan) and V(qinq) those with a
        VLAN tag. Others are V(mpls), V(pppoe), V(eapol), V(lldp), V(macsec), V(ptp), V(rarp), V(wol), V(aoe), V(fcoe),
        V(batman), V(profinet) and V(ethercat).
      - What such a frame carries is not looked at, also where it is IP. Its MAC address is held as that of others.
      - It is an error with O(vn_mad=ovswitch), where nothing is filtered.
    type: list
    elements: str
    version_added: 0.2.0
  network_address:
    description: The network's own IPv4 address. It may carry the prefix length, as in V(10.66.0.0/24).
    type: str
  network_mask:
    description: The network's mask, as V(255.255.255.0) or V(24).
    type: str
  gateway:
    description: IPv4 address of the gateway, for machines.
    type: str
  gateway6:
    description: IPv6 address of the gateway, for machines.
    type: str
  gateway_on_bridge:
    description:
      - Whether the bridge on each node carries the address O(gateway), so that the node reaches its machines, and they
        reach of the node what O(node_access) says.
    type: bool
  nat:
    description:
      - Whether machines reach out through the node, with the node's addresses. The bridge then carries the address
        O(gateway), and O(network_address) and O(network_mask) have to be known.
      - A new network has none.
    type: bool
  node_access:
    description:
      - What machines reach on the node to whose bridge they are attached, at any of its addresses, where the bridge
        carries the address O(gateway). A list of V(icmp), V(tcp/22), V(udp/53), ranges as V(tcp/8000-8010), or the one
        word V(all). An empty list means nothing.
      - Answers to what the node itself began always pass, and so does a ping of O(gateway). Where the bridge carries no
        address, nothing of the node is reached, whatever this says.
      - A new network gets nothing. One that is older than this option keeps all, with a warning, until it is set.
    type: list
    elements: str
    version_added: 0.2.0
  one_node:
    description:
      - Whether all machines of the network are to be on the same node. Without O(phydev), the bridges that a network
        has on several nodes are not connected with each other.
      - If V(false), machines on more than one node are a warning of each run of M(nebula.provision.nebula_vm).
      - A new network gets V(false).
    type: bool
    version_added: 0.2.0
  dns:
    description: IP addresses of DNS servers, for machines.
    type: list
    elements: str
  search_domain:
    description: Domains in which machines look up short names.
    type: list
    elements: str
  guest_mtu:
    description:
      - MTU in bytes, for the interfaces of machines. Above 1500, the bridge and the host's side of these interfaces get
        it as well.
      - A network with O(vn_mad=vxlan) gets O(mtu) where that is given, and otherwise 1450, which fits through an
        O(phydev) of 1500.
    type: int
  metric:
    description: Metric of the route over O(gateway), for machines.
    type: int
  description:
    description:
      - A description, for people. It is kept as the attribute C(DESCRIPTION), and M(nebula.provision.nebula_info) shows
        it there.
    type: str
    version_added: 0.2.0
  address_ranges:
    description:
      - Address ranges. One that is there already is recognised by its number, or else by its type and first address; it
        can grow, and shrink as far as nothing is leased. It never moves.
      - Ranges that are not listed stay as they are.
    type: list
    elements: dict
    suboptions:
      ar_id:
        description: Number of an existing range.
        type: int
      type:
        description:
          - Which addresses a lease has. V(ETHER) has the MAC address only. A new range is V(IP4).
          - The IPv6 address of V(IP6) and V(IP4_6) follows from a prefix and the MAC address, as a machine makes it for
            itself. That of V(IP6_STATIC) and V(IP4_6_STATIC) is counted from O(address_ranges[].ip6).
        type: str
        choices: [IP4, IP6, IP4_6, ETHER, IP6_STATIC, IP4_6_STATIC]
      ip:
        description: First IPv4 address. The MAC addresses follow from it, V(02:00) and then its four bytes.
        type: str
      size:
        description:
          - Number of addresses. At most 16777216, and 4294967296 of a new V(IP6_STATIC) range, as many as there are MAC
            addresses with one prefix of two bytes.
          - An V(IP6_STATIC) range without it goes up to the end of its network, or has 16777216 addresses.
        type: int
      end:
        description: Last IPv4 address, in place of O(address_ranges[].size), or last IPv6 address of a static range.
        type: str
        version_added: 0.2.0
      mac:
        description:
          - First MAC address. By default made from O(address_ranges[].ip), or random with prefix V(02:00) where there
            is none.
        type: str
      global_prefix:
        description: IPv6 prefix of 64 bits, as V(2001:db8::). The rest of the address follows from the MAC address.
        type: str
      ula_prefix:
        description: IPv6 prefix of 64 bits for local addresses, as V(fd00::).
        type: str
      ip6:
        description: First IPv6 address of a range with static ones, as V(2001:db8::10).
        type: str
        version_added: 0.2.0
      prefix_length:
        description: Length of the prefix of the network that O(address_ranges[].ip6) is in, mostly 64.
        type: int
        version_added: 0.2.0
      attributes:
        description: Attributes for machines with an address of this range; they go before those of the network.
        type: dict
      state:
        description: V(absent) removes the range, if nothing of it is leased.
        type: str
        choices: [present, absent]
        default: present
  reserved:
    description:
      - Addresses that no machine and no router gets, as V(10.66.0.20), V(10.66.0.30-10.66.0.39) or V(2001:db8::20). At
        most 4096 in one of them.
      - The list is the whole of it. What is taken out of it may be leased again. One that is leased is an error.
    type: list
    elements: str
    version_added: 0.2.0
  attributes:
    description:
      - Further attributes, OpenNebula's or your own. Names are upper-cased.
      - One that looks like a slip of a known name brings a warning.
    type: dict
  template:
    description:
      - The network as OpenNebula's templates write it, as text or as a dict with the same meaning. What is not said by
        another option is taken from it; where both say something, it has to be the same. Ranges of O(address_ranges) go
        before those of the template that begin with the same address.
      - C(NAME), C(BRIDGE), C(VN_MAD) and C(AR) are the options O(name), O(bridge), O(vn_mad) and O(address_ranges).
        Everything else is an attribute; C(NETMASK) and C(NETWORK) are C(NETWORK_MASK) and C(NETWORK_ADDRESS).
      - Older documents are read too. With C(TYPE = FIXED), each C(LEASES = [ IP = …, MAC = … ]) is a range of one
        address. With C(TYPE = RANGED), C(NETWORK_ADDRESS) and C(NETWORK_SIZE) (a number, or class A, B or C) are a
        range of the machines' addresses, from C(IP_START) to C(IP_END) if these are given, without the C(GATEWAY).
        Their C(BRIDGE) is one that the nodes have already (V(dummy)), unless C(VN_MAD) says otherwise.
    type: raw
  state:
    description: V(absent) removes the network, if no address of it is leased.
    type: str
    choices: [present, absent]
    default: present
  # end: network.yml keys
  networks:
    description: Many networks, a list of dicts with the keys above.
    type: list
    elements: raw
  undo:
    description:
      - Networks that no node can have as a run of this module has just made them, as
        P(nebula.provision.refused_everywhere#filter) tells them. Each is a dict of C(network), one of RV(networks), and
        C(earlier), what RV(earlier) has of it.
      - A new one leaves the catalog again, and one that was changed becomes what it was. What another run has changed
        since stays, and so does what machines lease of. Either is a warning.
    type: list
    elements: dict
    version_added: 0.2.0
  with_security_groups:
    description:
      - Security groups that belong with the networks, as
        O(nebula.provision.nebula_security_group#module:security_groups) has them. All are made in one transaction, so
        that networks may name groups, and their rules networks.
    type: list
    elements: raw
    default: []
    version_added: 0.2.0
  with_routers:
    description: Routers of the networks, as O(nebula.provision.nebula_router#module:routers) has them.
    type: list
    elements: raw
    default: []
    version_added: 0.2.0
  inner_mtus:
    description:
      - With O(vn_mad=ovn), the bytes that OVN's tunnels leave for packets of machines, by the hosts' names, as
        RV(nebula.provision.nebula_ovn_host#module:host.inner_mtu) says it of each. 0 is for a host of which it is not
        known.
      - A new network, or a new O(guest_mtu), that is larger than the least of them is an error, and a new network
        without one gets no more than that. What a network has already stays, and M(nebula.provision.nebula_ovn) warns
        of it.
    type: dict
    default: {}
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
seealso:
  - module: nebula.provision.nebula_node_network
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: A network behind NAT
  nebula.provision.nebula_network:
    name: Public
    bridge: nbr0
    network_address: 10.66.0.0/24
    gateway: 10.66.0.1
    dns: [10.66.0.1]
    nat: true
    address_ranges:
      - {type: IP4, ip: 10.66.0.10, size: 100}

- name: Its machines may reach a name server and a mirror on their node
  nebula.provision.nebula_network:
    name: Public
    node_access: [udp/53, tcp/53, tcp/8080]

- name: Several networks, one of them on a bridge that the nodes have already
  nebula.provision.nebula_network:
    networks:
      - name: Private
        address_ranges:
          - {type: IP4, ip: 192.168.77.10, size: 50}
      - name: Office
        vn_mad: dummy
        bridge: br0
        network_address: 192.168.1.0
        network_mask: 255.255.255.0
        gateway: 192.168.1.1
        address_ranges:
          - {type: IP4, ip: 192.168.1.200, size: 20}
      - name: Old
        state: absent

- name: Networks as OpenNebula's documents write them
  nebula.provision.nebula_network:
    networks:
      - template: |
          NAME    = "Public"
          TYPE    = FIXED
          BRIDGE  = vbr1
          NETMASK = 255.255.255.0
          NETWORK = 192.168.4.0
          DNS     = 192.168.4.9
          LEASES  = [ IP = 192.168.4.20 ]
          LEASES  = [ IP = 192.168.4.21, MAC = "02:00:c0:a8:04:99" ]
      - name: Red
        template:
          TYPE: RANGED
          NETWORK_ADDRESS: 192.168.0.0
          NETWORK_SIZE: C
          GATEWAY: 192.168.0.1

- name: More addresses, and a second range for IPv6
  nebula.provision.nebula_network:
    name: Public
    address_ranges:
      - {type: IP4, ip: 10.66.0.10, size: 200}
      - {type: IP6, size: 200, global_prefix: "2001:db8:46::"}
"""

RETURN = r"""
network:
  description: The network, if one was asked for. It has the keys of RV(networks).
  returned: when O(networks) is not given
  type: dict
networks:
  description: The networks of the list.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    uuid: {description: UUID. Null in check mode for one that would be created., type: str}
    name: {description: Name., type: str, sample: Public}
    bridge: {description: Name of the bridge on the nodes., type: str, sample: nbr0}
    vn_mad: {description: The driver., type: str, sample: bridge}
    nat: {description: Whether machines reach out through the node., type: bool}
    state: {description: State. C(DONE) for one that is absent., type: str, sample: READY}
    size: {description: Number of addresses in all ranges., type: int}
    used: {description: Number of addresses that are leased., type: int}
    address_ranges:
      description: The address ranges. Those of type V(ETHER) have empty strings where there is no address.
      type: list
      elements: dict
      contains:
        ar_id: {description: Number of the range., type: int}
        type: {description: Type of the range., type: str, sample: IP4}
        ip: {description: First IPv4 address., type: str, sample: 10.66.0.10}
        mac: {description: First MAC address., type: str, sample: "02:00:0a:42:00:0a"}
        global_prefix: {description: IPv6 prefix., type: str}
        ula_prefix: {description: IPv6 prefix for local addresses., type: str}
        ip6: {description: First IPv6 address of a static range., type: str}
        prefix_length: {description: Length of the prefix of a static range., type: int}
        size: {description: Number of addresses., type: int}
        used: {description: Number of addresses that are leased., type: int}
        attributes: {description: Attributes of the range., type: dict}
    attributes:
      description: All other attributes, by upper-case name.
      type: dict
      sample: {NETWORK_ADDRESS: 10.66.0.0, NETWORK_MASK: 255.255.255.0, GATEWAY: 10.66.0.1}
    beside:
      description:
        - The other networks that have the same bridge, or the one that the network had before. A node makes of a bridge
          what all of its networks ask for.
        - Only there if there are any.
      type: list
      elements: dict
removed:
  description: What was removed of O(with_security_groups) and O(with_routers), by C(security_groups) and C(routers).
  returned: if no network is to be undone
  type: dict
  version_added: 0.2.0
routed:
  description: In check mode the addresses that routers would have, by the names of routers and networks.
  returned: if no network is to be undone
  type: list
  elements: dict
  version_added: 0.2.0
security_groups:
  description:
    - Those of O(with_security_groups) that exist, with the keys that M(nebula.provision.nebula_security_group) returns.
  returned: if no network is to be undone
  type: list
  elements: dict
routers:
  description: Those of O(with_routers) that exist, with the keys that M(nebula.provision.nebula_router) returns.
  returned: if no network is to be undone
  type: list
  elements: dict
earlier:
  description:
    - The networks that were changed, by name, each as it was before. Null for new ones. It is for O(undo).
  returned: always
  type: dict
  version_added: 0.2.0
as_of:
  description:
    - When RV(known) was read, in seconds since 1970, for
      O(nebula.provision.nebula_node_network#module:as_of).
  returned: always
  type: float
guards:
  description:
    - By host, which virtual machines it has, and what is filtered of their NICs in networks on Linux bridges, for
      O(nebula.provision.nebula_node_network#module:guards).
  returned: always
  type: dict
  version_added: 0.2.0
known:
  description: UUIDs of all networks of the catalog, for M(nebula.provision.nebula_node_network).
  returned: always
  type: list
  elements: str
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
errors:
  description:
    - The items that failed, with C(name), C(asked), C(found) and C(remedy). Nothing was kept of them; the others were
      done.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import network as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
