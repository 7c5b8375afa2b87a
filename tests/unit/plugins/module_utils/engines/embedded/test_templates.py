# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of a catalog are kept as they are given, and what an earlier task would have stored is taken as given."""

from __future__ import annotations

import time

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.templates import Templates
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = parse('CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "demo", TARGET = "vda" ]\nDISK = [ TYPE = "swap", SIZE = 8 ]\n')
OTHER = parse("CPU = 2\nMEMORY = 128\n")


@pytest.fixture
def templates(undone):
    return Templates(undone)


def test_what_is_stored_is_what_is_read(templates):
    before = int(time.time())
    made = templates.allocate("web", WEB)
    assert (made.id, made.name, made.template) == (0, "web", WEB)
    assert before <= made.registered <= int(time.time())
    assert templates.info("web") == templates.info(0) == templates.info("0") == made
    assert templates.pool() == [made]


@pytest.mark.parametrize(
    "template",
    [
        Template(),
        Template((("EMPTY", ""), ("VECTOR", ()))),
        Template((("TEXT", 'ü "quoted"\n\\ 日本'), ("LIST", (("A", "1"), ("B", ""))), ("LIST", (("A", "2"),)))),
    ],
)
def test_every_template_comes_back_as_it_was(templates, template):
    templates.allocate("odd", template)
    assert templates.info("odd").template == template


def test_a_name_is_one_templates(templates):
    templates.allocate("web", WEB)
    with pytest.raises(Conflict, match=r"template web: template 0 has that name\. Update it, or rename this one"):
        templates.allocate("web", OTHER)
    with pytest.raises(InvalidValue, match="template 'a/b'"):
        templates.allocate("a/b", OTHER)
    assert [each.template for each in templates.pool()] == [WEB]


def test_the_whole_content_is_replaced(templates):
    made = templates.allocate("web", WEB)
    other = templates.allocate("other", WEB)
    changed = templates.update("web", OTHER)
    assert (changed.id, changed.name, changed.registered) == (made.id, "web", made.registered)
    assert templates.pool() == [changed, other]
    assert changed.template == OTHER


def test_what_is_removed_is_gone_and_its_id_is_no_other_ones(templates):
    made = templates.allocate("web", WEB)
    assert templates.delete("web") == made
    assert templates.pool() == []
    assert templates.allocate("web", WEB).id == 1


def test_a_miss_names_the_nearest(templates):
    templates.allocate("debian", WEB)
    for verb in (templates.info, templates.delete, lambda ref: templates.update(ref, OTHER)):
        with pytest.raises(NotFound, match=r"template 'debain'.*Did you mean 'debian'\?"):
            verb("debain")


# -- check mode --------------------------------------------------------------------------------------------------------


def declared(templates, *items):
    for item in items:
        templates.declare(item)
    return {each.name: each.template for each in templates.pool()}


def test_a_result_brings_one_that_is_not_there_and_changes_none_that_is(templates):
    """Results lack the secrets, which the template itself still has."""
    templates.allocate("web", WEB)
    result = {"id": 7, "attributes": {"CPU": "2", "MEMORY": "128"}}
    found = declared(templates, {**result, "name": "web"}, {**result, "name": "new"})
    assert found == {"web": WEB, "new": OTHER}
