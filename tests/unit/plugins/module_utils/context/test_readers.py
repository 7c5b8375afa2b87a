# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a context cloud-init takes; cloud-init itself reads them in tests/integration/test_cloud_init.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import formats, readers
from ansible_collections.nebula.provision.plugins.module_utils.model import context

PLAIN = {
    "NETWORK": "YES",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_IP": "10.66.0.10",
    "ETH0_MASK": "255.255.255.0",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_DNS": "10.66.0.1",
    "SET_HOSTNAME": "web",
    "ETH0_METHOD": "",
    "DNS": "",
    "ETH0_IP6": "2001:db8::5",
    "ETH0_IP6_GATEWAY": "fe80::1",
    "START_SCRIPT": "true",
    "PASSWORD": "x",
}


def test_the_formats_are_those_that_there_are() -> None:
    known = (readers.OPENNEBULA, readers.CONFIG_DRIVE, readers.NOCLOUD)
    assert known == context.FORMATS
    assert set(known) == set(formats.FORMATS)


@pytest.mark.parametrize("format", context.FORMATS)
def test_nothing_is_lost_of_what_each_takes(format: str) -> None:
    assert readers.lost(format, PLAIN) == []
    assert readers.warnings(format, PLAIN) == []


@pytest.mark.parametrize(
    ("more", "names", "drive", "nocloud"),
    [
        ({"ETH0_METHOD": "dhcp"}, ["ETH0_METHOD"], [], []),
        ({"ETH0_METHOD": "dhcp", "ETH0_METRIC": "5"}, ["ETH0_METHOD", "ETH0_METRIC"], ["ETH0_METRIC"], []),
        ({"ETH0_METRIC": "200"}, ["ETH0_METRIC"], [], []),
        ({"ETH0_IP6_METRIC": "200"}, ["ETH0_IP6_METRIC"], [], ["ETH0_IP6_METRIC"]),
        ({"ETH0_IP6_METHOD": "auto"}, ["ETH0_IP6_METHOD"], [], []),
        ({"ETH0_IP6_METHOD": "disable"}, ["ETH0_IP6_METHOD"], ["ETH0_IP6_METHOD"], []),
        ({"ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2"}, ["ETH0_ROUTES"], [], []),
        ({"ETH0_ALIAS0_IP": "10.66.0.11", "ETH0_ALIAS0_MAC": "x"}, ["ETH0_ALIAS0_IP"], [], []),
        ({"ETH0_ALIAS0_IP": "10.66.0.11", "ETH0_ALIAS0_EXTERNAL": "YES"}, [], [], []),
        (
            {"ETH0_MASK": "255.255.255.255"},
            ["ETH0_GATEWAY (it is outside of the prefix)"],
            ["ETH0_GATEWAY (it is outside of the prefix)"],
            [],
        ),
        (
            {"ETH0_IP6_GATEWAY": "2001:db9::1"},
            ["ETH0_IP6_GATEWAY (it is outside of the prefix)"],
            ["ETH0_IP6_GATEWAY (it is outside of the prefix)"],
            [],
        ),
        ({"ETH0_IP": ""}, ["ETH0_IP (there is none, and cloud-init takes one out of ETH0_MAC)"], [], []),
        # Only cloud-init reads user data, so that the others are lost for sure.
        ({"USER_DATA": "#!/bin/sh\n"}, ["PASSWORD", "START_SCRIPT"], [], []),
    ],
)
def test_what_a_format_loses(more: dict[str, str], names: list[str], drive: list[str], nocloud: list[str]) -> None:
    given = {**PLAIN, **more}
    assert readers.lost("opennebula", given) == names
    assert readers.lost("configdrive", given) == drive
    assert readers.lost("nocloud", given) == nocloud
    for format, lost in (("opennebula", names), ("configdrive", drive), ("nocloud", nocloud)):
        told = readers.warnings(format, given)
        assert len(told) == bool(lost)
        assert all(name in told[0] for name in lost)
        assert not lost or ('CONTEXT_FORMAT = "nocloud"' in told[0]) == (format != "nocloud")


def test_lists_are_written_with_blanks() -> None:
    given = {
        **PLAIN,
        "DNS": "192.0.2.53,192.0.2.54",
        "ETH0_DNS": "10.66.0.1, 10.66.0.2",
        "SEARCH_DOMAIN": "a.example,b.example",
        "ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2,10.68.0.0/16 via 10.66.0.2",
    }
    found = readers.as_read("opennebula", given)
    assert found == {
        **given,
        "DNS": "192.0.2.53 192.0.2.54",
        "ETH0_DNS": "10.66.0.1 10.66.0.2",
        "SEARCH_DOMAIN": "a.example b.example",
        "ETH0_SEARCH_DOMAIN": "a.example b.example",
    }
    assert readers.as_read("opennebula", found) == found
    assert readers.as_read("nocloud", given) == given
    own = {**given, "ETH0_SEARCH_DOMAIN": "own.example"}
    assert readers.as_read("opennebula", own)["ETH0_SEARCH_DOMAIN"] == "a.example b.example own.example"


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SET_HOSTNAME": "a" * 64}, "CONTEXT/SET_HOSTNAME: a part of it has 64 characters"),
        ({"SET_HOSTNAME": f"web.{'a' * 64}.org"}, "CONTEXT/SET_HOSTNAME: a part of it has 64 characters"),
        ({"HOSTNAME": ".".join(["a" * 60] * 5)}, "CONTEXT/HOSTNAME: it has 304 characters"),
        ({"SET_HOSTNAME": f"{'a' * 63}.example.org."}, ""),
        ({"SET_HOSTNAME": "web"}, ""),
    ],
)
def test_a_name_that_no_guest_can_have_is_told(variables: dict[str, str], why: str) -> None:
    told = readers.warnings("nocloud", variables)
    assert len(told) == bool(why)
    assert not why or told[0].startswith(why)
