# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limit of groups is as high as the devices need, and is never lowered."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.network import multicast_limit
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link

MAKING = ["link add name eth1.7 type vxlan id 7 group 239.0.0.7 dev eth1", "link add name nbr0 type bridge"]
THERE = {"eth1.8": Link("eth1.8", "vxlan"), "nbr1": Link("nbr1", "bridge")}


@pytest.mark.parametrize(("before", "after"), [("20", "22"), ("22", "22"), ("4000", "4000")])
def test_the_limit_is_raised_where_it_is_too_low(tmp_path, monkeypatch, before, after):
    limit = tmp_path / "limit"
    limit.write_text(f"{before}\n", encoding="ascii")
    monkeypatch.setattr(multicast_limit, "LIMIT", limit)
    multicast_limit.ensure_limit(MAKING, THERE)
    assert limit.read_text(encoding="ascii").strip() == after


def test_where_no_device_is_made_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(multicast_limit, "LIMIT", tmp_path / "none")
    multicast_limit.ensure_limit(MAKING[1:], THERE)
    with pytest.raises(CommandFailed, match="igmp_max_memberships"):
        multicast_limit.ensure_limit(MAKING, THERE)
