# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers on a host as it is installed, with systemd, cgroups of version 2 and AppArmor: what each is held to, and
what a boot of the host brings back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stock_host import FullStockHost

from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import NETWORK
from ansible_collections.nebula.provision.tests.integration.stock_site import StockSite
from ansible_collections.nebula.provision.tests.integration.test_stock_host import ASK

TEMPLATE = """
CPU = 0.5
CPULIMIT = 50
MEMORY = 64
LXC_SWAP = 16
DISK = [ IMAGE = "demo" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
ADDRESSES = ("10.66.0.10", "10.66.0.11")

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


class Containers(StockSite):
    def init(self, number: int) -> str:
        """The process of that container's init, as the host sees it."""
        controller = self.says("virsh", "-c", "lxc:///system", "domid", f"one-{number}")
        return self.says("pgrep", "--parent", controller) if controller.isdigit() else ""

    def is_confined(self, number: int) -> bool:
        uuid = self.says("virsh", "-c", "lxc:///system", "domuuid", f"one-{number}")
        return self.says("cat", f"/proc/{self.init(number)}/attr/current") == f"libvirt-{uuid} (enforce)"

    def cgroup(self, number: int) -> list[str]:
        """What the container is held to: memory, swap beside it, processor, and its weight (of the scope)."""
        place = "/sys/fs/cgroup" + self.says("cat", f"/proc/{self.init(number)}/cgroup").partition("::")[2]
        files = ("memory.max", "memory.swap.max", "cpu.max", "../cpu.weight")
        return self.says("cat", *(f"{place}/{file}" for file in files)).splitlines()

    def reached(self, address: str) -> bool:
        return self.says("python3", "-c", ASK, address) == "reached"

    def console(self, number: int) -> str:
        return self.says("cat", f"{self.root}/datastores/0/{number}/console.log")

    def machines(self, *states: str) -> list[dict[str, Any]]:
        return [{"name": f"web-{number}", "template": "web", "state": each} for number, each in enumerate(states)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    place = tmp_path_factory.mktemp("stock")
    image = place / "demo.tar"
    image.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
    with FullStockHost(place / "host") as host:
        yield Containers(
            host,
            place,
            nebula_hypervisor="lxc",
            nebula_images=[{"name": "demo", "path": str(image), "format": "tar"}],
            nebula_networks=[NETWORK],
            nebula_templates=[{"name": "web", "template": TEMPLATE}],
        )


def test_each_is_confined_and_held_to_its_limits(site: Containers) -> None:
    site.done("site.yml", nebula_vms=site.machines("running", "running"))
    for number, address in enumerate(ADDRESSES):
        check(site, number, address)
        console = site.console(number)
        assert f"nebula-guest: hostname=web-{number}" in console and f"ip={address}/24" in console, console
        # It mounts what it has, as the init of a whole system does for its services.
        assert "error" not in console, console
        root = f"{site.root}/datastores/0/{number}/disk.0"
        assert site.says("stat", "--format", "%u", root) == str(id_range(number).start)


def test_one_is_started_anew_and_one_is_powered_off(site: Containers) -> None:
    before = site.init(0)
    site.done("site.yml", nebula_vms=site.machines("rebooted", "poweroff"))
    assert site.init(0) not in ("", before)
    check(site, 0, ADDRESSES[0])
    assert site.init(1) == ""


def test_what_was_on_comes_back_with_the_host(site: Containers) -> None:
    site.host.reboot()
    wait_for(lambda: site.reached(ADDRESSES[0]), "the container after the reboot of its host", 600)
    check(site, 0, ADDRESSES[0])
    assert site.init(1) == ""


def test_nothing_of_them_stays(site: Containers) -> None:
    profiles = ("find", "/etc/apparmor.d/libvirt", "-name", "libvirt-*")
    assert len(site.says(*profiles).splitlines()) == 2
    site.done("playbooks/teardown.yml")
    assert site.says("virsh", "-c", "lxc:///system", "list", "--all", "--name") == ""
    assert site.says(*profiles) == ""
    assert site.says("ls", "-A", str(site.root)) == ""


def check(site: Containers, number: int, address: str) -> None:
    wait_for(lambda: site.reached(address), f"container {number} at {address}", 120)
    assert site.is_confined(number)
    # 64 MiB, 16 MiB, half of a processor, and half of what a whole one weighs.
    assert site.cgroup(number) == [str(64 << 20), str(16 << 20), "50000 100000", "50"]
