# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for OVN in one world: a central host and three nodes, each a network namespace with directories of its own.
Packets go by the userspace datapath, which needs no module of the kernel."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

ROOT = Path(__file__).resolve().parents[2]
CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
MODULE = """
import sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
from ansible_collections.nebula.provision.plugins.modules import {name}
{name}.main()
"""
COUNTER = itertools.count()
SECONDS = 20


class Node:
    """A host: a network namespace on the underlay, with directories of its own."""

    def __init__(self, net, name, number):
        self.net, self.name, self.number = net, name, number
        self.namespace = f"{net.prefix}-{name}"
        self.directory = net.directory / name
        self.root = self.directory / "nebula"
        self.directory.mkdir()
        self.address = f"192.0.2.{number}"
        run("ip", "netns", "add", self.namespace)
        run(
            "ip",
            "link",
            "add",
            f"u{number}",
            "netns",
            net.switch,
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            self.namespace,
        )
        run("ip", "-n", net.switch, "link", "set", f"u{number}", "master", "underlay", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        # The kernel hands sums to be finished by hardware to a userspace datapath, which does not finish them.
        self.run("ethtool", "-K", "eth0", "tx", "off")

    @property
    def directories(self):
        keys = ("ovs_run", "ovs_log", "ovs_database", "ovn_run", "ovn_log", "ovn_database", "configuration")
        return {key: str(self.directory / key) for key in keys}

    @property
    def environment(self):
        places = self.directories
        return {
            **os.environ,
            "OVS_RUNDIR": places["ovs_run"],
            "OVN_RUNDIR": places["ovn_run"],
            "OVS_DBDIR": places["ovs_database"],
            "OVS_LOGDIR": places["ovs_log"],
            "OVN_LOGDIR": places["ovn_log"],
            "OVN_DBDIR": places["ovn_database"],
            "OVS_SYSCONFDIR": places["configuration"],
            "OVN_SYSCONFDIR": places["configuration"],
            "PYTHONPATH": str(ROOT / "collections"),
        }

    def run(self, *argv, check=True, input=None):
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment,
            input=input,
            check=False,
        )
        assert done.returncode == 0 or not check, (argv, done.stdout, done.stderr)
        return done.stdout if check else done

    def module(self, name, check=False, **params):
        params = {"name": self.name, "catalog": CATALOG, "root": str(self.root), **params}
        arguments = {
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(self.directory),
            "directories": self.directories,
            **params,
        }
        done = self.run(
            *(sys.executable, "-c", MODULE.format(name=f"nebula_ovn_{name}")),
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            check=False,
        )
        assert done.stdout.strip().startswith("{"), done.stdout + done.stderr
        return json.loads(done.stdout)

    def ok(self, name, **params):
        result = self.module(name, **params)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, name, **params):
        predicted, result = self.module(name, check=True, **params), self.module(name, **params)
        assert result.get("failed")
        assert predicted["msg"] == result["msg"]
        return result["msg"]

    def vsctl(self, *words):
        return self.run("ovs-vsctl", *words).strip()

    def endpoint(self, port, address, mac):
        """A machine, as far as OVN sees it: a namespace with one interface."""
        name = f"{self.net.prefix}-{port}"
        run("ip", "netns", "add", name)
        self.net.namespaces.append(name)
        run("ip", "link", "add", f"v{port}", "netns", self.namespace, "type", "veth", "peer", "eth0", "netns", name)
        run("ip", "-n", name, "link", "set", "eth0", "address", mac, "up")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off")
        self.run("ip", "link", "set", f"v{port}", "up")
        self.vsctl(
            "add-port", "br-int", f"v{port}", "--", "set", "Interface", f"v{port}", f"external_ids:iface-id={port}"
        )
        return name


class Net:
    def __init__(self):
        self.prefix = f"o{os.getpid()}-{next(COUNTER)}"
        self.directory = Path(os.environ["NEBULA_WORLD"]) / f"ovn-{self.prefix}"
        self.directory.mkdir()
        self.namespaces = []
        self.switch = f"{self.prefix}-switch"
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "underlay", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "underlay", "up")
        self.central = Node(self, "central", 1)
        self.nodes = [Node(self, f"node{n}", 10 + n) for n in (1, 2, 3)]
        self.names = {node.name: node for node in (self.central, *self.nodes)}

    def close(self):
        hosts = (*self.namespaces, *(node.namespace for node in self.names.values()))
        # A daemon's monitor writes to its log that the daemon was killed: no process may be left when the files go.
        until(lambda: not kill(hosts), "what runs on the hosts did not end")
        for name in (*hosts, self.switch):
            subprocess.run(["ip", "netns", "delete", name], check=False)
        shutil.rmtree(self.directory)


def kill(namespaces):
    """Kills what runs in these, and returns its process ids."""
    running = [pid for name in namespaces for pid in run("ip", "netns", "pids", name).split()]
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return running


@contextlib.contextmanager
def net():
    made = Net()
    try:
        yield made
    finally:
        made.close()


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def until(condition, what):
    wait_for(condition, what, SECONDS)


def age_certificates(made):
    """Leave the certificates a third of their life, less a second."""
    issued = made.central.root / "ovn/authority/issued.json"
    aged = json.loads(issued.read_text())
    for entry in aged["certificates"].values():
        for certificate in entry.values():
            certificate["since"], certificate["until"] = (int(time.time()) - 200, int(time.time()) + 99)
    issued.write_text(json.dumps(aged))


