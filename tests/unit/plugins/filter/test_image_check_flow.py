# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a live check of images makes of its list, and of what came of its machines."""

from __future__ import annotations

import base64

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

FILTERS = FilterModule().filters()
IMAGES = [
    {"name": "web", "size": 700, "persistent": False},
    {"name": "db", "size": 900, "persistent": False, "luks_secret": "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"},
    {"name": "own", "size": 900, "persistent": True},
    {"name": "win", "size": 900, "persistent": False},
]
ITEMS = [
    {"name": "web", "template": "direct", "disk": {"DEV_PREFIX": "sd"}, "context": {"USERNAME": "ann"}},
    {"name": "db", "timezone": "Europe/Berlin", "context_format": "nocloud"},
    {"name": "own"},
    {"name": "win", "os": "windows"},
    {"path": "/srv/x.qcow2"},
    {"name": "unknown"},
    "no dict",
]


def trials():
    return FILTERS["image_trials"](ITEMS, IMAGES, "#!/bin/sh\n")


def test_a_machine_for_each_image_of_the_catalog():
    web, db = trials()
    assert (web["name"], web["template"]) == ("image-check-web", "direct")
    assert web["disks"][0] == {"DEV_PREFIX": "sd", "IMAGE": "web", "SIZE": 1724}
    # The size by which the script finds it.
    assert web["disks"][1]["SIZE"] * 2048 == 137216
    assert web["context"]["USERNAME"] == "ann" and web["context"]["SET_HOSTNAME"] == "image-check-web"
    assert base64.b64decode(web["context"]["USER_DATA"]) == web["context"]["START_SCRIPT"].encode()
    # Once is enough.
    assert "USER_DATA" not in db["context"] and db["context"]["START_SCRIPT"]
    assert web["inject"][0]["path"] == "/etc/nebula-check"
    # Nobody has the key.
    assert db["template"] == "nebula-image-check" and db["context_format"] == "nocloud"
    assert "SIZE" not in db["disks"][0] and "inject" not in db


def test_a_persistent_image_gets_no_machine():
    """What its guest writes would stay in it, as would a snapshot."""
    assert "image-check-own" not in [trial["name"] for trial in trials()]
    assert FILTERS["image_unasked"](ITEMS, IMAGES) == {
        "own": {"why_not": "it is persistent, and a machine would write to it"}
    }


def test_what_is_known_of_each():
    records = [
        {"name": "image-check-web", "state": "RUNNING", "disks": [{"snapshots": [{"name": "check"}]}, {}]},
        {"name": "image-check-db", "state": "FAILURE", "disks": [], "error": "no room"},
    ]
    said = FILTERS["image_said"](trials(), IMAGES, records, {"image-check-web": "nebula-check: begin\n"})
    assert said["web"] == {
        "console": "nebula-check: begin\n",
        "host_name": "image-check-web",
        "root_mib": 1724,
        "image_mib": 700,
        "injected": "told by a live check",
        "snapshot": "ok",
    }
    assert (said["db"]["console"], said["db"]["injected"], said["db"]["snapshot"]) == ("", "", "")
    assert FILTERS["image_said"](trials(), IMAGES, [], {})["web"]["snapshot"] == ""


def test_a_snapshot_of_those_that_run():
    wanted = FILTERS["image_snapshots"](trials(), [{"name": "image-check-web", "state": "RUNNING"}])
    assert [(item["name"], item["disk_snapshots"]) for item in wanted] == [
        ("image-check-web", [{"name": "check", "disk": 0}])
    ]


def test_items_for_the_module():
    assert FILTERS["image_checks"](ITEMS)[:2] == [{"name": "web"}, {"name": "db", "timezone": "Europe/Berlin"}]
    assert FILTERS["image_checks"](ITEMS)[-1] == "no dict"


def test_rows_of_a_table():
    point = {"point": "tmp", "result": "fail", "why": "x", "remedy": "y"}
    rows = FILTERS["image_points"]([{"name": "web", "points": [point]}, {"path": "/srv/x", "error": "damaged"}])
    assert rows[0] == {"image": "web", **point}
    assert (rows[1]["image"], rows[1]["result"], rows[1]["why"]) == ("/srv/x", "not read", "damaged")
