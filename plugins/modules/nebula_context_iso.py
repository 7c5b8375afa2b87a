#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_context_iso
short_description: Context ISOs, by which a guest learns who it is
version_added: 0.1.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes ISO images that hold variables, in a file C(context.sh), and files. Guests with OpenNebula's context packages,
    with cloud-init, with cloudbase-init on Windows, or with a script of their own read them when they boot.
  - It needs no catalog, and no other part of this collection. Use it for virtual machines that are run by other means.
  - The same variables and files always make the same bytes, whenever and wherever it is done.
options:
  dest:
    description: File to make, on the target. Its directory has to be there.
    type: path
  context:
    description:
      - Variables and their values, a dict. Names are turned into upper case, as OpenNebula does. Names that no shell
        takes are refused, and those that shells have a use of their own for, such as C(UID), C(SECONDS), C(PATH) or
        C(BASH_ENV).
      - Values reach the guest as they are. C($) is nothing special here, since there is no machine to ask.
      - A O(ignore:START_SCRIPT) that holds a C($) is sent as C(START_SCRIPT_BASE64) too, which guests prefer.
      - It may hold secrets. It is not logged, nor part of any result.
    type: json
  files:
    description:
      - Files and directories of the target, by absolute path. Each may be a dict with C(src) and C(target) instead,
        where C(target) is its name on the ISO.
      - Whether a file may be executed is kept; its owner, its dates and other permissions are not.
      - All files of an ISO have at most 256 MiB together.
    type: list
    elements: raw
  format:
    description:
      - What the ISO is to the guest. Whatever it is, C(context.sh) and O(files) are on it.
      - V(opennebula) has the label C(CONTEXT) and nothing else. OpenNebula's context packages read it, cloud-init does
        by its datasource OpenNebula, and so do scripts of your own. cloud-init takes C(USER_DATA) from it but no
        C(START_SCRIPT).
      - V(configdrive) is a config drive of OpenStack, with the label C(config-2) and C(meta_data.json), C(user_data)
        and C(network_data.json) below C(openstack/latest). cloud-init and cloudbase-init read it.
      - V(nocloud) has the label C(cidata) and C(meta-data), C(user-data) and C(network-config). cloud-init reads it.
      - The last two are made of the same variables. C(SET_HOSTNAME) or C(HOSTNAME), C(SSH_PUBLIC_KEY), C(USERNAME),
        C(PASSWORD), C(CRYPTED_PASSWORD), C(START_SCRIPT), C(USER_DATA), C(INIT_SCRIPTS), C(DNS), C(SEARCH_DOMAIN) and
        the C(ETHx_) variables of each NIC arrive in the guest, where C(ETHx_MAC) says which NIC is meant. Without
        C(USERNAME), keys and password are for the user that the image has for them.
      - With these two the guest goes through it all once. It does so again at its next boot after a variable changed.
      - With V(configdrive), cloud-init shows every user of the guest a C(PASSWORD), which is there for Windows, and
        variables that are of no other use and whose names do not look secret. Give other guests C(CRYPTED_PASSWORD).
    type: str
    choices: [opennebula, configdrive, nocloud]
    default: opennebula
  owner:
    description: Owner of the ISO.
    type: str
  group:
    description: Group of the ISO.
    type: str
  mode:
    description: Permissions of the ISO, in octal and in quotes. Those who can read it can read what is secret in it.
    type: raw
    default: "0640"
  state:
    description:
      - V(present) makes the ISO, or makes it anew where it differs. A file that is no context ISO is not replaced.
      - V(absent) removes it if this module made it.
    type: str
    choices: [present, absent]
    default: present
  isos:
    description:
      - Many ISOs, a list of dicts with the keys above. O(format), O(owner), O(group), O(mode) and O(state) hold for
        those that do not say it themselves.
      - One that fails does not keep the others from being made.
    type: json
requirements:
  - pycdlib, the package C(python3-pycdlib) of Debian and Fedora
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes
"""

EXAMPLES = r"""
- name: One ISO
  nebula.provision.nebula_context_iso:
    dest: /var/lib/libvirt/images/web-context.iso
    group: libvirt-qemu
    context:
      SET_HOSTNAME: web
      ETH0_MAC: "02:00:0a:00:00:05"
      ETH0_IP: 10.0.0.5
      SSH_PUBLIC_KEY: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    files:
      - /srv/context/init.sh
      - src: /srv/context/web.conf
        target: service.conf

- name: For a cloud image, whose own cloud-init configures it
  nebula.provision.nebula_context_iso:
    dest: /var/lib/libvirt/images/db-seed.iso
    format: nocloud
    context:
      SET_HOSTNAME: db.example.org
      ETH0_MAC: "02:00:0a:00:00:06"
      ETH0_IP: 10.0.0.6
      ETH0_GATEWAY: 10.0.0.1
      ETH0_DNS: 10.0.0.1
      USERNAME: admin
      SSH_PUBLIC_KEY: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
      START_SCRIPT: |
        apt-get update
        apt-get install --yes postgresql

- name: For Windows with cloudbase-init
  nebula.provision.nebula_context_iso:
    dest: /var/lib/libvirt/images/win-config.iso
    format: configdrive
    context:
      SET_HOSTNAME: win
      PASSWORD: "{{ windows_password }}"
      ETH0_MAC: "02:00:0a:00:00:07"
      ETH0_IP: 10.0.0.7
      ETH0_GATEWAY: 10.0.0.1
      START_SCRIPT: |
        #ps1_sysnative
        Set-TimeZone -Id "UTC"

- name: Many at once
  nebula.provision.nebula_context_iso:
    isos:
      - dest: /var/lib/libvirt/images/a-context.iso
        context: {SET_HOSTNAME: a}
      - dest: /var/lib/libvirt/images/b-context.iso
        context: {SET_HOSTNAME: b}
"""

RETURN = r"""
iso:
  description: The ISO, if one was asked for.
  returned: when O(isos) is not given
  type: dict
  contains:
    dest: {description: Its file., type: str}
    size: {description: Its length in bytes. Null if it is absent., type: int}
    sha256: {description: SHA-256 of the file in hexadecimal. Null if it is absent., type: str}
    changed: {description: Whether this ISO was changed., type: bool}
  sample:
    dest: /var/lib/libvirt/images/web-context.iso
    size: 372736
    sha256: 5d41402abc4b2a76b9719d911017c592e4f0d0d3a6c5b4d2e7a1f8c9b0d3e6f1
    changed: true
isos:
  description: The ISOs of the list, in its order.
  returned: when O(isos) is given
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import context_iso as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
