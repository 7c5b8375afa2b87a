# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each image's machine is put together, also where the machine came to nothing."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_said = FilterModule().filters()["image_said"]
IMAGES = [{"name": "web", "size": 700}]
TRIAL = {
    "name": "image-check-web",
    "disks": [{"SIZE": 1724}, {"SIZE": 67}],
    "context": {"SET_HOSTNAME": "own-name"},
    "inject": [{"path": "/etc/nebula-check"}],
}
CHECK = [{"snapshots": [{"name": "other"}, {"name": "check"}]}]


def said(trial=TRIAL, records=(), heard=None):
    return image_said([trial], IMAGES, list(records), heard or {})["web"]


def test_what_the_machine_was_asked_for_and_what_it_said():
    assert said(heard={"image-check-web": "ready\n", "another": "x"}) == {
        "console": "ready\n",
        "host_name": "own-name",
        "root_mib": 1724,
        "image_mib": 700,
        "injected": "told by a live check",
        "snapshot": "",
    }


def test_what_was_not_asked_for_is_empty():
    found = said({"name": "image-check-web", "disks": [{}], "context": {}})
    assert (found["root_mib"], found["injected"], found["host_name"], found["console"]) == (0, "", "", "")


@pytest.mark.parametrize(
    ("record", "snapshot"),
    [
        ({"state": "RUNNING", "disks": CHECK}, "ok"),
        ({"state": "RUNNING", "disks": [{"snapshots": [{"name": "other"}]}], "error": "no room"}, "no room"),
        ({"state": "RUNNING", "disks": None}, "none was made"),
        ({"state": "RUNNING", "disks": [{"snapshots": None}]}, "none was made"),
        ({"state": "POWEROFF", "disks": CHECK}, "the machine is POWEROFF afterwards"),
        ({"state": "FAILURE", "disks": []}, ""),
    ],
)
def test_what_came_of_the_snapshot(record, snapshot):
    assert said(records=[{"name": "image-check-web", **record}])["snapshot"] == snapshot
