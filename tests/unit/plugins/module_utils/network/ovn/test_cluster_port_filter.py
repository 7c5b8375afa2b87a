# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for the ports of a cluster; tests/integration/test_ovn_cluster.py has them in a kernel."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import cluster_port_filter

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
ADDRESSES, PORTS = ["192.0.2.1", "192.0.2.2", "2001:db8::3"], [6643, 6644]


def test_members_return_and_all_others_are_dropped():
    lines = cluster_port_filter.text(CATALOG, ADDRESSES, PORTS).splitlines()
    rules = [
        line.partition(" comment ")[0].split(f"inet {cluster_port_filter.TABLE} ")[1]
        for line in lines
        if "add rule" in line
    ]
    assert rules == [
        "input tcp dport 6643 jump others",
        "input tcp dport 6644 jump others",
        "others ip saddr 192.0.2.1 return",
        "others ip saddr 192.0.2.2 return",
        "others ip6 saddr 2001:db8::3 return",
        "others drop",
    ]
    # Nothing is in between: the table is there before and after, never without its rules.
    assert lines[1] == f"delete table inet {cluster_port_filter.TABLE}"


def test_rules_are_found_by_their_comments(programs):
    comments = cluster_port_filter.expected(CATALOG, ADDRESSES, PORTS)
    entries = [{"table": {}}, *({"rule": {"comment": comment}} for comment in comments)]
    programs.script("nft", f"cat <<'END'\n{json.dumps({'nftables': entries})}\nEND")
    assert cluster_port_filter.observe() == comments
    assert cluster_port_filter.observe() != cluster_port_filter.expected(CATALOG, ADDRESSES[:2], PORTS)
    assert cluster_port_filter.observe() == cluster_port_filter.expected(CATALOG, ADDRESSES[::-1], PORTS)
    programs.script("nft", "exit 1")
    assert cluster_port_filter.observe() is None


def test_a_table_of_somebody_else_is_refused():
    cluster_port_filter.refuse_foreign(CATALOG, None)
    cluster_port_filter.refuse_foreign(CATALOG, [])
    cluster_port_filter.refuse_foreign(CATALOG, cluster_port_filter.expected(CATALOG, ADDRESSES, PORTS))
    with pytest.raises(ForeignObject, match="does not carry this catalog's mark"):
        cluster_port_filter.refuse_foreign(CATALOG, ["theirs"])
