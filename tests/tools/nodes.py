#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command beside nodes of its own, which ssh reaches: each with its own links, processes, files and libvirtd.

    nodes.py [--nodes 3] [--mtu 1600] [--] COMMAND [ARGUMENT…]        (as root)

    tests/tools/nodes.py -- sh -c 'ansible-playbook -i "$NEBULA_INVENTORY" site.yml'

The command runs in a world (world.py), which is the host `front` of the inventory; its directories that DISK names are
its own, too. NEBULA_INVENTORY names the inventory: groups nebula_frontend (front) and nebula_nodes (node1, node2, …).
In the world, the nodes are changed by these; from Python by `nodes()` (see class Node):

    nodes.py kill 2                      # a power cut
    nodes.py start 2                     # with the disk it had; `erase 2` gives it a new one
    nodes.py unplug 2 eth0               # and plug
    nodes.py run 2 COMMAND [ARGUMENT…]

A node is a network, mount, PID, UTS, IPC and cgroup namespace. eth0 is in the underlay, with an address (10.77.0.K/24;
the front-end has .254 and is the gateway); eth1 is in the network `outside`, without an address (the front-end is
203.0.113.1/24 there); eth2 is in the network `tunnels`, where nobody has an address, for a bridge that carries what
eth0, by which Ansible comes, can't. Its disk is a directory of the world: NODES_DISK lists what is on it. All other
files are the machine's.

A world that outlives the command, for molecule; from outside, a program of its own takes ssh into it:

    nodes.py up DIRECTORY [--nodes 3] [--mtu 1600]      # DIRECTORY/inventory.json: the variables of each host
    nodes.py do DIRECTORY kill 2
    nodes.py down DIRECTORY

However it ends, nothing stays, as of world.py."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from namespaces import (
    DAEMON_SECONDS,
    OWN_VIEW,
    cgroups_of_its_own,
    configuration,
    cover,
    directory_of_its_own,
    empty_copy,
    enter,
    in_namespaces,
    run,
    run_to_its_end,
    see,
    see_devices_and_run,
    start_daemons,
    unshare,
)

FRONT = "front"
UNDERLAY, OUTSIDE = "10.77.0", "203.0.113"
# What comes out of a tunnel is smaller than what went in: 1600 carries guests' 1500.
UNDERLAY_MTU, OUTSIDE_MTU = 1600, 1500
# Links of a node, and the front-end's bridges that they are plugged into.
PLUGGED = {"eth0": "underlay", "eth1": "outside", "eth2": "tunnels"}
# Of a host's own, kept over a power cut. What the machine has in /var/lib is shown, but what is some daemon's state;
# /root and /tmp are empty, and the machine's own on the front-end, where the command runs.
DISK = ("/etc", "/var/lib", "/var/log", "/var/cache/libvirt")
NODES_DISK = (*DISK, "/root", "/tmp")
# Of /var/lib and without a file; what begins with nebula is not even there.
EMPTY = ("libvirt", "openvswitch", "ovn")
MOST = 200
SSHD = """
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
AuthorizedKeysFile /etc/ssh/keys/%u .ssh/authorized_keys
MaxStartups 100
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
"""


def main() -> int:
    verb, *arguments = sys.argv[1:] or [""]
    if verb == "rest":
        return rest()
    if verb in ("up", "down", "do", *VERBS):
        if not arguments:
            sys.exit(__doc__)
        if verb in VERBS:
            return VERBS[verb](Node(int(arguments[0])), *arguments[1:]) or 0
        return {"up": up, "down": down, "do": do}[verb](Path(arguments[0]).resolve(), arguments[1:])
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--nodes", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--mtu", type=int, default=UNDERLAY_MTU, help="of the underlay (%(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command is given")
    if not 0 < options.nodes <= MOST:
        parser.error(f"--nodes is between 1 and {MOST}")
    if os.geteuid() != 0:
        parser.error("a world needs root: it mounts, and makes namespaces")
    with directory_of_its_own() as directory, cgroups_of_its_own(directory) as cgroups:
        settings = {"nodes": options.nodes, "mtu": options.mtu}
        return in_namespaces(
            lambda: live(command, directory, cgroups, settings), lambda init: put(directory / "init", str(init))
        )


