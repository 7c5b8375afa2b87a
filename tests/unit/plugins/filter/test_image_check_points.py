# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each point of an image is a row, and so is an image that could not be read."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_points = FilterModule().filters()["image_points"]
POINT = {"point": "tmp", "result": "fail", "why": "left", "remedy": "Empty it"}
COLUMNS = {"image", "point", "result", "why", "remedy"}


@pytest.mark.parametrize(
    ("image", "label"),
    [({"name": "web", "path": "/srv/x"}, "web"), ({"path": "/srv/x"}, "/srv/x"), ({"name": "", "path": "/a"}, "/a")],
)
def test_a_row_names_its_image(image, label):
    assert image_points([{**image, "points": [POINT]}]) == [{"image": label, **POINT}]


def test_rows_come_in_the_order_of_images_and_points():
    images = [{"name": name, "points": [POINT, {**POINT, "point": "logs"}]} for name in ("b", "a")]
    assert [(row["image"], row["point"]) for row in image_points(images)] == [
        ("b", "tmp"),
        ("b", "logs"),
        ("a", "tmp"),
        ("a", "logs"),
    ]


def test_an_image_that_could_not_be_read_has_a_row_of_its_own():
    (row,) = image_points([{"name": "web", "error": "it is damaged", "points": None}])
    assert set(row) == COLUMNS and (row["result"], row["why"]) == ("not read", "it is damaged")


def test_an_error_hides_no_points():
    found = image_points([{"name": "web", "error": "half", "points": [POINT]}])
    assert [row["result"] for row in found] == ["not read", "fail"] and all(set(row) == COLUMNS for row in found)


def test_nothing_found_is_no_row():
    assert image_points([]) == [] and image_points([{"name": "web"}, {"name": "db", "error": "", "points": []}]) == []
