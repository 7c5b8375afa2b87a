# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relative template_files are read on the control node, and what can't be read is its item's error."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.template_items import template_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.plugin_utils import template_files


@pytest.fixture
def variables(tmp_path):
    (tmp_path / "web.tmpl").write_text('CPU = 1\nCONTEXT = [ A = "é" ]')
    (tmp_path / "latin").write_bytes(b"CPU = \xe9")
    (tmp_path / "large").write_bytes(b"#" * (template_files.LARGEST + 1))
    return {"inventory_dir": str(tmp_path)}


def brought(item, variables, local=False):
    assert template_files.put_template_files([item], variables, local)
    return item["template_file"]


def test_the_content_goes_with_the_item(variables):
    item = {"name": "web", "template_file": "web.tmpl"}
    brought(item, variables)
    assert template_of(item)[1].get("CPU") == "1"


def test_with_a_local_connection_the_path_does(variables):
    assert brought({"template_file": "web.tmpl"}, variables, True) == f"{variables['inventory_dir']}/web.tmpl"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone", "it is not on the control node: neither beside the inventory"),
        ("latin", "it is not UTF-8 (byte 6)"),
        ("large", "it has more than 1024 KiB"),
        (".", "it can't be read: Is a directory"),
    ],
)
def test_what_can_not_be_read_is_its_items_error(variables, name, why):
    item = {"name": "web", "template_file": name}
    assert brought(item, variables)["lost"].startswith(why)
    with pytest.raises(NotFound) as caught:
        template_of(item)
    assert str(caught.value).startswith(f"template web: template_file {name}: {why}")


@pytest.mark.parametrize(
    "item",
    [
        {"template_file": "/srv/web.tmpl"},
        {"template_file": "~/web.tmpl"},
        {"template_file": ""},
        {"template_file": 5},
        {"template_file": "web.tmpl", "template": "CPU = 1"},
        {"template": "CPU = 1"},
        "web.tmpl",
        None,
    ],
)
def test_what_is_not_the_control_nodes_stays(variables, item):
    before = dict(item) if isinstance(item, dict) else item
    assert not template_files.put_template_files([item], variables, False) and item == before


@pytest.mark.parametrize("items", [None, {}, "web.tmpl", 5])
def test_what_is_no_list_has_none(variables, items):
    assert not template_files.put_template_files(items, variables, False)
