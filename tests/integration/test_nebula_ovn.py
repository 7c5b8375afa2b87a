# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module nebula_ovn with a real catalog and a real northbound database: told, again, changed, absent, absent again,
each as check mode foresees it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from unittest import mock

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.calls import host, network, ovn, router
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import logical_switches, route_checks
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import routers
from ansible_collections.nebula.provision.tests.integration.northbound_world import central

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}
NETWORKS = [
    {
        "name": "Tenant",
        "vn_mad": "ovn",
        "network_address": "10.0.0.0/24",
        "gateway": "10.0.0.1",
        "address_ranges": [{"ip": "10.0.0.10", "size": 9}],
    },
    {
        "name": 'It\'s "outside", größer',
        "vn_mad": "ovn",
        "network_address": "172.24.1.0/24",
        "gateway": "172.24.1.1",
        "physical_network": "physnet1",
        "address_ranges": [{"ip": "172.24.1.10", "size": 9}],
    },
]
EDGE = {
    "name": "edge \"é\" 'x'",
    "interfaces": [{"network": "Tenant"}],
    "gateway": {"network": NETWORKS[1]["name"]},
    "floating": [{"vm": "web"}],
}


def run(module, root, check=False, expected=0, **given):
    """expected: how many of its items fail."""
    told = {key: value for key, value in module.ARGUMENTS.items() if key != "supports_check_mode"}
    checked = ArgumentSpecValidator(told.pop("argument_spec"), **told).validate({"root": root, **given})
    assert checked.error_messages == []
    result = module.run(checked.validated_parameters, check)
    assert len(result.errors) == expected, [str(item.error) for item in result.errors]
    return result


@in_bare_world
def test_the_catalog_is_told_as_foreseen() -> None:
    with tempfile.TemporaryDirectory() as root, central() as (_ovn, database):

        def told(changed, **given):
            given["northbound"] = list(database.remotes)
            predicted, real = run(ovn, root, check=True, **given), run(ovn, root, **given)
            assert (predicted.changed, real.changed) == (changed, changed)
            shown = [[(item.name, item.before, item.after) for item in each.items] for each in (predicted, real)]
            assert shown[0] == shown[1]
            return real

        told(False)
        run(host, root, hosts=[HOST])
        told(False)
        run(network, root, networks=NETWORKS)
        run(router, root, **EDGE)
        with contextlib.closing(EmbeddedEngine(root)) as engine, engine.session():
            _machine(engine)
        assert told(True).payload == {"networks": 2, "ports": 1, "routers": 1}
        told(False)
        # An audit reads what hosts have written into the southbound database, as far as it is told where that is.
        north = list(database.remotes)
        south = [each.replace("nb", "sb") for each in north]
        assert run(ovn, root, state="audited", northbound=north).payload["consistency"] == []
        assert run(ovn, root, state="audited", northbound=north, southbound=south).payload["consistency"] == []
        (silent,) = run(ovn, root, state="audited", northbound=north, southbound=["unix:/nowhere"]).payload[
            "consistency"
        ]
        assert "southbound database" in silent["sentence"]
        with contextlib.closing(EmbeddedEngine(root)) as engine, engine.session():
            (port,) = engine.networks.logical().ports
            assert engine.networks.port_hosts() == {port.uuid: "node1"}
        run(router, root, name=EDGE["name"], floating=[])
        told(True)
        told(False)
        # What is there stays as it is, and what is new has to fit.
        left = {"node1": 1442, "node2": 1392}
        assert told(False, inner_mtus={"node1": 1442, "node2": 0}).warnings == []
        warnings = told(False, inner_mtus=left).warnings
        assert len(warnings) == 1 and "network Tenant: GUEST_MTU = 1442: OVN's tunnels leave 1392" in warnings[0]
        assert not run(network, root, networks=NETWORKS, inner_mtus=left).changed
        wide = {"name": "Wide", "vn_mad": "ovn", "guest_mtu": 1500}
        for check in (True, False):
            refused = run(network, root, check=check, expected=1, networks=[wide], inner_mtus=left).errors[0].error
            assert "network Wide: GUEST_MTU = 1500" in str(refused) and "on host node2" in str(refused)
        told(False)
        run(router, root, name=EDGE["name"], state="absent")
        told(True)
        told(True, state="absent")
        told(False, state="absent")


