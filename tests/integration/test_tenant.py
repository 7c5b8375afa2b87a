# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One tenant's life on OVN by site.yml: two nodes, two guests, their router, a floating address, and bare hosts again.
test_tenants has all of it."""

from __future__ import annotations

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import (
    GATEWAY,
    OUTSIDE,
    Tenants,
    host_outside,
    machine,
    outside_reaches,
    router,
)

FLOATING = "203.0.113.110"


@pytest.mark.timeout(600)
@in_nodes(2)
def test_a_tenant_reaches_out_and_is_reached(*, image: str) -> None:
    site = Tenants(image)
    before = [state_of(node) for node in site.nodes]
    site.variables |= {
        "nebula_routers": [router("blue", floating=[{"ip": FLOATING, "vm": "blue-one"}])],
        "nebula_vms": [machine("blue-one", "node1"), machine("blue-two", "node2")],
    }
    with hosts(site), host_outside():
        site.done("site.yml")
        assert changed_tasks(site.done("site.yml")) == []
        guests = site.guests()
        one, two = guests["blue-one"], guests["blue-two"]
        for guest in (one, two):
            guest.up()
        assert one.reaches(two.ip, tries=10) and two.reaches(GATEWAY, tries=3) and two.reaches(OUTSIDE, tries=5)
        wait_for(lambda: outside_reaches(FLOATING), "the floating address answers", 10)
        site.done("playbooks/audit.yml")
        site.done("playbooks/teardown.yml")
        assert not site.root.exists(), list(site.root.rglob("*"))
        assert [state_of(node) for node in site.nodes] == before
