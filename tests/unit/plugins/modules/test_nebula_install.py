# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog, up to where an ISO is needed: what is begun, shown, left out and refused."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.modules import nebula_install

DEBIAN = {"name": "debian", "iso": {"path": "/srv/debian.iso", "remote_src": True}, "size": 4}


@pytest.fixture
def catalog(furnished):
    with contextlib.closing(EmbeddedEngine(furnished)) as engine, engine.session():
        # Nothing is written: the room of this host is no matter.
        engine.datastores.update(1, capacity_check=False)
    return furnished


@pytest.fixture
def module(options, catalog):
    def run(*items, check=False, **given):
        params = options(nebula_install, root=catalog, installs=json.dumps(items), **given)
        return nebula_install.call.run(params, check)

    return run


def texts(result):
    return [str(item.error) for item in result.errors]


@pytest.mark.parametrize("check", [True, False])
def test_what_is_begun_tells_which_iso_it_needs(module, catalog, check):
    result = module(DEBIAN, check=check)
    assert not result.errors
    (row,) = result.payload["installs"]
    assert (row["name"], row["step"], row["image"], row["machine"]) == ("debian", "to be installed", None, "")
    assert result.payload["going"] == ["debian"]
    assert [iso["name"] for iso in result.payload["isos"]] == ["debian.iso"]
    assert (result.payload["vms"], result.payload["waits"]) == ([], [])
    assert len(result.payload["catalog"]) == 36
    json.dumps(result.payload)
    with contextlib.closing(EmbeddedEngine(catalog)) as engine:
        assert [image.name for image in engine.images.pool()] == ["demo"]


def test_one_bad_item_does_not_keep_the_others(module):
    result = module(DEBIAN, "x", {"name": "a", "isoo": {}}, {**DEBIAN, "name": "b/c"}, {**DEBIAN, "name": "demo"})
    said = texts(result)
    assert "installs[1]: it is a str" in said[0]
    assert "install a: key 'isoo'" in said[1] and "Did you mean 'iso'?" in said[1]
    assert "b/c" in said[2]
    assert "install demo: image demo: there is one of that name (id 0, OS) that this did not make" in said[3]
    assert result.payload["going"] == ["debian"]


def test_what_is_shown_is_no_failure(module):
    result = module(DEBIAN, "x", {**DEBIAN, "name": "demo"}, state="shown")
    assert not result.errors and not result.changed
    assert [(row["name"], row["step"], bool(row["error"])) for row in result.payload["installs"]] == [
        ("debian", "to be installed", False),
        ("demo", "refused", True),
    ]


def test_the_list_has_each_name_once(module):
    said = texts(module(DEBIAN, DEBIAN))
    assert said == ["install debian: the list has it twice. Keep one of the two"] * 2


def test_only_those_that_are_named_are_looked_at(module):
    second = {**DEBIAN, "name": "ubuntu"}
    result = module(DEBIAN, second, {"name": "c", "isoo": {}}, only=["ubuntu"])
    assert not result.errors
    assert [row["name"] for row in result.payload["installs"]] == ["ubuntu"]
    assert "isoo" in texts(module(second, {"name": "c", "isoo": {}}, only=["c"]))[0]
    assert module(DEBIAN, only=[]).payload["installs"] == []


def test_what_was_never_begun_is_given_up_without_a_change(module):
    for check in (True, False):
        result = module({**DEBIAN, "state": "absent"}, check=check)
        assert not result.changed and not result.errors
        assert result.payload["going"] == []
        assert result.payload["installs"][0]["step"] == "given up"


@pytest.mark.parametrize(
    ("given", "key"), [({"state": "recorded"}, "waited"), ({"state": "concluded"}, "verified"), ({}, "observed")]
)
def test_which_host_answered_nonsense_is_told(module, given, key):
    said = {"waited": {"waited": [{"mood": 1}]}, "verified": {"vms": 5}, "observed": {"vms": 5}}[key]
    fine = {"waited": {"waited": []}, "verified": {"vms": []}, "observed": {}}[key]
    result = module(DEBIAN, **{key: [{"host": "node1", **said}, {"host": "node2", **fine}]}, **given)
    assert [*result.payload["refused_answers"]] == ["node1"] and not result.errors
    assert [text for text in result.warnings if "host node1: what it answered" in text]


def test_secrets_in_what_is_no_json_are_not_told(module, options, catalog):
    with pytest.raises(InvalidValue) as caught:
        module(DEBIAN, answers='{"debian": "s3cr3t')
    assert "option answers: it is not JSON" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("state", ["prepared", "recorded", "converted", "concluded"])
def test_check_mode_has_nothing_to_act_on_after_the_beginning(module, state):
    skipped = module(DEBIAN, check=True, state=state)
    reason = f"state {state} has nothing to act on in check mode"
    assert (skipped.payload, skipped.items) == ({"skipped": True, "msg": reason}, [])
