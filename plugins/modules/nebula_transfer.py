#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_transfer
short_description: Send files of images to nodes, and fetch what machines wrote
version_added: 0.2.0
description:
  - For nodes that do not see the front-end's datastores (transfer method V(ssh)). It runs on the front-end, between
    M(nebula.provision.nebula_vm) and M(nebula.provision.nebula_deploy) to send, and after
    M(nebula.provision.nebula_vm_record) to fetch. Role P(nebula.provision.vm#role) does both.
  - A file goes to a node once. It is copied by C(rsync) over C(ssh), goes on where it was broken off, and the node
    takes it only with the size and the SHA-256 that it has here.
  - What a machine wrote to a persistent image, or was saved as an image, comes back under another name, and replaces
    the image's file when it is whole. Until then the image is V(LOCKED_USED_PERS) or V(LOCKED). The node keeps its own
    until that is recorded.
options:
  state:
    description: Whether to send or to fetch.
    type: str
    choices: [sent, fetched]
    required: true
  transfers:
    description: By host, what is to be sent. It is what M(nebula.provision.nebula_vm) returns as C(transfers).
    type: dict
  observed:
    description: What the nodes answered last, as the filter P(nebula.provision.observed#filter) makes it.
    type: list
    elements: dict
  hosts:
    description:
      - How the front-end reaches each host, a dict of dicts with C(address), C(port) and C(keys).
      - C(keys) are the public host keys that M(nebula.provision.nebula_node) returned as C(host_keys). Without them
        those of an earlier run count.
    type: dict
    required: true
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Send what the nodes lack
  nebula.provision.nebula_transfer:
    state: sent
    transfers: "{{ decided.transfers }}"
    hosts:
      xen1:
        address: 10.0.0.11
        keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]
  become: true
"""

RETURN = r"""
hosts:
  description: Names of the hosts that were sent to.
  returned: when O(state=sent)
  type: list
  elements: str
images:
  description: Names of the images whose files came back.
  returned: when O(state=fetched)
  type: list
  elements: str
errors:
  description: What failed, with C(name), C(asked), C(found) and C(remedy). The rest was done.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import transfer as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
