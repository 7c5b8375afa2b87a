# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading, comparing and writing in turn, with a database that stands in; integration tests have a real one."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from northbound_rows import as_read, foreign

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import LogicalNetworks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.apply import (
    advertisement_warnings,
    apply,
    audit,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import (
    ChangedMeanwhile,
    ConnectionLost,
)
from ansible_collections.nebula.provision.tests.integration.northbound_world import CATALOG, blue, desired, nic


class Database:
    """read: what each reading finds, the last one for ever. overrun: how many writings come too late. lost: after how
    many nobody answers."""

    def __init__(self, *read, overrun=0, lost=0):
        self.reads, self.overrun, self.lost, self.written = list(read), overrun, lost, []

    def read(self):
        return self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]

    def write(self, operations):
        if self.lost:
            self.lost -= 1
            raise ConnectionLost("the database", "it ended the connection")
        if self.overrun:
            self.overrun -= 1
            raise ChangedMeanwhile
        self.written.append(operations)


def test_what_differs_is_written_once():
    database = Database({})
    outcome = apply(database, CATALOG, desired)
    assert outcome.changed
    assert len(database.written) == 1


def test_check_mode_says_the_same_and_writes_nothing():
    database = Database({})
    assert apply(database, CATALOG, desired, act=False).changes == apply(Database({}), CATALOG, desired).changes
    assert database.written == []


def test_nothing_to_do_is_no_transaction():
    database = Database(as_read(CATALOG, desired))
    assert not apply(database, CATALOG, desired).changed
    assert database.written == []


def test_after_somebody_elses_change_it_is_read_again():
    database = Database({}, as_read(CATALOG, replace(desired, ports=desired.ports[1:], routers=())), overrun=1)
    changes = {str(change) for change in apply(database, CATALOG, desired).changes}
    assert len(database.written) == 1
    # What the second reading found is what counts.
    assert "network red" not in changes
    assert "router edge" in changes


def test_what_was_written_when_the_connection_ended_is_told_by_what_is_there_then():
    database = Database({}, as_read(CATALOG, desired), lost=1)
    assert apply(database, CATALOG, desired).changes == apply(Database({}), CATALOG, desired).changes
    assert database.written == []
    database = Database({}, lost=1)
    assert apply(database, CATALOG, desired).changed
    assert len(database.written) == 1


def test_what_others_never_stop_changing_is_given_up():
    database = Database({}, overrun=99)
    with pytest.raises(Conflict, match="5 times between reading and writing") as caught:
        apply(database, CATALOG, desired)
    assert "Nothing was written" in caught.value.remedy
    assert database.overrun == 94


def test_pythons_collection_of_garbage_is_as_it_was():
    assert gc.isenabled()
    with pytest.raises(ForeignObject):
        read = as_read(CATALOG, LogicalNetworks())
        foreign(read, "Logical_Switch", 500, name="blue")
        apply(Database(read), CATALOG, desired)
    assert gc.isenabled()
    gc.disable()
    try:
        apply(Database({}), CATALOG, desired)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_errors_come_before_anything_is_written():
    database = Database({})
    with pytest.raises(InvalidValue):
        apply(database, CATALOG, replace(desired, networks=(replace(blue, cidr4="x"),)))
    read = as_read(CATALOG, LogicalNetworks())
    foreign(read, "Logical_Switch", 500, name="blue")
    with pytest.raises(ForeignObject):
        apply(Database(read), CATALOG, desired, act=False)
    assert database.written == []


def test_all_of_a_catalog_is_taken_back():
    database = Database(as_read(CATALOG, desired))
    assert all(change.after is None for change in apply(database, CATALOG, LogicalNetworks()).changes)
    assert len(database.written) == 1
    assert not apply(Database({}), CATALOG, LogicalNetworks()).changed


def test_an_audit_says_what_differs_and_what_helps():
    database = Database(as_read(CATALOG, replace(desired, ports=(*desired.ports[1:], nic(114)), routers=())))
    found = {finding.asked: finding for finding in audit(database, CATALOG, desired)}
    assert found["OVN: port nic111"].found == "OVN does not have it"
    assert found["OVN: port nic114"].found == "OVN has it, and the catalog does not know it"
    assert found["OVN: network blue"].found == "it differs from the catalog's in DNS dns (records)"
    assert all(finding.remedy for finding in found.values())
    assert database.written == []
    less = Database(as_read(CATALOG, replace(desired, networks=(replace(blue, barred=()), *desired.networks[1:]))))
    (finding,) = audit(less, CATALOG, desired)
    assert finding.found == "it differs from the catalog's in ACL barred4 (missing)"
    (finding,) = audit(Database(as_read(CATALOG, desired)), CATALOG, replace(
        desired, networks=(replace(blue, barred=()), *desired.networks[1:])))  # fmt: skip
    assert finding.found == "it differs from the catalog's in ACL barred4 (too much)"


def test_networks_in_which_machines_may_play_the_router_are_warned_of():
    (warning,) = advertisement_warnings(desired, None)
    assert warning.startswith("network blue: OVN holds its machines to their addresses, but")
    (warning,) = advertisement_warnings(desired, ["node2", "node1"])
    assert "as a router on hosts with the userspace datapath (node1, node2), so that" in warning
    # The kernel's datapath has nftables before it.
    assert advertisement_warnings(desired, []) == []
    assert advertisement_warnings(replace(desired, ports=desired.ports[2:], routers=()), None) == []
