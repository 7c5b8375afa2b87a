# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who fetches packages for an appliance reaches nothing of this host, and everybody else does as before. The network is
one of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    InvalidValue,
    MissingDependency,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import package_network
from ansible_collections.nebula.provision.plugins.module_utils.host import command, processes

ROOT = Path(__file__).resolve().parents[6]
# Addresses of this host, a name server of it, and somebody else in a second namespace, behind whom a cloud answers.
PROGRAM = """
import os, socket, subprocess, sys, threading
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import package_network

def run(*argv):
    subprocess.run(argv, check=True)

def listen(address, port):
    server = socket.create_server((address, port))
    threading.Thread(target=lambda: [server.accept() for _time in range(99)], daemon=True).start()

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"

def reaches(before, address, port):
    argv = [*before, sys.executable, "-S", "-c", CONNECT, address, str(port)]
    return subprocess.run(argv, stderr=subprocess.DEVNULL).returncode == 0

peer = subprocess.Popen(
    ["unshare", "--net", sys.executable, "-S", "-c",
     "import socket, sys; print(1, flush=True); sys.stdin.readline()\\n"
     "import subprocess\\n"
     "for words in ('link set lo up', 'link set there up', 'address add 203.0.113.2/24 dev there',"
     " 'address add 169.254.169.254/32 dev there'): subprocess.run(['ip', *words.split()], check=True)\\n"
     "servers = [socket.create_server(('0.0.0.0', port)) for port in (80, 53)]\\n"
     "print(2, flush=True); sys.stdin.readline()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
peer.stdout.readline()
run("ip", "link", "set", "lo", "up")
run("ip", "address", "add", "198.51.100.1/24", "dev", "lo")
run("ip", "link", "add", "out", "type", "veth", "peer", "name", "there")
run("ip", "link", "set", "there", "netns", str(peer.pid))
run("ip", "address", "add", "203.0.113.1/24", "dev", "out")
run("ip", "link", "set", "out", "up")
run("ip", "route", "add", "169.254.169.254/32", "via", "203.0.113.2")
peer.stdin.write("go\\n")
peer.stdout.readline()
for address in ("127.0.0.1", "127.0.0.53", "198.51.100.1", "203.0.113.1"):
    for port in (80, 53):
        listen(address, port)
package_network.resolvers = lambda: ["127.0.0.53", "203.0.113.2", "::1"]
places = [(address, port) for address in
          ("127.0.0.1", "127.0.0.53", "198.51.100.1", "203.0.113.1", "203.0.113.2", "169.254.169.254")
          for port in (80, 53)]
with package_network.outward_network("image x") as before:
    told = [place for place in places if reaches(before, *place)]
    print("appliance", sorted(told))
    print("others", all(reaches([], *place) for place in places))
print("left", subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout)
peer.stdin.close()
peer.wait()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network")
def test_an_appliance_reaches_others_and_nothing_of_this_host():
    told = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "collections")},
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "appliance [('127.0.0.53', 53), ('203.0.113.2', 53), ('203.0.113.2', 80)]", "others True", "left ",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_makes_connections_as_somebody_else_can_not_be_started(tmp_path, monkeypatch):
    assert package_network._without_passt() == [] or package_network.command.find("passt")
    passt = tmp_path / "passt"
    passt.write_text("#!/bin/sh\necho it runs\n")
    passt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert command.run(["passt"], timeout=60).stdout == "it runs\n"
    tried = [*package_network._without_passt(), "sh", "-c", "passt || echo refused"]
    assert command.run(tried, timeout=60).stdout == "refused\n"


def test_what_it_asks_for_names_are_this_hosts_servers(tmp_path, monkeypatch):
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 192.0.2.1\n nameserver ::1 \nnameserver fe80::1%eth0\nnameserver bad; drop\n")
    monkeypatch.setattr(package_network, "RESOLV", str(path))
    assert package_network.resolvers() == ["192.0.2.1", "::1"]
    monkeypatch.setattr(package_network, "RESOLV", str(tmp_path / "none"))
    assert package_network.resolvers() == []


def test_who_is_not_root_is_told(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (
        pytest.raises(InvalidValue, match=r"only root can make it.*packages as files"),
        package_network.outward_network("image x"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MissingDependency("program nft", "it is not on this host", "Install the package nftables"), "nftables"),
        (CommandFailed("command nft", "Operation not supported"), "not supported"),
    ],
)
def test_a_host_that_can_not_is_told_what_to_do(monkeypatch, error, words):
    def run(argv, **_options):
        if argv[1] == "-f":
            raise error
        return command.Completed(tuple(argv), 0, "", "", 0.0)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "run", run)
    with pytest.raises(type(error), match=words) as caught, package_network.outward_network("image x"):
        pass
    assert caught.value.asked.startswith("image x") and "packages as files" in caught.value.remedy


def test_what_a_killed_run_left_goes_and_what_another_has_stays(monkeypatch):
    told = []

    def run(argv, **_options):
        told.append(list(argv))
        own = f"nebula_appliance_{os.getpid()}"
        # Ours, one of an earlier version's, one of a process that had this number before, and of nobody any more.
        names = [f"{own}_{processes.start_time(os.getpid())}", own, f"{own}_1", "nebula_appliance_999999999", "other"]
        tables = "".join(f"table inet {name}\n" for name in names)
        return command.Completed(tuple(argv), 0, tables if argv[1] == "list" else "", "", 0.0)

    monkeypatch.setattr(command, "run", run)
    package_network._clear()
    gone = [f"nebula_appliance_{os.getpid()}_1", "nebula_appliance_999999999"]
    assert told[1:] == [["nft", "delete", "table", "inet", name] for name in gone]


@pytest.mark.root
def test_what_a_killed_run_has_left_goes_also_where_another_user_has_its_number(monkeypatch):
    argv = ["/usr/bin/python3", "-I", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=65534, cwd="/") as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        numbers = (os.getpid(), other.pid, 99999999)
        tables = "".join(f"table inet nebula_appliance_{number}\n" for number in numbers)
        did = []

        def run(argv, **_options):
            did.append(argv[-1])
            return SimpleNamespace(stdout=tables)

        monkeypatch.setattr(package_network.command, "run", run)
        package_network._clear()
        assert did[1:] == [f"nebula_appliance_{number}" for number in numbers[1:]]
        other.stdin.close()
