# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentence that a finding of an audit is, and the kinds of findings."""

from __future__ import annotations

import re

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import (
    DIFFERENCE,
    KINDS,
    UNFINISHED,
    Finding,
)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("node1", "host node1: machine 3: its domain is not there. Run site.yml again"),
        ("", "machine 3: its domain is not there. Run site.yml again"),
    ],
)
def test_a_finding_is_a_sentence_that_names_its_host(host: str, text: str) -> None:
    assert str(Finding("domain-missing", host, "machine 3", "its domain is not there", "Run site.yml again")) == text


def test_a_finding_is_a_difference_unless_it_is_said_to_be_unfinished() -> None:
    assert Finding("x", "", "a", "b", "c").severity == DIFFERENCE
    assert DIFFERENCE != UNFINISHED


def test_every_kind_is_a_word_and_every_meaning_a_clause_of_its_own() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in KINDS)
    assert len(set(KINDS.values())) == len(KINDS)
    assert not any(meaning.endswith(".") or meaning[0].isupper() for meaning in KINDS.values())


def test_a_sentence_has_no_line_of_ansible() -> None:
    finding = Finding("domain-left", "kvm1", "domain a\x9b", "it is\nok: [kvm1]", "Remove it")
    assert str(finding) == "host kvm1: domain a\\x9b: it is\n    ok: [kvm1]. Remove it"
