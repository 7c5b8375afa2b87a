# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk made anew of a backup: alone, larger, and upon an image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from made_backups import MadeBackups, content_of, random_content

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    backup_search,
    disk_creation,
    restored_disks,
)

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MIB = 1 << 20


def test_a_disk_holds_what_it_did(tmp_path: Path) -> None:
    made = MadeBackups(tmp_path / "backups")
    content = random_content(MIB, "a")
    first = made.full(7, CATALOG, {0: content})
    made.incremental(first, {0: [(0, bytes(65536))]})
    base = tmp_path / "base.qcow2"
    raw = tmp_path / "base.raw"
    raw.write_bytes(b"b" * MIB)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, base], check=True)
    place = backup_search.open_place(str(made.directory), CATALOG, "/nowhere")
    path = str(tmp_path / "disk.0")
    with place.machine(7) as held:
        backup = backup_search.chosen(held, "latest")
        found = restored_disks.disk_of(held, backup, 0)
        restored_disks.require_room([(path, found)], "", "asked")
        restored_disks.make(found, path, "qcow2", "", 2 * MIB)
        with pytest.raises(NotFound):
            restored_disks.disk_of(held, backup, 1)
    wanted = bytes(65536) + content[65536:] + bytes(MIB)
    assert content_of(path) == wanted
    restored_disks.rest_upon(path, DiskFiles(path, "qcow2", ((str(base), "qcow2"),)), "disk 0")
    assert content_of(path) == wanted
    restored_disks.give_to_hypervisor(path, str(base))
    assert Path(path).stat().st_mode & 0o777 == base.stat().st_mode & 0o777


def test_what_is_encrypted_is_not_opened_without_a_key(tmp_path: Path) -> None:
    made = MadeBackups(tmp_path / "backups", "a key")
    made.full(7, CATALOG, {0: bytes(MIB)})
    place = backup_search.open_place(str(made.directory), CATALOG, "/nowhere")
    with place.machine(7) as held, pytest.raises(InvalidValue, match="it is encrypted"):
        restored_disks.disk_of(held, backup_search.chosen(held, "latest"), 0)


def test_whose_passphrase_it_is_is_tried_before_anything_is_made(tmp_path: Path) -> None:
    closed, plain = DiskFiles(str(tmp_path / "closed"), "qcow2"), DiskFiles(str(tmp_path / "plain"), "qcow2")
    disk_creation.create_empty(closed.path, "qcow2", MIB, key="its passphrase")
    disk_creation.create_empty(plain.path, "qcow2", MIB)
    restored_disks.require_key(closed, "its passphrase", "disk 0")
    with pytest.raises(InvalidValue, match="does not open it") as caught:
        restored_disks.require_key(closed, "another passphrase", "disk 0")
    assert "another passphrase" not in str(caught.value)
    # QEMU would open it with any.
    with pytest.raises(ImageRefused, match="it is not encrypted, and the catalog does"):
        restored_disks.require_key(plain, "its passphrase", "disk 0")
    content = Path(closed.path).read_bytes()
    Path(closed.path).write_bytes(content.replace(b"LUKS\xba\xbe", bytes(6)))
    with pytest.raises(CommandFailed, match=r"not in LUKS format.*restore it as an image"):
        restored_disks.require_key(closed, "its passphrase", "disk 0")
