# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces as nodes and machines, and module nebula_node_network in them. No packet leaves them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
OTHER_CATALOG = "aaaaaaaa-0000-4000-8000-000000000002"
TABLE = "nebula_5c1de0d1"
MODULE = """
import sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
from ansible_collections.nebula.provision.plugins.modules import nebula_node_network
nebula_node_network.main()
"""
COUNTER = itertools.count()


def network(name="Public", number=1, bridge="nbr0", **values):
    """As nebula_network returns it."""
    return {
        "id": number,
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "name": name,
        "bridge": bridge,
        "vn_mad": "bridge",
        "nat": False,
        "state": "READY",
        "attributes": {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"},
        "address_ranges": [
            {"ar_id": 0, "type": "IP4", "ip": "10.66.0.10", "size": 100, "mac": "02:00:0a:42:00:0a", "used": 0}
        ],
        **values,
    }


def inet(link):
    return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"]


class Namespace:
    def __init__(self, name):
        self.name = name

    def command(self, *argv, hidden=(), instead=None):
        """hidden: programs that are not there for it. instead: by path, files that it finds in their places."""
        inside = ["ip", "netns", "exec", self.name]
        if hidden or instead:
            found = {**dict.fromkeys(hidden, "/dev/null"), **(instead or {})}
            binds = "".join(f"mount --bind {file} {path} && " for path, file in found.items())
            inside += ["unshare", "--mount", "sh", "-c", binds + 'exec "$@"', "sh"]
        return [*inside, *argv]

    def run(self, *argv, check=True):
        done = subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def python(self, code, *arguments):
        return self.run(sys.executable, "-c", code, *arguments).strip()

    def module(self, *networks, catalog=CATALOG, check=False, hidden=(), instead=None, **params):
        params = {"catalog": catalog, "networks": list(networks) if networks else None, **params}
        arguments = {"_ansible_check_mode": check, "_ansible_diff": True, **params}
        done = subprocess.run(
            self.command(sys.executable, "-c", MODULE, hidden=hidden, instead=instead),
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={**os.environ, "PYTHONPATH": str(ROOT / "collections")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.strip().startswith("{"), done.stdout + done.stderr
        return json.loads(done.stdout)

    def ok(self, *networks, **params):
        result = self.module(*networks, **params)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, *networks, **params):
        """The message; in check mode it is the same, and nothing is changed in either."""
        before = self.snapshot()
        predicted = self.module(*networks, check=True, **params)
        result = self.module(*networks, **params)
        assert result["failed"]
        assert not result.get("changed")
        assert predicted["msg"] == result["msg"]
        after = self.snapshot()
        assert after == before, f"before: {before}\nafter: {after}"
        return result["msg"]

    def snapshot(self):
        """All that a run could have changed; not what the kernel moves on by itself, as timers and IPv6's addresses."""
        kept = ("ifname", "ifalias", "master", "address")
        links = [(*map(entry.get, kept), "UP" in entry["flags"], inet(entry)) for entry in self.show("address")]
        rules, routes = (
            self.run("nft", "--stateless", "list", "ruleset"),
            self.run("ip", "-4", "route", "show", "table", "all"),
        )
        return links, rules, routes, self.forwarding()

    def show(self, *what):
        return json.loads(self.run("ip", "-json", "-details", *what) or "[]")

    def link(self, name):
        return next((link for link in self.show("address") if link.get("ifname") == name), None)

    def addresses(self, name):
        return inet(self.link(name))

    def forwarding(self, value=None):
        if value is not None:
            self.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/ip_forward")
        return self.run("cat", "/proc/sys/net/ipv4/ip_forward").strip()

    def port(self, name="vnet0", bridge="nbr0"):
        """What a started machine leaves: an interface on the bridge."""
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        self.run("ip", "link", "set", name, "master", bridge)


@contextlib.contextmanager
def made_namespaces():
    """A function that makes a network namespace; all of them are gone at the end."""
    with contextlib.ExitStack() as stack:

        def make():
            name = f"nebtest-{os.getpid()}-{next(COUNTER)}"
            subprocess.run(["ip", "netns", "add", name], check=True, timeout=60)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True, timeout=60)
            made = Namespace(name)
            made.run("ip", "link", "set", "lo", "up")
            made.forwarding(0)
            return made

        yield make


def wire(one, one_name, other, other_name):
    one.run("ip", "link", "add", one_name, "type", "veth", "peer", "name", other_name, "netns", other.name)
    one.run("ip", "link", "set", one_name, "up")
    other.run("ip", "link", "set", other_name, "up")


# Says that it listens, then whom it hears; both sides give up by themselves.
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
server.settimeout(float(sys.argv[2]))
print("listening", flush=True)
try:
    print(server.accept()[1][0], flush=True)
except TimeoutError:
    print("nobody", flush=True)
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 8000), timeout=1.5, source_address=(sys.argv[2], 0)).close()
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


def heard(listener, listen, speaker, connect, source=""):
    """The address from which the listener hears the speaker, or "nobody"."""
    server = subprocess.Popen(
        listener.command(sys.executable, "-c", LISTEN, listen, "3"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "listening\n"
        speaker.python(CONNECT, connect, source)
        return server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
