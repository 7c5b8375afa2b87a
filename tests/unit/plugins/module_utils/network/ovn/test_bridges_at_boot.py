# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What brings a host's bridges back; tests/integration/test_ovn.py has the script act on real ones."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.bridges_at_boot import (
    LIST,
    SCRIPT,
    Boot,
    addresses,
    desired_files,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.openvswitch_settings import (
    Bridge,
    BridgeMapping,
)

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
MAPPINGS = (BridgeMapping("br-ex", "physnet1", "eth1", "198.51.100.1/24"), BridgeMapping("br-2"))


@pytest.fixture
def systemd(programs, tmp_path, monkeypatch):
    """A host where systemctl does nothing but make and remove its link."""
    place = tmp_path / "units"
    link = place / "multi-user.target.wants"
    link.mkdir(parents=True)
    monkeypatch.setattr(systemd_units, "PLACE", str(place))
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path))
    programs.script("systemctl", f'case "$1" in enable) ln -sf ../$2 {link}/$2;; esac')
    return place


def test_the_list_has_a_line_for_each_bridge():
    assert desired_files(MAPPINGS)[LIST] == "br-ex 198.51.100.1/24 eth1\nbr-2 - -\n"
    assert desired_files(()) == {}


def test_files_and_unit_come_and_go(systemd, tmp_path):
    boot = Boot(str(tmp_path / "nebula"), CATALOG)
    os.makedirs(tmp_path / "nebula/ovn")
    assert boot.view() == {}
    boot.keep(MAPPINGS)
    assert boot.view() == boot.expected(MAPPINGS)
    assert set(boot.found()) == {SCRIPT, LIST}
    assert "Before=ovn-controller.service" in (systemd / boot.unit).read_text()
    boot.keep(())
    assert boot.view() == {}
    assert not (systemd / boot.unit).exists()
    assert not (tmp_path / "nebula").exists()


def test_a_unit_of_somebody_else_stays(systemd, tmp_path):
    boot = Boot(str(tmp_path / "nebula"), CATALOG)
    (systemd / boot.unit).write_text("theirs\n")
    with pytest.raises(ForeignObject):
        boot.keep(MAPPINGS)
    assert (systemd / boot.unit).read_text() == "theirs\n"


def test_without_systemd_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "none"))
    boot = Boot(str(tmp_path / "nebula"), CATALOG)
    boot.keep(MAPPINGS)
    assert boot.expected(MAPPINGS) == boot.view() == {}
    assert not (tmp_path / "nebula").exists()


def test_addresses_are_those_that_we_gave():
    ours = Bridge("br-ex", {"nebula-catalog": CATALOG, "nebula-address": "198.51.100.1/24"})
    theirs = Bridge("theirs", {"nebula-address": "203.0.113.1/24"})
    assert addresses({"br-ex": ours, "theirs": theirs}, CATALOG) == {"br-ex": "198.51.100.1/24"}
