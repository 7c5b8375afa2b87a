# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad entries among good ones in the variables of site.yml on hosts of containers, as test_bad_input.py has it of those
of KVM: each is refused by its name before anything of it is made, the others are done, and nothing of somebody else is
touched. OpenVZ's vzctl is a stand-in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config, vzctl
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration import test_lxc_site, test_openvz_site
from ansible_collections.nebula.provision.tests.integration.lxc_node import without_unified_cgroups
from ansible_collections.nebula.provision.tests.integration.openvz_node import installed
from ansible_collections.nebula.provision.tests.integration.site_runs import (
    HALTING,
    UNTOLD,
    Site,
    changed_tasks,
    host_state,
    torn_down,
)

# MB that no host has.
ROOM = 1 << 30


def refused(site: Site, vms: list[dict[str, Any]], told: dict[str, str], *arguments: str) -> None:
    """told: by the name of each machine that is refused, what is said of it."""
    code, output = site.run("site.yml", *arguments, nebula_vms=vms)
    plain = " ".join(output.replace('\\"', '"').split())
    assert code != 0, output
    for name, text in told.items():
        assert f"VM {name}" in plain and text in plain, f"{name}: {text} in\n{output}"
    for text in UNTOLD:
        assert text not in output, f"{text} in\n{output}"


def machines(site: Site) -> list[str]:
    return sorted(path.name for path in (site.root / "datastores/0").glob("*") if path.name.isdigit())


def disk(**values: Any) -> dict[str, Any]:
    return {"TYPE": "fs", "SIZE": 16, "FS": "ext4", **values}


ROOT = {"IMAGE": "demo"}
OF_LXC: dict[str, tuple[dict[str, Any], str]] = {
    "qcow2": ({"disks": [{"IMAGE": "halt"}]}, "DISK 0: image halt: it is a disk (format raw)"),
    "two": ({"disks": [ROOT, ROOT]}, "2 of them are root file systems (demo, demo)"),
    "disk": ({"disks": [ROOT, {"IMAGE": "halt"}]}, "DISK 1: image halt: it is a disk (format raw)"),
    "kvm": ({"attributes": {"HYPERVISOR": "kvm"}}, "a host that runs kvm: node1 runs lxc. Run role"),
    "nosuch": (
        {"attributes": {"HYPERVISOR": "lxd"}},
        "a host that runs lxd: node1 runs lxc. Known are kvm, lxc, openvz",
    ),
    "openvz": (
        {"attributes": {"HYPERVISOR": "openvz"}, "disks": [ROOT]},
        "a host that runs openvz: node1 runs lxc. Run role",
    ),
    "key": ({"hypervisor": "lxc"}, "key 'hypervisor': no such key"),
    "device": ({"disks": [ROOT, disk(TARGET="/dev/x")]}, "/dev is something else in a container"),
    "dots": ({"disks": [ROOT, disk(TARGET="/srv/../etc")]}, "it is no plain path of a directory"),
    "over": ({"disks": [ROOT, disk(TARGET="/sbin")]}, "would hide what the container is started from"),
    "same": ({"disks": [ROOT, disk(TARGET="/a"), disk(TARGET="/a")]}, "DISK 1 has the same"),
    "root": ({"disks": [{**ROOT, "TARGET": "/srv"}]}, "is a root file system, which is at /"),
    "swap": ({"disks": [ROOT, {"TYPE": "swap", "SIZE": "1 GB"}]}, "SIZE = '1 GB'"),
    "swaps": ({"disks": [ROOT, {"TYPE": "swap", "SIZE": 8}]}, "Use LXC_SWAP = MB"),
    "counters": ({"attributes": {"MEMORY": {"PHYSPAGES": "0:64M"}}}, "MEMORY"),
    "ids": ({"attributes": {"RAW": {"TYPE": "lxc", "DATA": "<idmap/>"}}}, "RAW: DATA: <idmap>"),
    "limit": ({"attributes": {"CPULIMIT": "half"}}, "CPULIMIT = 'half'"),
}


