# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From which host what a machine wrote comes back, if from any."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.disk_hosts import DiskHosts
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_rows import VmRows
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SSH
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import WEB


def found(engine):
    rows = VmRows(engine.store)
    hosts = DiskHosts(engine.hosts, rows)
    return hosts.host_with_newest(rows.get(0)), hosts.return_operation(rows.get(0))


def test_a_machine_that_writes_to_the_front_ends_own_files_has_nothing_to_bring_back(web):
    assert found(web) == ("", None)


@pytest.mark.parametrize("ran", [True, False])
def test_a_host_with_a_datastore_of_its_own_is_named_with_whether_the_machine_ever_ran(inside, ran):
    inside.hosts.update("node1", transfer=SSH)
    plans = decide(inside, WEB)
    if ran:
        obey(inside, plans)
    assert found(inside) == ("node1", Return("node1", ran=ran))
