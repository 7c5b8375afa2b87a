# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What running machines wait for, in sentences."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.waiting import SHOWN, waiting

MEMORY = {"part": "MEMORY", "found": "128", "wanted": "256"}
NIC = {"part": "NIC 0", "found": "[ MODEL = e1000 ]", "wanted": "[ MODEL = \x1b[31mvirtio ]"}
MACHINES = [
    {"name": "web", "id": 3, "waits": [MEMORY, NIC]},
    {"name": "db", "id": 4, "waits": []},
    {"name": "old", "id": 5},
]


def test_each_part_has_a_sentence_without_what_would_move_a_terminal():
    first, second = waiting(MACHINES)
    assert first == "VM web (id 3) MEMORY: 128 now, 256 at its next start"
    assert second.startswith("VM web (id 3) NIC 0: [ MODEL = e1000 ] now, ") and "\x1b" not in second


def test_a_summary_is_one_sentence_however_many_wait():
    assert waiting(MACHINES, summary=True) == ["1 with changes at the next start: web (MEMORY, NIC 0)"]
    assert waiting(MACHINES[1:], summary=True) == []
    (many,) = waiting([{"name": f"web-{n}", "id": n, "waits": [MEMORY]} for n in range(SHOWN + 1)], summary=True)
    assert many.startswith("21 with changes") and many.endswith("web-19 (MEMORY) and more")
