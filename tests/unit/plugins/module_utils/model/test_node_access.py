# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines may reach on a node is written in one form, and whatever can't be meant is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import node_access
from ansible_collections.nebula.provision.plugins.module_utils.model.node_access import NodeAccess, read


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "none"),
        ("none", "none"),
        ("all", "all"),
        ("ALL all", "all"),
        ("ICMP", "icmp"),
        ("udp/53 tcp/22, icmp", "icmp tcp/22 udp/53"),
        ("tcp/8000-8010,tcp/22 tcp/22", "tcp/22 tcp/8000-8010"),
        # nftables takes no sets whose elements overlap.
        ("tcp/20-30 tcp/25-40 tcp/41 tcp/43", "tcp/20-41 tcp/43"),
        ("tcp/1-65535", "tcp/1-65535"),
    ],
)
def test_what_is_written_has_one_form(text: str, form: str) -> None:
    assert str(read(text, "network Public: NODE_ACCESS")) == form
    assert str(read(form, "x")) == form


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("all tcp/22", "beside all there can be nothing else"),
        ("none, icmp", "beside none there can be nothing else"),
        ("tcp", "'tcp': not something that a node has"),
        ("22", "'22': not something that a node has"),
        ("ssh", "'ssh': not something that a node has"),
        ("sctp/9", "'sctp/9': not something that a node has"),
        ("icmp/8", "'icmp/8': not something that a node has"),
        ("tcp/", "'tcp/': not a port or a range of ports from 1 to 65535"),
        ("tcp/0", "'tcp/0': not a port"),
        ("tcp/65536", "'tcp/65536': not a port"),
        ("tcp/10-5", "'tcp/10-5': not a port"),
        ("tcp/-5", "'tcp/-5': not a port"),
        ("tcp/5-", "'tcp/5-': not a port"),
        ("tcp/1-2-3", "'tcp/1-2-3': not a port"),
        ("tcp/٢٢", "'tcp/٢٢': not a port"),
        ('tcp/22"', "'tcp/22\"': not a port"),
        ("tcp/22}; drop", "'tcp/22};': not a port"),
        (" ".join(f"udp/{port}" for port in range(1, 200, 2)), "udp: 100 ports and ranges, the limit is 50"),
    ],
)
def test_what_can_not_be_meant_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(text, "network Public: NODE_ACCESS")
    assert str(caught.value).startswith("network Public: NODE_ACCESS") and told in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["tcp", "udp"]), st.integers(1, 65535), st.integers(0, 30)), max_size=30))
def test_no_port_is_lost_or_won(wanted: list[tuple[str, int, int]]) -> None:
    spans = [(protocol, low, min(low + more, 65535)) for protocol, low, more in wanted]
    found = read(" ".join(f"{protocol}/{low}-{high}" for protocol, low, high in spans), "x")
    for protocol in node_access.PROTOCOLS:
        asked = {port for each, low, high in spans if each == protocol for port in range(low, high + 1)}
        assert asked == {port for low, high in found.ports(protocol) for port in range(low, high + 1)}
    assert read(str(found), "x") == found


def test_nothing_is_what_is_not_said() -> None:
    assert read("", "x") == NodeAccess()
    assert read("all", "x") == NodeAccess(everything=True)
