# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that move between nodes by site.yml, beside bare `virsh migrate` with the same flags, through sockets that
ssh forwards, and a run that has nothing to do; and machines that are made on three nodes, beside one.

The nodes are those of tests/tools/nodes.py, in a world of their own, in which this file is a program that prints rows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from measure import MeasurementFailed, Median, Row, run, take_turns
from setting import CHECKOUT

NODES = 3
MEMORY, DISK = 256, 1024
TEN, THIRTY = 10, 30
MOVED, MANY_MOVED, SPREAD = 1.2, 1.3, 1.15
SOCKETS = "/run/libvirt/nebula-moves"
# Where the bare machines have their files, on each node.
PLACE = "/var/lib/bare"
# One round says as much about what was in memory before as about the moves.
FEWEST_ROUNDS = 3
CHANNELS = {"control": "/run/libvirt/libvirt-sock", "memory": "", "disks": ""}


def rows(rounds: int) -> Iterator[Row]:
    program = [sys.executable, CHECKOUT / "tests/tools/nodes.py", "--nodes", str(NODES), "--", sys.executable]
    for line in run([*program, __file__, str(rounds)]).output.splitlines():
        if line.startswith("{"):
            yield Row(**json.loads(line))


class Bare:
    """Machines that are like one of ours, and that virsh moves from one node to the other and back.
    shared: the nodes see the same files of them."""

    def __init__(self, first: Any, second: Any, ours: str, count: int, shared: bool) -> None:
        self.nodes = [first, second]
        self.shared = shared
        self.names = [f"bare-{number}" for number in range(count)]
        definition = first.run("virsh", "dumpxml", "--inactive", ours).stdout
        found = ET.fromstring(definition)
        mark = found.find("metadata")
        if mark is not None:
            found.remove(mark)
        self.files: dict[str, dict[str, int]] = {}
        for name in self.names:
            self._define(found, name)

    def _define(self, found: ET.Element, name: str) -> None:
        here = self.nodes[0]
        place = f"{PLACE}/{name}"
        key = Path(os.environ["NEBULA_WORLD"], "nodes", "key").read_text(encoding="ascii")
        for node in self.nodes:
            node.run("sh", "-c", "umask 077; cat > /root/key", input=key)
        for node in self.nodes:
            node.run("mkdir", "-p", "-m", "0711", place)
        machine = ET.fromstring(ET.tostring(found))
        for tag, text in (("name", name), ("uuid", str(uuid.uuid4()))):
            element = machine.find(tag)
            if element is not None:
                element.text = text
        self.files[name] = {}
        for source in [*machine.iterfind("devices/disk/source"), *machine.iterfind("devices/serial/log")]:
            path = source.get("file", "")
            source.set("file", f"{place}/{Path(path).name}")
            if here.run("test", "-e", path, check=False).returncode == 0 and "console" not in path:
                here.run("cp", "--sparse=never", path, f"{place}/{Path(path).name}")
                here.run("chown", "root:kvm", f"{place}/{Path(path).name}")
                here.run("chmod", "660", f"{place}/{Path(path).name}")
                size = here.run("stat", "-c", "%s", f"{place}/{Path(path).name}").stdout
                self.files[name][Path(path).name] = int(size)
        here.run("sh", "-c", 'cat > "$1"; virsh define "$1" && virsh start "$2"', "sh", f"{PLACE}/{name}.xml", name,
                 input=ET.tostring(machine, encoding="unicode"))  # fmt: skip
        if not self.shared:
            # What both see, or is not written to, is there.
            for file in self.files[name]:
                if not file.startswith("disk.1"):
                    shutil.copy(here.path(f"{place}/{file}"), self.nodes[1].path(f"{place}/{file}"))

    def move(self) -> float:
        """All of them at once, to the other node."""
        source, target = self.nodes
        commands = []
        for name in self.names:
            place = f"{SOCKETS}/{name}"
            for node in (source, target):
                node.run(
                    "sh",
                    "-c",
                    'rm -rf "$1"; mkdir -p -m 0711 /run/libvirt/nebula-moves; mkdir -m 1733 "$1"',
                    "sh",
                    place,
                )
            paths = {channel: f"{place}/{channel}.tunnelmigrate.dest.{name}" for channel in CHANNELS}
            forwards = " ".join(f"-L {path}:{CHANNELS[channel] or path}" for channel, path in paths.items())
            ssh = "ssh -i /root/key -o StrictHostKeyChecking=no -o ExitOnForwardFailure=yes -o StreamLocalBindMask=0111"
            copies = "" if self.shared else f"--copy-storage-inc --disks-uri unix://{paths['disks']}"
            makes = "; ".join(
                f"qemu-img create -q -f raw {PLACE}/{name}/{file} {size}; chown root:kvm {PLACE}/{name}/{file}; "
                f"chmod 660 {PLACE}/{name}/{file}"
                for file, size in self.files[name].items()
                if not self.shared and file == "disk.1"
            )
            commands.append(
                f"{ssh} root@{target.address} '{makes or 'true'}' && "
                f"{ssh} -f -N -M -S {place}/ssh {forwards} root@{target.address} && "
                f"virsh migrate --live --p2p --undefinesource --unsafe {copies} --migrateuri unix://{paths['memory']} "
                f"{name} 'qemu+unix:///system?socket={paths['control']}'; code=$?; "
                f"ssh -S {place}/ssh -O exit {target.address} 2>/dev/null; exit $code"
            )
        start = time.perf_counter()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        running = [subprocess.Popen(source.within("sh", "-c", command), **pipes) for command in commands]
        outputs = [process.communicate()[0].decode() for process in running]
        seconds = time.perf_counter() - start
        if any(process.returncode for process in running):
            raise MeasurementFailed(f"virsh migrate: {outputs}")
        self.nodes.reverse()
        return seconds

    def end(self) -> None:
        for node in self.nodes:
            for name in self.names:
                node.run("virsh", "destroy", name, check=False)
                node.run("virsh", "undefine", name, check=False)
            node.run("sh", "-c", f"rm -rf {PLACE}/*")


