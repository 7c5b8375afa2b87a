# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with what later releases refuse, tell, or make otherwise, as the release before had it in its catalog.

That release has written tests/fixtures/catalog/older_site.json, where CHECKOUT is one of it:

    PYTHONPATH=CHECKOUT/collections python tests/tools/older_site.py > tests/fixtures/catalog/older_site.json"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import container_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import config
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks, routers, templates
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

STORED = Path(__file__).parents[1] / "fixtures/catalog/older_site.json"
# What stands there for the nebula_root in which the catalog is.
ROOT = "/nebula-root"
LONG = "a-host-name-that-is-longer-than-any-kernel-has-" + "x" * 20
HOSTS = {"node1": "kvm", "node2": "lxc", "node3": "xen"}
# Name, format, attributes.
IMAGES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("demo", "qcow2", {}),
    ("win & co <1>", "qcow2", {"GUEST_OS": "windows 11"}),
    ("root", "tar", {}),
)


def _network(name: str, third: int, **more: Any) -> dict[str, Any]:
    ranges = [{"type": "IP4", "ip": f"10.66.{third}.10", "size": 20}]
    return {"name": name, "network_address": f"10.66.{third}.0/24", "address_ranges": ranges, **more}


NETWORKS = [
    _network("Public", 0, bridge="nbr0", gateway="10.66.0.1", dns="9.9.9.9,8.8.8.8"),
    _network("Tunnel", 1, vn_mad="vxlan", phydev="eth1", vlan_id=7, bridge="nbr1"),
    _network("Jumbo", 2, bridge="nbr2", guest_mtu=9000),
    {"name": "Macs & <more>", "bridge": "nbr3", "address_ranges": [{"type": "ETHER", "size": 20}]},
    _network("Tenant", 4, vn_mad="ovn", gateway="10.66.4.1"),
    _network("Outside", 5, vn_mad="ovn", gateway="10.66.5.1", physical_network="nowhere", dhcp=False),
]
ROUTERS = [
    {
        "name": "edge & <more>",
        "interfaces": [{"network": "Tenant"}],
        "gateway": {"network": "Outside"},
        "routes": [
            {"destination": "2001:db8:9::/48", "next_hop": "10.66.4.20"},
            {"destination": "10.9.0.0/16", "next_hop": "10.66.4.1"},
            {"destination": "0.0.0.0/0", "next_hop": "10.66.4.30"},
            {"destination": "10.8.0.0/16", "next_hop": "10.66.4.40"},
        ],
    }
]
_BASE = "CPU = 0.5\nMEMORY = 64\n"
_DISK = 'DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]\n'
_NIC = 'NIC = [ NETWORK = "Public" ]\n'
_CONTEXT = 'CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]\n'
_FOUR = "VCPU = 4\n"
TEMPLATES = {
    "plain & <co>": _BASE + _DISK + _NIC + _CONTEXT,
    "windows": _BASE + _FOUR + 'DISK = [ IMAGE = "win & co <1>", DEV_PREFIX = "vd" ]\n' + _NIC + _CONTEXT,
    "hyperv": _BASE + _FOUR + 'FEATURES = [ HYPERV = "YES" ]\n' + _DISK + _NIC + _CONTEXT,
    "tunnel": _BASE + _DISK + 'NIC = [ NETWORK = "Tunnel" ]\n' + _CONTEXT,
    "jumbo": _BASE + _DISK + 'NIC = [ NETWORK = "Jumbo" ]\n' + _CONTEXT,
    "macs": _BASE + _DISK + 'NIC = [ NETWORK = "Macs & <more>" ]\n' + _CONTEXT,
    "tenant": _BASE + _DISK + 'NIC = [ NETWORK = "Tenant" ]\n' + _CONTEXT,
    "expressions": _BASE
    + _DISK
    + _NIC
    + 'CONTEXT = [ NETWORK = "YES", TOKEN = "YES", A = "$VCPU", B = "$IMAGE[SOURCE, IMAGE=\\"demo\\"]", '
    + 'C = "$IMAGE[PATH, IMAGE=\\"demo\\"]", D = "$NO_SUCH", SEARCH_DOMAIN = "a.example,b.example" ]\n',
    "boot": _BASE
    + 'OS = [ BOOT = "hd,network" ]\nFEATURES = [ ACPI = "yes", FOOBAR = "x" ]\nHYPERV_TIMERS = "x"\n'
    + _DISK
    + 'NIC = [ NETWORK = "Public", FOOBAR = "x" ]\n'
    + _CONTEXT,
    "serials": _BASE
    + 'DISK = [ IMAGE = "demo", DEV_PREFIX = "vd", SERIAL = "A123456789012345678901-one" ]\n'
    + 'DISK = [ IMAGE = "demo", DEV_PREFIX = "vd", SERIAL = "A123456789012345678901-two" ]\n'
    + f'DISK = [ IMAGE = "demo", DEV_PREFIX = "sd", SERIAL = "S{"9" * 40}" ]\n'
    + _NIC
    + _CONTEXT,
    "host name": _BASE + _DISK + _NIC + f'CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "{LONG}" ]\n',
    "topology": _BASE + _FOUR + "TOPOLOGY = [ SOCKETS = 1, CORES = 4 ]\n" + _DISK + _NIC + _CONTEXT,
    "no topology": _BASE + _FOUR + "TOPOLOGY = [ SOCKETS = 1, CORES = 3 ]\n" + _DISK + _NIC + _CONTEXT,
    "target": _BASE + _DISK + 'NIC = [ NETWORK = "Public", TARGET = "vnet7" ]\n' + _CONTEXT,
    "methods": _BASE
    + _DISK
    + 'NIC = [ NETWORK = "Public", METHOD = "dhcp", METRIC = "7", IP6_METHOD = "disable", '
    + 'ROUTES = "10.0.0.0/8 via 10.66.0.3" ]\n'
    + _CONTEXT,
    "container": _BASE + 'DISK = [ IMAGE = "root" ]\n' + _NIC + _CONTEXT,
    "guest of xen": _BASE + _FOUR + 'HYPERVISOR = "xen"\n' + _DISK + _NIC + _CONTEXT,
}
_SCRIPT = "#!/bin/sh\r\necho a\r\necho $b\r\n"
VMS: list[dict[str, Any]] = [
    {"name": f"machine & <{number}>", "template": name, "host": "node1"} for number, name in enumerate(TEMPLATES)
]
VMS[0]["context"] = {"START_SCRIPT": _SCRIPT}
VMS[-2]["host"], VMS[-1]["host"] = "node2", "node3"
VMS.append({"name": LONG, "template": "plain & <co>", "host": "node1"})


