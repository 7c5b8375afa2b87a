# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module where there is nothing to build: an image that is as it would be made, and its removal. Making one takes
packages from the net; tests/integration/test_demo_image.py does."""

from __future__ import annotations

import hashlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_image
from ansible_collections.nebula.provision.plugins.modules import nebula_demo_image


@pytest.fixture
def place(tmp_path):
    """dest is a demo image, as far as its record tells."""
    dest, cache = tmp_path / "demo.img", tmp_path / "cache"
    cache.mkdir()
    dest.write_bytes(b"a disk")
    for name in ("linux-image-cloud_1.deb", "busybox-static_1.deb"):
        (cache / name).touch()
    record = {**demo_image.inputs("amd64"), "sha256": hashlib.sha256(b"a disk").hexdigest(), "versions": {"x": "1"}}
    demo_image.record_path(dest).write_text(json.dumps(record))
    return tmp_path


@pytest.fixture
def module(options, tmp_path):
    def run(check=False, **given):
        params = options(nebula_demo_image, dest=str(tmp_path / "demo.img"), cache=str(tmp_path / "cache"), **given)
        return nebula_demo_image.call.run(params, check)

    return run


@pytest.mark.parametrize("option", ["dest", "cache"])
def test_a_relative_path_is_refused(options, option):
    params = options(nebula_demo_image, **{"dest": "/x/demo.img", option: "demo.img"})
    with pytest.raises(InvalidValue, match=f"{option} 'demo.img': the path is not absolute"):
        nebula_demo_image.call.run(params, False)


@pytest.mark.parametrize("check", [True, False])
def test_one_that_is_as_it_would_be_made_stays(module, place, check):
    result = module(check)
    assert not result.changed
    shown = result.payload["demo_image"]
    assert shown["path"] == str(place / "demo.img")
    assert (shown["versions"], shown["sha256"]) == ({"x": "1"}, hashlib.sha256(b"a disk").hexdigest())


def test_check_mode_foresees_a_new_one(module, tmp_path):
    result = module(check=True)
    assert result.changed
    shown = result.payload["demo_image"]
    assert (shown["sha256"], shown["size"], shown["versions"], shown["arch"]) == (None, None, {}, "amd64")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["forced", "another disk", "another guest", "no record", "a record of nothing"])
def test_one_that_is_not_as_it_would_be_made_is_made_anew(module, place, how):
    record = demo_image.record_path(place / "demo.img")
    if how == "another disk":
        (place / "demo.img").write_bytes(b"touched")
    elif how == "another guest":
        record.write_text(json.dumps({**json.loads(record.read_text()), "guest": "older"}))
    elif how == "no record":
        record.unlink()
    elif how == "a record of nothing":
        record.write_text("[]")
    assert module(check=True, force=how == "forced").changed


def test_it_goes_with_all_that_was_downloaded_for_it_and_only_once(module, place):
    (place / "cache" / "somebodys").touch()
    foreseen = module(check=True, state="absent")
    assert foreseen.changed
    assert (place / "demo.img").exists()
    real = module(state="absent")
    assert real.items[0].before == foreseen.items[0].before
    assert len(real.items[0].before["files"]) == 4
    assert [path.name for path in place.rglob("*")] == ["cache", "somebodys"]
    for check in (True, False):
        assert not module(check, state="absent").changed
