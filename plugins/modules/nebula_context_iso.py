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
  - Makes ISO images with the label C(CONTEXT) that hold variables, in a file C(context.sh), and files. Guests with
    OpenNebula's context packages, with cloud-init, or with a script of their own read them when they boot.
  - It needs no catalog, and no other part of this collection. Use it for virtual machines that are run by other means.
  - The same variables and files always make the same bytes, whenever and wherever it is done.
options:
  dest:
    description: File to make, on the target. Its directory has to be there.
    type: path
  context:
    description:
      - Variables and their values, a dict. Names are turned into upper case, as OpenNebula does.
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
      - Many ISOs, a list of dicts with the keys above. O(owner), O(group), O(mode) and O(state) hold for those that
        do not say it themselves.
      - One that fails does not keep the others from being made.
    type: json
requirements:
  - pycdlib, the package C(python3-pycdlib) of Debian and Fedora
extends_documentation_fragment:
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
    size: 65536
    sha256: 5d41402abc4b2a76b9719d911017c592e4f0d0d3a6c5b4d2e7a1f8c9b0d3e6f1
    changed: true
isos:
  description: The ISOs of the list, in its order.
  returned: when O(isos) is given
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nebula.provision.plugins.module_utils.arguments import items_of
from ansible_collections.nebula.provision.plugins.module_utils.deps import respawn_if_missing
from ansible_collections.nebula.provision.plugins.module_utils.items import isos
from ansible_collections.nebula.provision.plugins.module_utils.runner import execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Result


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    defaults = {key: params[key] for key in ("owner", "group", "mode", "state")}
    items, refused = items_of(params, "isos", isos.KEYS, "ISO", defaults)
    isos.refuse_twins(items)
    warnings: list[str] = []
    done = [isos.apply(item, check_mode, warnings) for item in items]
    result = Result([*refused, *done], warnings=warnings)
    views = [isos.view(item) for item in done]
    result.payload = {"iso": views[0]} if params["isos"] is None else {"isos": views}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path"},
            "context": {"type": "json", "no_log": True},
            "files": {"type": "list", "elements": "raw"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw", "default": "0640"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "isos": {"type": "json", "no_log": True},
        },
        required_one_of=[("dest", "isos")],
        mutually_exclusive=[("dest", "isos"), ("context", "isos"), ("files", "isos")],
        supports_check_mode=True,
    )
    respawn_if_missing(module, ["pycdlib"])
    execute(module, run)


if __name__ == "__main__":
    main()
