# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done where no OVN is. tests/integration/test_nebula_ovn.py has it with a real one."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NetworkDatabaseError
from ansible_collections.nebula.provision.plugins.modules import nebula_network, nebula_ovn

NOTHING = {"networks": 0, "ports": 0, "routers": 0}


@pytest.fixture
def module(options, tmp_path, monkeypatch):
    # A machine that runs these tests may be a host of OVN.
    nowhere = f"unix:{tmp_path}/nobody.sock"
    monkeypatch.setattr(
        "ansible_collections.nebula.provision.plugins.module_utils.reconcile.ovn_northbound.SOCKET", nowhere
    )

    def run(check=False, **given):
        return nebula_ovn.call.run(options(nebula_ovn, root=str(tmp_path), **given), check)

    return run


@pytest.fixture
def network(options, tmp_path):
    given = options(nebula_network, root=str(tmp_path), name="Tenant", vn_mad="ovn")
    assert not nebula_network.call.run(given, False).errors


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_a_catalog_there_is_nothing_to_tell(module, tmp_path, state):
    for check in (True, False):
        result = module(check=check, state=state)
        assert (result.changed, result.payload) == (False, NOTHING)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("network")
def test_what_is_to_be_installed_first_is_foreseen(module):
    predicted = module(check=True)
    assert (predicted.changed, predicted.payload) == (True, {**NOTHING, "networks": 1})


class Nobody:
    """Stands in for the database where the library is missing with which it is reached."""

    def __init__(self, remotes, tls):
        raise NetworkDatabaseError(", ".join(remotes), "nobody listens", "Start it")


@pytest.mark.usefixtures("network")
def test_who_is_to_set_it_up_is_named(module, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ansible_collections.nebula.provision.plugins.module_utils.reconcile.ovn_northbound.Database", Nobody
    )
    with pytest.raises(NetworkDatabaseError, match=r"Role nebula\.provision\.ovn sets it up") as caught:
        module()
    assert "nobody.sock" in str(caught.value)
    with pytest.raises(NetworkDatabaseError) as caught:
        module(northbound=[f"unix:{tmp_path}/other.sock"])
    assert "Role" not in str(caught.value)
