# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of the role reach the module without what is for machines."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_checks = FilterModule().filters()["image_checks"]


@pytest.mark.parametrize("key", ["template", "disk", "context", "context_format"])
def test_what_is_for_machines_is_taken_out(key):
    item = {"name": "web", "timezone": "UTC", key: {"A": "b"}}
    assert image_checks([item]) == [{"name": "web", "timezone": "UTC"}] and key in item


@pytest.mark.parametrize("item", [{"path": "/srv/x", "trusted": True, "os": "windows"}, {"unknown": 1}, {}])
def test_what_is_for_the_module_stays(item):
    assert image_checks([item]) == [item]


def test_what_is_no_dict_is_the_modules_to_refuse():
    assert image_checks(["web", None, ["a"]]) == ["web", None, ["a"]]
