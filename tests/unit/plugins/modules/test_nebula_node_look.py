# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a node asked in one call."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils import looking
from ansible_collections.nebula.provision.plugins.module_utils.calls.node_look import LOOK
from ansible_collections.nebula.provision.plugins.modules import nebula_node_look

# The modules that the plugin's documentation names.
NAMES = re.findall(
    r"C\((nebula_\w+)\)", yaml.safe_load(nebula_node_look.DOCUMENTATION)["options"]["calls"]["description"][1]
)


@pytest.mark.parametrize("name", NAMES)
def test_each_module_is_there(name):
    assert LOOK.call_of(name).ARGUMENTS["argument_spec"]["root"]


def test_others_are_not():
    assert {*LOOK.at_once, *LOOK.only_asked} < {*NAMES}
    with pytest.raises(KeyError):
        LOOK.call_of("nebula_backup")


def test_the_libraries_of_all_calls_are_needed():
    entries = [
        {"name": "a", "module": "nebula_node", "options": {"hypervisor": "kvm"}},
        {"name": "b", "module": "nebula_node_network", "options": {"networks": [], "catalog": "c"}},
        {"name": "c", "module": "nebula_deploy", "options": {"host": "node1", "hypervisor": "xen"}},
    ]
    needed = looking.libraries(looking.asked_of(json.dumps(entries), LOOK))
    assert needed == ["libvirt", "pycdlib"]
