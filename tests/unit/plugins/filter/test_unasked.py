# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of hosts that nobody asked are not shown as what they were at some time."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.unasked import unasked

MACHINES = [
    {"id": 0, "name": "a", "host": "kvm1", "state": "RUNNING"},
    {"id": 1, "name": "b", "host": "kvm2", "state": "RUNNING"},
    {"id": 2, "name": "c", "host": "kvm2", "state": "DONE"},
    {"id": 3, "name": "d", "host": "", "state": "PENDING"},
]


def test_only_machines_of_other_hosts_are_unknown() -> None:
    states = [vm["state"] for vm in unasked(MACHINES, ["kvm1"])]
    assert states == ["RUNNING", "UNKNOWN", "DONE", "PENDING"]
    assert unasked(MACHINES, ["kvm1", "kvm2"]) == MACHINES and MACHINES[1]["state"] == "RUNNING"


def test_each_host_is_named_with_what_was_known_of_it() -> None:
    (sentence,) = unasked(MACHINES, ["kvm1"], sentences=True)
    assert sentence.startswith("Host kvm2 is not in this run") and sentence.endswith(": b (RUNNING)")
    many = [{"id": n, "name": f"m{n}", "host": "kvm3", "state": "RUNNING"} for n in range(11)]
    assert unasked(many, ["kvm1"], sentences=True)[0].endswith("m9 (RUNNING) and more")
    assert unasked(MACHINES, ["kvm1", "kvm2"], sentences=True) == []
