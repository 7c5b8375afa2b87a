# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold whatever was killed: catalog, libvirt, QEMU's processes, disks, bridges and lists agree, nothing is
lost, left over or used twice. Everything is read from where it really is; nothing of the product is asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from ansible_collections.nebula.provision.tests.torture.killing import modules, processes
from ansible_collections.nebula.provision.tests.torture.scene import BRIDGE, PASSWORD, Expected

DONE = 6
STATES = {(3, 3): "running", (8, 0): "poweroff"}
OF_A_MACHINE = re.compile(r"disk\.\d+|deployment\.\d+|vm\.json|vm\.log|console\.log(\.\d+)?")
# Beside the images: it tells nodes that mount them whose they are.
OF_THE_CATALOG = ".nebula-catalog"
OF_A_JOB = re.compile(r"pid|began|out|err|code|progress|(code|progress)\.new")


@dataclass
class Memory:
    """What was seen before, and must not change. ids: which machine (UUID) an id of a catalog was given to. gone: ids
    of machines that were seen to have ended. base: owner, mode and hash of each image that overlays rest on."""

    ids: dict[tuple[str, int], str] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)
    base: dict[str, tuple[int, int, int, str]] = field(default_factory=dict)


class Problems(list[str]):
    def same(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.append(f"{what}: found {found!r}, expected {expected!r}")

    def none(self, what: str, found: Iterable[Any]) -> None:
        left = list(found)
        if left:
            self.append(f"{what}: {left!r}")


def host_state() -> dict[str, Any]:
    """What a teardown has to leave as it found it."""
    device = os.stat("/dev/kvm")
    return {
        "links": sorted(link["ifname"] for link in _json("ip", "-json", "link")),
        "routes": sorted(route["dst"] for route in _json("ip", "-json", "route")),
        "nft": _run("nft", "--stateless", "--terse", "list", "ruleset"),
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "kvm": (device.st_uid, device.st_gid, oct(device.st_mode)),
        "daemons": sorted(
            process.argv[0]
            for process in processes()
            if process.is_program("libvirtd") or process.is_program("virtlogd")
        ),
        "machines": sorted(_qemus()),
        "logs": sorted(path.name for path in Path("/var/log/libvirt/qemu").glob("*")),
        "definitions": sorted(path.name for path in Path("/etc/libvirt/qemu").glob("**/*.xml")),
    }


def check_nothing(root: Path, before: dict[str, Any]) -> list[str]:
    """After a teardown."""
    problems = Problems()
    now = host_state()
    for what, was in before.items():
        problems.same(what, now[what], was)
    if root.exists():
        problems.none(
            "left below nebula_root", [root, *sorted(str(path.relative_to(root)) for path in root.rglob("*"))]
        )
    problems.none("still working", [module.argv for module in modules()])
    return problems


def check_temporary(directory: Path) -> list[str]:
    """What killed runs left in Ansible's remote temporary directory: no input of a module, and nothing secret."""
    problems = Problems()
    files = [path for path in directory.rglob("*") if path.is_file()]
    problems.none("left of a module's input", [path.name for path in files if not OF_A_JOB.fullmatch(path.name)])
    problems.none("secrets in", [path.name for path in files if PASSWORD.encode() in path.read_bytes()])
    return problems


def check(root: Path, expected: dict[str, Expected], memory: Memory) -> list[str]:
    """After a run that ended well."""
    problems = Problems()
    problems.none("still working", [module.argv for module in modules()])
    with _catalog(root) as rows:
        catalog = rows("SELECT value FROM meta WHERE key = 'catalog'")[0]["value"]
        vms = {row["id"]: row for row in rows("SELECT * FROM vms")}
        live = {vm_id: row for vm_id, row in vms.items() if row["state"] != DONE}
        _machines(problems, live, expected)
        _identities(problems, catalog, vms, memory)
        leases = rows("SELECT * FROM leases")
        networks = rows("SELECT * FROM networks")
        ranges = rows("SELECT * FROM address_ranges")
        ports = rows("SELECT * FROM vnc_ports")
        images = rows("SELECT * FROM images")
        uses = rows("SELECT * FROM vm_images")
        hosts = rows("SELECT * FROM hosts")
    bodies = {vm_id: json.loads(row["body"]) for vm_id, row in live.items()}
    _leases(problems, bodies, leases, ranges)
    problems.same("ports", {row["vm_id"]: row["port"] for row in ports}, _ports_of(bodies))
    _images(problems, root, catalog, images, uses, bodies, memory)
    problems.same("promised to machines", _sums(hosts), _promised(live))
    domains = _domains(problems, catalog)
    running = {vm_id for vm_id, row in live.items() if row["wanted"] == "RUNNING"}
    problems.same("domains", sorted(domains), sorted(live))
    problems.same("QEMUs", _qemus(), Counter(f"one-{vm_id}" for vm_id in running))
    for vm_id in sorted(set(domains) & set(live)):
        _domain(problems, domains[vm_id], live[vm_id], bodies[vm_id], expected.get(live[vm_id]["name"]))
    _directories(problems, root, bodies, {vm_id: expected.get(row["name"]) for vm_id, row in live.items()})
    _network(problems, networks, [nic for vm_id in running for nic in bodies[vm_id]["nics"]])
    return problems


# -- the catalog -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _catalog(root: Path) -> Iterator[Callable[[str], list[sqlite3.Row]]]:
    with contextlib.closing(sqlite3.connect(f"file:{root}/nebula.db?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        yield lambda sql: db.execute(sql).fetchall()


def _machines(problems: Problems, live: dict[int, sqlite3.Row], expected: dict[str, Expected]) -> None:
    problems.same("machines", sorted(row["name"] for row in live.values()), sorted(expected))
    for vm_id, row in live.items():
        what = f"machine {row['name']} ({vm_id})"
        state = STATES.get((row["state"], row["lcm_state"]), (row["state"], row["lcm_state"]))
        if row["name"] in expected:
            problems.same(f"{what}: state", state, expected[row["name"]].state)
            problems.same(f"{what}: memory", row["memory"], expected[row["name"]].memory)
        problems.same(f"{what}: settled", row["settled"], 1)
        problems.same(f"{what}: error", row["error"], "")


def _identities(problems: Problems, catalog: str, vms: dict[int, sqlite3.Row], memory: Memory) -> None:
    for vm_id, row in vms.items():
        known = memory.ids.setdefault((catalog, vm_id), row["uuid"])
        problems.same(f"machine {vm_id}: UUID", row["uuid"], known)
        if row["state"] == DONE:
            memory.gone.add((catalog, vm_id))
        elif (catalog, vm_id) in memory.gone:
            problems.append(f"machine {vm_id} ({row['name']}) was DONE, and lives again")
    problems.none("forgotten machines", [vm_id for known, vm_id in memory.ids if known == catalog and vm_id not in vms])


def _leases(problems: Problems, bodies: dict[int, Any], leases: list[Any], ranges: list[Any]) -> None:
    first = {(row["network_id"], row["ar_id"]): row for row in ranges}
    leased = {}
    for row in leases:
        start = [int(part) for part in first[row["network_id"], row["ar_id"]]["ip"].split(".")]
        leased[row["vm_id"], row["nic_id"]] = ".".join(str(part) for part in (*start[:3], start[3] + row["offset"]))
    problems.same("leases", len(leased), len(leases))
    of_nics = {(vm_id, nic["nic_id"]): nic["ip"] for vm_id, body in bodies.items() for nic in body["nics"]}
    problems.same("leases", leased, of_nics)
    problems.same("addresses used", sum(row["used"] for row in ranges), len(leases))
    for key in ("ip", "mac"):
        counted = Counter(nic[key] for body in bodies.values() for nic in body["nics"])
        problems.none(f"{key} used twice", [value for value, count in counted.items() if count > 1])


def _ports_of(bodies: dict[int, Any]) -> dict[int, int]:
    return {vm_id: body["graphics"]["port"] for vm_id, body in bodies.items() if body.get("graphics")}


def _sums(hosts: list[Any]) -> tuple[int, int]:
    return sum(row["vms"] for row in hosts), sum(row["memory_used"] for row in hosts)


def _promised(live: dict[int, sqlite3.Row]) -> tuple[int, int]:
    return len(live), sum(row["memory"] for row in live.values())


# -- files -------------------------------------------------------------------------------------------------------------


def _images(
    problems: Problems,
    root: Path,
    catalog: str,
    images: list[Any],
    uses: list[Any],
    bodies: dict[int, Any],
    memory: Memory,
) -> None:
    directory = root / "datastores" / "1"
    problems.same(
        "files of images",
        sorted(path.name for path in directory.iterdir()),
        sorted([*(Path(i["source"]).name for i in images), OF_THE_CATALOG]),
    )
    with contextlib.suppress(FileNotFoundError):
        problems.same("whose the images are", (directory / OF_THE_CATALOG).read_text(), f"{catalog}\n")
    names = {row["id"]: row["name"] for row in images}
    problems.same(
        "images used",
        sorted((row["vm_id"], row["disk_id"], names[row["image_id"]]) for row in uses),
        sorted(
            (vm, disk["disk_id"], disk["image"]) for vm, b in bodies.items() for disk in b["disks"] if disk["source"]
        ),
    )
    for row in images:
        used = any(use["image_id"] == row["id"] for use in uses)
        # READY, USED, USED_PERS
        problems.same(f"image {row['name']}: state", row["state"], (8 if row["persistent"] else 2) if used else 1)
        if not row["persistent"]:
            path = Path(row["source"])
            found = path.stat()
            now = (found.st_uid, found.st_gid, found.st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
            problems.same(f"image {row['name']}: owner, mode, hash", now, memory.base.setdefault(row["source"], now))


def _directories(problems: Problems, root: Path, bodies: dict[int, Any], expected: dict[int, Expected | None]) -> None:
    place = root / "datastores" / "0"
    problems.same("directories", sorted(path.name for path in place.iterdir()), sorted(str(vm_id) for vm_id in bodies))
    problems.same("marks", sorted(p.name for p in root.iterdir() if "db" not in p.name), ["datastores", "nebula.node"])
    for vm_id, body in bodies.items():
        directory = place / str(vm_id)
        if not directory.is_dir():
            continue
        names = sorted(path.name for path in directory.iterdir())
        problems.none(f"machine {vm_id}: left over", [name for name in names if not OF_A_MACHINE.fullmatch(name)])
        wanted = [disk["disk_id"] for disk in body["disks"]] + [body["context"]["disk_id"]]
        disks = [name for name in names if name.startswith("disk.")]
        problems.same(f"machine {vm_id}: disks", disks, sorted(f"disk.{number}" for number in wanted))
        want = expected[vm_id]
        context = directory / f"disk.{body['context']['disk_id']}"
        if (
            want is not None
            and want.token
            and context.exists()
            and f"TOKEN='{want.token}'".encode() not in context.read_bytes()
        ):
            problems.append(f"machine {vm_id}: its context has not TOKEN {want.token}")


# -- what runs ---------------------------------------------------------------------------------------------------------


def _domains(problems: Problems, catalog: str) -> dict[int, Any]:
    """(state, XML as it runs or would) by machine."""
    import libvirt

    found: dict[int, Any] = {}
    with contextlib.closing(libvirt.open("qemu:///system")) as connection:
        for domain in connection.listAllDomains():
            name = domain.name()
            root = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
            marks = [mark for mark in root.find("metadata") or () if mark.get("catalog")]
            if len(marks) != 1 or marks[0].get("catalog") != catalog or f"one-{marks[0].get('id')}" != name:
                problems.append(f"domain {name} is not this catalog's: {[mark.attrib for mark in marks]}")
                continue
            if not domain.isPersistent():
                problems.append(f"domain {name} is transient")
            vm_id = int(marks[0].get("id"))
            if vm_id in found:
                problems.append(f"machine {vm_id} has two domains")
            found[vm_id] = (domain.state()[0], root)
    return found


def _domain(problems: Problems, domain: Any, row: sqlite3.Row, body: Any, want: Expected | None) -> None:
    state, root = domain
    what = f"domain of {row['name']} ({row['id']})"
    # VIR_DOMAIN_RUNNING, VIR_DOMAIN_SHUTOFF
    problems.same(f"{what}: state", state, {"RUNNING": 1, "POWEROFF": 5}.get(row["wanted"]))
    problems.same(f"{what}: UUID", root.findtext("uuid"), row["uuid"])
    if want is not None:
        problems.same(f"{what}: memory", root.findtext("memory"), str(want.memory * 1024))
        problems.same(f"{what}: console", root.find("devices/graphics") is not None, want.console)
    macs = [element.get("address") for element in root.findall("devices/interface/mac")]
    problems.same(f"{what}: MACs", macs, [nic["mac"] for nic in body["nics"]])
    for nic in body["nics"]:
        problems.same(
            f"{what}: MAC of {nic['ip']}", nic["mac"], "02:00:" + bytes(map(int, nic["ip"].split("."))).hex(":")
        )
    sources = sorted(str(disk.find("source").get("file")) if disk.find("source") is not None else "(none)"
                     for disk in root.findall("devices/disk"))  # fmt: skip
    problems.same(f"{what}: media", len(sources), len(body["disks"]) + 1)
    problems.none(f"{what}: media that are not there", [path for path in sources if not os.path.exists(path)])
    if want is not None and want.disks:
        problems.same(f"{what}: disks", len(body["disks"]), want.disks)
        problems.same(f"{what}: NICs", len(macs), want.nics)
        volatile = [path for path in sources if path.endswith(tuple(f"disk.{d['disk_id']}" for d in body["disks"][1:]))]
        sizes = {os.path.getsize(path) >> 20 for path in volatile}
        problems.none(f"{what}: sizes of its disks, of which each has {want.size} MB", sizes - {want.size})
    graphics = root.find("devices/graphics")
    if graphics is not None:
        problems.same(f"{what}: port", int(graphics.get("port")), body["graphics"]["port"])


def _qemus() -> Counter[str]:
    found: Counter[str] = Counter()
    for process in processes():
        if process.is_program("qemu-system-x86_64") and "-name" in process.argv:
            guest = re.search(r"guest=([^,]*)", process.argv[process.argv.index("-name") + 1])
            found[guest[1] if guest else "(no name)"] += 1
    return found


def _network(problems: Problems, networks: list[Any], nics: list[Any]) -> None:
    problems.same("networks", [row["bridge"] for row in networks], [BRIDGE])
    links = _json("ip", "-json", "link")
    problems.same("ports of the bridge", sum(link.get("master") == BRIDGE for link in links), len(nics))
    bridges = [link["ifname"] for link in _json("ip", "-json", "link", "show", "type", "bridge")]
    problems.same("bridges", bridges, [BRIDGE])
    families = sorted(line.split()[1] for line in _run("nft", "list", "tables").splitlines() if line)
    # The second one filters what machines send and get.
    problems.same("nftables", families, ["bridge", "inet"] if nics else ["inet"])
    problems.same("forwarding", Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(), "1")


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _json(*command: str) -> Any:
    return json.loads(_run(*command) or "[]")
