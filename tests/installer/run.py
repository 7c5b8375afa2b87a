#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's own installer by role install_os: preseeded, by UEFI, from the archive that this machine is set up with.

An ISO of the installer's kernel and initrd goes in; an OS image has to come out, and two machines of it run at once,
each saying its own name. All of it runs in a world (tests/tools/world.py), where nothing is reached but loopback: there
a relay leads to a server outside, which fetches by apt what the installer asks for. Consoles are kept in
build/logs/installer.
usage: run.py [--firmware BIOS|UEFI] [--timeout SECONDS]        (as root)"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_image
from ansible_collections.nebula.provision.tests.installer import debian_netboot, mirror
from ansible_collections.nebula.provision.tests.integration.guests import installer_iso
from ansible_collections.nebula.provision.tests.integration.guests.cache import directory

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build/logs/installer"
CONTEXT_PROGRAM = "/context-program"
# QEMU's user network: the host's loopback, as the guest sees it.
HOST = "10.0.2.2"
# Nobody has the other half of it.
KEY = f"ssh-ed25519 {base64.b64encode(b'no key' * 8).decode()} 'nobody' \"else\""
USER_NETWORK = "<devices><interface type='user'><model type='virtio'/></interface></devices>"
# Emulated by QEMU 7.2, four of five boots of Debian 13's kernel died at a cmpxchg16b («double fault» in kmalloc, with
# flags that no processor has); none of six where the processor has no such instruction.
CPU = """<cpu mode='custom' match='exact'>
<model fallback='allow'>qemu64</model><feature policy='disable' name='cx16'/>
</cpu>"""
SIZE = 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--firmware", choices=["BIOS", "UEFI"], default="UEFI")
    parser.add_argument("--timeout", type=int, default=7200, help="seconds that the installation may take")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(json.loads(options.inside))
    if os.geteuid() != 0:
        parser.error("it needs root: libvirtd, and namespaces of its own")
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="nebula-installer-", dir="/var/tmp") as name:
        return outside(Path(name), options)


def outside(place: Path, options: argparse.Namespace) -> int:
    """What needs more than loopback: the package with the installer, and the server."""
    socket = place / "archive"
    with mirror.serving(socket) as archive:
        archive.own[CONTEXT_PROGRAM] = installer_iso.PROGRAM
        installer = debian_netboot.installer(archive)
        print(f"Debian {installer.number}'s installer. Of its components the archive lacks {len(installer.replaced)}:")
        for component, by in installer.replaced.items():
            print(f"  {component}: {by}")
        iso = iso_of(installer, place)
        wanted = {
            "socket": str(socket),
            "iso": str(iso),
            "name": f"debian{installer.number}",
            "path": mirror.path_of(archive.uri),
            "firmware": options.firmware,
            "timeout": options.timeout,
        }
        before = archive.fetched
        command = [sys.executable, str(ROOT / "tests/tools/world.py"), "--"]
        command += [sys.executable, str(Path(__file__)), "--inside", json.dumps(wanted)]
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
        print(f"files asked for: {len(archive.requests)}, fetched meanwhile: {archive.fetched - before}", flush=True)
    return status


def iso_of(installer: debian_netboot.Netboot, place: Path) -> Path:
    """Kernel and initrd where Debian's own ISOs have them."""
    tree, unpacked = place / "tree", place / "unpacked"
    (tree / "install.amd").mkdir(parents=True)
    shutil.copy(installer.kernel, tree / installer_iso.KERNEL)
    shutil.copy(installer.initrd, tree / installer_iso.INITRD)
    with (tree / installer_iso.INITRD).open("ab") as initrd:
        initrd.write(b"\0" * (-initrd.tell() % 4) + installer.extra)
    (directory() / "packages").mkdir(parents=True, exist_ok=True)
    demo_image.unpack(installer_iso.PACKAGES, directory() / "packages", unpacked)
    iso = place / f"debian{installer.number}-netboot.iso"
    installer_iso.bootable(iso, tree, unpacked, "DEBIAN_NETBOOT", "console=ttyS0,115200n8")
    shutil.rmtree(tree)
    shutil.rmtree(unpacked)
    return iso


