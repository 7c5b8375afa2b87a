# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of containers, with the demo guest's root file system, inside a world."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container, roots
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, wait_for

OWN_GROUP = Path(__file__).parents[1] / "tools/own_group.sh"


class LxcNode(Node):
    kind_of_driver = LxcDriver

    @staticmethod
    def accelerator() -> dict[str, str]:
        return LxcDriver.choose_accelerator("", {})

    @staticmethod
    def base_image(root: Path) -> str:
        base = root / "base.tar"
        base.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
        return str(base)

    def vm(self, vm_id: int, **changes: Any) -> Vm:
        vm = Vm(
            vm_id=vm_id,
            uuid=str(uuid.uuid5(uuid.UUID(self.catalog), str(vm_id))),
            name=f"web-{vm_id}",
            hypervisor="lxc",
            cpu=0.5,
            memory=64,
            disks=(Disk(0, "", image="base", image_uuid="b", source=self.base, format="tar", driver="tar", size=2),),
            context=Context(
                disk_id=1, target="", variables={"HOSTNAME": f"web-{vm_id}", "SET_HOSTNAME": f"web-{vm_id}"}
            ),
        )
        return replace(vm, **changes)

    def close(self) -> None:
        for domain in self.driver._connection().listAllDomains():
            if domain.isActive():
                domain.destroy()
        # What a failed test leaves is mounted.
        for directory in Path(self.root, "datastores", "0").glob("*/disk.0"):
            roots.remove(str(directory))
        super().close()

    def wait_for_line(self, vm: Vm, line: str, times: int = 1) -> None:
        def seen() -> bool:
            return self.console(vm).replace("\r", "").split("\n").count(line) >= times

        wait_for(seen, f"{line!r} on the console of machine {vm.vm_id}:\n{self.console(vm)}")


@contextmanager
def without_unified_cgroups() -> Iterator[None]:
    """libvirt starts no container where version 2 is mounted below version 1, as this machine may have it: it looks for
    a directory that only a host with version 2 alone has."""
    place = Path("/sys/fs/cgroup/unified")
    mounted = place.is_mount()
    if mounted:
        subprocess.run(["umount", str(place)], check=True)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(place)], check=True)


def groups_of_their_own() -> None:
    """Containers with systemd need it, here where no systemd-machined is: own_group.sh. It stays with this world."""
    subprocess.run([str(OWN_GROUP), "install"], check=True)


@contextmanager
def a_container_node(audited: bool = True) -> Iterator[LxcNode]:
    with without_unified_cgroups():
        node = LxcNode(Path(os.environ["NEBULA_WORLD"], f"node-{uuid.uuid4().hex[:8]}"))
        try:
            yield node
            if audited:
                node.assert_consistent()
        finally:
            node.close()
