# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module nebula_deploy on a node whose hypervisor carries nothing out, and plans for it."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.modules import nebula_deploy

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def deploy(options, root):
    def run(check=True, **given):
        given.setdefault("host", "node1")
        return nebula_deploy.call.run(options(nebula_deploy, root=root, catalog=CATALOG, **given), check)

    return run


@pytest.fixture
def plan():
    def made(*wanted, number=1):
        vms = tuple(
            PlannedVm(Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "kvm", 1.0, 64), 1, state, previous="PROLOG")
            for vm_id, state in enumerate(wanted)
        )
        return json.dumps(to_plain(Plan(CATALOG, number, "node1", vms)))

    return made