# --- the front-end, where the command runs ----------------------------------------------------------------------------


def live(command: list[str], directory: Path, cgroups: list[Path], settings: dict[str, Any]) -> int:
    os.environ["NEBULA_WORLD"] = str(directory)
    enter(cgroups)
    unshare(OWN_VIEW)
    see(FRONT)
    place = directory / "nodes"
    place.mkdir()
    shown = pristine_disk(place / "pristine")
    settings = {**settings, "shown": shown}
    put(place / "settings.json", json.dumps(settings))
    names = [FRONT, *(f"node{number}" for number in range(1, settings["nodes"] + 1))]
    make_keys(place, names)
    run("ip", "link", "add", "tunnels", "mtu", str(settings["mtu"]), "type", "bridge")
    run("ip", "link", "set", "tunnels", "up")
    for network, prefix, mtu in (("underlay", UNDERLAY, settings["mtu"]), ("outside", OUTSIDE, OUTSIDE_MTU)):
        run("ip", "link", "add", network, "mtu", str(mtu), "type", "bridge")
        own = 254 if network == "underlay" else 1
        run("ip", "address", "add", f"{prefix}.{own}/24", "dev", network)
        run("ip", "link", "set", network, "up")
    install(place / FRONT, FRONT, settings)
    # For whoever says `ssh node1` where the command runs. The nodes know no other host, as after an installation.
    shutil.copy(place / "known_hosts", place / FRONT / "disk/etc/ssh/ssh_known_hosts")
    see_disk(place / FRONT / "disk", DISK, shown)
    see_devices_and_run()
    serve_ssh(place / FRONT)
    start_all(nodes())
    inventory = place / "inventory.yml"
    put(inventory, json.dumps(inventory_of(hosts(place, settings)), indent=1))
    return run_to_its_end(command, directory, NEBULA_INVENTORY=str(inventory), NEBULA_NODES=str(settings["nodes"]))


def pristine_disk(disk: Path) -> list[str]:
    """What each new disk is a copy of; the names in /var/lib that are shown as the machine has them."""
    for path in NODES_DISK:
        (disk / path.lstrip("/")).mkdir(parents=True)
    (disk / "root").chmod(0o700)
    (disk / "tmp").chmod(0o1777)
    copy_into_memory("/etc", disk / "etc")
    # What tells one host from another.
    for path in (*disk.glob("etc/ssh/ssh_host_*"), *disk.glob("etc/o*/*.db"), *disk.glob("etc/openvswitch/system-id*")):
        path.unlink()
    (disk / "etc/ssh/keys").mkdir(parents=True, exist_ok=True)
    put(disk / "etc/ssh/sshd_config", SSHD)
    for path in directories(Path("/var/log")):
        empty_copy(path, disk / "var/log" / path.name)
    if Path("/var/cache/libvirt").is_dir():
        empty_copy(Path("/var/cache/libvirt"), disk / "var/cache/libvirt")
    shown = []
    for path in directories(Path("/var/lib")):
        if path.name in EMPTY:
            empty_copy(path, disk / "var/lib" / path.name)
        elif not path.name.startswith("nebula"):
            (disk / "var/lib" / path.name).mkdir()
            shown.append(path.name)
    return shown


def copy_into_memory(source: str | Path, target: Path) -> None:
    """As long as the world is there. Thousands of small files, which a busy disk takes seconds for, on each host."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(target))
    run("cp", "-a", f"{source}/.", str(target))


def directories(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_dir() and not path.is_symlink()]


def make_keys(place: Path, names: list[str]) -> None:
    """The login's, and those of all hosts with the file that knows them."""
    known = []
    for name in (*names, ""):
        (place / name).mkdir(exist_ok=True)
        key = place / name / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name or "login", "-f", str(key))
        if name:
            public = key.with_suffix(".pub").read_text(encoding="ascii").split()
            known.append(f"{name},{address_of(name)} {public[0]} {public[1]}\n")
    put(place / "known_hosts", "".join(known))


def address_of(name: str) -> str:
    return f"{UNDERLAY}.{254 if name == FRONT else int(name.removeprefix('node'))}"


