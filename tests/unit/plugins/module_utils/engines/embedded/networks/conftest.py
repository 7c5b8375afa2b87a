# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog in a real SQLite file, with machines that only lease."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks.network_verbs import Networks
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network

PUBLIC = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"}


def ip4(ip="10.66.0.10", size=5, ar_id=NEW_AR, **values):
    return AddressRange(ar_id, "IP4", size, ip=ip, **values)


class Catalog:
    """A catalog with machines that do nothing but lease."""

    def __init__(self, store):
        self.store = store
        self.networks = Networks(store)

    def machines(self, count, first=0):
        self.store.db.executemany(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
            " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '', 0)",
            [(i, f"vm-{i}", str(i)) for i in range(first, first + count)],
        )

    def public(self, *ranges, **values):
        return self.networks.allocate(
            Network(None, "Public", address_ranges=ranges or (ip4(),), attributes=PUBLIC, **values)
        )

    def lease(self, network, *wanted):
        """wanted: VM ids, or (VM id, IP)."""
        requests = [LeaseRequest(network.id, *((w[0], 0, w[1]) if isinstance(w, tuple) else (w, 0))) for w in wanted]
        return [lease.ip for lease in self.networks.leases.lease(requests)]

    def used(self):
        return [r.used for network in self.networks.pool() for r in network.address_ranges]


@pytest.fixture
def catalog(tmp_path):
    store = Store(str(tmp_path), create=True)
    with store.transaction():
        made = Catalog(store)
        made.machines(200)
        yield made
    store.close()


@contextmanager
def raises(kind, *parts):
    with pytest.raises(kind) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)
