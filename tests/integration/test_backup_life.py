# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One short life of backups: a running machine is backed up in full, then what was written since, and restored in
place to either moment."""

from __future__ import annotations

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import FULL, INCREMENTAL
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.tests.integration.test_machine_backups import (
    a_machine,
    another,
    back_up,
    content,
    directory_of,
    write,
)


@in_world
def test_a_machine_is_backed_up_and_restored() -> None:
    with a_machine(another()) as (node, vm):
        write(node, vm, "write -P 1 1M 3M")
        write(node, vm, "write -P 2 2M 1M", target="vdb")
        full, first = back_up(node, vm, compress=True), content(node, vm)
        assert (full["kind"], full["consistency"]) == (FULL, "crash-consistent")
        write(node, vm, "write -P 3 2M 64k", "write -z 3M 128k")
        second = back_up(node, vm, compress=True)
        assert (second["kind"], second["reason"]) == (INCREMENTAL, "")
        assert second["stored"] < full["stored"]
        then = content(node, vm)
        assert node.one(vm, "POWEROFF", hard=True).error is None
        for id, wanted in ((full["id"], first), ("latest", then)):
            asked = MachineToRestore(node.catalog, vm, node.number, directory_of(node), id)
            disk_restores.restore(asked, node.driver, node.root)
            assert content(node, vm) == wanted
        assert node.one(vm).state == "RUNNING"
        # QEMU knows nothing of what was written to the disks that are there now.
        assert back_up(node, vm)["reason"] == "it was restored"
