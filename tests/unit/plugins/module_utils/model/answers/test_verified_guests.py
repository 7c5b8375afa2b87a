# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of guests is read as it is written, or refused with the node's name."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import KINDS, Wanted
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import Verdict
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import verified_guests
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.verify_guests import verdict_view

WANTED = Wanted(vm_id=3, name="verify-debian", console="/c")
REAL = verdict_view(Verdict(WANTED, True, 3.21, "login", "login:"))
IN_VAIN = verdict_view(Verdict(WANTED, False, 9, missing=("x",), tried={"agent": "none"}, last_lines=("line",)))


def read(**changes: Any) -> Any:
    return verified_guests.read([{"host": "node1", "vms": [{**REAL, **changes}]}])


@pytest.mark.parametrize("real", [REAL, IN_VAIN])
def test_what_the_module_returns(real):
    found, refused = verified_guests.read([{"host": "node1", "vms": [real]}])
    (told,) = found["node1"]
    assert refused == {}
    assert (told.name, told.vm_id, told.verified) == ("verify-debian", 3, real["verified"])


def test_each_kind_of_evidence_is_known():
    assert {*KINDS, ""} == verified_guests.EVIDENCE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mood": 1}, "key 'mood'"),
        ({"verified": 1}, "verified: it is a int"),
        ({"vm_id": True}, "vm_id: it is a bool"),
        ({"vm_id": None}, "of which machine"),
        ({"evidence": "word"}, "a kind of evidence"),
        ({"tried": {"word": "x"}}, "a kind of evidence"),
        ({"tried": {"agent": 5}}, "tried: it is a int"),
        ({"missing": ["x"] * 1001}, "1001 things"),
        ({"said": None}, "words: it is a NoneType"),
        ({"words": "x"}, "key 'words'"),
    ],
)
def test_what_it_never_returns(changes, why):
    found, refused = read(**changes)
    assert found == {} and why in refused["node1"]


def test_a_machine_is_told_of_once():
    assert "twice" in verified_guests.read([{"host": "node1", "vms": [REAL, REAL]}])[1]["node1"]