def underlay(node):
    """In the userspace datapath the tunnels' address has to be on a bridge."""
    return [{"bridge": "br-phy", "interface": "eth0", "address": f"{node.address}/24"}]


def set_up(net, nodes=None, check=False, **params):
    """What the role does. Returns the results of its modules, by the names of hosts."""
    nodes = net.nodes if nodes is None else nodes
    asked = [net.central.ok("central", state="requested"), *(node.ok("host", state="requested") for node in nodes)]
    signed = net.central.ok("central", state="signed", requests=[each["request"] for each in asked])
    central = net.central.ok(
        "central", address=net.central.address, certificates=signed["certificates"]["central:central"]
    )
    hosts = {}
    for node in nodes:
        hosts[node.name] = node.ok(
            "host",
            **{"datapath": "netdev", "bridge_mappings": underlay(node), **params},
            southbound=central["connections"]["southbound"],
            certificates=signed["certificates"][f"host:{node.name}"],
        )
    return {"asked": asked, "signed": signed, "central": central, "hosts": hosts}


def set_up_cluster(net, members, nodes, check=False, **params):
    """What the role does with three central hosts, whose names are in group nebula_ovn_central."""

    def of(node, name, **more):
        return node.ok(name, check=check, **more)

    asked = [of(member, "central", state="requested", address=member.address) for member in members]
    requests = [each["request"] for each in (*asked, *(of(node, "host", state="requested") for node in nodes))]
    signed = of(net.central, "central", state="signed", requests=requests)
    group = sorted((each["member"] for each in asked), key=lambda each: each["rank"])
    centrals = {}
    for each in group:
        certificates = signed["certificates"][f"central:{each['name']}"]
        centrals[each["name"]] = of(
            net.names[each["name"]], "central", cluster=group, certificates=certificates, address=each["address"]
        )
    central = centrals[group[-1]["name"]]
    hosts = {}
    for node in nodes:
        hosts[node.name] = of(
            node,
            "host",
            **{"datapath": "netdev", "bridge_mappings": underlay(node), **params},
            southbound=central["connections"]["southbound"],
            certificates=signed["certificates"][f"host:{node.name}"],
        )
    return {"asked": asked, "signed": signed, "central": central, "centrals": centrals, "hosts": hosts}


def changed(results):
    """What was changed by set_up_cluster(): members by their names, and the rest."""
    single = {"signed": results["signed"], **results["centrals"]}
    # The same host may be both.
    single |= {f"host {name}": each for name, each in results["hosts"].items()}
    single |= {f"key {number}": each for number, each in enumerate(results["asked"])}
    return [name for name, each in single.items() if each["changed"]]


def nbctl(net, results, *words):
    tls = results["signed"]["client"]["northbound"]
    files = [f"--private-key={tls['private_key']}", f"--certificate={tls['certificate']}"]
    argv = ["ovn-nbctl", f"--db={results['central']['connections']['northbound']}", *files]
    return net.central.run(*argv, f"--ca-cert={tls['ca_certificate']}", "--timeout=40", *words)


def take_back(net, nodes=None, check=False):
    results = [node.ok("host", state="absent", check=check) for node in (net.nodes if nodes is None else nodes)]
    return [*results, net.central.ok("central", state="absent", check=check)]


def two_machines(net, results, first, second):
    """On different nodes, in one logical switch. Their namespaces."""
    addresses = {"p1": "02:00:0a:00:00:01 10.0.0.1", "p2": "02:00:0a:00:00:02 10.0.0.2"}
    words = ["ls-add", "private"]
    for port, address in addresses.items():
        words += ["--", "lsp-add", "private", port, "--", "lsp-set-addresses", port, address]
    nbctl(net, results, *words)
    machines = [
        node.endpoint(port, address.split()[1], address.split()[0])
        for node, (port, address) in zip((first, second), addresses.items())
    ]
    until(lambda: pings(machines[0], "10.0.0.2"), "the machines do not reach each other")
    return machines


def pings(namespace, address, size=56):
    argv = ["ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(size), address]
    return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def steady_pings(namespace, address):
    """Fifty a second for as long as it takes; afterwards how many were lost."""
    lost = []
    argv = ["ip", "netns", "exec", namespace, "ping", "-i", "0.02", "-W", "1", address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield lost
            # What is on its way is waited for.
            until(lambda: pings(namespace, address), "no traffic")
        finally:
            process.send_signal(signal.SIGINT)
            text = process.communicate(timeout=30)[0]
    sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", text).groups()
    assert int(sent) > 10, text
    # The last one may have no answer yet when the program is ended.
    lost.append(int(sent) - int(received) > 1)


def left(net):
    """What there is of ours on the hosts."""
    found = []
    for node in net.names.values():
        found += [str(path) for path in sorted(node.root.rglob("*"))] if node.root.exists() else []
        found += [
            str(path) for path in node.directory.rglob("*") if path.name.endswith((".db", ".pid", ".sock", "id.conf"))
        ]
        links = json.loads(node.run("ip", "-json", "address"))
        named = {link["ifname"]: [a["local"] for a in link["addr_info"] if a["family"] == "inet"] for link in links}
        found += [] if named == {"lo": ["127.0.0.1"], "eth0": [node.address]} else [f"{node.name}: {named}"]
    return found
