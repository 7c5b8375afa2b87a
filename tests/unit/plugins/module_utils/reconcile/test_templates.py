# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of a list of templates, applied to a real catalog, and what of a template is shown: never a secret."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.template import StoredTemplate
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import templates
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

TEXT = 'MEMORY = 128 CPU = 0.5 DISK = [ IMAGE = "debian" ]'
SECRETS = (
    TEXT
    + """
RAW = [ TYPE = kvm, DATA = "s3cr3t-raw", DATA_VMX = "s3cr3t-vmx" ]
INJECT = [ PATH = "/etc/motd", CONTENT = "s3cr3t-file" ]
INJECT = [ PATH = "/etc/issue", CONTENT = "s3cr3t-issue" ]
CONTEXT = [ HOSTNAME = "s3cr3t-name" ]
API_TOKEN = "s3cr3t-token"
NOTE = "plain"
"""
)


@pytest.fixture
def engine(tmp_path):
    opened = EmbeddedEngine(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def apply(engine):
    def some(*items):
        with engine.session():
            return templates.apply_all(engine, items)

    return some


def stored(text, number=0):
    return StoredTemplate(number, "web", parse(text))


def test_what_is_returned_is_what_is_there_and_in_the_order_of_the_list(apply):
    apply({"name": "old", "template": TEXT})
    done, warnings = apply(
        {"name": "b", "template": TEXT},
        {"name": "old", "state": "absent"},
        {"name": "bad", "template": "CPU = no"},
        {"name": "a", "template": TEXT},
        {"name": "none", "state": "absent"},
    )
    assert [item.name for item in done] == ["b", "old", "bad", "a", "none"]
    assert [item.is_changed for item in done] == [True, True, False, True, False]
    assert [bool(item.error) for item in done] == [False, False, True, False, False]
    assert [item.after and item.after["id"] for item in done] == [1, None, None, 2, None]
    assert done[1].before["name"] == "old" and done[1].after is None
    assert warnings == []


def test_what_says_the_same_in_another_arrangement_is_no_change(apply):
    apply({"name": "web", "template": TEXT})
    (done,), _warnings = apply({"name": "web", "template": {"disk": [{"image": "debian"}], "cpu": 0.5, "memory": 128}})
    assert not done.is_changed
    assert done.before == done.after and done.view is None


@pytest.mark.parametrize(
    ("word", "strict"),
    [(word, True) for word in ("yes", "TRUE", " on ", "1", True, 1)]
    + [(word, False) for word in ("no", "False", "off", "0", "", None, False, 0)],
)
def test_strict_is_read_in_all_words_for_it(apply, word, strict):
    (done,), warnings = apply({"name": "web", "template": TEXT + " MEMROY = 1", "strict": word})
    if strict:
        assert isinstance(done.error, InvalidValue)
        assert "did you mean MEMORY" in str(done.error)
    else:
        assert done.error is None
        assert warnings == ["template web: MEMROY is not a known attribute: did you mean MEMORY?"]


def test_a_word_for_strict_that_is_neither_is_refused(apply, engine):
    (done,), _warnings = apply({"name": "web", "template": TEXT, "strict": "perhaps"})
    assert "template web: strict 'perhaps': it is neither true nor false" in str(done.error)
    assert engine.templates.pool() == []


def test_each_name_is_in_the_list_once_however_it_is_said(apply):
    done, _warnings = apply({"name": "web", "template": TEXT}, {"template": "NAME = web " + TEXT})
    assert "template web: the list has it twice. Keep one of the two" in str(done[1].error)
    assert [item.after is None for item in done] == [False, True]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("s3cr3t-raw", ("RAW", "DATA")),
        ("s3cr3t-issue", ("INJECT", 1, "CONTENT")),
        ("s3cr3t-name", ("CONTEXT", "HOSTNAME")),
        ("s3cr3t-token", ("API_TOKEN",)),
    ],
)
def test_one_secret_that_becomes_another_is_the_only_one_that_is_marked(apply, name, path):
    apply({"name": "web", "template": SECRETS})
    (done,), _warnings = apply({"name": "web", "template": SECRETS.replace(name, "s3cr3t-new")})
    assert done.is_changed
    marked = done.after["attributes"]
    for key in path:
        marked = marked[key]
    assert marked == "(another secret)"
    assert json.dumps(done.after).count("(another secret)") == 1
    assert "(another secret)" not in json.dumps([done.before, done.view])
    assert "s3cr3t" not in json.dumps([done.before, done.after, done.view])


def test_a_secret_that_was_not_there_before_is_marked_too(apply):
    apply({"name": "web", "template": TEXT})
    (done,), _warnings = apply({"name": "web", "template": SECRETS})
    assert done.after["attributes"]["API_TOKEN"] == "(another secret)"
    assert [each["CONTENT"] for each in done.after["attributes"]["INJECT"]] == ["(another secret)"] * 2


def test_a_file_that_is_not_there_is_named(apply, tmp_path):
    (done,), _warnings = apply({"name": "web", "template_file": str(tmp_path / "none.tmpl")})
    assert isinstance(done.error, NotFound)
    assert f"template web: template_file {tmp_path}/none.tmpl" in str(done.error)


def test_an_item_without_a_name_is_told_apart_by_a_question_mark(apply):
    (done,), _warnings = apply({"template": TEXT})
    assert (done.name, done.is_changed) == ("?", False)
    assert "the name is empty" in str(done.error)


def test_strict_refuses_an_unknown_key_of_a_new_template_and_warns_of_one_that_is_there(apply):
    item = {"name": "web", "template": TEXT + " FEATURES = [ FOOBAR = 1 ]"}
    (refused,), _warnings = apply({**item, "strict": True})
    assert "FEATURES/FOOBAR is not a known attribute" in str(refused.error)
    apply(item)
    (again,), warnings = apply({**item, "strict": True})
    assert (again.error, again.is_changed) == (None, False)
    assert warnings == ["template web: FEATURES/FOOBAR is not a known attribute, and nothing acts on it"]


def test_what_is_cut_off_is_refused_anew_and_told_where_it_is_stored(apply, engine):
    text = TEXT + ' DISK = [ TYPE = "fs", SIZE = 1, DEV_PREFIX = "vd", SERIAL = "{}" ]'
    item = {"name": "web", "template": text.format("s" * 21)}
    done, _warnings = apply(item)
    assert "template web: DISK 1: SERIAL" in str(done[0].error) and "first" not in str(done[0].error)
    assert not engine.templates.pool()
    with engine.session():
        engine.templates.allocate("web", parse(item["template"]))
    for template in (item["template"], item["template"].replace("128", "256")):
        done, warnings = apply({**item, "template": template})
        assert done[0].error is None and done[0].changed == ("256" in template)
        assert len(warnings) == 1 and "Give a SERIAL of up to 20 characters" in warnings[0]
    done, _warnings = apply({**item, "template": text.format("t" * 21)})
    assert "SERIAL" in str(done[0].error)
