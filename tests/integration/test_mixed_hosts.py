# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One play over a host of KVM and a host of containers: each machine of one list goes where its image can run, guests
and containers reach one another in one network, a second run changes nothing, and a teardown leaves bare nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, hosts, root_of, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks

NETWORK = {
    "name": "both",
    "vn_mad": "vxlan",
    "phydev": "eth0",
    "vlan_id": 7,
    "bridge": "nbr0",
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 8}],
}
ADDRESSES = {"guest-0": "10.66.0.10", "guest-1": "10.66.0.11", "container-0": "10.66.0.12", "container-1": "10.66.0.13"}
REACH = """
for address in $REACHES; do
    tries=0
    until ping -c 1 -W 1 "$address" > /dev/null; do
        tries=$((tries + 1)); [ "$tries" -lt 120 ] || break
    done
    [ "$tries" -lt 120 ] && echo "fact: reached $address" > /dev/console
done
"""


def template(image: str, memory: int, **disk: str) -> dict[str, Any]:
    return {
        "CPU": 0.1,
        "MEMORY": memory,
        "DISK": {"IMAGE": image, **disk},
        "NIC": {"NETWORK": "both"},
        "CONTEXT": {
            "NETWORK": "YES",
            "SET_HOSTNAME": "$NAME",
            "REACHES": " ".join(ADDRESSES.values()),
            "START_SCRIPT": REACH,
        },
    }


class Mixed(Sent):
    def __init__(self, image: str) -> None:
        super().__init__()
        root = self.directory / "root.tar"
        root.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
        del self.variables["nebula_verify"]
        self.variables |= {
            "nebula_verify_timeout": 300,
            "nebula_networks": [NETWORK],
            "nebula_images": [{"name": "disk", "path": image}, {"name": "root", "path": str(root), "format": "tar"}],
            # None of them says which hypervisor it is for.
            "nebula_templates": [
                {"name": "guest", "template": template("disk", 128, DEV_PREFIX="vd")},
                {"name": "container", "template": template("root", 64)},
            ],
            "nebula_vms": [
                {"name": "guest-%i", "count": 2, "template": "guest"},
                {"name": "container-%i", "count": 2, "template": "container"},
            ],
        }

    def inventory(self, **changes: Any) -> Path:
        path = super().inventory(**changes)
        inventory = json.loads(path.read_text())
        inventory["all"]["children"]["nebula_nodes"]["hosts"]["node2"]["nebula_hypervisor"] = "lxc"
        path.write_text(json.dumps(inventory))
        return path


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_guests_and_containers_in_one_play(image: str) -> None:
    site = Mixed(image)
    first, second = site.nodes
    with hosts(site):
        # libvirt starts no container beside cgroups of version 2.
        second.run("umount", "/sys/fs/cgroup/unified", check=False)
        before = {node.name: state_of(node) for node in site.nodes}
        site.done("site.yml", "--check")
        site.done("site.yml")
        again = site.done("site.yml")
        assert changed_tasks(again) == [], again
        for number, (name, address) in enumerate(ADDRESSES.items()):
            node = first if name.startswith("guest") else second
            log = root_of(node) / f"datastores/0/{number}/console.log"

            def text(log: Path = log) -> str:
                return log.read_text(errors="replace") if log.exists() else ""

            wait_for(lambda text=text: "nebula-guest: ready" in text(), f"{name} is up", 120)
            assert f"ip={address}/24" in text() and f"hostname={name}" in text(), text()
            for other in ADDRESSES.values():
                assert f"fact: reached {other}" in text(), f"{name} does not reach {other}:\n{text()}"
        for node, kind in ((first, "qemu"), (second, "lxc")):
            listed = node.run("virsh", "-c", f"{kind}:///system", "list", "--name").stdout.split()
            assert len(listed) == 2, listed
        site.done("playbooks/audit.yml")
        # One of each kind is ended in one run.
        fewer = [{**machine, "count": 1} for machine in site.variables["nebula_vms"]]
        site.done("site.yml", nebula_vms=fewer)
        for node, kind, name in ((first, "qemu", "one-0"), (second, "lxc", "one-2")):
            assert node.run("virsh", "-c", f"{kind}:///system", "list", "--all", "--name").stdout.split() == [name]
        site.done("playbooks/teardown.yml")
        assert {node.name: state_of(node) for node in site.nodes} == before
