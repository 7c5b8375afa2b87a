#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_demo_image
short_description: Build a small bootable image from Debian's own packages
version_added: 0.1.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes a qcow2 disk of about 13 MB that boots from a BIOS in a few seconds, even emulated, in 96 MiB of memory.
    It holds Debian's cloud kernel and busybox, taken from packages that are downloaded and unpacked, not installed.
  - The guest contextualises itself from the context ISO, with O(ignore:SET_HOSTNAME), O(ignore:ETH0_IP),
    O(ignore:SSH_PUBLIC_KEY), O(ignore:START_SCRIPT), C(init.sh) and the like, and tells on its serial console what came
    of it. M(nebula.provision.nebula_verify) reads that.
  - A root shell without password is on its serial console (C(virsh console)) and on its screen. It is made for trying
    things out, on networks that nobody else is in.
  - The image is left alone as long as it is the one that this version of the collection made, whatever newer packages
    there are.
options:
  dest:
    description: File to make. What the image was made from is kept beside it, in a file of the same name and C(.json).
    type: path
    required: true
  cache:
    description: Directory in which the downloaded packages are kept, about 28 MB.
    type: path
    default: /var/cache/nebula-provision
  arch:
    description: Architecture of the guest.
    type: str
    choices: [amd64]
    default: amd64
  state:
    description: V(absent) removes the image, what is kept beside it, and the cache.
    type: str
    choices: [present, absent]
    default: present
  force:
    description: Build again, with the newest packages that the mirror has.
    type: bool
    default: false
requirements:
  - apt, mtools, syslinux, syslinux-common, qemu-utils (Debian packages)
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes
"""

EXAMPLES = r"""
- name: Build the demo image
  nebula.provision.nebula_demo_image:
    dest: /var/lib/nebula/demo.qcow2
"""

RETURN = r"""
demo_image:
  description: The image. In check mode C(sha256) and C(size) are null where it would be built.
  returned: always
  type: dict
  contains:
    path:
      description: Where it lies.
      type: str
    sha256:
      description: SHA-256 of the file, in hexadecimal.
      type: str
    size:
      description: Length of the file in bytes.
      type: int
    arch:
      description: Architecture of the guest.
      type: str
    guest:
      description: SHA-256 of what this collection put into it.
      type: str
    packages:
      description: The Debian packages that were asked for.
      type: list
      elements: str
    versions:
      description: Version of each package that it was made from, by the package's name.
      type: dict
  sample:
    path: /var/lib/nebula/demo.qcow2
    arch: amd64
    size: 13544448
    versions: {busybox-static: "1:1.35.0-4+deb12u1+b1"}
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import demo_image as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
