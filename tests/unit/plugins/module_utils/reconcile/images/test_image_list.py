# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what is foreseen and refused; and as root, whose the files of images are, the life
of an image of a few bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list
from ansible_collections.nebula.provision.plugins.modules import nebula_image

CONTENT = BOOT + b"a disk\n" * 1000
as_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("qemu-img") is None, reason="needs root and qemu-utils")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return str(path)


@pytest.fixture
def module(options, tmp_path):
    def run(check=False, **given):
        return nebula_image.call.run(options(nebula_image, root=str(tmp_path / "nebula"), **given), check)

    return run


def texts(result):
    return [str(item.error) for item in result.errors]


def test_check_mode_foresees_an_image_and_makes_no_file(module, file, tmp_path):
    result = module(check=True, name="disk", path=file, remote_src=True, format="raw")
    assert not result.errors
    assert result.changed
    assert (result.payload["image"]["name"], result.payload["image"]["id"]) == ("disk", None)
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


def test_one_that_was_never_there_is_absent_without_a_change(module):
    for check in (True, False):
        result = module(check, name="disk", state="absent")
        assert (result.changed, result.errors, result.payload["images"]) == (False, [], [])


def test_one_bad_item_does_not_keep_the_others(module, file):
    images = [
        "x",
        {"name": "a", "paht": file},
        {"name": "b/c", "path": file},
        {"name": "d", "path": file, "type": "TAPE"},
        {"name": "e", "path": file, "size": "much"},
        {"name": "good", "path": file, "remote_src": True},
    ]
    result = module(check=True, images=json.dumps(images))
    said = "\n".join(texts(result))
    assert len(result.errors) == 5
    for part in ("images[0]: it is a str", "image a: key 'paht'", "Did you mean 'path'?", "b/c", "image d", "image e"):
        assert part in said
    assert [view["name"] for view in result.payload["images"]] == ["good"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["CONTEXT", "KERNEL", "OS"])
def test_what_a_host_keeps_is_no_image(module, tmp_path, check, kind):
    (tmp_path / "link").symlink_to("/etc/hostname")
    if not check and os.geteuid() != 0:
        pytest.skip("files of images are root's")
    result = module(check, name="x", type=kind, path=str(tmp_path / "link"), remote_src=True)
    (told,) = texts(result)
    assert f"image x: path {tmp_path}/link: " in told and "is below /etc, which is restricted" in told
    assert "nebula_safe_dirs" in told


def test_other_directories_and_those_that_are_safe(module, file, tmp_path):
    given = {"check": True, "name": "x", "path": file, "remote_src": True}
    assert "is restricted" in texts(module(**given, restricted_dirs=[str(tmp_path)]))[0]
    assert not module(**given, restricted_dirs=[str(tmp_path)], safe_dirs=[str(tmp_path)]).errors
    for option in ("restricted_dirs", "safe_dirs"):
        with pytest.raises(InvalidValue, match=f"option {option}: 'etc'"):
            module(**given, **{option: ["etc"]})


def test_what_is_no_list_is_refused(module):
    with pytest.raises(InvalidValue, match="option images"):
        module(images='{"name": "a"}')


def test_a_part_of_an_upload_is_kept_where_it_goes_on(options, tmp_path):
    (tmp_path / "datastores" / "1").mkdir(parents=True)
    identity = hashlib.sha256(b"disk").hexdigest()

    def send(offset, content):
        chunk = tmp_path / "chunk"
        chunk.write_bytes(content)
        step = {"identity": identity, "offset": offset, "chunk": str(chunk)}
        params = options(nebula_image, root=str(tmp_path), _upload=json.dumps(step))
        return nebula_image.call.run(params, False).payload

    assert send(0, b"hello ") == {"received": 6}
    assert send(6, b"world") == {"received": 11}


@as_root
def test_created_again_updated_absent_and_absent_again_as_predicted(module, file, tmp_path):
    disk = {"name": "disk", "path": file, "remote_src": True, "format": "raw"}
    steps = [
        (disk, True),
        (disk, False),
        ({"name": "disk", "description": "a few bytes"}, True),
        ({"name": "disk", "description": "a few bytes"}, False),
        ({"name": "disk", "state": "disabled"}, True),
        ({"name": "disk", "state": "enabled"}, True),
        ({"name": "disk", "state": "absent"}, True),
        ({"name": "disk", "state": "absent"}, False),
    ]
    place = tmp_path / "nebula" / "datastores" / "1"
    for given, changes in steps:
        files = sorted(place.iterdir()) if place.exists() else None
        predicted = module(check=True, **given)
        assert (sorted(place.iterdir()) if place.exists() else None) == files
        real = module(**given)
        assert (texts(predicted), texts(real)) == ([], [])
        assert (predicted.changed, real.changed) == (changes, changes), given
    assert list(place.iterdir()) == []


@as_root
def test_what_is_stored_is_what_was_given_and_nobody_writes_to_it(module, file):
    result = module(
        name="disk", path=file, remote_src=True, format="raw", checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    )
    image = result.payload["image"]
    stored = Path(image["source"])
    assert stored.read_bytes()[: len(CONTENT)] == CONTENT
    assert stat.S_IMODE(stored.stat().st_mode) & 0o222 == 0
    assert (image["id"], image["state"], image["type"]) == (0, "READY", "OS")
    (text,) = texts(module(name="other", path=file, remote_src=True, checksum=f"sha256:{'0' * 64}"))
    assert "image other" in text and "0" * 64 in text


def test_the_directories_of_a_catalog_that_was_removed_meanwhile_go(module, file, tmp_path, monkeypatch):
    tidied = []
    monkeypatch.setattr(image_list, "remove_directories", lambda params: tidied.append(params["root"]))
    module(check=True, name="demo", path=file)
    module(name="demo", state="absent")
    assert tidied == []
    apply = image_list.apply

    def overtaken(*given):
        done = apply(*given)
        (tmp_path / "nebula" / CATALOG).unlink()
        return done

    monkeypatch.setattr(image_list, "apply", overtaken)
    module(name="demo", state="absent")
    assert tidied == [str(tmp_path / "nebula")]
