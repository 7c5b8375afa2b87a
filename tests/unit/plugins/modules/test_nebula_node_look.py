# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a node asked in one call."""

from __future__ import annotations

import json

from ansible_collections.nebula.provision.plugins.module_utils import looking
from ansible_collections.nebula.provision.plugins.module_utils.calls.node_look import LOOK


def test_the_libraries_of_all_calls_are_needed():
    entries = [
        {"name": "a", "module": "nebula_node", "options": {"hypervisor": "kvm"}},
        {"name": "b", "module": "nebula_node_network", "options": {"networks": [], "catalog": "c"}},
        {"name": "c", "module": "nebula_deploy", "options": {"host": "node1", "hypervisor": "xen"}},
    ]
    needed = looking.libraries(looking.asked_of(json.dumps(entries), LOOK))
    assert needed == ["libvirt", "pycdlib"]
