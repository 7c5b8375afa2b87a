# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of backups is asked for, and what a manifest says, travel as data; no key is shown."""

from __future__ import annotations

import json
from dataclasses import replace

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FORMAT,
    FULL,
    LUKS,
    OFF,
    QCOW2,
    BackedUpDisk,
    BackupPassage,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

MACHINE = MachineToBackUp(Vm(1, "u", "web", "kvm", cpu=1.0, memory=1), 2, "node1", secrets={"A": "hidden"})
PASSAGE = BackupPassage("t", True, "front", key="hidden")
REQUEST = BackupRequest("c", "/b", "frontend", (MACHINE,), key="hidden", passage=PASSAGE)


def test_it_comes_back_as_it_was() -> None:
    assert from_plain(BackupRequest, json.loads(json.dumps(to_plain(REQUEST)))) == REQUEST


def test_neither_keys_nor_secrets_are_shown() -> None:
    assert "hidden" not in repr(REQUEST)


def test_a_host_is_asked_for_what_is_encrypted_elsewhere() -> None:
    assert REQUEST.is_encrypted
    bare = replace(REQUEST, key="")
    assert not bare.is_encrypted and not replace(bare, passage=None).is_encrypted
    assert replace(bare, passage=replace(PASSAGE, encrypted=True)).is_encrypted


def test_a_manifest_comes_back_as_it_was() -> None:
    file = StoredFile("i.disk.0.luks", 5, "0" * 64)
    disk = BackedUpDisk(0, "vda", "raw", 1024, file, LUKS, "h.disk.0.luks", "base")
    manifest = MachineBackup(
        *("i", "c", 1, "u", "web", "node1", "kvm", 7, FULL, "POWEROFF", OFF, "by qemu-nbd", (disk,)),
        left_out=("disk 1: a CD-ROM",),
        files={"tpm": StoredFile("i.tpm.luks", 9, "1" * 64, holds=3)},
        template={"CPU": 1, "CONTEXT": {"NETWORK": "YES"}, "NIC": [{"NETWORK": "lan"}]},
        secrets=("CONTEXT/PASSWORD",),
        secrets_file=file,
        encrypted=True,
    )
    assert from_plain(MachineBackup, json.loads(json.dumps(to_plain(manifest)))) == manifest


def test_what_a_manifest_does_not_have_to_say() -> None:
    disk = {"disk_id": 0, "target": "vda", "format": "qcow2", "size": 1}
    plain = {
        **dict.fromkeys(("id", "catalog", "uuid", "name", "host", "hypervisor", "kind", "state"), ""),
        "consistency": OFF,
        "way": "",
        "vm_id": 1,
        "time": 7,
        "disks": [{**disk, "file": {"name": "f", "size": 1, "sha256": ""}}],
    }
    found = from_plain(MachineBackup, plain)
    assert (found.format, found.parent, found.seal, found.secrets_file) == (FORMAT, "", "", None)
    assert not found.encrypted and not found.files and not found.secrets
    assert (found.disks[0].stored, found.disks[0].below, found.disks[0].file.holds) == (QCOW2, "", 0)
    # What is asked of a host by itself: nothing but what every run does.
    request = BackupRequest("c", "/b", "node", (MACHINE,))
    assert (request.full, request.compress, request.rate, request.at_once) == (False, True, 0, 2)
    assert not request.stand_still and not request.is_encrypted
