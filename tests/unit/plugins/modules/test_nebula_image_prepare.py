# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module where no disk has to be opened: what it refuses, and images that earlier tasks are about to bring."""

from __future__ import annotations

import json

import pytest
from canaries import ways

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_image_prepare


@pytest.fixture
def module(options, root):
    def run(check=False, **given):
        return nebula_image_prepare.call.run(options(nebula_image_prepare, root=root, **given), check)

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
    assert result.warnings[0].startswith(f"In check mode, taken as about to come: image {path}")
    assert result.payload["image"] == {"name": None, "path": path, "changed": True, "os": None, "steps": []}


def test_a_name_that_the_catalog_does_not_have(module, furnished):
    assert "nothing" in texts(module(name="nothing"))[0]
    assert module(check=True, name="nothing").changed


def test_one_of_the_catalog_whose_file_is_gone_stays_as_it_is(module, furnished, vm):
    before = texts(module(name="demo", steps=[]))
    assert len(before) == 1 and "demo" in before[0]
    assert not vm(furnished, name="a", template="web").errors, "it is not left LOCKED"


def test_one_that_a_machine_uses_is_refused(module, furnished, vm):
    vm(furnished, name="a", template="web")
    (text,) = texts(module(name="demo"))
    assert "image demo (id 0): prepare: it is used by 1 machine. End these machines first" in text


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"steps": ["contxt"]}, ["step 'contxt'", "Did you mean 'context'?"]),
        ({"timezone": "../etc"}, ["timezone '../etc'", "Write it as Europe/Berlin"]),
        ({"timezone": "/etc/passwd"}, ["timezone '/etc/passwd'"]),
        ({"files": '[{"path": "/etc/motd"}]'}, ["file /etc/motd", "one of content, content_base64 and src"]),
        ({"files": '[{"content": "s3cr3t"}]'}, ["file ?", "it needs a path"]),
        ({"files": '[{"path": "/a", "content": "s3cr3t", "src": "/b"}]'}, ["file /a"]),
        ({"files": '[{"path": "/a", "content": "s3cr3t", "mode": "rw"}]'}, ["mode 'rw'", "Write it as '0644'"]),
        ({"files": '[{"path": "/a", "content_base64": "s3cr3t!"}]'}, ["it is not base64", "base64 -w0"]),
        ({"files": '[{"path": "/a", "contnet": "s3cr3t"}]'}, ["key 'contnet'", "Did you mean 'content'?"]),
    ],
)
def test_what_cannot_be_meant_is_named_and_no_content_is_told(module, tmp_path, given, parts):
    image = tmp_path / "disk"
    image.write_bytes(b"x" * 1024)
    for check in (True, False):
        (text,) = texts(module(check, path=str(image), **given))
        for part in (f"image {image}", *parts):
            assert part in text
        assert not ways("s3cr3t", text)
    assert image.read_bytes() == b"x" * 1024


def test_one_bad_item_does_not_keep_the_others(module):
    images = [{"path": "/none/a", "stpes": []}, {"path": "/none/b"}, {"path": "/none/c", "steps": ["nothing"]}]
    result = module(images=json.dumps(images))
    said = texts(result)
    assert "images[0]: key 'stpes'" in said[0] and "Did you mean 'steps'?" in said[0]
    assert "/none/b" in said[1] and "step 'nothing'" in said[2]
    assert [view["path"] for view in result.payload["images"]] == ["/none/b", "/none/c"]


def test_what_the_options_say_holds_for_each_item_that_says_nothing_else(module):
    images = json.dumps([{"path": "/none/a"}, {"path": "/none/b", "steps": []}])
    said = texts(module(images=images, steps=["nothing"]))
    assert "step 'nothing'" in said[0]
    assert "no such file" in said[1]


def test_the_same_image_twice_is_refused(module):
    with pytest.raises(InvalidValue, match="two items are this image"):
        module(images=json.dumps([{"path": "/none/a"}, {"path": "/none/../none/a"}]))
