# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects become items that remove them, by their names alone."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.absent import FilterModule

absent = FilterModule().filters()["absent"]


def test_an_item_has_the_name_and_nothing_else_of_its_object():
    assert absent([{"name": "web", "id": 0, "state": "RUNNING"}, {"name": "db"}]) == [
        {"name": "web", "state": "absent"},
        {"name": "db", "state": "absent"},
    ]


def test_what_is_said_besides_is_in_every_item():
    assert absent([{"name": "web"}, {"name": "db"}], hard=True) == [
        {"hard": True, "name": "web", "state": "absent"},
        {"hard": True, "name": "db", "state": "absent"},
    ]


def test_nothing_else_can_be_asked_for_than_to_remove_it():
    assert absent([{"name": "web"}], state="present", name="other") == [{"name": "web", "state": "absent"}]


def test_no_objects_are_no_items():
    assert absent([]) == [] and absent([], hard=True) == []


def test_an_object_without_a_name_is_an_error():
    with pytest.raises(KeyError):
        absent([{"id": 3}])


def test_the_objects_stay_as_they_are():
    objects = [{"name": "web", "state": "RUNNING"}]
    absent(objects, hard=True)
    assert objects == [{"name": "web", "state": "RUNNING"}]
