# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of layers beside a root. Mounts are tested in tests/integration/test_roots.py."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_overlay

MARK = {"base": "/cache/image/root", "start": id_range(1).start, "count": 65536}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root.layers").mkdir()
    return tmp_path / "root"


def test_a_root_without_layers(tmp_path):
    assert root_overlay.read(str(tmp_path / "root")) is None and not root_overlay.is_unfinished(str(tmp_path / "root"))
    assert not root_overlay.mount_again(str(tmp_path / "root")) and not root_overlay.remove(str(tmp_path / "root"))


def test_layers_that_are_marked(root):
    (root.parent / "root.layers/layers.json").write_text(json.dumps(MARK))
    assert root_overlay.read(str(root)) == root_overlay.Layers("/cache/image/root", id_range(1))
    assert not root_overlay.is_unfinished(str(root)) and not root_overlay.is_mounted(str(root))
    with pytest.raises(NotFound, match="what it shows, /cache/image/root, is not on this node"):
        root_overlay.mount_again(str(root))


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '{"base": "/x", "start": "x", "count": 1}', "link"])
def test_a_mark_that_is_not_as_it_is_written(text, root):
    mark = root.parent / "root.layers/layers.json"
    if text == "link":
        mark.symlink_to("/etc/passwd")
    else:
        mark.write_text(text)
    with pytest.raises((ForeignObject, InvalidValue)) as caught:
        root_overlay.read(str(root))
    assert "layers" in str(caught.value)


def test_what_a_killed_run_left_is_removed(root):
    assert root_overlay.is_unfinished(str(root)) and root_overlay.remove(str(root))
    assert os.listdir(root.parent) == ["root"]


def test_signs_that_separate_paths():
    assert root_overlay._escaped("/a:b,c\\d e") == "/a\\:b\\,c\\\\d e"
