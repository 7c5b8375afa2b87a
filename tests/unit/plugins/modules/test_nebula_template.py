# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what it does, says and predicts."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_template

TEXT = """
CPU = 0.5
MEMORY = 128
DISK = [ IMAGE = "debian", TARGET = vda ]
NIC = [ NETWORK = "Public" ]
GRAPHICS = [ TYPE = vnc, PASSWD = hunter2 ]
CONTEXT = [ NETWORK = "YES", KEY = "hunter2" ]
"""
SAME = {
    "memory": 128,
    "cpu": "0.50",
    "context": {"KEY": "hunter2", "network": "YES"},
    "nic": [{"network": "Public"}],
    "disk": {"target": "vda", "image": "debian"},
    "graphics": {"passwd": "hunter2", "type": "VNC"},
}
WEB = {"name": "web", "template": TEXT}
ABSENT = {"name": "web", "state": "absent"}


@pytest.fixture
def engine(tmp_path):
    engine = EmbeddedEngine(str(tmp_path), create=True)
    yield engine
    engine.close()


@pytest.fixture
def module(tmp_path, engine):
    def run(*templates, check=False, **single):
        params = dict.fromkeys(("name", "template", "template_file", "strict"))
        params.update(engine="embedded", root=str(tmp_path), state="present")
        params.update(templates=json.dumps(templates) if templates else None, **single)
        return nebula_template.call.run(params, check)

    return run


def failures(result):
    return [str(item.error) for item in result.errors]


@pytest.mark.parametrize("check", [True, False])
def test_create_again_update_remove_again(module, engine, check):
    def step(item):
        predicted = module(item, check=True)
        if check:
            return predicted
        real = module(item)
        # What check mode says is what happens; only ids and times are not known before.
        assert predicted.changed == real.changed
        blank = {"id": 0, "registered": 0}
        assert [{**v, **blank} for v in predicted.payload["templates"]] == [
            {**v, **blank} for v in real.payload["templates"]
        ]
        return real

    created = step(WEB)
    assert created.changed
    assert created.payload["templates"][0]["id"] == (None if check else 0)
    assert [stored.name for stored in engine.templates.pool()] == ([] if check else ["web"])
    if check:
        module(WEB)
    assert not step(WEB).changed
    assert not step({"name": "web", "template": SAME}).changed
    assert engine.templates.info("web").template.get("CPU") == "0.5"
    updated = step({"name": "web", "template": TEXT.replace("128", "256")})
    assert updated.changed
    assert engine.templates.info("web").template.get("MEMORY") == ("128" if check else "256")
    assert engine.templates.info("web").id == 0
    removed = step(ABSENT)
    assert removed.changed and removed.payload["templates"] == []
    assert len(engine.templates.pool()) == (1 if check else 0)
    if check:
        module(ABSENT)
    assert not step(ABSENT).changed


def test_ids_are_never_used_again(module, engine):
    for _time in range(2):
        module(WEB)
        module(ABSENT)
    module(WEB)
    assert engine.templates.info("web").id == 2


def test_one_template_by_options(module, engine):
    result = module(name="web", template=TEXT)
    assert result.payload["template"]["name"] == "web"
    assert result.payload["template"] == result.payload["templates"][0]
    # As the action plugin packs a dict, and as a user may write it.
    assert not module(name="web", template=json.dumps(SAME)).changed


def test_the_name_may_be_in_the_template(module, engine):
    module({"template": "NAME = inner\n" + TEXT})
    assert engine.templates.info("inner").id == 0


def test_from_a_file(module, engine, tmp_path):
    path = tmp_path / "web.tmpl"
    path.write_text(TEXT)
    assert module(name="web", template_file=str(path)).changed
    assert not module(WEB).changed
    path.write_bytes(b"NAME = \xff")
    assert "not UTF-8" in failures(module(name="web", template_file=str(path)))[0]
    assert "No such file" in failures(module(name="web", template_file=str(tmp_path / "none")))[0]


def test_what_is_shown(module):
    shown = module(WEB).payload["templates"][0]
    assert (shown["cpu"], shown["vcpu"], shown["memory"]) == ("0.5", "", "128")
    assert shown["disks"] == [{"image": "debian", "target": "vda"}]
    assert shown["nics"] == [{"network": "Public"}]
    assert shown["attributes"]["CONTEXT"] == {"NETWORK": "(secret)", "KEY": "(secret)"}
    assert shown["attributes"]["GRAPHICS"] == {"TYPE": "vnc", "PASSWD": "(secret)"}
    assert shown["registered"] > 1_600_000_000


def test_no_secret_leaves(module):
    raw = '\nRAW = [ TYPE = kvm, DATA = "hunter2" ]\nDB_PASSWORD = hunter2\n'
    results = [
        module({**WEB, "template": TEXT + raw}),
        module(WEB),
        module({**WEB, "template": TEXT + "API_TOKEN = = hunter2"}),
    ]
    results.append(module({**WEB, "template": '{"A": "hunter2"'}))
    results.append(module({**WEB, "template": "CONTEXT = hunter2"}))
    results.append(module({**WEB, "template": "CONTEXT = [ A = 1 ] CONTEXT = [ B = hunter2 ] " + TEXT}))
    assert [bool(result.errors) for result in results] == [False, False, True, True, True, True]
    for result in results:
        said = json.dumps(result.payload) + json.dumps(result.diff()) + str(result.warnings) + str(failures(result))
        assert "hunter2" not in said


