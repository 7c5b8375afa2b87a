# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest program grows a root file system on LVM to its disk, by LVM's own tools, in an appliance."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.guests.growing import archive
from ansible_collections.nebula.provision.tests.integration.guests.layouts import PROGRAM

MIB = 1024 * 1024
DISK, PARTITION = 1600 * MIB, 800 * MIB
END = PARTITION // 512 - 1
PLAIN = [f"part-add /dev/sda p 2048 {END}"]
LVM = ["vgcreate vg {0}", "lvcreate-free root vg {1}", "mke2fs /dev/vg/root fstype:ext4", "mount /dev/vg/root /"]
# How the root is laid out on a disk of which the partitions take a half, and its device.
# How the root is laid out on a disk of which the partitions take a half.
LAYOUTS = {
    "LVM": [*PLAIN, "pvcreate /dev/sda1", *(line.format("/dev/sda1", 100) for line in LVM)],
    "LVM in a logical partition": [
        *(f"part-add /dev/sda e 2048 {END}", f"part-add /dev/sda l 4096 {END}", "pvcreate /dev/sda5"),
        *(line.format("/dev/sda5", 100) for line in LVM),
    ],
    # A half of the group is kept for something else.
    "LVM with room": [*PLAIN, "pvcreate /dev/sda1", *(line.format("/dev/sda1", 50) for line in LVM)],
}
# What is read in the guest after the program has run.
SEEN = r"""
sh /nebula-context rest > /dev/null 2>&1
cat /run/nebula-context/faults | sed "s/^/fault /"
cd /sys/class/block
for name in *; do echo "size $name $(cat $name/size)"; done
echo "total $(df -kP / | tail -n 1 | tr -s " " | cut -d " " -f 2)"
sh /nebula-context rest > /dev/null 2>&1
echo "again $(df -kP / | tail -n 1 | tr -s " " | cut -d " " -f 2)"
"""

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def grown(place: Path, layout: str) -> list[list[str]]:
    """The words of each line that was read in the guest."""
    disk, seen = place / "disk.raw", place / "seen.sh"
    with disk.open("wb") as file:
        file.truncate(DISK)
    seen.write_text(SEEN)
    script = [
        *(f"add-drive {disk} format:raw", "run", "part-init /dev/sda mbr", *LAYOUTS[layout], f"tar-in {archive()} /"),
        *(f"upload {PROGRAM} /nebula-context", f"upload {seen} /seen.sh", 'command "timeout 120 sh /seen.sh"'),
    ]
    (place / "script").write_text("\n".join(script) + "\n")
    done = subprocess.run(
        ["guestfish", "-f", str(place / "script")],
        # A /dev/kvm that does not work would be waited for.
        env={**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return [line.split(None, 2) for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_root_takes_what_its_disk_has_more(tmp_path: Path, layout: str) -> None:
    found = grown(tmp_path, layout)
    assert [words for words in found if words[0] == "fault"] == []
    sizes = {words[1]: int(words[2]) * 512 for words in found if words[0] == "size"}
    partition = sizes["sda5" if "logical" in layout else "sda1"]
    assert partition > DISK - 4 * MIB
    # LVM keeps some MiB for itself; what the group had free before stays free.
    kept = PARTITION // 2 if layout == "LVM with room" else 0
    assert partition - kept - 24 * MIB < sizes["dm-0"] < partition - kept + 8 * MIB
    # ext4 keeps some for its tables; a second run finds nothing more.
    total, again = (int(words[1]) * 1024 for words in found if words[0] in ("total", "again"))
    assert sizes["dm-0"] * 0.9 < total <= sizes["dm-0"]
    assert again == total