@in_bare_world
def test_a_rule_of_the_release_before_is_made_anew_and_nothing_is_said_to_be_changed() -> None:
    with tempfile.TemporaryDirectory() as root, central() as (_ovn, database):
        given = {"northbound": list(database.remotes)}
        run(host, root, hosts=[HOST])
        run(network, root, networks=NETWORKS)
        with contextlib.closing(EmbeddedEngine(root)) as engine, engine.session():
            _machine(engine)
        assert run(ovn, root, **given).changed

        def rule():
            (found,) = (
                row
                for row in database.read()["ACL"]
                if row["priority"] == logical_switches.FIRST and "udp" in row["match"]
            )
            return found["_uuid"], found["match"]

        def write(text):
            uuid, _match = rule()
            where = [["_uuid", "==", uuid]]
            database.write([{"op": "update", "table": "ACL", "where": where, "row": {"match": text}}])

        _uuid, now = rule()
        earlier = now.replace(logical_switches._ANSWERS, logical_switches._EARLIER_ANSWERS)
        assert earlier != now
        write(earlier)
        for check in (True, False):
            assert rule()[1] == earlier
            done = run(ovn, root, check=check, **given)
            assert not done.changed and ["answers of DHCP servers" in each for each in done.warnings] == [True]
        assert rule()[1] == now and run(ovn, root, **given).warnings == []
        # Whatever else is there instead is a difference as ever.
        write(earlier.replace("68", "69"))
        assert run(ovn, root, **given).changed


def _machine(engine):
    nic = {"nic_id": 0, "network_id": 0, "ar_id": 0, "mac": "02:00:0a:00:00:0a", "ip": "10.0.0.10", "options": {}}
    engine.store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, host_id, wanted, cpu, memory, request, body, stime)"
        " VALUES (0, 'web', '00000000-0000-4000-8000-000000000001', 3, 3, 0, 'RUNNING', 1, 1, '', ?, 0)",
        (json.dumps({"nics": [nic]}),),
    )
    engine.store.db.execute("INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (0, 0, 0, 0, 0)")


@in_bare_world
def test_routes_are_carried_out_or_told() -> None:
    """The judge is what a real ovn-northd makes of them."""
    useless = {"destination": "2001:db8:9::/48", "next_hop": "10.0.0.5"}
    beside = {"destination": "0.0.0.0/0", "next_hop": "10.0.0.5"}
    with tempfile.TemporaryDirectory() as root, central() as (running, database):
        given = {"northbound": list(database.remotes)}
        given["southbound"] = [each.replace("nb", "sb") for each in database.remotes]
        run(host, root, hosts=[HOST])
        run(network, root, networks=NETWORKS)
        run(router, root, **{**EDGE, "routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.0.5"}]})
        done = run(ovn, root, **given)
        assert done.changed and done.warnings == []
        for each in (useless, beside):
            (refused,) = run(router, root, expected=1, name=EDGE["name"], routes=[each]).errors
            assert f"route to {each['destination']} by {each['next_hop']}" in str(refused.error)
        # What a catalog of before has is told, and the run goes on.
        with mock.patch.object(routers, "useless_routes", lambda *_given: []):
            run(router, root, name=EDGE["name"], routes=[useless, beside])
        for changed in (True, False):
            done = run(ovn, root, **given)
            assert done.changed is changed and len(done.warnings) == 2
            assert "OVN leaves it out" in done.warnings[0] and "OVN keeps one of the two" in done.warnings[1]
        assert "Address family doesn't match" in "".join(running.complaints("northd"))
        # What is not known to lead nowhere, and does.
        run(router, root, name=EDGE["name"], routes=[])
        run(ovn, root, **given)
        with mock.patch.object(routers, "useless_routes", lambda *_given: []):
            run(router, root, name=EDGE["name"], routes=[useless])
        with mock.patch.object(route_checks, "of_router", lambda _router: []):
            assert run(ovn, root, check=True, **given).changed
            (lost,) = run(ovn, root, expected=1, **given).errors
            assert "route to 2001:db8:9::/48 by 10.0.0.5" in str(lost.error) and "no flow of it" in str(lost.error)
            assert not run(ovn, root, **given).changed


