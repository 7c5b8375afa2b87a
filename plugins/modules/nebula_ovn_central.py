#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_ovn_central
short_description: Databases and northd of OVN, on one host or three, and the certificates of all its connections
version_added: 0.2.0
description:
  - Sets up the central side of OVN, which is the northbound and the southbound database with their servers and northd,
    from the distribution's package C(ovn-central). Both databases take connections by TLS with certificates on both
    sides, and by their sockets on this host.
  - Hosts may write in the southbound database what its role C(ovn-controller) lets them, which is their own chassis,
    and of others the place of a port and learned addresses. Their certificates open no way to the northbound database,
    which has an authority of its own.
  - Databases carry the catalog's UUID in C(external_ids). What somebody else has set up is an error, and is never
    changed.
  - Three hosts keep the databases together, as a cluster that outlives the loss of one (Raft). The module is called for
    each of them, one after the other.
  - All of it is configured within the databases themselves, so that no file of the package is changed. The servers read
    files of certificates again when they change, without ending a connection.
options:
  name:
    description: Name of this host, which its certificates carry. Usually the name in the inventory.
    type: str
    required: true
  catalog:
    description: UUID of the catalog, as M(nebula.provision.nebula_frontend) returns it.
    type: str
    required: true
  state:
    description:
      - V(requested) makes a private key on this host, and returns the request for its certificates, and what it has of
        the databases.
      - V(signed) is for the front-end. It makes both authorities, signs the O(requests) of others, and gives the
        front-end
        certificates of its own as a client. A certificate is signed anew when less than a third of its life is left.
        A request that is not what this collection makes, for that name and with a key of its own, is RV(refused).
      - V(present) installs O(certificates), starts the daemons, and opens the ports.
      - V(registered) removes chassis from the southbound database that keep hosts out of it. Such a chassis has the
        tunnel address of a host of O(unregistered), a name that no host of O(hosts) has, and no ovn-controller that
        answers for it. A host that comes back under another name has left one. So has a host of O(forgotten), whose
        chassis is removed unless its ovn-controller answers.
      - V(absent) ends the daemons and removes the databases, keys and certificates that are this catalog's. It is an
        error if others have made switches or routers in them. Packages stay.
      - V(audited) changes nothing, and returns how the host differs from what O(state=present) would make of it.
    type: str
    choices: [requested, signed, present, registered, absent, audited]
    default: present
  requests:
    description:
      - With O(state=signed), what this module and M(nebula.provision.nebula_ovn_host) returned. Name and kind have to
        be those of the host that was asked, as its answer may name any other.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the host., type: str, required: true}
      kind: {description: What the certificate is for., type: str, choices: [host, central, client], required: true}
      request: {description: 'The request, in PEM.', type: str, required: true}
      installed: {description: Digests of the certificates that the host has., type: dict}
  hosts:
    description: The names of all hosts of the inventory. With O(state=registered) their chassis stay, and with
      O(state=audited) those of others are named.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  unregistered:
    description: With O(state=registered), by the names of hosts that the database does not have the addresses of their
      tunnels.
    type: dict
    default: {}
    version_added: 0.2.0
  forgotten:
    description: With O(state=registered), names of hosts that are gone for good.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  certificate_days:
    description: With O(state=signed), how long a certificate is good for. An authority is good for ten years.
    type: int
    default: 365
  certificates:
    description: With O(state=present), what RV(certificates) has for this host.
    type: dict
    default: {}
  address:
    description: The address or name by which the others reach this host. By default the one of its default route.
    type: str
  ports:
    description: TCP ports of the databases.
    type: dict
    suboptions:
      northbound: {description: Of the northbound database., type: int, default: 6641}
      southbound: {description: Of the southbound database., type: int, default: 6642}
  cluster:
    description:
      - With O(state=present) on three hosts, what they returned as RV(member), sorted by C(rank), so that the first is
        one that has databases. The same for each of them, and each after the one before.
      - Databases of the first, where it was the only central host until now, become those of the cluster. One that is
        not in the cluster (its disk may have been lost) joins it, and what it was before is forgotten.
      - Members connect to each other by TLS. A table of nftables keeps all others away from O(cluster_ports).
    type: list
    elements: dict
    default: []
    version_added: 0.2.0
    suboptions:
      name: {description: Name of the host., type: str, required: true}
      address: {description: 'IP address by which the others reach it, for members and for hosts.', type: str}
      databases: {description: What it has., type: dict}
      rank: {description: 'By which they are sorted, and otherwise unused.', type: int}
  cluster_ports:
    description: TCP ports by which the members of a cluster reach each other.
    type: dict
    version_added: 0.2.0
    suboptions:
      northbound: {description: Of the northbound database., type: int, default: 6643}
      southbound: {description: Of the southbound database., type: int, default: 6644}
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
- name: A key of the central host
  nebula.provision.nebula_ovn_central:
    name: "{{ inventory_hostname }}"
    catalog: "{{ catalog }}"
    state: requested
  register: asked

