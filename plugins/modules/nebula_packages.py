#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_packages
short_description: Install the Debian packages that a host lacks
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - dpkg is asked which of the packages are installed. Only if one is missing, M(ansible.builtin.apt) installs it,
    without the packages that it recommends.
  - Of both answers nothing but the names of packages reaches the run. A host can't set variables by them.
options:
  names:
    description: Packages that are to be installed.
    type: list
    elements: str
    required: true
  others:
    description: Packages that are looked for as well, so that a later task of the run need not look again.
    type: list
    elements: str
    default: []
  cache_seconds:
    description: How old the package lists may be, in seconds, before they are fetched anew to install something.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Says which packages would be installed.
    support: full
  diff_mode:
    description: The packages that are installed are in the result.
    support: none
  platform:
    description: Debian and its kin.
    platforms: debian
    support: full
"""

EXAMPLES = r"""
- name: Install what a node needs
  nebula.provision.nebula_packages:
    names: [qemu-utils, nftables]
"""

RETURN = r"""
installed:
  description: Those of the packages that are installed now.
  returned: success
  type: list
  elements: str
missing:
  description: Those that were missing, and that were installed. In check mode they would be.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import packages as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
