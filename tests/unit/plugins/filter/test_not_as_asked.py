# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed or differs is there once each, with the first reason."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.not_as_asked import FilterModule

not_as_asked = FilterModule().filters()["not_as_asked"]
ERROR = {
    "name": "debian",
    "asked": "image debian: path",
    "found": "it is not there.",
    "remedy": "Give its path",
    "kind": "NotFound",
}


def test_an_item_that_failed_is_there_by_its_name():
    assert not_as_asked({"image": {"failed": True, "msg": "1 failed", "errors": [ERROR], "images": []}}) == [
        {"object": "image", "name": "debian", "why": "image debian: path: it is not there. Give its path"}
    ]


def test_a_module_that_failed_as_a_whole_is_one_thing():
    assert not_as_asked({"image": {"unreachable": True, "msg": "no route"}, "network": {"failed": True}}) == [
        {"object": "image", "name": "?", "why": "no route"},
        {"object": "network", "name": "?", "why": "a task ended without a word"},
    ]


def test_what_was_skipped_or_never_began_is_nothing():
    assert not_as_asked({"image": {}, "vm": {"skipped": True, "msg": "x"}, "network": {"changed": False}}) == []


def test_a_machine_is_counted_once():
    decided = {
        "differences": [{"name": "web", "sentence": "web: MEMORY is 32"}, {"name": "web", "sentence": "web: CPU is 1"}]
    }
    machines = [
        {"name": "web", "error": "it did not start"},
        {"name": "db", "error": "no memory"},
        {"name": "ok", "error": ""},
    ]
    assert not_as_asked({"vm": decided}, machines=machines) == [
        {"object": "vm", "name": "web", "why": "web: MEMORY is 32"},
        {"object": "vm", "name": "db", "why": "no memory"},
    ]


def test_a_host_that_did_not_answer_is_there_and_one_whose_machines_tell_is_not():
    failed = {"failed": True, "msg": "libvirtd is gone"}
    silent = {"inventory_hostname": "node1", "__nebula_observed": {"unreachable": True, "msg": "no route"}}
    hosts = [silent, {"inventory_hostname": "node2", "__nebula_deployed": failed}, {"inventory_hostname": "node3"}]
    assert [each["name"] for each in not_as_asked({}, hosts=hosts)] == ["node1", "node2"]
    assert [each["name"] for each in not_as_asked({}, machines=[{"name": "a"}], hosts=hosts)] == ["node1"]
