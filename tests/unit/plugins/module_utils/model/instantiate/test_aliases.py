# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC_ALIAS: whose address it is, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.aliases import (
    AliasDemand,
    alias_demands,
    aliases_of,
    doubts_of_aliases,
    refuse_other_filters,
    refuse_other_segment,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.nic_vectors import NicDemand
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ONE = "NIC = [ NETWORK = a ]\n"
TWO = ONE + "NIC = [ NETWORK = b, NAME = inner ]\n"


def demands(text: str) -> tuple[AliasDemand, ...]:
    return alias_demands(parse(text), "VM web")


def refused(text: str) -> str:
    with pytest.raises(InvalidValue) as caught:
        demands(text)
    return str(caught.value)


def test_an_alias_finds_its_nic_by_its_name() -> None:
    text = (
        TWO + "NIC_ALIAS = [ NETWORK = b, PARENT = inner ] NIC_ALIAS = [ NETWORK_ID = 4, PARENT = NIC0, IP = 10.0.0.7 ]"
    )
    assert demands(text) == (AliasDemand(NicDemand("b"), 1), AliasDemand(NicDemand(4, "10.0.0.7"), 0))
    assert demands(TWO) == ()


def test_with_one_nic_it_is_that_one() -> None:
    assert [each.parent for each in demands(ONE + "NIC_ALIAS = [ NETWORK = a ]")] == [0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE + "NIC_ALIAS = [ PARENT = NIC0 ]", 'it names no NETWORK. Write NIC_ALIAS = [ NETWORK = "…" ]'),
        ("NIC_ALIAS = [ NETWORK = a ]", "VM web: NIC_ALIAS 0: it names no PARENT, and it has no NIC"),
        (TWO + "NIC_ALIAS = [ NETWORK = a ]", "NIC_ALIAS 0: it names no PARENT, and its NICs are NIC0, inner"),
        (
            TWO + "NIC_ALIAS = [ NETWORK = a, PARENT = Inner ]",
            "NIC_ALIAS 0: PARENT = Inner: no NIC has that name: its NICs are NIC0, inner",
        ),
        (TWO + "NIC_ALIAS = [ NETWORK = a, PARENT = NIC1 ]", "PARENT = NIC1: no NIC has that name"),
        (
            ONE + "NIC_ALIAS = [ NETWORK = a, NAME = more ] NIC_ALIAS = [ NETWORK = a, PARENT = more ]",
            "NIC_ALIAS 1: PARENT = more: that is an alias itself; its NICs are NIC0",
        ),
        (ONE + "NIC_ALIAS = [ NETWORK = a, PARENT = NIC0_ALIAS0 ]", "PARENT = NIC0_ALIAS0: that is an alias itself"),
        (ONE + "NIC_ALIAS = [ NETWORK = a, NAME = NIC0 ]", "NIC_ALIAS 0: NAME = NIC0: NIC 0 has that name"),
        (
            "NIC = [ NETWORK = a, NAME = x ] NIC = [ NETWORK = a, NAME = x ] NIC_ALIAS = [ NETWORK = a, PARENT = x ]",
            "NIC 1: NAME = x: NIC 0 has that name",
        ),
        (
            "NIC = [ NETWORK = a, NAME = NIC1 ] NIC_ALIAS = [ NETWORK = a ]",
            "NIC 0: NAME = NIC1: NICs without a NAME are called so by their numbers",
        ),
        (ONE + "NIC_ALIAS = [ NETWORK = a, EXTERNAL = maybe ]", "NIC_ALIAS 0/EXTERNAL = 'maybe'"),
        (ONE + "NIC_ALIAS = [ NETWORK = a, IP = 10.0.0 ]", "NIC_ALIAS 0: IP = 10.0.0: it is no IPv4 address"),
        (
            "NIC = [ NETWORK = a, IP = 10.0.0.7 ] NIC_ALIAS = [ NETWORK = a, IP = 10.0.0.7 ]",
            "NIC_ALIAS 0: 10.0.0.7 in network a: NIC 0 asks for it too",
        ),
        (
            ONE + "NIC_ALIAS = [ NETWORK = a, IP6 = fd00::7 ] NIC_ALIAS = [ NETWORK = a, IP6 = fd00::7 ]",
            "NIC_ALIAS 1: fd00::7 in network a: NIC_ALIAS 0 asks for it too",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_by_name(text: str, told: str) -> None:
    assert told in refused(text)


def test_a_template_with_such_an_alias_is_not_stored() -> None:
    whole = parse("MEMORY = 1 DISK = [ IMAGE = a ]\n" + TWO + "NIC_ALIAS = [ NETWORK = a, PARENT = outer ]")
    with pytest.raises(InvalidValue, match="no NIC has that name: its NICs are NIC0, inner"):
        validate(whole)
    with pytest.raises(InvalidValue, match=r"NIC_ALIAS: it is a single value and has to be a vector"):
        validate(parse("MEMORY = 1 DISK = [ IMAGE = a ] NIC_ALIAS = 10.0.0.1"))


# -- the aliases of a machine ------------------------------------------------------------------------------------------
def leased(nic_id: int, network_id: int = 0, bridge: str = "br0", **values: str) -> Alias:
    return Alias(
        nic_id, network_id, f"net{network_id}", bridge, f"02:00:0a:00:00:{nic_id:02x}", f"10.0.0.{nic_id}",
        network_values=values,
    )  # fmt: skip


def parent(network_id: int = 0, bridge: str = "br0", **values: str) -> Nic:
    return Nic(3, network_id, f"net{network_id}", bridge, "02:00:0a:00:00:03", network_values=values)


def test_aliases_are_counted_by_their_nic() -> None:
    text = TWO.replace("b,", "a,") + (
        'NIC_ALIAS = [ NETWORK = a, PARENT = inner, DNS = "9.9.9.9" ] NIC_ALIAS = [ NETWORK = a, PARENT = NIC0 ]'
        "NIC_ALIAS = [ NETWORK = a, PARENT = inner, EXTERNAL = yes ]"
    )
    nics = [replace(parent(), nic_id=4), parent()]
    found = aliases_of([leased(5), leased(6), leased(8)], parse(text), nics, "VM web")
    assert [(each.nic_id, each.parent_id, each.alias_id, each.external) for each in found] == [
        (5, 3, 0, False),
        (6, 4, 0, False),
        (8, 3, 1, True),
    ]
    assert found[0].options == {"DNS": "9.9.9.9"}
    (doubt,) = doubts_of_aliases(found)
    assert "10.0.0.8 of network net0 is leased, and neither the guest nor a router here has it" in doubt


@pytest.mark.parametrize(
    ("alias", "nic"),
    [
        (leased(5), parent()),
        (leased(5, VN_MAD="ovn"), parent(VN_MAD="ovn")),
        # Two networks of one bridge that is somebody's own.
        (leased(5, 1), parent()),
        (leased(5, 1, VN_MAD="ovswitch", VLAN_ID="7"), parent(VN_MAD="ovswitch", VLAN_ID="7")),
    ],
)
def test_an_alias_is_where_its_nic_is(alias: Alias, nic: Nic) -> None:
    refuse_other_segment(alias, nic, "NIC_ALIAS 0")


@pytest.mark.parametrize(
    ("alias", "nic", "told"),
    [
        (leased(5, 1, "br1"), parent(), "net1 on NIC 3, which is in network net0: they are on bridges br1 and br0"),
        (leased(5, 1, VN_MAD="ovn"), parent(VN_MAD="ovn"), "networks of OVN have nothing in common"),
        (leased(5, 1, VN_MAD="ovswitch"), parent(), "only one of the two is of Open vSwitch"),
        (
            leased(5, 1, VN_MAD="ovswitch", VLAN_ID="7"),
            parent(VN_MAD="ovswitch"),
            "on bridge br0 they have the VLANs 7 and none",
        ),
        (leased(5), parent(FILTER="clean-traffic"), "its NIC 3 has FILTER = clean-traffic"),
        (leased(5), replace(parent(), options={"FILTER": "clean-traffic"}), "its NIC 3 has FILTER = clean-traffic"),
    ],
)  # fmt: skip
def test_an_alias_whose_frames_would_not_come_through_is_refused(alias: Alias, nic: Nic, told: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        refuse_other_segment(alias, nic, "NIC_ALIAS 0")
    assert told in str(caught.value)


def test_no_alias_gets_round_what_its_network_filters() -> None:
    open_, closed = (
        Network(1, name, attributes=values) for name, values in (("a", {}), ("b", {"SECURITY_GROUPS": "7"}))
    )
    off = Network(2, "c", attributes={"FILTER_IP_SPOOFING": "NO", "SECURITY_GROUPS": "0"})
    for network, parents in ((open_, closed), (closed, closed), (off, open_)):
        refuse_other_filters(leased(5), network, parents)
    with pytest.raises(
        InvalidValue, match="in network b: SECURITY_GROUPS = 7: its NIC 0 is in network a, which says nothing"
    ):
        refuse_other_filters(leased(5), closed, open_)
    filtered = Network(3, "d", attributes={"FILTER_IP_SPOOFING": "YES"})
    with pytest.raises(InvalidValue, match="FILTER_IP_SPOOFING = YES: its NIC 0 is in network c, which says NO"):
        refuse_other_filters(leased(5), filtered, off)
