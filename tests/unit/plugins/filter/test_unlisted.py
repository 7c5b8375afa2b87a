# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report names what the catalog has and no list names, and nothing of which that is not known."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.unlisted import unlisted

POOLS = {"unlisted_vms": ["old-0"], "images": ["demo", "past"], "networks": ["private"], "templates": ["web", "was"]}


def test_each_kind_has_a_line():
    lines = unlisted(
        POOLS,
        images={"images": [{"name": "demo"}]},
        networks={"networks": [{"name": "private"}]},
        templates={"templates": []},
    )
    assert lines == [
        "In the catalog and in no list, virtual machines: old-0",
        "In the catalog and in no list, images: past",
        "In the catalog and in no list, templates: web, was",
    ]


def test_of_a_role_that_did_not_run_or_failed_nothing_is_said():
    failed = {"images": [], "msg": "image demo: no such file", "failed": False}
    assert unlisted({**POOLS, "unlisted_vms": []}, images=failed, networks={}) == []
    assert unlisted({}) == []


def test_a_long_list_is_cut():
    line = unlisted({"unlisted_vms": [f"vm-{n}" for n in range(25)]})[0]
    assert line.endswith("vm-19 and 5 more")
