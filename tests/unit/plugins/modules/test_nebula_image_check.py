# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module where no disk has to be opened: what guests said, images that are not there, and the page of them all."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_image_check


@pytest.fixture
def module(options, root):
    def run(check=False, **given):
        return nebula_image_check.call.run(options(nebula_image_check, root=root, **given), check)

    return run


def texts(result):
    return [str(item.error) for item in result.errors]


def test_consoles_are_heard_and_silent_ones_are_empty(module, tmp_path):
    (tmp_path / "log").write_bytes(b"login: \xff")
    (tmp_path / "link").symlink_to(tmp_path / "log")
    consoles = {"a": str(tmp_path / "log"), "b": str(tmp_path / "none"), "c": str(tmp_path / "link")}
    result = module(listen=consoles)
    assert result.payload == {"heard": {"a": "login: \ufffd", "b": "", "c": ""}}
    assert not result.changed


def test_an_image_that_is_not_there_is_an_error_and_in_check_mode_about_to_come(module, tmp_path):
    path = str(tmp_path / "none.qcow2")
    (text,) = texts(module(path=path))
    assert path in text
    result = module(check=True, path=path)
    assert (result.errors, result.changed) == ([], False)
    assert (result.payload["image"]["path"], result.payload["image"]["points"]) == (path, [])
    assert result.payload["image"]["fit"] is False


def test_without_a_catalog_no_name_is_known(module, tmp_path):
    (item,) = module(name="demo").errors
    assert isinstance(item.error, NotFound)
    assert "image demo: there is no catalog. Give its path" in str(item.error)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_looked_up_in_the_catalog(module, furnished):
    (text,) = texts(module(name="nothing"))
    assert "nothing" in text and "demo" in text
    result = module(name="demo", mode="live", said={"demo": {"why_not": "it was never started"}})
    assert not result.errors
    told = json.dumps(result.payload["image"]["points"])
    assert "it was never started" in told
    assert result.payload["image"]["name"] == "demo"


def test_one_bad_item_does_not_keep_the_others(module, tmp_path):
    images = [
        "x",
        {"path": "relative"},
        {"path": "/a", "nmae": "b"},
        {"path": "/b", "os": "beos"},
        {"name": "c", "path": "/c"},
    ]
    result = module(images=images)
    said = texts(result)
    assert "images[0]: it is a str" in said[0]
    assert "images[2]: key 'nmae'" in said[1] and "Did you mean 'name'?" in said[1]
    assert "image relative: the path is not absolute" in said[2]
    assert "image /b: os 'beos'" in said[3] and "Known are linux, windows" in said[3]
    assert "it needs either a name or a path" in said[4]
    assert "image" not in result.payload
    assert [view["path"] for view in result.payload["images"]] == ["relative", "/b", "/c"]


def test_the_same_image_twice_is_refused(module, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    twins = [{"path": f"{tmp_path}/a"}, {"path": f"{tmp_path}/link/a"}]
    with pytest.raises(InvalidValue, match="two items are this image"):
        module(images=twins)


@pytest.mark.parametrize("check", [True, False])
def test_the_page_is_written_once_and_not_in_check_mode(module, tmp_path, check):
    report = tmp_path / "report.html"
    given = {"images": [{"path": str(tmp_path / "none")}], "report": str(report)}
    assert module(check, **given).changed
    assert report.exists() != check
    assert module(check, **given).changed == check


def test_a_page_needs_a_full_path(module):
    assert "report x: the path is not absolute. Give the full path" in texts(module(images=[], report="x"))[0]
