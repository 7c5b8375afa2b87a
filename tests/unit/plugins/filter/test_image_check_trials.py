# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images of a list get a machine, and what of an item goes into it.

What a whole machine looks like is in test_image_check_flow.py."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_trials = FilterModule().filters()["image_trials"]
WEB = {"name": "web", "size": 700}


def one(item, image=WEB):
    (found,) = image_trials([item], [image], "#!/bin/sh\n")
    return found


@pytest.mark.parametrize(
    ("item", "image"),
    [
        ({"name": "web"}, {**WEB, "persistent": True}),
        ({"name": "web", "os": "windows"}, WEB),
        ({"name": "gone"}, WEB),
        ({"path": "/srv/web.qcow2"}, WEB),
        ("web", WEB),
    ],
)
def test_an_image_of_which_no_machine_can_be_made(item, image):
    assert image_trials([item], [image], "#!/bin/sh\n") == []


def test_the_disk_is_larger_than_the_image_and_stays_of_that_image():
    disks = one({"name": "web", "disk": {"IMAGE": "other", "DEV_PREFIX": "sd"}})["disks"]
    assert disks[0] == {"DEV_PREFIX": "sd", "IMAGE": "web", "SIZE": 1724} and len(disks) == 2
    assert one({"name": "web"})["disks"][0]["DEV_PREFIX"] == "vd"


def test_nobody_has_the_key_of_an_encrypted_image():
    found = one({"name": "web"}, {**WEB, "luks_secret": "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"})
    assert "SIZE" not in found["disks"][0] and "inject" not in found


@pytest.mark.parametrize(
    ("form", "twice"), [("nocloud", False), ("configdrive", False), ("opennebula", True), ("", True)]
)
def test_the_script_runs_once_whatever_the_format(form, twice):
    found = one({"name": "web", "context_format": form} if form else {"name": "web"})
    assert found.get("context_format", "") == form and found["context"]["START_SCRIPT"] == "#!/bin/sh\n"
    user_data = found["context"].get("USER_DATA")
    assert (user_data is not None) is twice and (not twice or base64.b64decode(user_data) == b"#!/bin/sh\n")


def test_an_item_has_the_last_word_on_its_context():
    assert one({"name": "web", "context": {"NETWORK": "NO"}})["context"]["NETWORK"] == "NO"


def test_the_items_stay_as_they_are():
    item = {"name": "web", "disk": {"DEV_PREFIX": "sd"}, "context": {"A": "b"}}
    one(item)
    assert item == {"name": "web", "disk": {"DEV_PREFIX": "sd"}, "context": {"A": "b"}}