OS_DISK = {"IMAGE": "debian-busybox"}
OF_OPENVZ: dict[str, tuple[dict[str, Any], str]] = {
    "second": ({"disks": [OS_DISK, OS_DISK]}, "DISK 1 (IMAGE = debian-busybox): a container has one root file system"),
    "qcow2": ({"disks": [{"IMAGE": "debian-disk"}]}, "debian-disk"),
    "none": ({"disks": [{"TYPE": "swap", "SIZE": 8}]}, "it has nothing to boot from"),
    "swap": ({"disks": [OS_DISK, {"TYPE": "swap", "SIZE": "0:64M"}]}, "SIZE = '0:64M'"),
    "path": ({"disks": [{**OS_DISK, "TARGET": "/srv"}]}, "it is no name of a disk device"),
    "name": ({"disks": [{"IMAGE": "de bian"}]}, "de bian"),
    "space": ({"attributes": {"DISKSPACE": "20:10"}}, "its soft limit is above its hard one"),
    "upside": ({"attributes": {"MEMORY": {"PHYSPAGES": "64M:32M"}}}, "its barrier is above its limit"),
    "word": ({"attributes": {"MEMORY": {"PHYSPAGES": "much"}}}, "PHYSPAGES = 'much': it is no limit that vzctl reads"),
    "counter": ({"attributes": {"MEMORY": {"PHYSPAGE": "0:64M"}}}, "there is no such beancounter"),
    "mask": ({"attributes": {"CPUMASK": "3-1"}}, "CPUMASK = '3-1'"),
    "place": ({"context": {"CONTEXT_DIRECTORY": "/proc"}}, "something is mounted at /proc"),
    "host": ({"context": {"HOSTNAME": "a b"}}, "CONTEXT/HOSTNAME = 'a b': it is no name of a host"),
    "shell": ({"context": {"NAMESERVER": "`id`"}}, "CONTEXT/NAMESERVER"),
    "raw": ({"attributes": {"RAW": {"TYPE": "openvz", "DATA": "PATH=/tmp"}}}, "DATA: PATH: vzctl reads no such key"),
    "private": ({"attributes": {"RAW": {"TYPE": "openvz", "DATA": "VE_PRIVATE=/etc"}}}, "DATA: VE_PRIVATE"),
}


def tells(site: Site, bad: dict[str, tuple[dict[str, Any], str]]) -> None:
    good = site.variables["nebula_vms"]
    vms = [*good, *({"name": name, "template": "web", **item} for name, (item, _text) in bad.items())]
    told = {name: text for name, (_item, text) in bad.items()}
    refused(site, vms, told, "--check")
    assert not site.root.exists() or machines(site) == []
    refused(site, vms, told)
    assert len(machines(site)) == 2
    code, output = site.run("site.yml")
    assert code == 0 and changed_tasks(output) == [], output


@pytest.mark.timeout(900)
@in_bare_world
def test_bad_containers_of_lxc() -> None:
    directory = Path(os.environ["NEBULA_WORLD"])
    image, halt = directory / "root.tar", directory / "halt.raw"
    image.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
    halt.write_bytes(HALTING)
    before = host_state()
    with without_unified_cgroups(), torn_down(test_lxc_site.Containers(image)) as site:
        site.variables["nebula_images"] += [{"name": "halt", "path": str(halt)}]
        site.variables["nebula_verify"] = False
        tells(site, OF_LXC)
        # How much room there is the host knows: nothing is kept of what it could not make.
        large = {"name": "large", "template": "web", "hard": True, "disks": [ROOT, disk(SIZE=ROOM)]}
        refused(site, [large], {"large": "disk 1"})
        assert not [path for path in (site.root / "datastores/0/2").glob("*disk.1*") if path.exists()]
        code, output = site.run("site.yml", nebula_vms=[{**large, "state": "absent"}])
        assert code == 0 and len(machines(site)) == 2, output
    assert host_state() == before


@pytest.mark.timeout(900)
@in_bare_world
def test_bad_containers_of_openvz() -> None:
    with installed() as node:
        directory = Path(os.environ["NEBULA_WORLD"])
        image, halt = directory / "root.tar.gz", directory / "halt.raw"
        shutil.copy(node.image, image)
        halt.write_bytes(HALTING)
        before = host_state()
        # Somebody's container of the id that the first machine would have, and one that has no id of a machine.
        others = {vzctl.CONFIGURATIONS / f"{ctid}.conf": f'VE_PRIVATE="/vz/{ctid}"\n' for ctid in (100000, 7)}
        for path, text in others.items():
            path.write_text(text, encoding="utf-8")
        with torn_down(test_openvz_site.Containers(image)) as site:
            site.variables["nebula_images"] += [{"name": "debian-disk", "path": str(halt)}]
            tells(site, OF_OPENVZ)
            made = {path for path in vzctl.CONFIGURATIONS.glob("*.conf") if path not in others}
            marks = [container_config.read(path.read_text(encoding="utf-8")).mark for path in made]
            assert len(made) == 2 and all(marks), made
        assert {path: path.read_text(encoding="utf-8") for path in vzctl.CONFIGURATIONS.glob("*.conf")} == others
        for path in others:
            path.unlink()
        assert host_state() == before
