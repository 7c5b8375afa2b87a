# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over surveys/job_templates.py, whose tests have the rules."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.awx_merged import FilterModule

awx_merged = FilterModule().filters()["awx_merged"]


def test_items_are_changed_and_added():
    assert awx_merged([{"name": "a", "x": 1, "y": 2}], [{"name": "b"}, {"name": "a", "x": 3}]) == [
        {"name": "a", "x": 3, "y": 2},
        {"name": "b"},
    ]
