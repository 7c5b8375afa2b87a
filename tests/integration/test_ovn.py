# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN with its real daemons, as the modules set it up, in one world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    Gateway,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Router,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import apply, southbound_audit
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import Database
from ansible_collections.nebula.provision.tests.integration.ovn_hosts import (
    CATALOG,
    left,
    nbctl,
    net,
    pings,
    set_up,
    steady_pings,
    take_back,
    two_machines,
    underlay,
    until,
)

NETWORK, OUTSIDE, PORT, OTHER_PORT, ROUTER, OTHER_ROUTER = (
    f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 111, 112, 7, 8)
)
OTHER_CATALOG = "aaaaaaaa-0000-4000-8000-000000000002"


@in_bare_world
def test_machines_on_different_nodes_reach_each_other_and_all_of_it_is_given_back():
    with net() as made:
        results = set_up(made)
        assert all(each["changed"] for each in results["hosts"].values())
        assert results["hosts"]["node1"]["host"]["inner_mtu"] == 1442

        machines = two_machines(made, results, *made.nodes[:2])
        assert pings(machines[0], "10.0.0.2", size=1442 - 28)
        assert not pings(machines[0], "10.0.0.2", size=1443 - 28)

        for again in (set_up(made), set_up(made, check=True)):
            for each in (*again["asked"], again["signed"], again["central"], *again["hosts"].values()):
                assert not each["changed"], each
            assert all(host["host"]["connected"] for host in again["hosts"].values())
        # Certificates that are written first are not there yet in check mode.
        (made.nodes[0].root / "ovn/host/southbound.pem").unlink()
        given = {
            "southbound": results["central"]["connections"]["southbound"],
            "certificates": results["signed"]["certificates"]["host:node1"],
            "datapath": "netdev",
            "bridge_mappings": underlay(made.nodes[0]),
        }
        for check, changed in ((True, True), (False, True), (True, False)):
            assert made.nodes[0].ok("host", check=check, **given)["changed"] is changed

        with steady_pings(machines[0], "10.0.0.2") as lost:
            controller = made.nodes[1].directory / "ovn_run/ovn-controller.pid"
            before = controller.read_text()
            assert set_up(made, made.nodes[1:2], restart=True)["hosts"]["node2"]["changed"]
            assert controller.read_text() != before
        assert lost == [False]

        # Machines are attached, and a switch is there that others have made.
        assert "attached to br-int are vp1" in made.nodes[0].refused("host", state="absent")
        assert "Logical_Switch private" in made.central.refused("central", state="absent")
        for node, port in zip(made.nodes, ("p1", "p2")):
            node.vsctl("del-port", "br-int", f"v{port}")
            node.run("ip", "link", "delete", f"v{port}")
        nbctl(made, results, "ls-del", "private")

        assert all(each["changed"] for each in take_back(made, check=True))
        assert all(each["changed"] for each in take_back(made))
        assert left(made) == []
        assert not any(each["changed"] for each in take_back(made))


@in_bare_world
def test_a_certificate_opens_what_it_is_for_and_nothing_else():
    with net() as made:
        results = set_up(made, made.nodes[:2])
        node = made.nodes[0]
        north, south = (results["central"]["connections"][which] for which in ("northbound", "southbound"))
        place = node.root / "ovn/host"

        def by_node(program, connection, *words):
            files = [f"--private-key={place}/key.pem", f"--certificate={place}/southbound.pem"]
            files += [f"--ca-cert={place}/southbound-authority.pem", "--timeout=3", f"--db={connection}"]
            return node.run(program, *files, *words, check=False)

        # Its own row it may write, and no other host's.
        assert by_node("ovn-sbctl", south, "set", "Chassis", "node1", "external_ids:mine=1").returncode == 0
        done = by_node("ovn-sbctl", south, "set", "Chassis", "node2", "external_ids:mine=1")
        assert done.returncode != 0
        assert "permission error" in done.stderr
        done = by_node("ovn-sbctl", south, "destroy", "Chassis", "node2")
        assert done.returncode != 0

        # The northbound database knows another authority.
        assert by_node("ovn-nbctl", north, "show").returncode != 0
        assert made.central.run(
            "ovn-nbctl", f"--db=tcp:{made.central.address}:6641", "--timeout=2", "show", check=False
        ).returncode
        assert nbctl(made, results, "show") == ""

        # The front-end's client reads the southbound database, and writes nothing there.
        client = results["signed"]["client"]["southbound"]
        files = [f"--{key.replace('_certificate', '-cert').replace('_', '-')}={path}" for key, path in client.items()]
        sbctl = ["ovn-sbctl", f"--db={south}", "--timeout=3", *files]
        assert "Chassis node1" in made.central.run(*sbctl, "show")
        assert made.central.run(*sbctl, "set", "Chassis", "node1", "external_ids:a=1", check=False).returncode != 0

        # The keys are root's alone, and neither they nor a request for another's name leave their host.
        for path in made.directory.rglob("*key*"):
            assert path.stat().st_mode & 0o77 == 0, path
        asked = node.ok("host", state="requested")["request"]
        assert "PRIVATE" not in json.dumps(results)
        forged = [{**asked, "name": "node2"}]
        signed = made.central.ok("central", state="signed", requests=forged)
        assert "its request is not for the subject CN=node2" in signed["refused"]["host:node2"]
        assert signed["certificates"] == {}


