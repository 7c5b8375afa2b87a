# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest writes into its raw disks what makes them look like qcow2 that rest on a file of the host. Whatever is done
with these disks afterwards, nothing of that file comes with it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, Failed, Flow

TARGET = b"/etc/passwd"
MAGIC = b"QFI\xfb"
MIB = 1 << 20
# Reads the sector behind its own, writes it to the beginning of the second and third disk, and says B.
CODE = bytes.fromhex(
    "31c08ed8"  # ds = 0
    "be407cb442b280cd13"  # read
    "be507cb80043b281cd13"  # write
    "be507cb80043b282cd13"
    "baf803b042eefaf4ebfd"
)
# A BIOS knows the disks that it might boot, and no others.
TEMPLATE = """
CPU = 0.01
MEMORY = 32
OS = [ MACHINE = "pc", BOOT = "disk0,disk1,disk2" ]
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
DISK = [ IMAGE = "data", DEV_PREFIX = "vd" ]
DISK = [ TYPE = "FS", SIZE = 4, DEV_PREFIX = "vd" ]
"""


def header() -> bytes:
    """Of a qcow2 in which nothing is, so that all that is read of it comes from below."""
    fields = (0x514649FB, 3, 256, len(TARGET), 16, 4 * MIB, 0, 1, 3 << 16, 1 << 16, 1, 0, 0, 0, 0, 0, 4, 104)
    return struct.pack(">IIQIIQIIQQIIQQQQII", *fields).ljust(256, b"\0") + TARGET.ljust(256, b"\0")


def boot_disk() -> bytes:
    packet = struct.pack("<BBHHHQ", 16, 0, 1, 0x7E00, 0, 1), struct.pack("<BBHHHQ", 16, 0, 1, 0x7E00, 0, 0)
    sector = CODE.ljust(0x40, b"\0") + packet[0] + packet[1]
    return (sector.ljust(510, b"\0") + b"\x55\xaa" + header()).ljust(MIB, b"\0")


def leaks(root: Path) -> list[str]:
    """Files below the root, as they are and as what they say that they are, that hold a line of the host's."""
    lines = [line for line in Path("/etc/passwd").read_bytes().splitlines() if b"daemon" in line or b"nobody" in line]
    assert lines
    return [
        str(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and any(line in path.read_bytes() for line in lines)
    ]


@in_world
def test_a_guests_own_qcow2_header_is_data_to_everybody() -> None:
    place = Path(os.environ["NEBULA_WORLD"], "hostile")
    root = place.parent / "hostile-nebula"
    flow = Flow(root, place)
    flow.base.write_bytes(boot_disk())
    # The header does what it is meant to, to those who believe it.
    trap = place / "trap"
    trap.write_bytes(header().ljust(4 * MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(trap), f"{trap}.raw"], check=True)
    assert b"daemon" in Path(f"{trap}.raw").read_bytes()
    try:
        flow.run("nebula_frontend")
        flow.run("nebula_node", accelerator="qemu", manage_services=False)
        flow.run("nebula_host", hosts=[{"name": HOST, "memory": 65536, "cpu": 64}])
        images: list[dict[str, Any]] = [
            {"name": "base", "path": str(flow.base), "remote_src": True},
            {"name": "data", "type": "DATABLOCK", "size": 4, "persistent": True},
        ]
        flow.run("nebula_image", images=json.dumps(images))
        flow.run("nebula_template", name="web", template=TEMPLATE)
        data = Path(flow.run("nebula_image", name="data")["image"]["source"])
        vm: dict[str, Any] = {"name": "web", "template": "web"}
        shown = flow.bring(vm)["vms"][0]
        directory = Path(shown["directory"])
        wait_for(lambda: b"B" in (directory / "console.log").read_bytes(), "the guest to have written")
        for file in (data, directory / "disk.2"):
            assert file.read_bytes()[:512] == header()
        saves = [
            {"disk": disk, "image": f"{how}-{disk}", "consistency": "crash"} for how in ("live",) for disk in (1, 2)
        ]
        flow.bring(dict(vm, save_as=saves))
        off = [{"disk": disk, "image": f"off-{disk}"} for disk in (1, 2)]
        flow.bring(dict(vm, state="poweroff", hard=True, save_as=saves + off))
        # What a machine is started with again, it has as before.
        flow.bring(dict(vm))
        flow.bring(dict(vm, state="absent", hard=True))
        flow.run("nebula_image", name="copy", clone_of="data")
        flow.run("nebula_image", name="data", type="OS", persistent=False)
        for name in ("live-1", "live-2", "off-1", "off-2", "copy", "data"):
            image = flow.run("nebula_image", name=name)["image"]
            assert (image["state"], image["format"], image["size"]) == ("READY", "raw", 4), image
            assert Path(image["source"]).read_bytes()[:512] == header()
            changed = flow.run("nebula_image", name=name, format="qcow2")["image"]
            whole = f"{place}/whole.raw"
            subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", changed["source"], whole], check=True)
            assert Path(whole).read_bytes() == header().ljust(4 * MIB, b"\0")
        # A machine of what became of it reads what the guest wrote.
        disks = [{"IMAGE": name, "DEV_PREFIX": "vd"} for name in ("base", "data", "live-2")]
        flow.bring(dict(vm, disks=disks))
        assert leaks(root) == []
    except Failed as error:
        raise AssertionError(str(error)) from error
    finally:
        subprocess.run(
            ["sh", "-c", "for d in $(virsh list --name --all); do virsh destroy $d; virsh undefine $d; done"]
        )
        shutil.rmtree(root, ignore_errors=True)
