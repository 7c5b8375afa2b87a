# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that a router has, and that it travels whole."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.router import (
    FloatingIp,
    Router,
    RouterGateway,
    RouterInterface,
    RouterRoute,
)

EDGE = Router(
    3,
    "edge",
    "u3",
    "the way out",
    (RouterInterface(0, "10.0.0.1"),),
    RouterGateway(2, "192.0.2.10", False, "192.0.2.1", ("node1",)),
    (FloatingIp("192.0.2.11", "web", 0, True), FloatingIp("", "db")),
    (RouterRoute("10.9.0.0/16", "10.0.0.9"),),
)


def test_its_addresses_in_the_order_in_which_they_are_leased():
    assert EDGE.addresses() == [(0, "10.0.0.1"), (2, "192.0.2.10"), (2, "192.0.2.11"), (2, "")]
    assert Router(1, "inner", interfaces=(RouterInterface(0, "10.0.0.1"),)).addresses() == [(0, "10.0.0.1")]


def test_it_comes_back_as_it_was_written():
    assert from_plain(Router, to_plain(EDGE)) == EDGE
