# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of the daemons, as the packages' scripts take them."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import (
    NO_CATALOG,
    Places,
    catalog_uuid,
    our_path,
    read,
)


def test_without_a_word_they_are_those_of_the_packages():
    assert read(None) == read({}) == read({"ovs_run": None}) == Places()
    assert Places().socket("northbound") == "/var/run/ovn/ovnnb_db.sock"
    assert Places().database("southbound") == "/var/lib/ovn/ovnsb_db.db"
    assert Places().system_id == "/etc/openvswitch/system-id.conf"


def test_others_reach_the_scripts():
    places = read({"ovs_run": "/a/run", "configuration": "/a/etc"})
    assert places.switch_socket == "/a/run/db.sock"
    assert places.environment["OVS_RUNDIR"] == "/a/run"
    assert places.environment["OVN_SYSCONFDIR"] == "/a/etc"


@pytest.mark.parametrize("value", ["run", "/", "//"])
def test_what_is_no_directory_of_its_own_is_refused(value):
    with pytest.raises(InvalidValue, match="ovn_run"):
        read({"ovn_run": value})


def test_ours_lie_below_the_root():
    assert our_path("/var/lib/nebula/", "host", "key.pem") == "/var/lib/nebula/ovn/host/key.pem"


def test_without_a_catalog_nothing_is_marked_and_what_has_no_mark_is_not_its_own():
    assert catalog_uuid("5c1d", needed=True) == catalog_uuid("5c1d", needed=False) == "5c1d"
    assert catalog_uuid("", needed=False) == NO_CATALOG != ""
    with pytest.raises(InvalidValue, match="frontend first"):
        catalog_uuid("", needed=True)