- name: Its certificates, signed on the front-end
  nebula.provision.nebula_ovn_central:
    name: "{{ groups['nebula_frontend'][0] }}"
    catalog: "{{ catalog }}"
    requests: ["{{ {'name': inventory_hostname, 'kind': 'central', 'request': asked.request.request} }}"]
    state: signed
  register: signed
  run_once: true
  delegate_to: "{{ groups['nebula_frontend'][0] }}"

- name: The databases
  nebula.provision.nebula_ovn_central:
    name: "{{ inventory_hostname }}"
    catalog: "{{ catalog }}"
    address: 192.0.2.1
    certificates: "{{ signed.certificates['central:' ~ inventory_hostname] }}"

- name: The databases as a cluster, on one member after the other
  nebula.provision.nebula_ovn_central:
    name: "{{ item.name }}"
    catalog: "{{ catalog }}"
    cluster: "{{ asked_of_each | map(attribute='member') | sort(attribute='rank') }}"
    certificates: "{{ signed.certificates['central:' ~ item.name] }}"
  loop: "{{ asked_of_each | map(attribute='member') | sort(attribute='rank') }}"
  run_once: true
  delegate_to: "{{ item.name }}"
"""

RETURN = r"""
request:
  description: The request for certificates. Its C(request) is empty in check mode, if there is none yet.
  returned: if O(state=requested)
  type: dict
  sample: {name: front-end, kind: central, request: "-----BEGIN CERTIFICATE REQUEST-----…", installed: {}}
member:
  description:
    - What this host brings along for a cluster, which is its address, and for each database its kind (V(none),
      V(standalone) or V(clustered)) with the UUID of its cluster. The rank is 0 for a member of a cluster, 1 for a host
      with databases of this catalog, 2 for others.
  returned: if O(state=requested)
  type: dict
  sample: {name: central1, address: 192.0.2.1, databases: {northbound: {kind: none, cluster: "", address: ""}}, rank: 2}
majority:
  description: Whether the databases can be written, for which two of three members have to run. True for one host.
  returned: if O(state=present)
  type: bool
kept:
  description: By name of a host in O(unregistered), why the chassis that has its address stays; by name of a host in
    O(forgotten), why its own stays.
  returned: if O(state=registered)
  type: dict
  sample: {}
certificates:
  description: By kind and name of the host, for each database its certificate and that of the authority, in PEM.
  returned: if O(state=signed)
  type: dict
refused:
  description: By kind and name of a host, why its request was not signed. It has no entry in RV(certificates).
  returned: if O(state=signed)
  type: dict
  sample: {}
outdated:
  description: Kind and name of each host that does not have these certificates yet.
  returned: if O(state=signed)
  type: list
  elements: str
  sample: ["host:node1"]
client:
  description: By database, the files on the front-end with which its clients connect.
  returned: if O(state=signed)
  type: dict
  sample:
    northbound:
      private_key: /var/lib/nebula/ovn/client/key.pem
      certificate: /var/lib/nebula/ovn/client/northbound.pem
      ca_certificate: /var/lib/nebula/ovn/client/northbound-authority.pem
connections:
  description: By database, how others connect to it. All members of a cluster are named.
  returned: if O(state=present) or O(state=audited)
  type: dict
  sample: {northbound: "ssl:192.0.2.1:6641", southbound: "ssl:192.0.2.1:6642"}
consistency:
  description: How the host differs, as M(nebula.provision.nebula_info) returns it of the rest.
  returned: if O(state=audited)
  type: list
  elements: dict
part:
  description: The host's part in OVN, as nebula.provision.status shows it.
  returned: if O(state=audited)
  type: dict
  sample: {host: central1, part: central, state: running, address: "ssl:192.0.2.1:6642"}
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import ovn_central as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
