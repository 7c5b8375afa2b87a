# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a machine's own disk has from the beginning, and its image never."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedEntry, PlannedSource
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node

SECRET = b"token = '$(id)'\n"


def root_image(node: Node) -> None:
    """A root file system without a partition table, as large as it has to be to be taken for one."""
    tree = Path(node.root) / "tree"
    for name in ("etc", "bin", "usr/bin", "root", "var", "lib", "dev", "proc", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nNAME="Debian GNU/Linux"\n')
    (tree / "etc/debian_version").write_text("12.0\n")
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "bin/sh").chmod(0o755)
    raw = Path(node.root) / "root.raw"
    subprocess.run(["mkfs.ext4", "-q", "-d", str(tree), str(raw), "24M"], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), f"{raw}.qcow2"], check=True)
    node.take(f"{raw}.qcow2")
    subprocess.run(["rm", "-r", str(tree), str(raw), f"{raw}.qcow2"], check=True)


def in_disk(node: Node, path: Path, command: str) -> str:
    raw = f"{node.root}/look.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(path), raw], check=True)
    found = subprocess.run(["debugfs", "-R", command, raw], check=True, capture_output=True, text=True).stdout
    os.unlink(raw)
    return found


@in_world
def test_files_are_in_the_machines_disk_and_not_in_its_image() -> None:
    with a_node() as node:
        root_image(node)
        before = hashlib.sha256(Path(node.base).read_bytes()).hexdigest()
        digest = hashlib.sha256(SECRET).hexdigest()
        entries = (
            Injected("/etc/motd", content="héllo $NAME\n", mode=0o600, uid=7, gid=8),
            Injected("/opt/app/token", file=ContextFile("/srv/token", "token")),
        )
        vm = node.vm(1)
        vm = replace(vm, disks=(replace(vm.disks[0], inject=entries),))
        # What the front-end could not read is the machine's error, and leaves no disk without its files.
        lost = PlannedSource(error={"kind": "NotFound", "asked": "FILES: '/srv/token'", "found": "it is not there"})
        outcome = node.carry_out(replace(node.plan(vm, wanted="POWEROFF"), sources={"/srv/token": lost}))[0]
        assert outcome.error is not None
        assert "/srv/token" in outcome.error["asked"]
        assert not (node.directory(vm) / "disk.0").exists()
        source = PlannedSource((PlannedEntry("", digest, len(SECRET), executable=True),))
        contents = {digest: base64.b64encode(zlib.compress(SECRET)).decode()}
        plan = replace(node.plan(vm, wanted="POWEROFF"), sources={"/srv/token": source}, contents=contents)
        outcome = node.carry_out(plan)[0]
        assert outcome.error is None, outcome.error
        disk = node.directory(vm) / "disk.0"
        assert in_disk(node, disk, "cat /etc/motd") == "héllo $NAME\n"
        assert in_disk(node, disk, "cat /opt/app/token") == SECRET.decode()
        facts = in_disk(node, disk, "stat /etc/motd")
        assert "Mode:  0600" in facts
        assert "User:     7   Group:     8" in facts
        assert "Mode:  0755" in in_disk(node, disk, "stat /opt/app/token")
        assert hashlib.sha256(Path(node.base).read_bytes()).hexdigest() == before
        # Once: what the guest makes of them since is its own, and no plan needs to bring them again.
        inode = disk.stat().st_ino
        assert node.one(vm, "POWEROFF").error is None
        assert disk.stat().st_ino == inode
        log = (node.directory(vm) / "vm.log").read_text()
        assert "héllo" not in log + str(outcome.log)


@in_world
def test_only_a_trusted_image_is_mounted_by_the_hosts_kernel() -> None:
    with a_node() as node:
        vm = node.vm(1)
        disk = replace(vm.disks[0], inject=(Injected("/etc/motd", content="x"),), inject_via="loop")
        outcome = node.carry_out(node.plan(replace(vm, disks=(disk,)), wanted="POWEROFF"))[0]
        assert outcome.error is not None
        assert "not said to be trusted" in outcome.error["found"]
        assert not (node.directory(vm) / "disk.0").exists()
