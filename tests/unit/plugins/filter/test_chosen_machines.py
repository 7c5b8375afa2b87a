# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.chosen_machines import chosen_machines

VMS = [{"name": "web-0"}, {"name": "web-1"}]


def test_machines_and_what_is_done_with_them():
    assert chosen_machines(VMS, "web-*") == {"names": ["web-0", "web-1"], "wanted": [], "undone": [], "problem": ""}
    found = chosen_machines(VMS, "web-1", "poweroff", [{"name": "web-%i"}])
    assert found["wanted"] == [{"name": "web-1", "state": "poweroff", "hard": True}]
    assert len(found["undone"]) == 1 and not found["problem"]
    assert chosen_machines(VMS, "web-1", "console")["wanted"] == []


def test_nothing_is_wanted_where_something_is_not_understood():
    for pattern, word in (("web-7", "stop"), ("web-0", "strat")):
        found = chosen_machines(VMS, pattern, word, [])
        assert found["problem"] and not found["wanted"]