def furnish(engine: Any) -> None:
    """What is no matter of a list: hosts, and images whose files are there."""
    for name, hypervisor in HOSTS.items():
        engine.hosts.allocate(Host(None, name, hypervisor=hypervisor, state=HostState.MONITORED, memory=9999, cpu=64.0))
    for name, kind, attributes in IMAGES:
        made = engine.images.allocate(Image(None, name, type=ImageType.OS, attributes=attributes))
        engine.images.update(made.id, state=ImageState.READY, size=16, format=kind, sha256="0" * 64)


def apply(engine: Any) -> tuple[list[Any], list[Any], list[Any], list[str]]:
    """Have the catalog hold what the lists say: what was done, the decisions about machines, what nodes are to do, and
    all warnings."""
    done, _views, warnings = networks.apply_all(engine, NETWORKS, False)
    done += [routers.apply(engine, each) for each in ROUTERS]
    stored = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    more, told = templates.apply_all(engine, stored)
    outcomes, doubts = reconcile(engine, VMS)
    planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
    return [*done, *more], outcomes, planned, [*warnings, *told, *doubts]


def carried_out(engine: Any, planned: list[Any]) -> None:
    """Note that the nodes have done that."""
    hosts = {each.id: each.host for each in engine.vms.pool()}
    for each in planned:
        engine.vms.record(
            hosts[each.vm.vm_id], [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True, fitted=True)]
        )


def definition(vm: Vm) -> str:
    """As its node would write it."""
    render = {"kvm": domain_xml.render, "lxc": container_xml.render, "xen": config.render}[vm.hypervisor]
    disks = {disk.disk_id: DiskFiles(f"/vm/disk.{disk.disk_id}", disk.driver or "raw") for disk in vm.disks}
    if vm.context is not None:
        disks[vm.context.disk_id] = DiskFiles(f"/vm/disk.{vm.context.disk_id}", "raw")
    # What a processor weighs is a matter of the node.
    return render(vm, Site("/vm", "c" * 36, 0, disks, cpu_shares=0)).text


def context(vm: Vm, root: str) -> str:
    """The digest of what its guest is told."""
    if vm.context is None:
        return ""
    told = {name: value.replace(root, ROOT) for name, value in vm.context.variables.items()}
    with iso9660.build_iso(told, (), format=vm.context.format, identity=vm.uuid) as iso:
        return str(iso.digest)


def digests(vm: Vm, root: str) -> tuple[str, str]:
    return hashlib.sha256(definition(vm).encode()).hexdigest(), context(vm, root)


@functools.lru_cache(maxsize=1)
def stored() -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


def make(root: str) -> None:
    """Write the catalog of that release into this directory."""
    with contextlib.closing(sqlite3.connect(Path(root) / "nebula.db")) as catalog:
        catalog.executescript("\n".join(stored()["catalog"]).replace(ROOT, root))
        catalog.execute(f"PRAGMA user_version = {stored()['version']}")


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        with contextlib.closing(EmbeddedEngine(root, create=True)) as engine, engine.session():
            furnish(engine)
            done, outcomes, planned, _warnings = apply(engine)
            assert [str(each.error) for each in (*done, *outcomes) if each.error] == []
            carried_out(engine, planned)
        found = {str(each.vm.vm_id): digests(each.vm, root) for each in planned}
        with contextlib.closing(sqlite3.connect(Path(root) / "nebula.db")) as catalog:
            (version,) = catalog.execute("PRAGMA user_version").fetchone()
            dump = [line.replace(root, ROOT) for line in catalog.iterdump()]
        json.dump({"version": version, "digests": found, "catalog": dump}, sys.stdout, indent=0)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
