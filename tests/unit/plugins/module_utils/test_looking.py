# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several modules asked in one call: what differs is left to the roles, what does not is carried out as by a call of
its own."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils import looking
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.looking import Asked, Look, asked_of, look
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result

SAME = Result([Item("a", {"x": 1}, {"x": 1})], {"found": 1}, ["an old setting"])
CHANGED = Result([Item("a", {"x": 1}, {"x": 2})], {"found": 2})
FAILED = Result([Item("a", error=NotFound("image a", "there is none", "Name another"), changed=False)], {"found": 0})


class Work:
    """Does what a module does. It has the answers to its calls in turn, and the modes in which it was called."""

    def __init__(self, *answers, module="nebula_thing"):
        self.answers = list(answers)
        self.modes = []
        self.asked = Asked("__answer", module, self, {})

    def run(self, _params, check_mode):
        self.modes.append(check_mode)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def looked(*works, packages=(), check_mode=False, diff=False, **wanted):
    return look(Look(lambda module: None, **wanted), [work.asked for work in works], packages, check_mode, diff)


def test_what_would_change_nothing_is_carried_out():
    work = Work(SAME, SAME)
    result = looked(work)
    assert work.modes == [True, False]
    assert result.payload["differs"] == "" and not result.changed
    assert result.payload["answers"] == {"__answer": {"found": 1, "changed": False, "warnings": SAME.warnings}}
    assert result.warnings == SAME.warnings


def test_what_need_not_be_carried_out_is_asked_alone_and_its_answer_is_whole():
    work, after = Work(SAME), Work(CHANGED)
    result = looked(work, after, only_asked=["nebula_thing"])
    assert (work.modes, after.modes) == ([True], [True])
    assert result.payload["answers"]["__answer"]["found"] == 2 and result.warnings == SAME.warnings
    assert result.payload["differs"] == "__answer: something is to be done" and not result.changed


def test_what_is_made_anew_without_a_change_is_carried_out():
    work = Work(replace(SAME, renews=True), SAME)
    result = looked(work, only_asked=["nebula_thing"])
    assert work.modes == [True, False]
    assert result.payload["differs"] == "" and not result.changed
    foreseen = Work(replace(SAME, renews=True))
    result = looked(foreseen, check_mode=True, only_asked=["nebula_thing"])
    assert result.payload["differs"] == "" and foreseen.modes == [True]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (CHANGED, "something is to be done"),
        (FAILED, "image a: there is none. Name another"),
        (NotFound("image b", "there is none", "Name another"), "image b: there is none. Name another"),
        (ZeroDivisionError("s3cret"), "ZeroDivisionError"),
    ],
)
def test_what_would_change_or_fail_is_not_carried_out_nor_what_comes_after_it(answer, why):
    first, work, after = Work(SAME, SAME), Work(answer), Work()
    result = looked(first, work, after)
    assert (first.modes, work.modes, after.modes) == ([True, False], [True], [])
    assert result.payload["differs"].startswith("__answer: ") and why in result.payload["differs"]
    assert "s3cret" not in json.dumps(result.payload)
    assert not result.changed


def test_what_others_change_between_question_and_call_is_reported():
    result = looked(Work(SAME, CHANGED))
    assert result.changed and result.payload["differs"] == "__answer: something is to be done"


def test_in_check_mode_nothing_is_carried_out():
    work, after = Work(SAME), Work(CHANGED)
    result = looked(work, after, check_mode=True)
    assert (work.modes, after.modes) == ([True], [True])
    assert result.payload["differs"] and not result.changed


def test_a_decision_is_made_once_and_its_answer_is_whole():
    work = Work(FAILED)
    result = looked(work, diff=True, at_once=["nebula_thing"])
    assert work.modes == [False] and not result.changed
    answer = result.payload["answers"]["__answer"]
    assert answer["failed"] and answer["found"] == 0 and answer["diff"] == [] and answer["errors"][0]["name"] == "a"
    # It is reported by who carries it out.
    work = Work(Result(warnings=["soon full"]))
    result = looked(work, at_once=["nebula_thing"])
    assert result.warnings == [] and result.payload["answers"]["__answer"]["warnings"] == ["soon full"]


def test_a_root_that_is_none_is_refused_as_in_a_call_of_its_own():
    work = Work(SAME, SAME)
    work.asked = replace(work.asked, params={"root": "/"})
    assert "nebula_root '/'" in looked(work).payload["differs"] and work.modes == []


@pytest.fixture
def dpkg(monkeypatch):
    def say(*lines):
        monkeypatch.setattr(looking.packages.command, "find", lambda program: f"/usr/bin/{program}")
        done = SimpleNamespace(stdout="\n".join(lines), returncode=1)
        monkeypatch.setattr(looking.packages.command, "run", lambda _argv, timeout, check: done)

    return say


def test_packages_are_looked_at_first(dpkg):
    dpkg("installed zstd", "config-files mtools", "not-installed rsync")
    work = Work(SAME, SAME)
    result = looked(work, packages=["zstd", "mtools", "rsync", "unheard-of"])
    assert result.payload["differs"] == "packages: mtools, rsync, unheard-of" and work.modes == []
    assert looked(work, packages=["zstd"]).payload["differs"] == ""


def test_a_host_without_dpkg_is_for_the_roles(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(looking.packages.command, "_path", lambda: "/nowhere")
    assert "packages: program dpkg-query" in looked(packages=["zstd"]).payload["differs"]


def test_options_are_checked_as_by_the_module():
    arguments = {"argument_spec": {"name": {"type": "str", "required": True}, "size": {"type": "int", "default": 1}}}
    thing = SimpleNamespace(ARGUMENTS=arguments, libraries=lambda params: [params["name"], "libvirt"])

    def asked(**options):
        entries = [{"name": "__thing", "module": "nebula_thing", "options": options}] * 2
        return asked_of(json.dumps(entries), Look({"nebula_thing": thing}.__getitem__))

    found = asked(name="a", size="7")
    assert [(one.name, one.module, one.call, one.params) for one in found] == [
        ("__thing", "nebula_thing", thing, {"name": "a", "size": 7})
    ] * 2
    assert looking.libraries(found) == ["a", "libvirt"]
    with pytest.raises(InvalidValue, match="module nebula_thing: missing required arguments: name"):
        asked(size=1)
    with pytest.raises(InvalidValue, match=r"colour\. Supported parameters"):
        asked(name="a", colour="red")
