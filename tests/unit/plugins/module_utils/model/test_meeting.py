# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where hosts are met, as option meeting_places has it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.meeting import leads_to_itself, read_places
from ansible_collections.nebula.provision.plugins.module_utils.model.move import MeetingPlace


def test_places_are_read() -> None:
    assert read_places({"node1": {"address": " 10.0.0.1 ", "port": 7}}) == {"node1": MeetingPlace("10.0.0.1", 7)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "it is a list"),
        ({"a": {"address": "x"}}, "it does not have address and port"),
        ({"a": "10.0.0.1"}, "it does not have address and port"),
        ({"a": {"address": 1, "port": 1}}, "it is no text, or empty"),
        ({"a": {"address": "x", "port": 65536}}, "no number from 1 to 65535"),
        ({"a": {"address": "x", "port": True}}, "no number from 1 to 65535"),
        ({"a": {"address": "", "port": 1}}, "it is no text, or empty"),
        ({"a": {"address": "x", "port": 0}}, "no number from 1 to 65535"),
    ],
)
def test_what_is_no_place(given: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        read_places(given)


def test_addresses_that_lead_each_host_to_itself() -> None:
    assert [leads_to_itself(each) for each in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "node1")] == [
        *([True] * 3),
        *([False] * 2),
    ]
