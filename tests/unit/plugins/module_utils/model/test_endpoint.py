# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses joined with ports, and taken apart again."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.endpoint import bracketed, endpoint, split


@pytest.mark.parametrize("address", ["192.0.2.1", "node1.example.org", "2001:db8::1", "::", "fe80::1%eth0"])
def test_what_is_joined_is_read_as_it_was_meant(address: str) -> None:
    joined = endpoint(address, 6641)
    assert split(joined) == (address, "6641")
    read = urlsplit(f"tcp://{joined}")
    assert (read.hostname, read.port) == (address, 6641)


def test_brackets_are_put_once() -> None:
    assert bracketed("[2001:db8::1]") == bracketed("2001:db8::1") == "[2001:db8::1]"
    assert (bracketed("192.0.2.1"), bracketed("node1"), bracketed("")) == ("192.0.2.1", "node1", "")


@pytest.mark.parametrize("text", ["", ":1", "a:", "a", "2001:db8::1:6641", "[]:1", "[::1]", "a:b", "[::1:1", "a:-1"])
def test_what_is_no_endpoint(text: str) -> None:
    assert split(text) == ("", "")
