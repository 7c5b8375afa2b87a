# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a database is a connection by TLS, or nothing."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.ovn_connection import FilterModule

ovn_connection = FilterModule().filters()["ovn_connection"]


def test_the_first_connection_is_taken():
    given = [{}, {"connections": {"southbound": "unix:/x"}}, {"connections": {"southbound": "ssl:192.0.2.1:6642"}}]
    assert ovn_connection(given, "southbound") == "ssl:192.0.2.1:6642"
    assert ovn_connection(given, "northbound") == ovn_connection([{}], "southbound") == ""


def test_none_but_the_inventorys_addresses_and_port_are_taken():
    given = [{"connections": {"southbound": "ssl:192.0.2.1:6642,ssl:[2001:DB8::1]:6642"}}]
    ours = ["192.0.2.1", "2001:db8:0::1", "192.0.2.3"]
    assert ovn_connection(given, "southbound", ours, 6642).startswith("ssl:192.0.2.1:6642,")
    assert (
        ovn_connection(given, "southbound", ours, "6643") == ovn_connection(given, "southbound", ours[1:], 6642) == ""
    )
    # A host whose address the inventory does not have names its own.
    assert ovn_connection(given, "southbound", ["192.0.2.1", ""], 6642) and ovn_connection(given, "southbound")
