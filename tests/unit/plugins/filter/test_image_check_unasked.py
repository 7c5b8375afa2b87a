# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that a machine would write to for good is told as one that was not asked."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_unasked = FilterModule().filters()["image_unasked"]
IMAGES = [{"name": "web", "size": 1, "persistent": False}, {"name": "own", "size": 1, "persistent": True}]
WHY = {"why_not": "it is persistent, and a machine would write to it"}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"name": "own"}, {"own": WHY}),
        ({"name": "web"}, {}),
        ({"name": "own", "os": "windows"}, {}),
        ({"name": "gone"}, {}),
        ({"path": "/srv/own"}, {}),
        ("own", {}),
    ],
)
def test_what_is_said_of_an_image(item, said):
    assert image_unasked([item], IMAGES) == said


def test_no_image_has_both_a_machine_and_a_reason_why_it_has_none():
    items = [{"name": image["name"]} for image in IMAGES]
    trials = FilterModule().filters()["image_trials"](items, IMAGES, "")
    assert {trial["name"] for trial in trials}.isdisjoint(
        f"image-check-{name}" for name in image_unasked(items, IMAGES)
    )
    assert len(trials) + len(image_unasked(items, IMAGES)) == len(IMAGES)
