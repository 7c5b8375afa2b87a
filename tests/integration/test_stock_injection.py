# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files written into a disk by qemu-nbd: on a host whose kernel has network block devices, and that has no
libguestfs."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import pytest
from stock_host import StockHost

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections/nebula/provision/plugins/module_utils"
# As root, in a directory with nothing but the code. Prints what came of it.
SCRIPT = r"""
import json, os, subprocess, sys, time
sys.path.insert(0, os.getcwd())
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import nbd
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry, inject

def sh(*argv, **more):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **more).stdout

os.makedirs("tree/etc")
open("tree/etc/os-release", "w").write("ID=small\n")
os.symlink("/etc", "tree/link")
sh("truncate", "-s", "16M", "part")
sh("mkfs.ext4", "-q", "-F", "-d", "tree", "part")
sh("truncate", "-s", "20M", "raw")
sh("sfdisk", "-q", "raw", input="2048,32768,83\n")
sh("dd", "if=part", "of=raw", "bs=1M", "seek=1", "conv=notrunc", "status=none")
sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "base.qcow2")
sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", "disk")
said = {"obstacle": nbd.why_unusable(), "base": sh("sha256sum", "base.qcow2")}
entries = [Entry("/etc/motd", b"by nbd\n", 0o640, 7, 8), Entry("/link/new/deep", b"\0\xff")]
said["way"] = inject("disk", "qcow2", entries, "disk 0", trusted=True)
# What a run left that was killed: a device with the disk, and a mount of it.
sh("qemu-nbd", "--connect=/dev/nbd3", "--format=qcow2", "disk")
os.makedirs("point")
for _try in range(100):
    if os.path.exists("/dev/nbd3p1"):
        break
    sh("udevadm", "settle")
sh("mount", "/dev/nbd3p1", "point")
said["users"] = list(nbd.users(os.path.realpath("disk")))
said["again"] = inject("disk", "qcow2", [Entry("/etc/second", b"x")], "disk 0", via="nbd", trusted=True)
said["mounted"] = os.path.ismount("point")
for _try in range(100):
    # As long as udev looks at what ended, the kernel keeps it.
    said["busy"] = [name for name in os.listdir("/sys/block") if os.path.exists(f"/sys/block/{name}/pid")]
    if not said["busy"]:
        break
    time.sleep(0.1)
said["left"] = [name for name in os.listdir("/var/tmp") if name.startswith(file_injection.PREFIX)]
sh("qemu-img", "convert", "-O", "raw", "disk", "read")
sh("dd", "if=read", "of=part", "bs=1M", "skip=1", "count=16", "status=none")
said["stat"] = sh("debugfs", "-R", "stat /etc/motd", "part")
said["files"] = [sh("debugfs", "-R", f"cat {name}", "part") for name in ("/etc/motd", "/etc/second")]
said["deep"] = sh("debugfs", "-R", "ls -p /etc/new", "part")
said["same"] = said["base"] == sh("sha256sum", "base.qcow2")
print(json.dumps(said))
"""

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


def without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def code() -> str:
    """The code as base64 of an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(ROOT / "plugins/module_utils", PACKAGE, filter=without_bytecode)
    return base64.b64encode(buffer.getvalue()).decode()


def test_by_a_network_block_device(tmp_path):
    with StockHost(tmp_path / "host") as host:
        host.ssh(["sh", "-c", "mkdir inject && cd inject && base64 -d | tar -xz"], stdin=code())
        done = host.ssh(["sudo", "sh", "-c", "cd inject && exec python3 -"], stdin=SCRIPT, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
    assert said["obstacle"] == ""
    assert (said["way"], said["again"], said["same"]) == ("nbd", "nbd", True)
    assert said["users"] == ["/dev/nbd3"]
    assert (said["mounted"], said["busy"], said["left"]) == (False, [], [])
    assert said["files"] == ["by nbd\n", "x"]
    assert "Mode:  0640" in said["stat"] and "User:     7   Group:     8" in said["stat"]
    assert "deep" in said["deep"]
