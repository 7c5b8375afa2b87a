# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host's part of its result, under the name by which it was asked."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.answered import FilterModule

answered = FilterModule().filters()["answered"]


def test_in_the_order_of_the_hosts():
    results = [{"waited": [1]}, {"unreachable": True}, {"waited": {"host": "a"}, "host": "a"}]
    assert answered(results, ["a", "b", "c"], "waited") == [
        {"host": "a", "waited": [1]},
        {"host": "b", "waited": []},
        {"host": "c", "waited": {"host": "a"}},
    ]
