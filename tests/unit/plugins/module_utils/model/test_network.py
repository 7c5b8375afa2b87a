# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network as results show it, and taken from there again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.network import (
    NEW_AR,
    AddressRange,
    Network,
    from_item,
    to_item,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import NetworkState

WORDS = st.text(max_size=6)
NUMBERS = st.integers(min_value=0, max_value=1 << 40)
ATTRIBUTES = st.dictionaries(WORDS, WORDS, max_size=2)
RANGES = st.builds(
    AddressRange,
    ar_id=st.just(NEW_AR) | NUMBERS,
    type=WORDS,
    size=NUMBERS,
    ip=WORDS,
    mac=WORDS,
    global_prefix=WORDS,
    ula_prefix=WORDS,
    used=NUMBERS,
    attributes=ATTRIBUTES,
)
NETWORKS = st.builds(
    Network,
    id=st.none() | NUMBERS,
    name=WORDS,
    uuid=WORDS,
    vn_mad=WORDS.filter(bool),
    bridge=WORDS,
    nat=st.booleans(),
    state=st.sampled_from(NetworkState),
    address_ranges=st.lists(RANGES, max_size=2).map(tuple),
    attributes=ATTRIBUTES,
)


@given(NETWORKS)
@settings(max_examples=20)
def test_a_network_comes_back_from_what_is_shown_of_it(network: Network) -> None:
    assert from_item(json.loads(json.dumps(to_item(network)))) == network


def test_results_show_names_of_states_and_nothing_for_an_id_that_is_none() -> None:
    network = Network(None, "lan", address_ranges=(AddressRange(0, "IP4", 9, ip="10.0.0.1", used=2),))
    assert to_item(network) == {
        "id": None,
        "uuid": None,
        "name": "lan",
        "bridge": "",
        "vn_mad": "bridge",
        "nat": False,
        "state": "READY",
        "address_ranges": [
            {
                "ar_id": 0,
                "type": "IP4",
                "ip": "10.0.0.1",
                "size": 9,
                "mac": "",
                "global_prefix": "",
                "ula_prefix": "",
                "ip6": "",
                "prefix_length": None,
                "used": 2,
                "attributes": {},
            }
        ],
        "attributes": {},
    }


def test_keys_that_are_missing_or_nothing_have_their_defaults() -> None:
    bare = Network(None, "lan", address_ranges=(AddressRange(NEW_AR, "IP4", 9),))
    assert from_item({"name": "lan", "address_ranges": [{"type": "IP4", "size": "9"}]}) == bare
    nothing = dict.fromkeys(to_item(bare))
    ranges = [{**dict.fromkeys(to_item(bare)["address_ranges"][0]), "type": "IP4", "size": 9}]
    assert from_item({**nothing, "name": "lan", "address_ranges": ranges}) == bare
    assert from_item({**nothing, "name": "lan"}) == Network(None, "lan")


def test_the_first_range_has_the_id_0_and_is_no_new_one() -> None:
    found = from_item({"name": "lan", "id": 0, "address_ranges": [{"ar_id": 0, "type": "IP4", "size": 1}]})
    assert (found.id, found.address_ranges[0].ar_id) == (0, 0)


def test_what_is_shown_is_not_the_networks_own() -> None:
    network = Network(
        1, "lan", attributes={"DNS": "a"}, address_ranges=(AddressRange(0, "IP4", 1, attributes={"A": "b"}),)
    )
    item = to_item(network)
    item["attributes"]["DNS"] = item["address_ranges"][0]["attributes"]["A"] = "other"
    assert network.attributes == {"DNS": "a"} and network.address_ranges[0].attributes == {"A": "b"}


@pytest.mark.parametrize("state", ["ready", "7", "NOSUCH"])
def test_a_state_that_is_none_is_not_taken_for_another(state: str) -> None:
    with pytest.raises(KeyError):
        from_item({"name": "lan", "state": state})