@in_bare_world
def test_a_central_daemon_that_is_gone_alone_is_started_again():
    with net() as made:
        central, node = made.central, made.nodes[0]
        certificates = set_up(made, [node])["signed"]["certificates"]
        given = {"address": central.address, "certificates": certificates["central:central"]}
        for name in ("ovn-northd", "ovnsb_db"):
            ended(int((central.directory / f"ovn_run/{name}.pid").read_text()))
            # The others still listen at their ports.
            assert central.ok("central", check=True, **given)["changed"]
            assert central.ok("central", **given)["changed"]
            assert not central.ok("central", **given)["changed"]
        # What hosts have is what they were given, until one loses it.
        asked = [each.ok(kind, state="requested")["request"] for each, kind in ((central, "central"), (node, "host"))]
        assert central.ok("central", state="signed", requests=asked)["outdated"] == []
        (node.root / "ovn/host/southbound.pem").unlink()
        asked[1] = node.ok("host", state="requested")["request"]
        assert central.ok("central", state="signed", requests=asked)["outdated"] == ["host:node1"]


def ended(pid):
    """With the process that would start it again."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    for each in [parent, pid] if "monitor" in Path(f"/proc/{parent}/cmdline").read_text() else [pid]:
        os.kill(each, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), f"process {pid} ends")


@in_bare_world
def test_a_central_side_of_somebody_else_is_refused_and_stays():
    with net() as made:
        central = made.central
        assert "another program listens" in port_taken(central)
        central.run("/usr/share/ovn/scripts/ovn-ctl", "start_northd")
        central.run("ovn-nbctl", "ls-add", "theirs")
        assert "was set up by somebody else (Logical_Switch theirs)" in central.refused("central", state="requested")
        assert not central.root.exists()
        assert not central.ok("central", state="absent")["changed"]
        # Nor are they those of a catalog that is not there.
        assert "set up by somebody else" in central.module("central", check=True, catalog="", state="requested")["msg"]
        assert not central.ok("central", state="absent", catalog="")["changed"]
        assert "theirs" in central.run("ovn-nbctl", "ls-list")
        central.run("ovn-nbctl", "ls-del", "theirs", "--", "set-connection", "ptcp:6641:127.0.0.1")
        assert "northbound database: connection ptcp:6641:127.0.0.1" in central.refused("central", state="requested")
        central.run("ovn-nbctl", "del-connection")
        central.run("ovn-nbctl", "set", "NB_Global", ".", f"external_ids:nebula-catalog={OTHER_CATALOG}")
        assert f"the mark of catalog {OTHER_CATALOG}" in central.refused("central", state="requested")
        # Databases that nobody uses yet, as the package makes them, are taken.
        central.run("ovn-nbctl", "remove", "NB_Global", ".", "external_ids", "nebula-catalog")
        set_up(made, [])
        assert (
            central.run("ovn-nbctl", "get", "NB_Global", ".", "external_ids:nebula-catalog").strip() == f'"{CATALOG}"'
        )
        central.ok("central", state="absent")
        assert left(made) == []


def port_taken(central):
    asked = central.ok("central", state="requested")
    signed = central.ok("central", state="signed", requests=[asked["request"]])
    certificates = signed["certificates"]["central:central"]
    listen = "import socket,sys; s=socket.create_server(('', 6642)); print('ready', flush=True); sys.stdin.read()"
    argv = ["ip", "netns", "exec", central.namespace, sys.executable, "-c", listen]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        message = central.refused("central", address=central.address, certificates=certificates)
        process.stdin.close()
    central.ok("central", state="absent")
    return message


@in_bare_world
def test_databases_that_serve_no_tls_end_the_run():
    with net() as made:
        central = made.central
        results = set_up(made, [])
        given = {"address": central.address, "certificates": results["signed"]["certificates"]["central:central"]}
        assert not central.ok("central", **given)["changed"]
        key = central.root / "ovn/central/key.pem"
        good = key.read_bytes()
        key.write_bytes((central.root / "ovn/client/key.pem").read_bytes())
        # A look finds it, and so does a run, though nothing has to be written.
        message = central.refused("central", **given)
        assert "by TLS: it listens, and gives no answer" in message
        seen = central.ok("central", state="audited", address=central.address)
        assert "gives no answer" in seen["consistency"][0]["sentence"]
        key.write_bytes(good)
        assert not central.ok("central", **given)["changed"]


def by_certificate(node, results, *words):
    """What the node's own certificate may do with the southbound database."""
    place = node.root / "ovn/host"
    files = [f"--private-key={place}/key.pem", f"--certificate={place}/southbound.pem"]
    files += [f"--ca-cert={place}/southbound-authority.pem", "--timeout=5"]
    return node.run("ovn-sbctl", f"--db={results['central']['connections']['southbound']}", *files, *words, check=False)