def test_a_changed_secret_is_seen_and_not_told(module):
    module(WEB)
    result = module({"name": "web", "template": TEXT.replace('KEY = "hunter2"', 'KEY = "other"')})
    assert result.changed
    [diff] = result.diff()
    assert '"KEY": "(secret)"' in diff["before"]
    assert '"KEY": "(another secret)"' in diff["after"]
    assert '"NETWORK": "(secret)"' in diff["after"]
    assert "other" not in diff["after"].replace("another", "")
    assert result.payload["templates"][0]["attributes"]["CONTEXT"]["KEY"] == "(secret)"


def test_the_diff_shows_what_differs(module):
    [created] = module(WEB).diff()
    assert created["before"] == "" and '"MEMORY": "128"' in created["after"]
    [updated] = module({"name": "web", "template": TEXT.replace("128", "256")}).diff()
    lines = set(updated["after"].splitlines()) - set(updated["before"].splitlines())
    assert {line.strip(" ,") for line in lines} == {'"MEMORY": "256"', '"memory": "256"'}
    [removed] = module(ABSENT).diff()
    assert removed["after"] == ""


BAD = {
    "lots": ({"name": "bad", "template": "MEMORY = lots DISK = [ IMAGE = a ]"}, "template bad: MEMORY = 'lots'"),
    "syntax": ({"name": "bad", "template": "A = [ B = 1"}, "template bad: line 1, column 5"),
    "empty disks": (
        {"name": "bad", "template": {"MEMORY": 1, "DISK": {"TYPE": "swap", "SIZE": 1}}},
        "template bad: it has nothing to boot from",
    ),
    "slash": ({"name": "a/b", "template": TEXT}, "template 'a/b': the name holds a /"),
    "parent": ({"name": "..", "template": TEXT}, "template '..'"),
    "newline": ({"name": "a\nb", "template": TEXT}, r"the name holds the character '\n'"),
    "long": ({"name": "a" * 129, "template": TEXT}, "129 characters"),
    "number": ({"name": 5, "template": TEXT}, "the name is a int"),
    "no name": ({"template": TEXT}, "template: the name is empty"),
    "nothing": ({"name": "bad"}, "neither template nor template_file"),
    "both": ({"name": "bad", "template": TEXT, "template_file": "/x"}, "both a template and a template_file"),
    "a list": ({"name": "bad", "template": [1]}, "template bad: it is a list"),
    "state": ({"name": "bad", "template": TEXT, "state": "there"}, "template bad: state 'there'"),
    "absent without a name": ({"state": "absent"}, "template: the name is empty"),
    "strict": ({"name": "bad", "template": TEXT + "MEMROY = 1", "strict": True}, "did you mean MEMORY"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", BAD)
def test_one_bad_item_does_not_stop_the_others(module, engine, case, check):
    bad, message = BAD[case]
    result = module({"name": "good", "template": TEXT}, bad, {"name": "other", "template": TEXT}, check=check)
    [error] = failures(result)
    assert message in error
    assert [view["name"] for view in result.payload["templates"]] == ["good", "other"]
    assert [stored.name for stored in engine.templates.pool()] == ([] if check else ["good", "other"])


def test_neither_of_two_of_one_name_is_done(module, engine):
    module(WEB)
    result = module({"name": "web", "state": "absent"}, WEB, {"name": "other", "template": TEXT})
    assert failures(result) == ["template web: the list has it twice. Keep one of the two"] * 2
    assert {stored.name for stored in engine.templates.pool()} == {"web", "other"}


def test_a_bad_update_keeps_what_was_there(module, engine):
    module(WEB)
    assert failures(module({"name": "web", "template": "CPU = no"}))
    assert engine.templates.info("web").template.get("CPU") == "0.5"


def test_an_unknown_key_names_the_nearest(module):
    result = module({"name": "web", "tempalte": TEXT}, {"name": "other", "template": TEXT})
    assert "Did you mean 'template'" in str(result.errors[0].error)
    assert [view["name"] for view in result.payload["templates"]] == ["other"]


def test_warnings_name_the_template(module):
    assert module({**WEB, "template": TEXT + "MEMROY = 1"}).warnings == [
        "template web: MEMROY is not a known attribute: did you mean MEMORY?"
    ]


def test_references_are_names_first_and_ids_then(module, engine):
    module({"name": "1", "template": TEXT}, {"name": "b", "template": TEXT})
    assert engine.templates.info("1").name == "1"
    assert engine.templates.info(1).name == "b"
    assert engine.templates.info("0").name == "1"
    assert engine.templates.info(0).name == "1"
    for ref in ("bb", "2", "", -1, 2**70, "9" * 30, True):
        with pytest.raises(NotFound):
            engine.templates.info(ref)
    with pytest.raises(NotFound, match="There are 1, b"):
        engine.templates.info("nothing like it")


def test_results_of_check_mode_can_be_declared(tmp_path, module):
    view = module(WEB, check=True).payload["templates"][0]
    engine = EmbeddedEngine(str(tmp_path), check_mode=True)
    with engine.session():
        engine.declare({"templates": [view]})
        assert engine.templates.info("web").template.get("MEMORY") == "128"
    engine.close()
