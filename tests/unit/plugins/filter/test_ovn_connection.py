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
