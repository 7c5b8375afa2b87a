# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot is asked for on the first disk of those machines that run."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_snapshots = FilterModule().filters()["image_snapshots"]
TRIALS = [{"name": "image-check-web", "template": "a"}, {"name": "image-check-db", "template": "b"}]


def test_a_machine_that_runs_is_the_same_with_a_snapshot():
    records = [{"name": "image-check-db", "state": "RUNNING"}, {"name": "another", "state": "RUNNING"}]
    assert image_snapshots(TRIALS, records) == [{**TRIALS[1], "disk_snapshots": [{"name": "check", "disk": 0}]}]
    assert "disk_snapshots" not in TRIALS[1]


@pytest.mark.parametrize("record", [{"state": "FAILURE"}, {"state": "POWEROFF"}, {"state": "running"}, {}])
def test_a_machine_that_does_not_run_is_left_out(record):
    assert image_snapshots(TRIALS, [{"name": "image-check-web", **record}]) == []


def test_no_records_are_no_snapshots():
    assert image_snapshots(TRIALS, []) == []
