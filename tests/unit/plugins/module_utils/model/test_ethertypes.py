# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network names of Ethernet types."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import ethertypes


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()),
        ("eapol, pppoe", (0x8863, 0x8864, 0x888E)),
        ("0x888E 34958 EAPOL", (0x888E,)),
        ("llc mpls", (0, 0x8847, 0x8848)),
    ],
)
def test_names_and_numbers_are_read(text, numbers):
    assert ethertypes.read(text, "network n") == numbers
    assert ethertypes.read(" ".join(ethertypes.normalise(word, "") for word in text.replace(",", " ").split()), "") == (
        numbers
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ppp", "no such Ethernet type"),
        ("0x0800", "it is IPv4"),
        ("2054", "it is ARP"),
        ("0x86dd", "it is IPv6"),
        ("0", "Write llc"),
        ("0x5ff", "no Ethernet type"),
        ("0x10000", "no Ethernet type"),
        ("-1", "no Ethernet type"),
    ],
)
def test_what_is_none_or_would_pass_unseen_is_refused(text, found):
    with pytest.raises(InvalidValue, match=found):
        ethertypes.read(text, "network n: ETHERTYPES")


def test_no_name_stands_for_what_leases_decide_about():
    for numbers in ethertypes.NAMES.values():
        for number in numbers:
            ethertypes.check(number, "")
