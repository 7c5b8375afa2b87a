# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease, and the NIC that wants one."""

from __future__ import annotations

from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.lease import Lease, LeaseRequest

LEASE = Lease(3, 0, 5, "02:00:0a:00:00:05", "10.0.0.5", "2001:db8::5", "fd00::5", vm_id=0, nic_id=0)


def test_a_lease_is_carried_with_ids_that_are_0() -> None:
    assert unset(LEASE) == set()
    assert carried(LEASE) == LEASE
    assert carried(Lease(None, 0, 0, "02:00:0a:00:00:05")) == Lease(None, 0, 0, "02:00:0a:00:00:05")


def test_a_lease_that_nobody_holds_has_no_machine_and_not_the_one_with_id_0() -> None:
    free = Lease(3, 0, 5, "02:00:0a:00:00:05")
    assert (free.vm_id, free.nic_id) == (None, None)
    assert (free.ip, free.ip6, free.ip6_ula) == ("", "", "")


def test_a_request_that_names_no_address_wants_the_next_free_one() -> None:
    request = LeaseRequest(3, 0, 0)
    assert (request.ip, request.mac, request.ip6) == ("", "", "")
    # Equal requests are one, so that they can be counted.
    assert len({request, LeaseRequest(3, 0, 0), LeaseRequest(3, 0, 1)}) == 2
