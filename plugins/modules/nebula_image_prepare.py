#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_image_prepare
short_description: Make Linux disk images fit for a cloud
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Mends in an image what M(nebula.provision.nebula_image_check) finds and can be mended from outside, and puts files
    into
    it. A step whose work is done does nothing.
  - The image is worked on by libguestfs, in an overlay, which is written into it at one go when all went well. Where
    nothing
    has to be changed, its file is not written to. Where a run was ended while it wrote to the file, the next one
    finishes
    that.
  - An image of the catalog is C(LOCKED) meanwhile, and its generation rises if it was changed. One that a machine uses
    is
    refused.
options:
  # begin: image_prepare.yml keys
  name:
    description: An image of the catalog, by its name.
    type: str
  path:
    description:
      - An image on the target, by its absolute path, before its import.
      - Only root, or whoever runs the task, may be able to put files into its directory.
    type: path
  format:
    description:
      - Format of an image that is named by O(path). V(auto) reads its header.
      - Say V(raw) for a raw disk that a guest has written to, since it may have written a header of another format.
    type: str
    choices: [auto, raw, qcow2]
    default: auto
  trusted:
    description:
      - Whether an image that is named by O(path) may name other files of the host (a backing file), which are then read
        too. Of one of the catalog none is read, whatever is said here.
      - Also whether this host's kernel may mount it, see O(via).
    type: bool
    default: false
  via:
    description:
      - How files come into the image. V(guestfs) is libguestfs, V(nbd) is qemu-nbd and the kernel's network block
        device, V(loop) a loop device.
      - The last two have this host's kernel mount the image, so they need O(trusted), and O(steps) with V(files) alone.
        All other steps are done by libguestfs.
      - V(auto) takes libguestfs, and where that is not installed one of the others, if these may be taken.
    type: str
    choices: [auto, guestfs, nbd, loop]
    default: auto
  steps:
    description:
      - What is to be done; without it, all that applies. Whatever their order here, they are done in the order of this
        list.
      - V(context) puts the context program of O(program) into an image that has neither cloud-init nor another one.
      - V(ssh-server) starts an SSH server that is installed, V(ssh-keys) lets sshd take keys.
      - V(mac-addresses) takes out what binds an interface to a MAC address.
      - V(fstab) names file systems by UUID, and comments out what is not in the image.
      - V(serial-console) puts C(console=ttyS0) on the kernel's command line.
      - V(timezone) sets O(timezone), if that is given.
      - V(passwords) locks every account that has a password, or none.
      - V(personal) removes authorized keys, private keys and shell histories, V(leases) those of DHCP, V(context-state)
        what a former machine was told.
      - V(machine-id), V(host-keys) and V(random-seed) have each machine make its own.
      - V(tmp) and V(logs) empty these.
      - V(files) puts O(files) into it.
    type: list
    elements: str
    default: []
  timezone:
    description: The time zone to set, as V(Europe/Berlin).
    type: str
    default: ""
  files:
    description:
      - Files to put into the image, a list of dicts with V(path) (absolute in the guest), one of V(content),
        V(content_base64) and V(src) (a file on the target), V(mode) (V(0644)), V(uid) and V(gid) (V(0)).
      - A file that is there is replaced, missing directories are made.
      - V(path) of each - Absolute path in the guest.
      - V(content) of each - The content.
      - V(content_base64) of each - The content as base64.
      - V(src) of each - A file on the target with the content.
      - V(mode) of each - Mode in octal digits and in quotes.
      - V(uid) of each - Number of the owner.
      - V(gid) of each - Number of the group.
    type: json
  # end: image_prepare.yml keys
  program:
    description:
      - Text of the context program. Role P(nebula.provision.image_prepare#role) gives that of this collection. Without
        it
        step V(context) does nothing.
    type: str
    default: ""
  images:
    description:
      - Many images, a list of dicts with the keys above but O(program). What is said beside it holds for those that do
        not
        say it themselves.
      - One that fails does not keep the others from being done.
    type: json
  wait_timeout:
    description: How long to wait for another run that is at the same image, in seconds.
    type: int
    default: 900
extends_documentation_fragment:
  - nebula.provision.attributes
  - nebula.provision.engine
requirements:
  - qemu-img (package C(qemu-utils) of Debian, C(qemu-img) of Fedora)
  - guestfish (package C(guestfish) of Debian, C(libguestfs) of Fedora) and a kernel's package
"""

EXAMPLES = r"""
- name: Make a file fit, before its import
  nebula.provision.nebula_image_prepare:
    path: /srv/images/own.qcow2
    timezone: Europe/Berlin
    files:
      - path: /etc/motd
        content: |
          Made by us.

- name: Only what makes two machines of it take each other for the same
  nebula.provision.nebula_image_prepare:
    name: debian12
    steps: [machine-id, host-keys, random-seed]
"""

RETURN = r"""
image:
  description: The image, if one was named by O(name) or O(path).
  returned: when O(images) was not given
  type: dict
  contains: &contains
    name:
      description: Name as given.
      type: str
    path:
      description: Path as given.
      type: str
    changed:
      description: Whether something was done in it.
      type: bool
    os:
      description: What the system in it calls itself; empty where files were put into it without libguestfs.
      type: str
    steps:
      description: The steps that had something to do. What they did is in the diff.
      type: list
      elements: str
images:
  description: The images, in the order given. Those that failed are in C(errors) too.
  returned: when O(images) was given
  type: list
  elements: dict
  contains: *contains
  sample:
    - name: debian12
      path: null
      changed: true
      os: Debian GNU/Linux 12 (bookworm)
      steps: [machine-id, host-keys]
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import image_prepare as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