@in_bare_world
def test_what_a_node_writes_of_others_is_found():
    with net() as made:
        results = set_up(made, made.nodes[:2])
        first, second = made.nodes[:2]
        one = LogicalPort(PORT, NETWORK, "02:00:0a:00:00:0b", ("10.0.0.11",), name="web, NIC 0")
        other = LogicalPort(OTHER_PORT, NETWORK, "02:00:0a:00:00:0c", ("10.0.0.12",), name="db, NIC 0")
        gateways = [Gateway(OUTSIDE, (f"198.51.100.{n}/24",), (Chassis("node1", 1),), "198.51.100.1") for n in (2, 3)]
        routers = (
            Router(ROUTER, "edge", (Interface(NETWORK, ("10.0.0.1/24",)),), gateways[0]),
            Router(OTHER_ROUTER, "rim", (), gateways[1]),
        )
        networks = (
            LogicalNetwork(NETWORK, "blue", "10.0.0.0/24", "10.0.0.1"),
            LogicalNetwork(OUTSIDE, "public", "198.51.100.0/24", dhcp=False, physical_network="physnet"),
        )
        desired = LogicalNetworks(networks, (one, other), (), routers)
        run = made.central.directory / "ovn_run"
        with Database([f"unix:{run}/ovnnb_db.sock"]) as north:
            apply.apply(north, CATALOG, desired)
            north.settle()
            switches = apply.switches(north, CATALOG)
        assert sorted(switches.values()) == [NETWORK, OUTSIDE]

        def found():
            with Database([f"unix:{run}/ovnsb_db.sock"], name=southbound_audit.DATABASE) as south:
                return southbound_audit.find_wrong_rows(
                    southbound_audit.read(south), desired, {PORT: "node1"}, switches
                )

        def column(table, name, *where):
            return made.central.run("ovn-sbctl", "--bare", f"--columns={name}", "find", table, *where).strip()

        port = column("Port_Binding", "_uuid", f"logical_port={PORT}")
        chassis = {node.name: column("Chassis", "_uuid", f"name={node.name}") for node in (first, second)}
        made.central.run("ovn-sbctl", "set", "Port_Binding", port, f"chassis={chassis['node1']}")
        named = f"logical_port=cr-lrp-{ROUTER}-{OUTSIDE}"
        gateway = column("Port_Binding", "_uuid", named)
        until(lambda: column("Port_Binding", "chassis", named) == chassis["node1"], "node1 has the gateway")
        assert found() == []

        # OVN lets a node do all of this by its certificate. An honest ovn-controller gives back what it does not have,
        # and takes back a gateway that it carries.
        for node in (first, second):
            node.run("/usr/share/ovn/scripts/ovn-ctl", "stop_controller", "--restart")
        # northd removes rows of FDB for what is no port.
        made.central.run("ovn-appctl", "-t", "ovn-northd", "pause")
        for row, name in ((port, "chassis"), (port, "additional_chassis"), (gateway, "chassis")):
            done = by_certificate(second, results, "set", "Port_Binding", row, f"{name}={chassis['node2']}")
            assert done.returncode == 0, done.stderr
        datapath = column("Datapath_Binding", "_uuid", "external_ids:logical-router!=''").split()[0]
        taken = column("Port_Binding", "tunnel_key", f"logical_port={OTHER_PORT}")
        (switch,) = (row for row, network in switches.items() if network == NETWORK)
        key = column("Datapath_Binding", "tunnel_key", f"external_ids:logical-switch={switch}")
        for where, address, mac in (
            (f"{ROUTER}-{NETWORK}", "10.0.0.11", "99"),
            (f"{ROUTER}-{OUTSIDE}", "198.51.100.3", "98"),
            (f"{ROUTER}-{OUTSIDE}", "198.51.100.1", "97"),
            (f"{OTHER_ROUTER}-{OUTSIDE}", "198.51.100.1", "96"),
        ):
            words = ["create", "MAC_Binding", f"logical_port=lrp-{where}", f"ip={address}", f"datapath={datapath}"]
            done = by_certificate(second, results, *words, f'mac="02:00:00:00:00:{mac}"')
            assert done.returncode == 0, done.stderr
        done = by_certificate(
            second, results, "create", "FDB", 'mac="02:00:0a:00:00:0b"', f"dp_key={key}", f"port_key={taken}"
        )
        assert done.returncode == 0, done.stderr

        seen = found()

        def only(words):
            (each,) = (each for each in seen if words in each.found)
            return each

        moved = only("it is on host node2, and the catalog has its machine on node1")
        assert (moved.host, moved.asked) == ("node1", "port of web, NIC 0 in OVN")
        drawn = only("it is on host node2, and the catalog has it on node1: what goes outside")
        assert (drawn.host, drawn.asked) == ("node1", "gateway of router edge in OVN")
        altered = [
            only(words) for words in ("node2 gets a copy", "to 02:00:00:00:00:99", "to 02:00:00:00:00:98", "different")
        ]
        assert altered[2].asked == "address 198.51.100.3 of router rim in OVN"
        assert altered[3].asked.startswith("next hop 198.51.100.1 of routers ")
        altered.append(only(f"learned at port {taken}"))
        assert len(seen) == 7
        # The remedies are commands that mend it.
        for each in altered:
            command = each.remedy.partition("On the central host: ")[2].partition(". ")[0]
            made.central.run(*command.split())
        made.central.run("ovn-sbctl", "set", "Port_Binding", port, f"chassis={chassis['node1']}")
        set_up(made, made.nodes[:1], restart=True)
        until(lambda: column("Port_Binding", "chassis", named) == chassis["node1"], "node1 has the gateway again")
        assert found() == []