def install(place: Path, name: str, settings: dict[str, Any]) -> None:
    """A new disk, as after an installation: with the name, the keys and the identities of this host."""
    disk, pristine = place / "disk", place.parent / "pristine"
    run("cp", "-a", "--one-file-system", str(pristine), str(disk))
    copy_into_memory(pristine / "etc", disk / "etc")
    put(disk / "etc/hostname", f"{name}\n")
    put(disk / "etc/machine-id", f"{uuid.uuid4().hex}\n")
    others = (FRONT, *(f"node{number}" for number in range(1, settings["nodes"] + 1)))
    lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{address_of(other)} {other}" for other in others)]
    put(disk / "etc/hosts", "".join(f"{line}\n" for line in lines))
    shutil.copy2(place.parent / "key.pub", disk / "etc/ssh/keys/root")
    for end in ("", ".pub"):
        shutil.copy2(place / f"key{end}", disk / f"etc/ssh/ssh_host_ed25519_key{end}")
    shutil.rmtree(disk / "etc/libvirt", ignore_errors=True)
    if (pristine / "etc/libvirt").is_dir():
        configuration(pristine / "etc/libvirt", disk / "etc/libvirt")


def see_disk(disk: Path, paths: tuple[str, ...], shown: list[str]) -> None:
    # Opened before they are covered. They are mounted where they are seen, not on the disk, which may be removed.
    opened = {name: os.open(f"/var/lib/{name}", os.O_PATH) for name in shown if Path("/var/lib", name).is_dir()}
    for path in paths:
        Path(path).mkdir(parents=True, exist_ok=True)
        cover(path, disk / path.lstrip("/"))
    for name, descriptor in opened.items():
        cover(f"/var/lib/{name}", Path(f"/proc/self/fd/{descriptor}"))
        os.close(descriptor)


