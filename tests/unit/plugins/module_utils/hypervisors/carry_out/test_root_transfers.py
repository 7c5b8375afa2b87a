# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who packs and unpacks which root of a container. Real ones are in tests/integration/test_lxc_backups.py and
test_openvz_backups.py."""

from __future__ import annotations

import os
from types import SimpleNamespace

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import root_transfers
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.root_transfers import Root
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import StoredFile
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_backups, roots
from ansible_collections.nebula.provision.plugins.module_utils.storage.root_backups import StoredRoot

DISKS = (Disk(0, "", format="tar", source="/image"), Disk(2, "/srv", driver="raw"))
VM = Vm(7, "uuid", "web", "lxc", cpu=1, memory=64, disks=DISKS)
MARK = Mark("catalog", 7, "uuid")
STORED = StoredFile("b.root.0.tar.zst", 5, "f" * 64)
WHAT = "disk 0"


class Driver:
    def __init__(self, **own):
        self.own = own

    def own_roots(self, vm, directory):
        return {int(name[1:]): path for name, path in self.own.items()}

    def root_size(self, path, what):
        return 11

    def pack_root(self, mark, path, fd, what, timeout):
        os.write(fd, f"{mark.vm_id} {path} {what} {timeout}".encode())
        return 3

    def take_root(self, path, blocks, what, timeout):
        return [f"{path} of {b''.join(blocks).decode()}"]


def packed(found):
    reading, writing = os.pipe()
    left_out = found.pack(writing, 5)
    os.close(writing)
    with os.fdopen(reading) as file:
        return left_out, file.read()


def test_roots_of_a_machine(tmp_path):
    directory = str(tmp_path)
    own = Root(0, f"{directory}/disk.0", False)
    assert root_transfers.of_machine(VM, directory, Driver(), lambda disk: disk.source) == {0: own}
    made = Driver(_0="/private")
    assert root_transfers.of_machine(VM, directory, made, lambda disk: disk.source) == {0: Root(0, "/private", True)}


def test_one_that_its_hypervisor_makes(monkeypatch):
    root = Root(0, "/private", True)
    found = root_transfers.readable(root, VM, MARK, Driver(), "/a/copy", WHAT)
    assert found.size == 11 and packed(found) == (3, "7 /a/copy disk 0 5")
    assert found.left_out(StoredRoot(STORED), WHAT) == []
    (warning,) = found.left_out(StoredRoot(STORED, 3), WHAT)
    assert warning.startswith("disk 0: 3 sockets, device nodes and attributes")
    removed = []
    monkeypatch.setattr(roots, "remove_replaced", removed.append)

    def restore_root(place, stored, unpack, what, key=""):
        assert (place, stored, what, key) == ("/place", STORED, WHAT, "a key")
        return unpack(iter([b"blocks"]), 5)

    monkeypatch.setattr(root_backups, "restore_root", restore_root)
    found = root_transfers.restore(root, VM, Driver(), "/place", STORED, WHAT, "a key")
    assert found == ["/private.restored of blocks"] and removed == ["/private"]


def test_any_other(monkeypatch):
    root = Root(0, "/root", False)

    def pack(directory, fd, ids, what, timeout):
        assert (directory, ids, what, timeout) == ("/root", id_range(7), WHAT, 5)
        return SimpleNamespace(left_out=4)

    def take_in(blocks, directory, ids, what, timeout):
        assert (directory, ids, what, timeout) == ("/root.restored", id_range(7), WHAT, 5)
        return SimpleNamespace(warnings=lambda what: [f"{what} is back"])

    monkeypatch.setattr(roots, "pack", pack)
    monkeypatch.setattr(roots, "take_in", take_in)
    monkeypatch.setattr(roots, "size", lambda path, what: 12)
    monkeypatch.setattr(roots, "remove_replaced", lambda path: True)
    monkeypatch.setattr(root_backups, "restore_root", lambda _place, _stored, unpack, _what, _key: unpack(iter(()), 5))
    found = root_transfers.readable(root, VM, MARK, Driver(), "/root", WHAT)
    assert found.size == 12 and packed(found) == (4, "")
    assert root_transfers.restore(root, VM, Driver(), "/place", STORED, WHAT) == ["disk 0 is back"]