# --- in the world ----------------------------------------------------------------------------------------------------


def inside(wanted: dict[str, str]) -> int:
    world = Path(os.environ["NEBULA_WORLD"])
    with mirror.relayed(Path(wanted["socket"])) as port:
        inventory = world / "hosts.yml"
        hosts = {"hosts": {"node1": variables(wanted, f"http://{HOST}:{port}", world)}}
        inventory.write_text(json.dumps({"nebula_frontend": hosts, "nebula_nodes": {"hosts": {"node1": {}}}}))
        try:
            for playbook in ("playbooks/install_os.yml", "playbooks/site.yml", "tests/installer/check.yml"):
                began = time.monotonic()
                status = subprocess.run(
                    [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), playbook],
                    cwd=ROOT,
                    env={**environment(), "HOME": str(world / "tmp")},
                    stdin=subprocess.DEVNULL,
                    check=False,
                ).returncode
                print(f"{playbook}: status {status} after {time.monotonic() - began:.0f} s", flush=True)
                if status != 0:
                    return status
        finally:
            for console in sorted((world / "nebula/datastores/0").glob("*/console.log*")):
                shutil.copy(console, LOGS / f"{console.parent.name}-{console.name}")
    return 0


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}


def variables(wanted: dict[str, str], server: str, world: Path) -> dict[str, object]:
    name, firmware = wanted["name"], wanted["firmware"]
    fetch = f"/usr/lib/apt/apt-helper download-file {server}{CONTEXT_PROGRAM} /tmp/nebula-context"
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
        "nebula_root": str(world / "nebula"),
        "nebula_reserved_memory": 0,
        "nebula_verify_timeout": 900,
        "nebula_installs": [
            {
                "name": name,
                "iso": wanted["iso"],
                "size": SIZE,
                "format": "qcow2",
                "firmware": firmware,
                "timeout": wanted["timeout"],
                "template": {"VCPU": "2", "MEMORY": "1536", "RAW": {"TYPE": "kvm", "DATA": CPU + USER_NETWORK}},
                "verify": {"timeout": 900},
                "answers": {
                    "kind": "preseed",
                    "hostname": name,
                    "disk": "/dev/vda",
                    "ssh_keys": [KEY],
                    # As on a network without DHCP, though QEMU's would answer.
                    "address": "10.0.2.15",
                    "netmask": "255.255.255.0",
                    "gateway": HOST,
                    "nameservers": ["10.0.2.3"],
                    "mirror": f"{server}{wanted['path']}",
                    # Less to download and to unpack, emulated.
                    "extra": (
                        "d-i base-installer/kernel/image string linux-image-cloud-amd64\n"
                        "d-i apt-setup/services-select multiselect"
                    ),
                    "late_commands": [f"{fetch} && sh /tmp/nebula-context install"],
                },
            }
        ],
        "nebula_networks": [
            {
                "name": "Public",
                "bridge": "nbr0",
                "network_address": "10.66.0.0",
                "network_mask": "255.255.255.0",
                "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 8}],
            }
        ],
        "nebula_templates": [
            {
                "name": name,
                "template": {
                    "CPU": "0.5",
                    "MEMORY": "768",
                    "OS": {"FIRMWARE": firmware},
                    "DISK": {"IMAGE": name, "DEV_PREFIX": "vd"},
                    "NIC": {"NETWORK": "Public"},
                    "RAW": {"TYPE": "kvm", "DATA": CPU},
                    "CONTEXT": {"NETWORK": "YES", "SET_HOSTNAME": "$NAME"},
                },
            }
        ],
        "nebula_vms": [{"name": "debian-%i", "count": 2, "template": name}],
    }


if __name__ == "__main__":
    sys.exit(main())
