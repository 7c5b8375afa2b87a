# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In check mode on a host without a bridge or a firewall of its own: ip and nft are scripts that answer so,
in the form of the real ones. tests/integration/test_node_network.py has the real ones act."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, StalePlan
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file, systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network import host_address_move
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_networks
from ansible_collections.nebula.provision.plugins.modules import nebula_node_network

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
PUBLIC = {
    "id": 0,
    "uuid": "00000000-0000-4000-8000-000000000001",
    "name": "Public",
    "bridge": "nbr0",
    "vn_mad": "bridge",
    "nat": False,
    "state": "READY",
    "attributes": {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"},
    "address_ranges": [{"ar_id": 0, "type": "IP4", "ip": "10.66.0.10", "size": 100, "mac": "02:00:0a:42:00:0a"}],
}
NO_TABLE = "Error: No such file or directory; did you mean table 'x' in family ip?"


@pytest.fixture
def module(options, tmp_path, monkeypatch):
    """Whether the host has systemd is set to no by monkeypatch: what is kept for its boot is shown elsewhere."""
    programs = tmp_path / "programs"
    programs.mkdir()
    answers = {
        "ip": 'echo "[]"',
        "nft": f'case "$*" in *"list table"*) echo "{NO_TABLE}" >&2; exit 1;; esac; echo \'{{"nftables": []}}\'',
    }
    for name, answer in answers.items():
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\n{answer}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "no-systemd"))
    root = tmp_path / "nebula"
    root.mkdir()

    def run(*networks, check=True, **given):
        given.setdefault("catalog", CATALOG)
        params = options(nebula_node_network, root=str(root), networks=list(networks), **given)
        return (
            node_networks.keep(params, check) if given.get("state") == "kept" else node_networks.ensure(params, check)
        )

    return run


@pytest.mark.parametrize("nat", [True, False])
def test_a_bridge_is_foreseen_and_nothing_is_made(module, tmp_path, nat):
    result = module({**PUBLIC, "nat": nat})
    assert result.changed
    assert not result.errors
    assert result.payload == {
        "links": [
            {
                "network": "Public",
                "bridge": "nbr0",
                "created": True,
                "removed": False,
                "address": "10.66.0.1/24" if nat else "",
                "nat": nat,
            }
        ],
        "refused": [],
        "moved": [],
    }
    called = (tmp_path / "called").read_text()
    assert "-batch" not in called and " -f " not in called
    assert list((tmp_path / "nebula").iterdir()) == []


def test_what_this_collection_does_not_make_is_said(module):
    result = module({**PUBLIC, "vn_mad": "dummy"})
    assert (result.changed, result.payload) == (False, {"links": [], "refused": [], "moved": []})
    assert "network Public: there is no bridge nbr0 on this host" in result.warnings[0]


def test_one_network_that_cannot_be_keeps_no_other_from_being_made(module):
    second = {**PUBLIC, "name": "Twin", "bridge": "nbr1", "uuid": "00000000-0000-4000-8000-000000000002", "nat": True}
    first = {**PUBLIC, "nat": True}
    plain = {"name": "Plain", "bridge": "nbr2", "uuid": "00000000-0000-4000-8000-000000000003"}
    third = {**PUBLIC, **plain, "attributes": {}, "address_ranges": []}
    result = module(first, second, third)
    (item,) = result.errors
    assert item.name == "Twin: nbr1"
    assert "network Twin" in str(item.error)
    assert [link["network"] for link in result.payload["links"] if link["created"]] == ["Public", "Plain"]


def test_of_nothing_nothing_is_removed(module):
    for networks in ([], [PUBLIC]):
        result = module(*networks, state="absent")
        nothing = {"links": [], "refused": [], "moved": []}
        assert (result.changed, result.payload, result.warnings) == (False, nothing, [])


def test_a_catalog_that_is_none_is_refused(module):
    with pytest.raises(InvalidValue, match="catalog"):
        module(PUBLIC, catalog="mine; flush ruleset")


def test_a_host_that_is_no_node_gets_no_bridge(module, tmp_path):
    with pytest.raises(StalePlan) as caught:
        module(PUBLIC, check=False, node=True)
    assert f"networks of catalog {CATALOG}: this host is no node" in str(caught.value)
    node_file.update(str(tmp_path / "nebula"), lambda before: node_file.NodeFile(catalog="another"))
    with pytest.raises(StalePlan):
        module(PUBLIC, check=False, node=True)
    assert "-batch" not in (tmp_path / "called").read_text()


def test_the_second_word_for_what_was_put_back_is_too_late(module, tmp_path, monkeypatch):
    monkeypatch.setattr(host_address_move, "PLACE", str(tmp_path / "moves"))
    assert module(state="kept", moved=["nbr0"]).errors == []
    (item,) = module(state="kept", moved=["nbr0"], check=False).errors
    assert "bridge nbr0" in str(item.error) and "no second word came within 60 s" in str(item.error)
