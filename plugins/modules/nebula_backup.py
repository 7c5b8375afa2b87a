#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_backup
short_description: Back the catalog up
version_added: 0.2.0
description:
  - Writes a copy of the catalog to a directory of the front-end, checked, with a manifest beside it. It is the catalog
    of one moment, whoever works on it meanwhile.
  - The file is called after the catalog's UUID, its newest plan and the time in UTC. The manifest beside it ends in
    C(.db.json), has the file's SHA-256 and lists the files of images, and makes the backup complete.
  - A backup holds all that the catalog does, contexts and passwords too. Its files are readable for their owner only.
  - M(nebula.provision.nebula_restore) is the way back.
options:
  directory:
    description: Where backups are kept, on the front-end. It is made with mode 0700 if it is missing.
    type: path
    default: /var/backups/nebula
  keep:
    description: How many backups of this catalog are kept, the newest ones. V(0) keeps all.
    type: int
    default: 10
  images:
    description:
      - Whether the files of images are copied, too. A file that is there already is not copied again.
      - A persistent image that a virtual machine writes to is left out, with a warning.
    type: bool
    default: false
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Back the catalog up
  nebula.provision.nebula_backup:
    keep: 30
  become: true
"""

RETURN = r"""
backup:
  description: The backup.
  returned: success
  type: dict
  contains:
    path: {description: Its file. Empty in check mode., type: str}
    manifest: {description: "The file beside it that says what is in it.", type: str}
    catalog: {description: UUID of the catalog., type: str}
    plan: {description: The newest plan of the catalog., type: int}
    sha256: {description: SHA-256 of the file., type: str}
    size: {description: Its size in bytes., type: int}
    machines: {description: How many virtual machines are in it., type: int}
    images: {description: How many images are in it., type: int}
    copied_images: {description: Of how many of them the file was copied., type: int}
    removed: {description: Older backups that were removed., type: list, elements: str}
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import backup as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