def serve_ssh(place: Path) -> None:
    Path("/run/sshd").mkdir(mode=0o755)
    with (place / "sshd.log").open("ab") as log:
        # By its whole path: it runs itself anew for each connection.
        subprocess.Popen(["/usr/sbin/sshd", "-D", "-e"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_for_ssh(place: Path) -> None:
    deadline = time.monotonic() + DAEMON_SECONDS
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", 22)) == 0:
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"sshd does not answer:\n{(place / 'sshd.log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def hosts(place: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name the variables by which Ansible reaches each, from within the world."""
    found: dict[str, dict[str, Any]] = {FRONT: {"ansible_connection": "local"}}
    for number in range(1, settings["nodes"] + 1):
        found[f"node{number}"] = by_ssh(place, f"node{number}")
    return {name: {**variables, "ansible_python_interpreter": "/usr/bin/python3"} for name, variables in found.items()}


def by_ssh(place: Path, name: str) -> dict[str, Any]:
    return {
        "ansible_connection": "ssh",
        "ansible_host": address_of(name),
        "ansible_port": 22,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(place / "key"),
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={place / 'known_hosts'} -o GlobalKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
        # Another world has hosts of the same addresses. Ansible formats it.
        "ansible_control_path": str(place / name / "ssh").replace("%", "%%"),
    }


def inventory_of(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    groups = {"nebula_frontend": {FRONT: found[FRONT]}, "nebula_nodes": {n: v for n, v in found.items() if n != FRONT}}
    return {"all": {"children": {group: {"hosts": members} for group, members in groups.items()}}}


# --- a node -----------------------------------------------------------------------------------------------------------


class Node:
    """One of the nodes of the world that this process is in."""

    def __init__(self, number: int) -> None:
        self.number, self.name = number, f"node{number}"
        self.address = address_of(self.name)
        self.world = Path(os.environ["NEBULA_WORLD"]) / "nodes"
        self.place = self.world / self.name

    def __repr__(self) -> str:
        return self.name

    def path(self, path: str) -> Path:
        """Where a file of its disk is for others."""
        return self.place / "disk" / path.lstrip("/")

    @property
    def init(self) -> int | None:
        """The process id of its init as it is here, while it is up."""
        try:
            return int((self.place / "init").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def within(self, *command: str) -> list[str]:
        """The command as one that runs it on the node, beside its daemons."""
        if self.init is None:
            raise RuntimeError(f"{self.name} is down")
        return ["nsenter", "--target", str(self.init), "--all", "--wd=/", *command]

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.within(*command), capture_output=True, text=True, check=False, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self) -> None:
        """It answers by ssh, and its libvirtd does, when this returns."""
        start_all([self])

    def kill(self) -> None:
        """A power cut: no process of it gets to know. What it had on its disk stays."""
        for link in PLUGGED:
            subprocess.run(["ip", "link", "delete", plug(self.name, link)], capture_output=True, check=False)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            keeper = int((self.place / "keeper").read_text(encoding="ascii"))
            descriptor = os.pidfd_open(keeper)
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            select.select([descriptor], [], [])
            os.close(descriptor)
        # A connection that Ansible keeps would be asked in vain.
        subprocess.run(
            ["ssh", "-o", f"ControlPath={self.place / 'ssh'}", "-O", "exit", self.name],
            capture_output=True,
            check=False,
        )
        for name in ("init", "keeper", "ssh"):
            (self.place / name).unlink(missing_ok=True)

    def erase(self) -> None:
        """The same host with a new disk, as if it were installed again; its keys are as before."""
        self.kill()
        run("umount", str(self.path("/etc")))
        shutil.rmtree(self.place / "disk")
        self.start()

    def unplug(self, link: str = "eth0") -> None:
        run("ip", "link", "set", plug(self.name, link), "down")

    def plug(self, link: str = "eth0") -> None:
        run("ip", "link", "set", plug(self.name, link), "up")


def nodes() -> list[Node]:
    world = Path(os.environ["NEBULA_WORLD"]) / "nodes"
    return [Node(number) for number in range(1, read_settings(world)["nodes"] + 1)]


def plug(name: str, link: str) -> str:
    """The front-end's end of a node's link."""
    return f"{name}-{link}"


def start_all(these: list[Node]) -> None:
    """At once. Each has a process that keeps it, which is nobody's child."""
    started = []
    for node in these:
        if node.init is not None:
            raise RuntimeError(f"{node.name} is up")
        with (node.place / "log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, __file__, "keep", str(node.number)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                )
            )
    for node, process in zip(these, started):
        if process.stdout is None:
            raise RuntimeError("a node has no pipe")
        with process.stdout as answer:
            up = answer.read()
        process.wait()
        if up != b"up\n":
            raise RuntimeError(
                f"{node.name} does not start:\n{(node.place / 'log').read_text(errors='replace')[-4000:]}"
            )


def keep(node: Node) -> int:
    """The process that keeps a node: it is there as long as the node, and ends it where it is told to."""
    if os.fork() != 0:
        os._exit(0)
    put(node.place / "keeper", str(os.getpid()))
    outer = os.open("/proc/self/ns/net", os.O_RDONLY)
    answer = os.dup(1)
    os.set_inheritable(outer, False)
    os.dup2(2, 1)
    if not (node.place / "disk").exists():
        # Here, since what is mounted in the node's own namespace goes with it.
        install(node.place, node.name, read_settings(node.world))
    try:
        with cgroups_of_its_own(node.place) as cgroups:

            def begun(init: int) -> None:
                put(node.place / "init", str(init))
                os.close(answer)

            return in_namespaces(lambda: be_node(node, cgroups, outer, answer), begun)
    finally:
        (node.place / "init").unlink(missing_ok=True)


def be_node(node: Node, cgroups: list[Path], outer: int, answer: int) -> int:
    settings = read_settings(node.world)
    enter(cgroups)
    unshare(OWN_VIEW)
    see(node.name)
    for path in node.path("/tmp").iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    see_disk(node.place / "disk", NODES_DISK, settings["shown"])
    see_devices_and_run()
    see_a_boot()
    connect(node, outer, {"eth0": settings["mtu"], "eth1": OUTSIDE_MTU, "eth2": settings["mtu"]})
    serve_ssh(node.place)
    start_daemons(node.place)
    wait_for_ssh(node.place)
    os.write(answer, b"up\n")
    os.close(answer)
    return reap()


def see_a_boot() -> None:
    """Each start of a node is a boot of its own to those who ask the kernel."""
    # Of what is mounted over a part of /proc, a container is to see nothing. So the kernel lets one mount it only where
    # it is in view as a whole as well.
    whole = Path("/run/proc")
    whole.mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", whole], check=True)
    put(Path("/run/boot_id"), f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id"], check=True)


def connect(node: Node, outer: int, mtu: dict[str, int]) -> None:
    os.set_inheritable(outer, True)
    here = f"/proc/self/fd/{outer}"
    inside, outside = [], []
    for link, network in PLUGGED.items():
        there = plug(node.name, link)
        # A card keeps its address over a boot.
        mac = f"02:00:4d:{link[-1]:0>2}:00:{node.number:02x}"
        end = f"name {there} mtu {mtu[link]} netns {here}"
        inside.append(f"link add {link} address {mac} mtu {mtu[link]} type veth peer {end}")
        inside.append(f"link set {link} up")
        outside.append(f"link set {there} master {network} up")
    inside.append(f"address add {node.address}/24 dev eth0")
    inside.append(f"route add default via {address_of(FRONT)}")
    for command, lines in (["ip", "-batch", "-"], inside), (["nsenter", f"--net={here}", "ip", "-batch", "-"], outside):
        subprocess.run(command, input="\n".join(lines), text=True, check=True, pass_fds=[outer])
    os.close(outer)


def reap() -> int:
    """For ever: an init that does nothing else."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        signal.sigwait([signal.SIGCHLD])


def read_settings(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "settings.json").read_text(encoding="utf-8"))
    return found


def put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# --- a world that outlives the command --------------------------------------------------------------------------------


def up(directory: Path, arguments: list[str]) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("wb") as log:
        world = subprocess.Popen(
            [sys.executable, __file__, *arguments, "--", sys.executable, __file__, "rest"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    if world.stdout is None:
        raise RuntimeError("the world has no pipe")
    with world.stdout as answer:
        line = answer.readline().decode().strip()
    if not line:
        sys.exit(f"the world ended with status {world.wait()}:\n{(directory / 'log').read_text(errors='replace')}")
    place = Path(line) / "nodes"
    put(directory / "world.json", json.dumps({"pid": world.pid, "world": line}))
    program = directory / "ssh"
    init = (Path(line) / "init").read_text(encoding="ascii")
    put(program, f'#!/bin/sh\nexec nsenter --target {init} --net -- ssh "$@"\n')
    program.chmod(0o755)
    found = hosts(place, read_settings(place))
    found[FRONT] |= by_ssh(place, FRONT)
    for variables in found.values():
        # sftp would call another ssh.
        variables |= {"ansible_ssh_executable": str(program), "ansible_ssh_transfer_method": "piped"}
    put(directory / "inventory.json", json.dumps(found, indent=1))
    return 0


def rest() -> int:
    print(os.environ["NEBULA_WORLD"], flush=True)
    os.dup2(2, 1)
    while True:
        signal.pause()


def down(directory: Path, _arguments: list[str]) -> int:
    with contextlib.suppress(FileNotFoundError):
        world = json.loads((directory / "world.json").read_text(encoding="utf-8"))
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # Its world is locked as long as it is there: the number may be another's by now.
            descriptor = os.pidfd_open(world["pid"])
            if is_locked(Path(world["world"])):
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                select.select([descriptor], [], [])
            os.close(descriptor)
    for name in ("world.json", "inventory.json", "ssh", "log"):
        (directory / name).unlink(missing_ok=True)
    return 0


def is_locked(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def do(directory: Path, arguments: list[str]) -> int:
    world = Path(json.loads((directory / "world.json").read_text(encoding="utf-8"))["world"])
    init = (world / "init").read_text(encoding="ascii")
    command = ["nsenter", "--target", init, "--all", "--", sys.executable, __file__, *arguments]
    return subprocess.run(command, env={**os.environ, "NEBULA_WORLD": str(world)}, check=False).returncode


def run_on(node: Node, *command: str) -> int:
    return subprocess.run(node.within(*command), check=False).returncode


VERBS: dict[str, Callable[..., int | None]] = {
    "start": Node.start,
    "kill": Node.kill,
    "erase": Node.erase,
    "unplug": Node.unplug,
    "plug": Node.plug,
    "run": run_on,
    # The program itself calls it.
    "keep": keep,
}

if __name__ == "__main__":
    sys.exit(main())