@in_bare_world
def test_gateways_are_on_hosts_that_can_carry_them() -> None:
    with tempfile.TemporaryDirectory() as root, central() as (running, database):
        given = {"northbound": list(database.remotes)}
        given["southbound"] = [each.replace("nb", "sb") for each in database.remotes]

        def maps(name, mapping):
            running.sbctl("set", "Chassis", name, f"other_config:ovn-bridge-mappings={mapping}")

        def carriers():
            rows = running.nbctl("--bare", "--columns=chassis_name", "list", "Gateway_Chassis")
            return sorted(rows.split())

        run(host, root, hosts=[HOST, {**HOST, "name": "node2"}, {**HOST, "name": "node3"}])
        run(network, root, networks=NETWORKS)
        run(router, root, **EDGE)
        # Nobody is there yet, of whom anything is known.
        assert run(ovn, root, **given).warnings == [] and carriers() == ["node1", "node2", "node3"]
        for number in (1, 2):
            running.sbctl("chassis-add", f"node{number}", "geneve", f"192.0.2.{number}")
        (warning,) = run(ovn, root, **given).warnings
        assert "physical_network physnet1: none of the hosts in OVN" in warning
        assert carriers() == ["node3"], "it may be connected"
        maps("node2", "physnet1:br-ex,other:br-other")
        maps("node1", "other:br-ex")
        done = run(ovn, root, **given)
        assert done.changed and done.warnings == [] and carriers() == ["node2", "node3"]
        assert not run(ovn, root, **given).changed and not run(ovn, root, check=True, **given).changed
        assert run(ovn, root, state="audited", **given).payload["consistency"] == []
        # Who is named and can't is told; with nobody else it stays as it was asked for.
        run(router, root, name=EDGE["name"], gateway={"network": NETWORKS[1]["name"], "hosts": ["node1", "node2"]})
        (warning,) = run(ovn, root, **given).warnings
        assert "gateway on node1: no bridge mapping for physical_network physnet1" in warning
        assert carriers() == ["node2"]
        run(router, root, name=EDGE["name"], gateway={"network": NETWORKS[1]["name"], "hosts": ["node1"]})
        (warning,) = run(ovn, root, **given).warnings
        assert "so that nothing of it goes outside" in warning and carriers() == ["node1"]
        maps("node1", "physnet1:br-ex")
        assert run(ovn, root, **given).warnings == [] and carriers() == ["node1"]
        # A new network that nobody is connected with is an error of the run that makes it, and a warning from then on;
        # check mode does not know which mappings the run would bring.
        wrong = {"name": "Wrong", "vn_mad": "ovn", "network_address": "172.25.1.0/24", "physical_network": "physnet2"}
        running.sbctl("chassis-add", "node3", "geneve", "192.0.2.3")
        run(network, root, networks=[wrong])
        assert run(ovn, root, check=True, **given).changed
        (error,) = run(ovn, root, expected=1, **given).errors
        assert "network Wrong: physical_network physnet2: none of the hosts in OVN has a bridge mapping" in str(
            error.error
        )
        (warning,) = run(ovn, root, **given).warnings
        assert "physical_network physnet2: none of the hosts in OVN" in warning
        run(network, root, networks=[{**wrong, "description": "altered", "dhcp": True}])
        assert len(run(ovn, root, **given).warnings) == 1
        run(network, root, networks=[{**wrong, "physical_network": "physnet3"}])
        (error,) = run(ovn, root, expected=1, **given).errors
        assert "physical_network physnet3" in str(error.error)
        run(network, root, networks=[{"name": "Wrong", "state": "absent"}])
        assert run(ovn, root, **given).warnings == []
        # Where the southbound database does not answer, that is told, and the rest is done.
        done = run(ovn, root, northbound=given["northbound"], southbound=["unix:/nowhere"])
        assert not done.changed and "Which hosts can carry the gateways" in done.warnings[0]
