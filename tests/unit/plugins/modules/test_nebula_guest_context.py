# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module where no disk has to be opened: what it refuses, and images that earlier tasks are about to bring."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_guest_context


@pytest.fixture
def module(options):
    def run(check=False, **given):
        return nebula_guest_context.call.run(options(nebula_guest_context, program="#!/bin/sh\n", **given), check)

    return run


def texts(result):
    return [str(item.error) for item in result.errors]


def test_an_image_that_is_not_there_is_an_error_and_in_check_mode_about_to_come(module, tmp_path):
    path = str(tmp_path / "none.qcow2")
    (item,) = module(path=path).errors
    assert isinstance(item.error, NotFound)
    assert f"image {path}: there is no such file on this host. Check the path" in str(item.error)
    result = module(check=True, path=path)
    assert result.changed and not result.errors
    assert f"taken as about to come: image {path}" in result.warnings[0]
    assert result.payload["image"] == {"path": path, "changed": True, "how": None, "os": None}


@pytest.mark.parametrize("check", [True, False])
def test_one_that_nobody_trusts_is_not_mounted(module, tmp_path, check):
    image = tmp_path / "disk"
    image.write_bytes(b"x")
    (text,) = texts(module(check, path=str(image), via="mount"))
    for part in (f"image {image}: via mount", "not said to be trusted", "Set trusted: true"):
        assert part in text
    assert image.read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize("check", [True, False])
def test_what_is_no_file_of_a_disk_is_refused(module, tmp_path, check):
    assert "it is not a regular file" in texts(module(check, path=str(tmp_path)))[0]
    assert "the path is not absolute" in texts(module(check, images=[{"path": "disk"}]))[0]


def test_one_bad_item_does_not_keep_the_others(module):
    result = module(images=["x", {"paht": "/a"}, {"path": "/none/b", "format": "vmdk"}, {"path": "/none/c"}])
    said = texts(result)
    assert "images[0]: it is a str" in said[0]
    assert "key 'paht'" in said[1] and "Did you mean 'path'?" in said[1]
    assert "image /none/b: format 'vmdk'" in said[2]
    assert "image /none/c" in said[3]
    assert [view["path"] for view in result.payload["images"]] == ["/none/b", "/none/c"]
    assert not result.changed


def test_what_the_options_say_holds_for_each_item_that_says_nothing_else(module):
    images = [{"path": "/none/a"}, {"path": "/none/b", "trusted": True}]
    said = texts(module(images=images, via="mount"))
    assert "not said to be trusted" in said[0]
    assert "no such file" in said[1]


def test_the_same_image_twice_is_refused(module):
    with pytest.raises(InvalidValue, match="two items are this file"):
        module(images=[{"path": "/none/a"}, {"path": "/none/../none/a"}])
