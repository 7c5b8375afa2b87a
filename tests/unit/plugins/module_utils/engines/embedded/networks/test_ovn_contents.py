# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OVN is told of the catalog: whatever machines, groups and routers are called and however old they are, it can be
told of, and nothing is let through because something is not known."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks.ovn_contents import (
    CLOSED,
    logical,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.move import Move
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import interface_id
from ansible_collections.nebula.provision.plugins.module_utils.model.router import (
    FloatingIp,
    Router,
    RouterGateway,
    RouterInterface,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import GroupRule, SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import logical_switches
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_checks import refuse
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import Rows

TENANT = {"NETWORK_ADDRESS": "10.0.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.0.0.1"}
OUTSIDE = {
    "NETWORK_ADDRESS": "172.24.1.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "172.24.1.1", "PHYSICAL_NETWORK": "p",
}  # fmt: skip
EDGE = Router(
    None, "edge", interfaces=(RouterInterface(0, "10.0.0.1"),), gateway=RouterGateway(1, ""),
    floating=(FloatingIp("", "web"),),
)  # fmt: skip


class Catalog:
    def __init__(self, engine):
        self.engine = engine

    def network(self, name, attributes, ip, **values):
        found = AddressRange(NEW_AR, values.pop("type", "IP4"), 9, ip=ip, **values)
        self.engine.networks.allocate(Network(None, name, vn_mad="ovn", attributes=attributes, address_ranges=(found,)))

    def machine(self, number, name, *networks, wanted="RUNNING", **options):
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        nics = [
            {
                "nic_id": n, "network_id": network, "ar_id": 0, "mac": f"02:00:0a:00:{network:02x}:{number:02x}",
                "ip": f"{'10.0.0' if network == 0 else '172.24.1'}.{10 + number}", "options": options,
            }
            for n, network in enumerate(networks)
        ]  # fmt: skip
        self.engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
            " VALUES (?, ?, ?, 3, 3, ?, 1, 1, '', ?, 0)",
            (number, name, uuid, wanted, json.dumps({"nics": nics})),
        )
        self.engine.store.db.executemany(
            "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (?, 0, ?, ?, ?)",
            [(network, number, number, n) for n, network in enumerate(networks)],
        )
        return [interface_id(uuid, n) for n in range(len(networks))]

    def logical(self, **values):
        """It always can be told to OVN."""
        found = self.engine.networks.logical(**values)
        refuse(found)
        return found


@pytest.fixture
def catalog(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        made = Catalog(engine)
        made.network("Tenant \"1\" 'é'", TENANT, "10.0.0.10")
        made.network("Outside", OUTSIDE, "172.24.1.10")
        engine.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=1, cpu=1))
        yield made


def test_a_catalog_without_networks_of_ovn_tells_nothing(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        engine.networks.allocate(Network(None, "Plain"))
        found = engine.networks.logical()
    assert (found.networks, found.ports, found.groups, found.routers) == ((), (), (), ())


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("web", "web"), ("Web-1", "web-1"), ("web_1", ""), ("web.example", ""), ("-web", ""), ("größe", ""),
        ("a" * 63, "a" * 63), ("a" * 64, ""), ("it's \"one\"", ""),
    ],
)  # fmt: skip
def test_a_machine_has_its_name_where_a_host_can_have_it(catalog, name, hostname):
    catalog.machine(1, name, 0)
    assert [port.hostname for port in catalog.logical().ports] == [hostname]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        (None, 0), ("0", 0), ("100", 1), ("100,0", 0), ("100,101", 2),
        # Not known, or never written by this version: everything would come through.
        ("999", CLOSED), ("web", CLOSED), ("100, 999", 1),
    ],
)  # fmt: skip
def test_groups_that_nobody_knows_let_nothing_through(catalog, text, groups):
    for name in ("a", "b", "unused"):
        catalog.engine.security_groups.allocate(SecurityGroup(None, name, rules=(GroupRule("inbound"),)))
    catalog.machine(1, "web", 0, **({} if text is None else {"SECURITY_GROUPS": text}))
    found = catalog.logical()
    (port,) = found.ports
    if groups == CLOSED:
        assert port.security_groups == (CLOSED,)
        assert [group.rules for group in found.groups] == [()]
    else:
        assert len(port.security_groups) == len(found.groups) == groups
    assert len(catalog.logical(unused_groups=True).groups) == 4 + (groups == CLOSED)


