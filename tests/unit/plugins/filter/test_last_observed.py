# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of each host the last answer is taken: that of what was done on it, else that of its poll."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.last_observed import FilterModule

last_observed = FilterModule().filters()["last_observed"]
POLLED = {"host": "x", "reached": True, "vms": ["polled"]}
DEPLOYED = {"host": "x", "reached": True, "vms": ["deployed"]}


@pytest.mark.parametrize(
    ("deployed", "polled", "vms"),
    [
        ({"observed": DEPLOYED}, {"observed": POLLED}, ["deployed"]),
        ({"failed": True, "msg": "x"}, {"observed": POLLED}, ["polled"]),
        ({"skipped": True}, {"observed": POLLED}, ["polled"]),
        ({"observed": {}}, {"observed": POLLED}, ["polled"]),
        (None, {"observed": POLLED}, ["polled"]),
        ({"observed": DEPLOYED}, None, ["deployed"]),
    ],
)
def test_what_was_done_counts_before_the_poll(deployed, polled, vms):
    variables = {"inventory_hostname": "node1", "__nebula_deployed": deployed, "__nebula_observed": polled}
    assert last_observed([variables]) == [{"host": "node1", "reached": True, "vms": vms}]


@pytest.mark.parametrize("variables", [{}, {"__nebula_observed": {"unreachable": True}}, {"__nebula_deployed": None}])
def test_a_host_that_said_nothing_was_not_reached(variables):
    assert last_observed([{"inventory_hostname": "node1", **variables}]) == [{"host": "node1", "reached": False}]


def test_answers_come_in_the_order_of_the_hosts_and_stay_as_they_are():
    hosts = [{"inventory_hostname": name, "__nebula_observed": {"observed": POLLED}} for name in ("b", "a")]
    assert [each["host"] for each in last_observed(hosts)] == ["b", "a"] and POLLED["host"] == "x"
