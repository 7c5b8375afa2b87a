# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused and foreseen; tests/integration/test_ovn.py acts on the real daemons."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import ovn_host
from ansible_collections.nebula.provision.plugins.modules import nebula_ovn_host

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    "remote", ["", "192.0.2.1", "ssl:192.0.2.1", "udp:192.0.2.1:6642", "ssl:a:1,b", "ssl:fd00::1:1"]
)
def test_what_is_no_connection_is_refused(remote):
    with pytest.raises(InvalidValue, match="is no connection of OVSDB"):
        ovn_host.check_remote(remote)


def test_connections_are_taken():
    ovn_host.check_remote("ssl:192.0.2.1:6642,ssl:[2001:db8::1]:6642,tcp:central.example:1")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:0DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("node1.example", "node1.example"),
    ],
)
def test_the_tunnels_address_is_in_the_one_form_that_the_host_has_it_in(options, given, meant):
    told = {"name": "n", "catalog": CATALOG, "southbound": "ssl:192.0.2.1:6642", "encap_ip": given}
    assert ovn_host._wanted(options(nebula_ovn_host, **told)).encap_ip == meant
