# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog keeps of machines that wait for their next start."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms import waiting
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import UNTOLD, Waiting
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import record

MEMORY = Waiting("128", "64", '["128"]')
NIC = Waiting("nothing", "network Public")


def row(engine):
    return engine.store.row("SELECT * FROM vms WHERE id = 0")


def test_what_was_written_is_read_and_shown_without_what_may_be_secret(web):
    with web.attempt():
        waiting.write(web.vms, 0, {"MEMORY": MEMORY, "NIC 1": NIC}, 64)
    assert waiting.waiting_of(row(web)) == {"MEMORY": MEMORY, "NIC 1": NIC}
    assert record(web).waits == [
        {"part": "MEMORY", "found": "128", "wanted": "64"},
        {"part": "NIC 1", "found": "nothing", "wanted": "network Public"},
    ]
    with web.attempt():
        waiting.drop_devices(web.vms, row(web))
    assert waiting.waiting_of(row(web)) == {"MEMORY": MEMORY}
    with web.attempt():
        web.hosts.promise(0, 64, 0, 0.0, 0)
        waiting.drop(web.vms, row(web))
    assert (row(web)["waits"], row(web)["kept_memory"]) == (waiting.EMPTY, 0)
    assert web.hosts.info("node1").memory_used == 128


def test_devices_of_which_an_earlier_release_noted_nothing_are_told_as_such(web):
    with web.attempt():
        web.store.db.execute("UPDATE vms SET settled = 1, orders = ?", ('{"refitted":true}',))
    assert [each["part"] for each in record(web).waits] == [UNTOLD]
