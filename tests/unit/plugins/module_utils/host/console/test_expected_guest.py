# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest has to be called, and which addresses it has to have."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import (
    address,
    same_host,
    what_differs,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.host.console.conftest import wanted

LOG = Path("/none")


@pytest.mark.parametrize(
    ("found", "same"),
    [("web-0", True), ("WEB-0.", True), ("web-0.example.org", True), ("web", False), ("web-0.other.org", True)],
)
def test_a_name_may_lack_its_domain(found: str, same: bool) -> None:
    assert same_host("web-0", found) is same
    assert not same_host("web-0.example.org", "web-0.other.org")


def test_a_guest_may_have_the_name_that_it_was_started_with() -> None:
    assert wanted(LOG, former="old").is_called("old") and not wanted(LOG).is_called("old")


def test_a_pattern_decides_alone_by_the_console() -> None:
    assert wanted(LOG).counts("agent") and not wanted(LOG, by=("console",)).counts("agent")
    assert wanted(LOG, pattern="up").counts("console") and not wanted(LOG, pattern="up").counts("login")


def test_what_a_guest_does_not_have_is_named() -> None:
    assert what_differs(wanted(LOG), "web-0", ["10.66.0.10/24"]) == []
    assert what_differs(wanted(LOG), "", []) == ["hostname web-0 (none said)", "address 10.66.0.10 (none said)"]
    name, own = what_differs(wanted(LOG), "db\x1b[2J", ["10.66.0.11", "no address"])
    assert "it says db" in name and "\x1b" not in name
    assert own == "address 10.66.0.10 (it has 10.66.0.11)"


def test_an_address_may_have_a_prefix() -> None:
    assert address("10.66.0.10/24") == address("10.66.0.10") == ip_address("10.66.0.10")
    assert address("localhost") is None
