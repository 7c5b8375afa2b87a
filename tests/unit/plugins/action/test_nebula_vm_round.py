# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of role vm in one, as its action plugin makes it on this machine, which has no catalog and no libvirt."""

from __future__ import annotations

import pytest
from looking_runs import looked

CALLS = ["__nebula_poll_call", "__nebula_vm_call", "__nebula_act_call", "__nebula_record_call"]
ROUND = {"nebula.provision.nebula_vm_round": {"calls": CALLS}, "register": "looked", "failed_when": False}
BEGIN = {"nebula.provision.nebula_frontend": {"root": "{{ nebula_root }}"}}


@pytest.fixture
def rounds(tmp_path):
    def run(*tasks, **variables):
        given = {"nebula_root": str(tmp_path / "nebula"), "nebula_hypervisor": "openvz", **variables}
        return looked(tmp_path, [*tasks, ROUND], **given)

    return run


def test_a_host_that_can_not_be_looked_at_leaves_all_to_the_tasks(rounds):
    found = rounds(BEGIN)
    assert found["differs"].startswith("__nebula_observed: ") and found["facts"] == {} and not found["changed"]


def test_what_can_not_be_filled_in_is_told_by_names(rounds):
    found = rounds(nebula_vms="{{ 's3cret' + lost }}")
    assert "lost" in found["differs"] and "s3cret" not in found["output"] and found["facts"] == {}


def test_machines_that_are_to_be_adopted_are_for_the_tasks(rounds):
    found = rounds(nebula_adopt_unknown={"web": "here"})
    assert "nebula_adopt_unknown" in found["differs"] and found["facts"] == {}