class Ours:
    """A site whose machines the list moves from one node to the other and back."""

    def __init__(self, site: Any, names: Sequence[str], first: str, second: str) -> None:
        self.site = site
        self.names = names
        self.hosts = [first, second]

    def run(self, *words: str) -> float:
        start = time.perf_counter()
        code, output = self.site.run("site.yml", *words)
        seconds = time.perf_counter() - start
        if code != 0:
            raise MeasurementFailed(output[-3000:])
        return seconds

    def move(self) -> float:
        self.hosts.reverse()
        for machine in self.site.variables["nebula_vms"]:
            if machine["name"] in self.names:
                machine["host"] = self.hosts[0]
        return self.run("-e", "nebula_move=live", "-e", f"nebula_move_batch={len(self.names)}")


def after_warm_up(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, Median]:
    """What each one took, without the first time, in which nodes compile our modules and read all files."""
    take_turns(1, contestants)
    return take_turns(max(rounds, FEWEST_ROUNDS), contestants)


def measured(rounds: int) -> Iterator[Row]:
    sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "tests/tools")]
    from nodes import nodes

    from ansible_collections.nebula.provision.tests.integration.fleet import share
    from ansible_collections.nebula.provision.tests.integration.sent_site import DEFAULT_ROOT, TEMPLATE, Sent, hosts

    world = Path(os.environ["NEBULA_WORLD"])

    def a_site(template: str, vms: list[dict[str, Any]]) -> Any:
        site = Sent()
        site.programs = CHECKOUT / ".venv/bin"
        site.variables["nebula_images"] = site.variables["nebula_images"][1:]
        site.variables["nebula_templates"] = [{"name": "base", "template": template}]
        site.variables["nebula_vms"] = vms
        return site

    def machine(name: str, host: str) -> dict[str, Any]:
        return {"name": name, "template": "base", "host": host}

    def moved(what: str, template: str, count: int, shared: bool, times: float) -> Iterator[Row]:
        names = [f"ours-{number}" for number in range(count)]
        site = a_site(template, [machine(name, "node1") for name in names])
        with hosts(site):
            first, second = site.nodes
            if shared:
                for place, path in ((world / "shared", f"{DEFAULT_ROOT}/datastores/0"), (world / "bare", PLACE)):
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir(mode=0o711)
                    share(place, site.nodes, path)
            site.done("site.yml")
            if "FS" in template:
                disk = f"{DEFAULT_ROOT}/datastores/0/0/disk.1"
                first.run("sh", "-c", f"virsh destroy one-0; head -c {DISK}M /dev/urandom > {disk}; virsh start one-0")
            ours = Ours(site, names, "node1", "node2")
            bare = Bare(first, second, "one-0", count, shared)
            try:
                found = after_warm_up(rounds, {"ours": ours.move, "bare": bare.move, "idle": ours.run})
            finally:
                bare.end()
        beside = found["bare"] + found["idle"]
        yield Row.at_most(f"{what}, beside virsh and a run without work", found["ours"], beside, "s", times)

    large = TEMPLATE.format(image="base", prefix="vd").replace("MEMORY = 32", f"MEMORY = {MEMORY}")
    yield from moved(f"a machine of {MEMORY} MiB moves on a shared datastore", large, 1, True, MOVED)
    copied = f'{large}\nDISK = [ TYPE = "FS", SIZE = "{DISK}", FORMAT = "raw", DEV_PREFIX = "vd" ]'
    yield from moved(f"a machine of {MEMORY} MiB moves with {DISK} MiB", copied, 1, False, MOVED)
    small = TEMPLATE.format(image="base", prefix="vd")
    yield from moved(f"{TEN} machines move off a host", small, TEN, True, MANY_MOVED)

    def provision(hosts_of: Sequence[str]) -> float:
        vms = [machine(f"m-{number}", hosts_of[number % len(hosts_of)]) for number in range(THIRTY)]
        site.variables["nebula_vms"] = vms
        made = Ours(site, [], "", "").run()
        site.variables["nebula_vms"] = [{**vm, "state": "absent", "hard": True} for vm in vms]
        Ours(site, [], "", "").run()
        return made

    site = a_site(small, [])
    site.nodes = nodes()
    with hosts(site):
        site.done("site.yml")
        names = [node.name for node in site.nodes]
        found = after_warm_up(rounds, {"three": lambda: provision(names), "one": lambda: provision(names[:1])})
    yield Row.at_most(f"{THIRTY} machines on three nodes, beside one", found["three"], found["one"], "s", SPREAD)


def main() -> int:
    for row in measured(int(sys.argv[1])):
        print(json.dumps(row.as_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
