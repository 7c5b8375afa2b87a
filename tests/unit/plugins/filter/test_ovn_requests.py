# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests are of the hosts that were asked for them."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.ovn_requests import FilterModule

ovn_requests = FilterModule().filters()["ovn_requests"]


def test_each_request_is_of_the_host_that_was_asked():
    forged = {"request": {"name": "central", "kind": "central", "request": "R"}}
    found = ovn_requests([forged, {"skipped": True}, {}, {"request": 7}], ["n1", "n2", "n3", "n4"], "host")
    assert [(each["name"], each["kind"], each["request"]) for each in found] == [
        ("n1", "host", "R"),
        ("n4", "host", "no text"),
    ]
