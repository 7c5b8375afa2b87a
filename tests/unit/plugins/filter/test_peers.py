# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each node is told with the address, port and keys by which the front-end reaches it."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.peers import FilterModule

peers = FilterModule().filters()["peers"]


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"nebula_transfer_address": "10.9.0.1", "ansible_host": "192.0.2.1"}, "10.9.0.1"),
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1"),
        ({"ansible_host": ""}, "node1"),
        ({}, "node1"),
    ],
)
def test_the_address_is_the_first_that_is_said(variables, address):
    assert peers([{"inventory_hostname": "node1", **variables}])["node1"]["address"] == address


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({"nebula_transfer_port": "2200", "ansible_port": 2222}, 2200),
        ({"ansible_port": "2222"}, 2222),
        ({"ansible_port": None}, 22),
        ({}, 22),
    ],
)
def test_the_port_is_a_number(variables, port):
    assert peers([{"inventory_hostname": "node1", **variables}])["node1"]["port"] == port


@pytest.mark.parametrize(
    ("node", "keys"),
    [
        ({"node": {"host_keys": ("ssh-ed25519 A", "ssh-rsa B")}}, ["ssh-ed25519 A", "ssh-rsa B"]),
        ({"node": {"host_keys": None}}, []),
        ({"node": None}, []),
        ({"unreachable": True, "msg": "no route"}, []),
        (None, []),
        ("x", []),
        ({"node": "x"}, []),
        ({"node": {"host_keys": ["@cert-authority * ssh-rsa B"]}}, []),
    ],
)
def test_a_node_that_did_not_answer_has_no_keys(node, keys):
    assert peers([{"inventory_hostname": "node1", "__nebula_node": node}])["node1"]["keys"] == keys


def test_every_host_is_there_under_its_name():
    assert peers([]) == {}
    assert list(peers([{"inventory_hostname": name} for name in ("b", "a")])) == ["b", "a"]
