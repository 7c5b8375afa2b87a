# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes with a plan is looked at before anything of it is done; tests/integration/test_node_filters.py has what is
done."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.nic_filters import NicFilters
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan


def test_a_plan_whose_filters_could_be_no_rules_is_refused() -> None:
    guard = Guard(3, 0, 'one"', "02:00:0a:42:00:0a", filter_mac=True)
    with pytest.raises(InvalidValue, match="NIC 0 of machine 3: TARGET"):
        NicFilters(Plan("c", 1, "node", guards=(guard,)), "/nowhere")
