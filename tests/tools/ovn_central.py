# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN's databases, ovn-northd and one node with the userspace datapath, in a directory: what tests ask of real OVN.

    with Central(directory) as central:
        central.remote              where the northbound database listens
        central.trace(...)          the way of a packet through logical switches and routers

Everything it starts ends with it. Needs nothing but the packages; the node needs a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCHEMAS = Path("/usr/share/ovn")
SWITCH_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
OVSDB_SERVER = "/usr/sbin/ovsdb-server"
SWITCHD = "/usr/sbin/ovs-vswitchd"
SECONDS = 20.0
CHASSIS = "node1"
DATABASES = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}
# Of a busy machine, of daemons that end in turn, and of hardware that is not there.
HARMLESS = ("|ovs_rcu", "|poll_loop|", "|timeval|", "|reconnect|", "|vif_plug_provider|")


class Daemons:
    """Processes that end with it, each with its log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            **{f"{name}_RUNDIR": str(directory) for name in ("OVN", "OVS")},
            **{f"{name}_LOGDIR": str(directory) for name in ("OVN", "OVS")},
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, name: str, *arguments: str, control: bool = True) -> None:
        """control: not for ovn-controller, which chooses its socket for commands by itself."""
        named = (f"--unixctl={self.directory / f'{name}.ctl'}",) if control else ()
        with (self.directory / f"{name}.out").open("wb") as output:
            self._running.append(
                subprocess.Popen(
                    [program, *arguments, *named, f"--log-file={self.directory / f'{name}.log'}", "-vconsole:off"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self.environment,
                )
            )

    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def run(self, *argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)[:400]}: {done.stderr[-2000:]}")
        return done.stdout

    def complaints(self, name: str) -> list[str]:
        """Warnings and errors of a daemon's log."""
        lines = (self.directory / f"{name}.log").read_text(encoding="utf-8").splitlines()
        bad = [line for line in lines if "|WARN|" in line or "|ERR|" in line or "|EMER|" in line]
        return [line for line in bad if not any(text in line for text in HARMLESS)]

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            process.wait()


class Central(Daemons):
    """northd: without it the database alone. remotes: more that the northbound database's server listens on."""

    def __init__(self, directory: Path, northd: bool = True, options: tuple[str, ...] = ()) -> None:
        super().__init__(directory)
        names = ("nb", "sb") if northd else ("nb",)
        for name in names:
            file = self.directory / f"{name}.db"
            self.run("ovsdb-tool", "create", str(file), str(SCHEMAS / f"ovn-{name}.ovsschema"))
            own = options if name == "nb" else ()
            self.start(OVSDB_SERVER, f"ovsdb-{name}", f"--remote=p{self.at(name)}", *own, str(file))
            until((self.directory / f"{name}.sock").exists, f"database {name}")
            self.run("ovsdb-client", "wait", self.at(name), DATABASES[name], "connected")
        self.remote, self.southbound = self.at("nb"), self.at("sb")
        if northd:
            self.start("ovn-northd", "northd", f"--ovnnb-db={self.remote}", f"--ovnsb-db={self.southbound}")
            self.nbctl("--wait=sb", "sync")

    def __enter__(self) -> Central:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def at(self, name: str) -> str:
        return f"unix:{self.directory / f'{name}.sock'}"

    def nbctl(self, *arguments: str) -> str:
        return self.run("ovn-nbctl", "--no-leader-only", f"--db={self.remote}", *arguments)

    def sbctl(self, *arguments: str) -> str:
        return self.run("ovn-sbctl", f"--db={self.southbound}", *arguments)

    def add_chassis(self, name: str) -> None:
        """As ovn-controller would, so that gateways have somebody to be on."""
        self.sbctl("chassis-add", name, "geneve", "127.0.0.1")

    def bind(self, port: str, chassis: str = CHASSIS) -> None:
        self.sbctl("--may-exist", "lsp-bind", port, chassis)

    def trace(self, switch: str, packet: str) -> str:
        """What becomes of a packet that a switch gets, step by step, with the names of ports in full."""
        argv = ["ovn-trace", f"--db={self.southbound}", "--no-friendly-names", "--summary", switch, packet]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment)
        # ovn-northd takes any text for an expression; who reads it complains, and goes on without.
        if done.returncode != 0 or done.stderr:
            raise RuntimeError(f"{packet}: {done.stderr[-2000:]}")
        return done.stdout


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.02)


class Cluster(Daemons):
    """Members of a northbound database that is replicated, without ovn-northd. The first leads, until it ends."""

    def __init__(self, directory: Path, members: int = 3) -> None:
        super().__init__(directory)
        first = "tcp:127.0.0.1:6643"
        for number in range(members):
            file, own = str(directory / f"nb{number}.db"), f"tcp:127.0.0.1:{6643 + number}"
            if number:
                self.run("ovsdb-tool", "join-cluster", file, "OVN_Northbound", own, first)
            else:
                self.run("ovsdb-tool", "create-cluster", file, str(SCHEMAS / "ovn-nb.ovsschema"), own)
            self.start(OVSDB_SERVER, f"nb{number}", f"--remote=punix:{directory / f'nb{number}.sock'}", file)
        self.remotes = [f"unix:{directory / f'nb{number}.sock'}" for number in range(members)]
        for remote in self.remotes:
            until(Path(remote[len("unix:") :]).exists, remote)
            self.run("ovsdb-client", "wait", remote, "OVN_Northbound", "connected")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def kill_first(self) -> None:
        self._running[0].kill()
        self._running[0].wait()


class Node(Daemons):
    """One node of a central one: Open vSwitch with the userspace datapath, and ovn-controller."""

    def __init__(self, directory: Path, southbound: str, chassis: str = CHASSIS) -> None:
        super().__init__(directory)
        file = directory / "conf.db"
        self.database = f"unix:{directory / 'db.sock'}"
        self.run("ovsdb-tool", "create", str(file), str(SWITCH_SCHEMA))
        self.start(OVSDB_SERVER, "ovsdb-switch", f"--remote=p{self.database}", str(file))
        until((directory / "db.sock").exists, "the switch's database")
        settings = {
            "system-id": chassis,
            "ovn-remote": southbound,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge-datapath-type": "netdev",
            "ovn-bridge-mappings": "physnet:br-ex",
        }
        self.vsctl("--no-wait", "init")
        pairs = [f"external_ids:{key}={value}" for key, value in settings.items()]
        self.vsctl("--no-wait", "set", "open", ".", *pairs)
        self.start(SWITCHD, "switchd", self.database, "--disable-system")
        for bridge in ("br-int", "br-ex"):
            self.vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")
        self.vsctl("set-fail-mode", "br-int", "secure")
        self.start("ovn-controller", "controller", self.database, control=False)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def vsctl(self, *arguments: str) -> str:
        return self.run("ovs-vsctl", f"--db={self.database}", "--timeout=20", *arguments)

    def attach(self, device: str, interface_id: str) -> None:
        """A network device of this namespace as the interface of a logical port."""
        identified = f"external_ids:iface-id={interface_id}"
        self.vsctl("add-port", "br-int", device, "--", "set", "interface", device, identified)

    def appctl(self, *arguments: str) -> str:
        return self.run("ovs-appctl", "-t", str(self.directory / "switchd.ctl"), *arguments)

    def forget_decided(self) -> None:
        """Wait until Open vSwitch sends nothing any more by what it decided of earlier frames: the flows of OpenFlow
        hold at once, those that it keeps of them for speed until it has looked at each again."""
        for _round in ("the one that had begun before", "the next"):
            self.appctl("revalidator/wait")
