# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template's name and content come from its item, from wherever that says them; what can't be meant is refused."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.template_items import LONGEST_FILE, template_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, TemplateSyntaxError
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

TEXT = 'NAME = "own"\nCPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "demo" ]\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "web.one"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize(("item", "name"), [({}, "own"), ({"name": "web"}, "web"), ({"name": ""}, "own")])
def test_the_items_name_goes_before_the_templates_own(item, name):
    assert template_of({**item, "template": TEXT}) == (name, parse(TEXT))


def test_text_a_dict_and_a_file_say_the_same(file):
    as_dict = {"NAME": "own", "cpu": 1, "memory": 64, "disk": {"image": "demo"}}
    found = [template_of(item) for item in ({"template": TEXT}, {"template": as_dict}, {"template_file": str(file)})]
    assert found == [("own", parse(TEXT))] * 3


def test_an_option_that_is_none_is_as_one_that_is_not_given(file):
    assert template_of({"name": None, "template": TEXT, "template_file": None})[0] == "own"
    assert template_of({"name": None, "template": None, "template_file": str(file)})[0] == "own"


def test_an_empty_template_is_one():
    assert template_of({"name": "web", "template": ""}) == ("web", Template())
    assert template_of({"name": "web", "template": {}}) == ("web", Template())


@pytest.mark.parametrize(
    ("item", "asked", "found"),
    [
        ({"name": "web"}, "template web", "neither template nor template_file"),
        ({}, "template", "neither template nor template_file"),
        ({"name": "web", "template": TEXT, "template_file": "/x"}, "template web", "both a template and a"),
        ({"name": "web", "template": "", "template_file": "/x"}, "template web", "both a template and a"),
        # An empty path is given, too: as a module's own options have it.
        ({"name": "web", "template": TEXT, "template_file": ""}, "template web", "both a template and a"),
    ],
)
def test_the_content_is_given_once(item, asked, found):
    with pytest.raises(InvalidValue) as caught:
        template_of(item)
    assert caught.value.asked == asked
    assert found in caught.value.found
    assert "one of the two" in caught.value.remedy


def test_a_template_has_a_name():
    with pytest.raises(InvalidValue, match="the name is empty"):
        template_of({"template": "CPU = 1\n"})


def test_a_name_that_means_something_elsewhere_is_refused():
    with pytest.raises(InvalidValue, match=r"template 'a/b'"):
        template_of({"name": "a/b", "template": TEXT})


def test_malformed_text_names_the_template():
    with pytest.raises(TemplateSyntaxError) as caught:
        template_of({"name": "web", "template": "CPU = 1\nDISK = [ IMAGE"})
    assert "template web" in caught.value.asked


def test_a_file_that_is_not_there_names_the_template_and_the_path(tmp_path):
    with pytest.raises(NotFound) as caught:
        template_of({"name": "web", "template_file": str(tmp_path / "nosuch")})
    assert caught.value.asked == f"template web: template_file {tmp_path}/nosuch"
    assert caught.value.remedy


def test_a_path_with_blanks_is_named_whole(tmp_path):
    with pytest.raises(NotFound) as caught:
        template_of({"name": "web", "template_file": str(tmp_path / "no such file")})
    assert caught.value.asked.endswith(f"template_file {tmp_path}/no such file")


def test_an_empty_path_is_told_as_one():
    with pytest.raises(InvalidValue) as caught:
        template_of({"name": "web", "template_file": ""})
    assert str(caught.value) == (
        "template web: template_file '': the path is empty. Give that of a file, or leave it out"
    )


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    place = tmp_path / "there"
    place.mkdir() if kind == "directory" else os.mkfifo(place)
    with pytest.raises(InvalidValue, match=r"template web: template_file .*there: it is not a regular file"):
        template_of({"name": "web", "template_file": str(place)})


def test_a_file_that_is_no_text_is_told_with_its_first_wrong_byte(file):
    file.write_bytes(b"NAME = \xff\n")
    with pytest.raises(InvalidValue, match=r"template_file .*web\.one: it is not UTF-8 \(byte 7\)"):
        template_of({"name": "web", "template_file": str(file)})


def test_a_file_may_be_of_the_longest_and_not_a_byte_longer(file):
    line = b"# comment\n"
    file.write_bytes(TEXT.encode() + line * ((LONGEST_FILE - len(TEXT)) // len(line)))
    rest = LONGEST_FILE - file.stat().st_size
    with file.open("ab") as more:
        more.write(b"\n" * rest)
    assert template_of({"template_file": str(file)})[0] == "own"
    with file.open("ab") as more:
        more.write(b"\n")
    with pytest.raises(InvalidValue, match=f"more than {LONGEST_FILE} bytes"):
        template_of({"template_file": str(file)})