@in_bare_world
def test_a_chassis_that_is_alive_or_of_the_inventory_stays():
    with net() as made:
        set_up(made, made.nodes[:2])
        second = made.nodes[1].address

        def chassis():
            return sorted(made.central.run("ovn-sbctl", "--bare", "--columns=name", "list", "Chassis").split())

        for hosts, unregistered, why in (
            (["node1", "ghost"], {"ghost": second}, "it is alive: its ovn-controller answers"),
            (["node1", "node2", "ghost"], {"ghost": second}, "the inventory has a host of that name"),
            (["node1"], {"node1": second}, "chassis node1 is there with another address"),
        ):
            done = made.central.ok("central", state="registered", hosts=hosts, unregistered=unregistered)
            (kept,) = done["kept"].values()
            assert kept == f"chassis node2 stays, as {why}" and not done["changed"]
            assert chassis() == ["node1", "node2"]
        # An audit names those of no host of the inventory.
        look = {"state": "audited", "address": made.central.address}
        assert made.central.ok("central", hosts=["node1", "node2"], **look)["consistency"] == []
        (stranger,) = made.central.ok("central", hosts=["node1"], **look)["consistency"]
        assert "chassis node2 in OVN" in stranger["sentence"] and "forget_host" in stranger["sentence"]
        assert second in stranger["sentence"] and "ovn-sbctl chassis-del node2" in stranger["sentence"]
        # One whose ovn-controller is gone makes room.
        made.nodes[1].run("/usr/share/ovn/scripts/ovn-ctl", "stop_controller", "--restart")
        given = {"state": "registered", "hosts": ["node1", "ghost"], "unregistered": {"ghost": second}}
        assert made.central.ok("central", check=True, **given)["changed"] and chassis() == ["node1", "node2"]
        assert made.central.ok("central", **given)["changed"] and chassis() == ["node1"]
