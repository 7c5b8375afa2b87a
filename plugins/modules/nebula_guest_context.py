#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_guest_context
short_description: Put the context program into disk images
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Installs the program by which a guest takes its context into images of powered-off machines, and enables it for the
    init system that it finds in there. Role P(nebula.provision.guest_context#role) has the program, and puts it into
    running machines too.
  - The image is worked on in an overlay beside it. Where nothing has to be changed, its file is not written to. Where a
    run was ended while it wrote to the file, the next one finishes that.
  - An image that QEMU has open is refused, as are those in a datastore, on which machines may rest.
  - Needs no catalog, and no other part of this collection.
options:
  # begin: guest_image.yml keys
  path:
    description:
      - The image on the target, by its absolute path.
      - Only root, or whoever runs the task, may be able to put files into its directory.
    type: path
  format:
    description:
      - Format of the image. V(auto) reads its header.
      - Say V(raw) for a raw disk that a guest has written to, since it may have written a header of another format.
    type: str
    choices: [auto, raw, qcow2]
    default: auto
  trusted:
    description:
      - Whether it is known where the image comes from. Only then it may name other files of the host (a backing file),
        and only then the host's own kernel may mount it, as a hostile file system can attack the kernel.
    type: bool
    default: false
  via:
    description:
      - V(guestfs) works in a small machine of its own, by libguestfs. The image's C(/bin/sh) runs the program in there,
        so it has to be for the processor of the target.
      - V(mount) has the target's own kernel mount the image, with nosuid, nodev and noexec. It needs O(trusted), and
        root. Volume groups, encrypted disks and subvolumes are not looked into.
      - V(auto) is V(mount) where the image is trusted and there is no libguestfs, else V(guestfs).
    type: str
    choices: [auto, guestfs, mount]
    default: auto
  # end: guest_image.yml keys
  program:
    description:
      - Text of the program. It is run as C(sh PROGRAM --root DIR install), and prints C(changed) or C(unchanged) last.
    type: str
    required: true
  images:
    description:
      - Many images, a list of dicts with the keys above. O(format), O(trusted) and O(via) hold for those that do not
        say it themselves.
      - One that fails does not keep the others from being done.
    type: list
    elements: raw
requirements:
  - qemu-img (package C(qemu-utils) of Debian, C(qemu-img) of Fedora)
  - for V(guestfs), guestfish (package C(guestfish) of Debian, C(libguestfs) of Fedora) and a kernel's package
  - for V(mount), qemu-storage-daemon with FUSE (package C(qemu-system-common) of Debian) and sfdisk (C(fdisk))
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes
"""

EXAMPLES = r"""
- name: Make a cloud image take its context
  nebula.provision.nebula_guest_context:
    program: "{{ lookup('ansible.builtin.file', 'nebula-context', rstrip=false) }}"
    path: /srv/images/debian.qcow2

- name: Many at once
  nebula.provision.nebula_guest_context:
    program: "{{ lookup('ansible.builtin.file', 'nebula-context', rstrip=false) }}"
    images:
      - path: /srv/images/debian.qcow2
      - path: /srv/images/own-build.raw
        format: raw
        trusted: true
        via: mount
"""

RETURN = r"""
image:
  description: The image, if one was named by O(path).
  returned: when O(images) was not given
  type: dict
  contains: &contains
    path:
      description: Path as given.
      type: str
    changed:
      description: Whether the program, or what starts it, was not there as it is now.
      type: bool
    how:
      description: V(guestfs) or V(mount); null where the image was not looked into.
      type: str
    os:
      description: What the guest calls itself, C(PRETTY_NAME) of its os-release.
      type: str
images:
  description: The images, in the order given. Those that failed are in C(errors) too.
  returned: when O(images) was given
  type: list
  elements: dict
  contains: *contains
  sample:
    - path: /srv/images/debian.qcow2
      changed: true
      how: guestfs
      os: Debian GNU/Linux 12 (bookworm)
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import guest_context as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
