# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of one template is said of no other of which something else would be said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model import attributes, judgements
from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor_rules import RULES
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import validate as judging
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

BASE = parse(
    'CPU = 1 MEMORY = 128 DISK = [ IMAGE = a ] NIC = [ NETWORK = b ] GRAPHICS = [ TYPE = vnc, LISTEN = "127.0.0.1" ]'
)
KEYS = sorted({"ROLE", "HOSTNAME", "SET_HOSTNAME", "TARGET", "DNS", "FILES", "START_SCRIPT", "ETH0_MTU", "VE_LAYOUT"}
              | {"DEV_PREFIX", "PASSWORD", "USER_DATA", "NETWORK", "RICH_RULES", "SSH_PUBLIC_KEY"}
              | set(attributes.named_in("CONTEXT")))  # fmt: skip
VALUES = st.sampled_from(
    [
        "",
        "x",
        "YES",
        "NO",
        "a b",
        "$NAME",
        "$UNAME[X]",
        "web_1",
        "ä",
        "a\nb",
        "/srv/a",
        "x" * 600,
        "vdb",
        "sda",
        "hdz",
        "'",
    ]
)
CONTEXT = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    judgements._kept.clear()
    yield
    judgements._kept.clear()


def said(context: dict[str, str], more: str, hypervisors: tuple[str, ...], strict: bool = False) -> tuple[str, object]:
    template = BASE.merged(parse(more)).merge_context(context)
    try:
        return "", judging.validate(template, strict, "VM web", hypervisors=hypervisors)
    except NebulaError as error:
        return type(error).__name__, str(error)


@settings(max_examples=300, deadline=None)
@given(CONTEXT, CONTEXT, st.sampled_from(["", *(f"HYPERVISOR = {name}" for name in RULES)]), st.booleans())
def test_what_is_remembered_is_what_would_be_said(first, second, more, strict) -> None:
    judgements._kept.clear()
    said(first, more, ("kvm", "lxc"), strict)
    remembered = said(second, more, ("kvm", "lxc"), strict)
    again = said(second, more, ("kvm", "lxc"), strict)
    judgements._kept.clear()
    assert remembered == again == said(second, more, ("kvm", "lxc"), strict)


def test_ten_thousand_machines_of_one_template_are_judged_once(monkeypatch) -> None:
    judged = []
    real = judging._check
    monkeypatch.setattr(judging, "_check", lambda *given: judged.append(given) or real(*given))
    found = [said({"ROLE": f"role {number}"}, "", ("kvm",)) for number in range(20)]
    assert len(judged) == 1 and len(set(map(str, found))) == 1
    said({"ROLE": "role 1", "SET_HOSTNAME": "web-1"}, "", ("kvm",))
    said({"ROLE": "role 1"}, "MEMORY = 64", ("kvm",))
    said({"ROLE": "role 1"}, "", ("xen",))
    assert len(judged) == 4


def test_what_names_the_object_is_kept_for_no_other() -> None:
    warnings = judgements.keep("key", "VM web", ["VM web: DISK 0"])
    assert warnings == ["VM web: DISK 0"] and judgements.known("key") is None
    judgements.keep("key", "VM web", ["DISK 0"])
    assert judgements.known("key") == ["DISK 0"]
    # What is returned is the caller's own.
    judgements.known("key").append("more")
    assert judgements.known("key") == ["DISK 0"]


def test_no_more_are_kept_than_there_is_use_for(monkeypatch) -> None:
    monkeypatch.setattr(judgements, "MOST", 3)
    for number in range(9):
        judgements.keep(number, "VM web", [])
    assert 0 < len(judgements._kept) <= 3 and judgements.known(8) == []