@pytest.mark.parametrize(("value", "on"), [(None, True), ("YES", True), ("NO", False), ("perhaps", True)])
def test_addresses_are_filtered_unless_it_is_said_plainly(catalog, value, on):
    catalog.machine(1, "web", 0, **({} if value is None else {"FILTER_MAC_SPOOFING": value}), INBOUND_AVG_BW="x")
    (port,) = catalog.logical().ports
    assert (port.filter_mac, port.filter_ip, port.bandwidth.inbound) == (on, on, 0)


def test_a_floating_address_leads_to_the_machine_that_stays(catalog):
    catalog.engine.routers.allocate(EDGE)
    assert catalog.logical().routers[0].floating == ()
    old = catalog.machine(1, "web", 0, wanted="DONE")
    (new,) = catalog.machine(2, "web", 0)
    found = catalog.logical()
    assert [port.uuid for port in found.ports] == [new, *old]
    assert [each.port for each in found.routers[0].floating] == [new]


def test_a_floating_address_leads_to_the_nic_that_the_router_reaches(catalog):
    catalog.engine.routers.allocate(EDGE)
    _outside, inside = catalog.machine(5, "web", 1, 0)
    assert [each.port for each in catalog.logical().routers[0].floating] == [inside]


def test_before_there_is_a_node_nothing_carries_a_gateway(catalog):
    catalog.engine.routers.allocate(EDGE)
    catalog.machine(1, "web", 0)
    assert catalog.logical().routers[0].gateway.chassis[0].name == "node1"
    catalog.engine.store.db.execute("DELETE FROM hosts")
    (router,) = catalog.logical().routers
    assert (router.gateway, router.snat, router.floating) == (None, False, ())


@pytest.mark.parametrize(
    ("gateway6", "addresses"), [("2001:db8::1", 2), ("fd00::1", 2), ("fe80::1", 1), ("2001:db8:1::1", 1), ("", 1)]
)
def test_a_router_has_the_gateway_of_ipv6_where_a_prefix_holds_it(catalog, gateway6, addresses):
    values = {
        **TENANT,
        "NETWORK_ADDRESS": "10.2.0.0",
        "GATEWAY": "10.2.0.1",
        **({"GATEWAY6": gateway6} if gateway6 else {}),
    }
    catalog.network("Six", values, "10.2.0.10", type="IP4_6", global_prefix="2001:db8::", ula_prefix="fd00::")
    catalog.engine.routers.allocate(Router(None, "six", interfaces=(RouterInterface(2, "10.2.0.1"),)))
    (router,) = catalog.logical().routers
    assert len(router.interfaces[0].addresses) == addresses


@pytest.mark.parametrize(("way", "between"), [("live", ("node1", "node2")), ("cold", ())])
def test_the_port_of_a_machine_that_moves_while_it_runs_is_on_both_hosts(catalog, way, between):
    catalog.engine.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=1, cpu=1))
    catalog.machine(1, "web", 0)
    catalog.machine(2, "other", 0)
    assert [port.between for port in catalog.logical().ports] == [(), ()]
    move = to_plain(Move("t" * 32, "node1", "node2", way, 2))
    catalog.engine.store.db.execute("UPDATE vms SET move_host = 1, move = ? WHERE id = 1", (json.dumps(move),))
    assert [port.between for port in catalog.logical().ports] == [between, ()]
    # It has moved; which move that was is still known.
    catalog.engine.store.db.execute("UPDATE vms SET move_host = NULL WHERE id = 1")
    assert [port.between for port in catalog.logical().ports] == [(), ()]


def test_what_is_of_another_driver_by_now_is_left_out(catalog):
    catalog.engine.routers.allocate(EDGE)
    catalog.engine.store.db.execute("UPDATE networks SET vn_mad = 'bridge'")
    found = catalog.logical()
    assert (found.networks, found.ports) == ((), ())
    assert (found.routers[0].interfaces, found.routers[0].gateway) == ((), None)


