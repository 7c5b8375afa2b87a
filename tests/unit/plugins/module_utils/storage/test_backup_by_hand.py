# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for a person. tests/integration/test_backup_chains.py has a shell run them."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_by_hand

ID = "20260101T000000Z-00000a"


def test_each_kind_of_file_has_its_command() -> None:
    def stored(name: str) -> StoredFile:
        return StoredFile(f"{ID}.{name}", 3, "0" * 64)

    disks = (
        BackedUpDisk(0, "vda", "raw", 1024, stored("disk.0.qcow2")),
        BackedUpDisk(1, "vdb", "qcow2", 1024, stored("disk.1.luks"), "luks"),
        BackedUpDisk(2, "", "tar", 0, stored("root.2.tar.zst"), "tar"),
        BackedUpDisk(3, "", "tar", 0, stored("root.3.tar.zst.luks"), "tar"),
    )
    backup = MachineBackup(ID, "", 7, "", "", "", "kvm", 0, FULL, "", CRASH_CONSISTENT, "", disks)
    files = {"nvram": stored("nvram"), "tpm": replace(stored("tpm.luks"), holds=2)}
    backup = replace(backup, files=files, secrets_file=stored("secrets.luks"))
    text = "\n".join(backup_by_hand.commands([backup]))
    for part in (
        f'qemu-img convert -f qcow2 -O raw {ID}.disk.0.qcow2 "$TO"/disk.0',
        f"zstd -dc {ID}.root.2.tar.zst | tar -x",
        'zstd -dc "$TO"/root.3.tar.zst | tar -x',
        f'cp {ID}.nvram "$TO"/nvram',
        '"$TO"/tpm && truncate -s 2 "$TO"/tpm',
        "secrets.json",
        "KEY_FILE",
        f"{ID}.disk.1.luks",
    ):
        assert part in text
    assert text.count("sha256sum --check") == 7
    plain = backup_by_hand.commands([replace(backup, disks=disks[:1], files={}, secrets_file=None)])
    assert "KEY_FILE" not in "\n".join(plain)
