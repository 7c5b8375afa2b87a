# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of KVM mounts a directory of its host (virtiofs), and writes there what the host reads."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DIRECTORY, SHARED_DIRECTORY, Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.shared_directories import variables_of
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

# As the context says it, and as one-context mounts it.
MOUNTS = (
    'mkdir -p "$DISK1_MOUNT_POINT"; mount -t virtiofs "$DISK1_MOUNT_TAG" "$DISK1_MOUNT_POINT" && '
    'cat "$DISK1_MOUNT_POINT/hello"; echo "of $SET_HOSTNAME" > "$DISK1_MOUNT_POINT/written"'
)


@pytest.fixture
def parts() -> dict[str, str]:
    return {name: str(path) for name, path in demo.sharing_parts().items()}


def shared(number: int, path: Path, **options: str) -> Disk:
    named = {"MOUNT_TAG": "data", "MOUNT_POINT": "/run/data", **options}
    return Disk(
        number, "", type=SHARED_DIRECTORY, source=str(path), format=DIRECTORY, driver=DIRECTORY, by_hypervisor=True,
        options=named,
    )  # fmt: skip


def a_guest(node: Node, parts: dict[str, str], *disks: Disk) -> Vm:
    files = {name: shutil.copy(path, node.root) for name, path in parts.items()}
    boots = Os(machine="q35", kernel=files["kernel"], initrd=files["initrd"], kernel_cmd="console=ttyS0 quiet")
    vm = node.vm(1, os=boots, memory=256, disks=disks)
    assert vm.context is not None
    variables = {"HOSTNAME": "web-1", "SET_HOSTNAME": "web-1", "START_SCRIPT": MOUNTS, **variables_of(disks)}
    return replace(vm, context=replace(vm.context, disk_id=0, target="sda", variables=variables))


def a_directory() -> Path:
    place = Path(os.environ["NEBULA_WORLD"], f"closed-{uuid.uuid4().hex[:8]}")
    place.mkdir(mode=0o700)
    (place / "shared").mkdir(mode=0o755)
    (place / "shared/hello").write_text("said by the host\n", encoding="ascii")
    return place / "shared"


@in_world
def test_a_directory_of_the_host(parts: dict[str, str]) -> None:
    with a_node() as node:
        place = a_directory()
        vm = a_guest(node, parts, shared(1, place))
        outcome = node.one(vm)
        assert outcome.error is None, outcome.error
        wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
        assert "said by the host" in node.console(vm)
        assert (place / "written").read_text(encoding="ascii") == "of web-1\n"
        assert node.one(vm).changed is False
        # It goes at its next start, and nothing of it goes on the host.
        without = replace(vm, disks=())
        outcome = node.one(without, refitted=True, waits=True, agreed=True)
        assert (outcome.error, outcome.fitted, outcome.waits) == (None, True, True)
        assert (place / "written").exists()
        assert node.one(without, wanted="POWEROFF", hard=True).error is None
        assert node.one(without, refitted=True, agreed=True).fitted is not False
        assert node.one(without, wanted="DONE", hard=True).error is None
        assert sorted(os.listdir(place)) == ["hello", "written"]


@in_world
def test_what_is_given_to_no_guest(parts: dict[str, str]) -> None:
    with a_node() as node:
        place = a_directory()
        vm = a_guest(node, parts, shared(1, place))
        for path, said in (
            (place / "none", "there is no such directory"),
            (place / "hello", "there is no such directory"),
            (Path("/"), "which is restricted"),
            (Path("/root"), "is below /root, which is restricted"),
            (Path("/etc/ssl"), "is below /etc, which is restricted"),
            (Path(node.root, "datastores"), "is in a nebula_root"),
            (Path(node.root).parent, "which is restricted"),
        ):
            refused = node.one(replace(vm, disks=(shared(1, path),)))
            assert refused.error is not None and said in refused.error["found"], refused.error
        place.parent.chmod(0o755)
        refused = node.one(vm)
        assert refused.error is not None and "other users of this host can come to it" in refused.error["found"]
        link = Path(node.root, "link")
        link.symlink_to(place)
        refused = node.one(replace(vm, disks=(shared(1, link),)))
        assert refused.error is not None and f"it leads to {place}" in refused.error["found"]
        assert node.one(vm, wanted="DONE").error is None