@pytest.mark.parametrize(
    ("attributes", "mode"),
    [
        ({"GATEWAY6": "2001:db8::1"}, "dhcpv6_stateful"),
        # Nobody announces anything, or machines are to know by their contexts alone.
        ({}, ""),
        ({"GATEWAY6": "2001:db8::1", "DHCP": "NO"}, ""),
    ],
)
def test_static_addresses_of_ipv6_are_told_by_dhcp_and_filtered(catalog, attributes, mode):
    made = AddressRange(NEW_AR, "IP6_STATIC", 9, ip6="2001:db8::10", prefix_length=64)
    values = Network(None, "Six", vn_mad="ovn", attributes=attributes, address_ranges=(made,))
    catalog.engine.networks.allocate(values)
    uuid = "00000000-0000-4000-8000-000000000007"
    nic = {"nic_id": 0, "network_id": 2, "ar_id": 0, "mac": "02:00:00:00:00:01", "ip6": "2001:db8::10"}
    catalog.engine.store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
        " VALUES (7, 'web', ?, 3, 3, 'RUNNING', 1, 1, '', ?, 0)",
        (uuid, json.dumps({"nics": [nic]})),
    )
    catalog.engine.store.db.execute(
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (2, 0, 0, 7, 0)"
    )
    found = catalog.logical()
    (network,) = (each for each in found.networks if each.name == "Six")
    assert (network.prefixes6, network.ra_mode) == (("2001:db8::/64",), mode)
    made = Rows("00000000-0000-4000-8000-00000000000c")
    logical_switches.render(made, found)
    tables: dict[str, list] = {"DHCP_Options": []}
    for row, columns in made.wanted.items():
        tables.setdefault(row.table, []).append(columns)
    (port,) = (columns for columns in tables["Logical_Switch_Port"] if columns["type"] == "")
    filtered = frozenset(("02:00:00:00:00:01 2001:db8::10",))
    assert (port["port_security"], port["addresses"]) == (filtered, filtered)
    assert bool(port["dhcpv6_options"]) == bool(mode)
    assert [row["cidr"] for row in tables["DHCP_Options"] if ":" in row["cidr"]] == ["2001:db8::/64"] * bool(mode)


def test_whatever_changes_it_is_told_as_if_it_were_told_for_the_first_time(catalog):
    """Of machines that nothing has changed for, what was made before stands."""
    engine, db = catalog.engine, catalog.engine.store.db
    web = (GroupRule("inbound", "TCP", "22", network_id=0), GroupRule("outbound"))
    for name in ("web", "mail"):
        engine.security_groups.allocate(SecurityGroup(None, name, rules=web))
    catalog.network("Other", {**TENANT, "SECURITY_GROUPS": "100"}, "10.0.0.100")
    catalog.machine(1, "plain", 0)
    catalog.machine(2, "named", 0, 1, SECURITY_GROUPS="101,102")
    catalog.machine(3, "walled", 0, SECURITY_GROUPS="100")
    catalog.machine(4, "of another network", 2)
    body = json.loads(db.execute("SELECT body FROM vms WHERE id = 3").fetchone()[0])
    body["context"] = {"FIREWALL": "[22] 10.0.0.0/24"}

    def execute(*words):
        return lambda: db.execute(*words)

    # What happens, and the machines whose ports may be made anew for it.
    steps = [
        (lambda: None, set()),
        (lambda: engine.security_groups.update(100, rules=web[:1]), set()),
        (lambda: engine.security_groups.update(100, name="Web"), set()),
        (lambda: engine.security_groups.allocate(SecurityGroup(None, "late", rules=())), {"named"}),
        (lambda: engine.security_groups.allocate(SecurityGroup(None, "unused", rules=())), set()),
        (lambda: engine.networks.update(1, attributes={**OUTSIDE, "DHCP": "YES"}), {"named"}),
        (lambda: catalog.network("New", {}, "10.9.0.10"), set()),
        (execute("UPDATE vms SET body = ? WHERE id = 3", (json.dumps(body),)), {"walled"}),
        (lambda: engine.security_groups.update(100, rules=web[1:]), {"walled"}),
        (execute("UPDATE vms SET name = 'renamed' WHERE id = 1"), {"plain", "renamed"}),
        (execute("DELETE FROM leases WHERE vm_id = 2 AND nic_id = 1"), {"named"}),
        (execute("UPDATE networks SET vn_mad = 'bridge' WHERE id = 2"), {"of another network"}),
        (execute("UPDATE networks SET vn_mad = 'ovn' WHERE id = 2"), {"of another network"}),
        (execute("DELETE FROM security_groups WHERE id = 101"), {"named"}),
        (execute("UPDATE vms SET state = 6 WHERE id = 4"), {"of another network"}),
    ]
    before = engine.networks.logical(unused_groups=True)
    for happens, concerned in steps:
        happens()
        after = engine.networks.logical(unused_groups=True)
        assert after == logical(engine.store, unused_groups=True)
        same = {id(port) for port in before.ports}
        anew = {port.name.partition(",")[0] for port in after.ports if id(port) not in same}
        assert anew <= concerned
        before = after
