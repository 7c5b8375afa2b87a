# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of machines, and the numbers of their states."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CHUNK
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_rows import (
    numbers_of,
    writes_files_only,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import LcmState, VmState, vm_state_name


def test_more_machines_are_selected_than_one_statement_has_room_for(web):
    wanted = [f"n{number}" for number in range(3 * CHUNK)]
    assert [each.name for each in web.vms.pool(names=[*wanted, "web", "web"])] == ["web"]
    assert [each.name for each in web.vms.pool(ids=range(3 * CHUNK))] == ["web"]


@pytest.mark.parametrize(
    "name", [name for name in (*VmState.__members__, *LcmState.__members__) if name not in ("ACTIVE", "LCM_INIT")]
)
def test_a_states_name_comes_back_from_its_numbers(name):
    state, lcm = numbers_of(name)
    assert vm_state_name(state, lcm) == name


def test_a_state_that_is_none_is_no_other():
    with pytest.raises(KeyError):
        numbers_of("NOSUCH")


@pytest.mark.parametrize(("hypervisor", "expected"), [("lxc", True), ("kvm", False), ("xen", False), ("", False)])
def test_a_container_whose_disks_are_mounted_for_it_writes_files_only(hypervisor, expected):
    assert writes_files_only({"body": json.dumps({"hypervisor": hypervisor})}) is expected
    assert writes_files_only({"body": ""}) is False
