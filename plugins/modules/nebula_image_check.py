#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_image_check
short_description: Tell whether disk images are fit for a cloud
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Looks at each point of the lists of the OpenStack image guide, for Linux and for Windows, and says of each whether
    the
    image passes or fails, why, and what to do about it. See docs/prepare_image.md.
  - Reads images by libguestfs, in a small machine of its own, which is started once for each image. Nothing is written
    to an
    image.
  - What only a living guest can answer is taken from the console of a machine that role
    P(nebula.provision.image_check#role)
    boots. A point that was not asked is C(not tested), and never a C(pass).
  - A point that fails is no failure of the task; an image that can't be read is one, after the others were checked.
options:
  # begin: image_check.yml keys
  name:
    description:
      - An image of the catalog, by its name.
      - One that a machine writes to is refused.
    type: str
  path:
    description: An image on the target, by its absolute path.
    type: path
  format:
    description:
      - Format of an image that is named by O(path). V(auto) reads its header. The catalog knows the format of its own.
      - Say V(raw) for a raw disk that a guest has written to, since it may have written a header of another format.
    type: str
    choices: [auto, raw, qcow2]
    default: auto
  trusted:
    description:
      - Whether an image that is named by O(path) may name other files of the host (a backing file), which are then read
        too. Of one of the catalog none is read, whatever is said here.
    type: bool
    default: false
  timezone:
    description: The time zone that the image is to have.
    type: str
    default: UTC
  os:
    description: What is in it, where O(mode) is V(live) and nobody looks into it. A guest of Windows is not asked.
    type: str
    choices: [linux, windows]
    default: linux
  # end: image_check.yml keys
  images:
    description:
      - Many images, a list of dicts with the keys above. O(format), O(trusted), O(timezone) and O(os) hold for
        those that do not say it themselves.
      - One that fails does not keep the others from being checked.
    type: list
    elements: raw
  mode:
    description:
      - V(offline) reads the image.
      - V(live) takes what a guest of it said, see O(said), and does not read the image.
      - V(both) does both.
    type: str
    choices: [offline, live, both]
    default: offline
  said:
    description:
      - What is known of a machine of each image, by the image's name or path. A dict with V(console) (text of its
        serial
        console), V(host_name) (as it was told), V(root_mib) and V(image_mib) (size of its first disk, and of the
        image),
        V(injected) (what is in the file F(/etc/nebula-check) that was injected) and V(snapshot) (V(ok), or why there is
        none), or V(why_not), why there is no machine. Role P(nebula.provision.image_check#role) gives them.
    type: dict
    default: {}
  listen:
    description:
      - Serial consoles on the target, paths by names of machines. Nothing is checked then, and what stands there is
        returned.
    type: dict
  report:
    description:
      - Absolute path of an HTML page on the target with the same tables. It needs no other file, and asks for nothing.
    type: path
extends_documentation_fragment:
  - nebula.provision.attributes
  - nebula.provision.engine
requirements:
  - qemu-img (package C(qemu-utils) of Debian, C(qemu-img) of Fedora)
  - guestfish (package C(guestfish) of Debian, C(libguestfs) of Fedora) and a kernel's package; ntfs-3g for Windows
"""

EXAMPLES = r"""
- name: Is this file fit?
  nebula.provision.nebula_image_check:
    path: /srv/images/debian.qcow2
  register: checked

- name: Report what is not as it should be
  ansible.builtin.debug:
    msg: "{{ checked.image.points | selectattr('result', 'eq', 'fail') }}"

- name: Images of the catalog, with a page of what was found
  nebula.provision.nebula_image_check:
    images:
      - name: debian12
      - name: windows2022
        timezone: Europe/Berlin
    report: /srv/www/images.html
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
    os:
      description: What the system in it calls itself.
      type: str
    fit:
      description: Whether no point failed, of those that were asked.
      type: bool
    counts:
      description: How many points there are of each result, C(pass), C(fail), C(not_applicable) and C(not_tested).
      type: dict
    points:
      description: The points, in the list's order.
      type: list
      elements: dict
      contains:
        point:
          description: The point's name.
          type: str
        title:
          description: The same as a heading.
          type: str
        result:
          description: V(pass), V(fail), V(not applicable) or V(not tested).
          type: str
        why:
          description: What was found.
          type: str
        remedy:
          description: What to do, empty where nothing is to be done.
          type: str
    error:
      description: Why it could not be read.
      returned: when it could not
      type: str
heard:
  description: Text of each console, of a long one the last 4 MiB. One that is not there is empty.
  returned: when O(listen) was given
  type: dict
images:
  description: The images, in the order given. Those that failed are in C(errors) too.
  returned: when O(images) was given
  type: list
  elements: dict
  contains: *contains
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import image_check as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
