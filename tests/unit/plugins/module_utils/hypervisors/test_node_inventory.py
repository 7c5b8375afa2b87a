# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit sees of a node: its machines, their directories and files, bridges and rules, and what could not be
looked at. The driver has its machines in memory; interfaces and nftables are those that the test hands in, in place of
what `ip` and `nft` would print of this host. Headers of qcow2 files are read in reconcile/test_audit.py too."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_hypervisor import Machine, MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.context import files_on_node
from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import node_inventory
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import RECORD
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Bridge, Inventory, VmDirectory, VmFile
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link
from ansible_collections.nebula.provision.plugins.module_utils.network.nat import Table

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
NETWORK = "11111111-8c55-4b0e-9d6a-2f1f3c7d9a10"


class Host:
    """A node of the catalog. asked: the catalogs whose rules were looked for."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.driver = MemoryDriver()
        self.links: dict[str, Link] = {"lo": Link("lo", up=True)}
        self.tables: dict[str, Table] = {}
        self.asked: list[str] = []
        self.system = root / "datastores" / "0"
        self.system.mkdir(parents=True)
        node_file.update(str(root), lambda before: before)
        node_file.accept(str(root), CATALOG, 3)
        monkeypatch.setattr(node_inventory.links, "observe", lambda with_settings=True: self.links)
        monkeypatch.setattr(node_inventory.nat, "observe", self._table)

    def _table(self, catalog: str) -> Table:
        self.asked.append(catalog)
        return self.tables.get(catalog, Table(catalog))

    def audit(self, catalog: str = "") -> Any:
        return node_inventory.observe_all(self.driver, str(self.root), "node1", catalog)

    def seen(self) -> Inventory:
        found = self.audit().inventory
        assert found is not None
        return found

    def machine(self, vm_id: int, **values: Any) -> Path:
        place = self.system / str(vm_id)
        place.mkdir()
        record = {"catalog": CATALOG, "vm_id": vm_id, "uuid": f"uuid-{vm_id}", **values}
        (place / RECORD).write_text(json.dumps(record), encoding="utf-8")
        return place


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def qcow2(size: int, backing: str = "") -> bytes:
    """A header of version 3 by QEMU's docs/interop/qcow2.txt."""
    name = backing.encode()
    return struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 104 if name else 0, len(name), 16, size) + bytes(72) + name


# -- all of it ---------------------------------------------------------------------------------------------------------
def test_an_audit_is_a_poll_and_an_inventory(host: Host) -> None:
    host.driver.machines = {1: Machine("uuid-1", CATALOG, "RUNNING"), 2: Machine("x", OTHER), 3: Machine("y", "")}
    found = host.audit()
    assert (found.host, found.hypervisor, found.catalog, found.plan_number) == ("node1", "memory", CATALOG, 3)
    assert [vm.vm_id for vm in found.vms] == [1]
    seen = found.inventory
    assert (seen.place, seen.unseen) == (str(host.system), ())
    # Of whichever catalog.
    assert [(each.vm_id, each.catalog) for each in seen.domains] == [(1, CATALOG), (2, OTHER)]
    assert seen.foreign == ("one-3",)


def test_nothing_is_changed_by_an_audit(host: Host) -> None:
    (host.machine(1) / "disk.0").write_bytes(qcow2(1))
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in host.root.rglob("*"))
    host.audit()
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in host.root.rglob("*")) == before
    assert host.driver.names() == []


def test_an_empty_node_has_nothing(host: Host) -> None:
    host.system.rmdir()
    found = host.seen()
    assert (found.directories, found.bridges, found.rules, found.left, found.table) == ((), (), {}, (), "")
    assert found.interfaces == ("lo",)


# -- what can't be looked at -------------------------------------------------------------------------------------------
def test_what_can_not_be_looked_at_is_named_and_the_rest_is_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise CommandFailed("nft list table", "Operation not permitted", "Become root")

    def vanish(with_settings=True) -> Any:
        raise OSError(5, "Input/output error", "/sys/class/net")

    host.driver.fails["inventory"] = HypervisorError("listing the machines", "the daemon is gone")
    monkeypatch.setattr(node_inventory.nat, "observe", refuse)
    monkeypatch.setattr(node_inventory.links, "observe", vanish)
    host.machine(1)
    seen = host.seen()
    assert seen.unseen == (
        "listing the machines: the daemon is gone",
        "/sys/class/net: Input/output error",
        "nft list table: Operation not permitted. Become root",
    )
    assert [each.name for each in seen.directories] == ["1"]
    assert (seen.domains, seen.bridges, seen.interfaces, seen.table) == ((), (), (), "")


def test_a_node_whose_poll_fails_is_still_looked_at(host: Host) -> None:
    host.machine(1)
    (host.root / node_file.NAME).write_text("{", encoding="ascii")
    found = host.audit()
    assert (found.host, found.hypervisor, found.catalog) == ("node1", "memory", "")
    (why,) = found.inventory.unseen
    assert str(host.root / node_file.NAME) in why
    assert [each.name for each in found.inventory.directories] == ["1"]


# -- networks ----------------------------------------------------------------------------------------------------------
def test_bridges_that_carry_a_mark_are_told_with_what_is_attached(host: Host) -> None:
    alias = f"nebula:{OTHER}:{NETWORK}:192.168.70.1/24"
    host.links["nb1"] = Link("nb1", "bridge", alias, True, addresses=["192.168.70.1/24"], ports=["vnet0"])
    host.links["br0"] = Link("br0", "bridge", "somebody's", True, settings={"ipv6/accept_ra": "1"})
    host.links["eth0"] = Link("eth0", up=True)
    host.links["nb0"] = Link("nb0", "bridge", f"nebula:{CATALOG}:{NETWORK}", False)
    seen = host.seen()
    assert seen.bridges == (
        Bridge("nb0", CATALOG, NETWORK, "", False),
        Bridge("nb1", OTHER, NETWORK, "192.168.70.1/24", True, ("192.168.70.1/24",), ("vnet0",)),
    )
    assert seen.others == (Bridge("br0", "", "", "", True, settings={"ipv6/accept_ra": "1"}),)
    assert seen.interfaces == ("br0", "eth0", "lo", "nb0", "nb1")


@pytest.mark.parametrize(("forwarding", "forwards"), [("1", True), ("0", False)])
def test_rules_are_those_of_the_catalog_that_the_node_follows(host: Host, forwarding: str, forwards: bool) -> None:
    rules = {"nebula:a:out": [("postrouting", 4), ("forward", 5)], "nebula:a:in": [("forward", 6)]}
    host.tables[CATALOG] = Table(CATALOG, True, "0", forwarding=forwarding, rules=rules)
    seen = host.seen()
    assert host.asked == [CATALOG]
    assert (seen.table, seen.forwarding) == (host.tables[CATALOG].name, forwards)
    assert seen.rules == {"nebula:a:out": 2, "nebula:a:in": 1}


def test_rules_of_another_catalog_are_looked_for_where_one_is_named(host: Host) -> None:
    assert host.audit(OTHER).catalog == CATALOG
    assert host.asked == [OTHER]


def test_without_a_catalog_no_rules_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    (tmp_path / node_file.NAME).unlink()
    assert host.audit().inventory.forwarding is False and host.asked == []


# -- directories -------------------------------------------------------------------------------------------------------
def test_a_directory_is_told_with_its_mark_and_its_files(host: Host, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.touch()
    place = host.machine(7, generation=4)
    (place / "disk.0").write_bytes(qcow2(5 << 30, str(base)))
    (place / "disk.1").write_bytes(qcow2(1 << 20, "/gone"))
    (place / "disk.2").symlink_to(base)
    (place / "disk.3").symlink_to("/gone")
    (place / "disk.4").mkdir()
    os.mkfifo(place / "disk.5")
    (place / "disk.6").write_bytes(b"raw" * 100)
    (place / "vm.log").write_bytes(qcow2(9, "/not/a/disk"))
    (found,) = host.seen().directories
    assert (found.path, found.name) == (str(place), "7")
    assert (found.catalog, found.vm_id, found.uuid, found.generation) == (CATALOG, 7, "uuid-7", 4)
    length = 104 + len(str(base))
    assert found.files == (
        VmFile("disk.0", size=length, virtual_size=5 << 30, backing=str(base)),
        VmFile("disk.1", size=109, virtual_size=1 << 20, backing="/gone", lost=True),
        VmFile("disk.2", "link", target=str(base)),
        VmFile("disk.3", "link", target="/gone", lost=True),
        VmFile("disk.4", "directory"),
        VmFile("disk.5", "other"),
        VmFile("disk.6", size=300),
        VmFile(RECORD, size=(place / RECORD).stat().st_size),
        # Not a disk: what it begins with means nothing.
        VmFile("vm.log", size=115),
    )


def test_a_directory_says_whether_its_context_is_as_those_of_new_machines(host: Host) -> None:
    record = host.machine(7) / RECORD
    told = json.loads(record.read_text())
    told.pop("exact", None)
    for more, exact in (({}, False), ({"exact": False}, False), ({"exact": True}, True)):
        record.write_text(json.dumps({**told, **more}))
        (found,) = host.seen().directories
        assert found.exact is exact


def test_directories_without_a_mark_and_other_things_are_told_as_they_are(host: Host) -> None:
    (host.system / "10").mkdir()
    (host.system / "9").mkdir()
    (host.system / "9" / RECORD).write_text("{", encoding="ascii")
    (host.system / "8").write_text("a file", encoding="ascii")
    (host.system / "7").symlink_to(host.system / "10")
    found = host.seen().directories
    # By number: 9 before 10.
    assert [each.name for each in found] == ["7", "8", "9", "10"]
    assert found[0] == VmDirectory(str(host.system / "7"), "7") and found[1].files == ()
    assert (found[2].catalog, found[2].vm_id, [each.name for each in found[2].files]) == ("", -1, [RECORD])


def test_what_another_run_removes_meanwhile_is_left_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        host.machine(number)
    look = os.lstat

    def removed(path: Any, **options: Any) -> os.stat_result:
        if str(path) == str(host.system / "1"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return look(path, **options)

    monkeypatch.setattr(node_inventory.os, "lstat", removed)
    assert [each.name for each in host.seen().directories] == ["2"]


def test_what_a_killed_run_was_writing_is_named(host: Host) -> None:
    left = [
        host.root / ".nebula.node.x.tmp",
        Path(files_on_node.place(str(host.root))) / ".context-a.tmp",
        host.root / "boot" / CATALOG / ".rules.x.tmp",
    ]
    others = [host.root / "boot" / OTHER / ".rules.x.tmp", host.root / "note.tmp", host.root / ".profile"]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert host.seen().left == tuple(map(str, left))


# -- headers -----------------------------------------------------------------------------------------------------------
names = st.text(st.characters(min_codepoint=33, blacklist_categories=("Cs",)), max_size=60).map("/".__add__)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, (1 << 64) - 1), backing=st.one_of(st.just(""), names))
def test_a_header_says_what_was_written_into_it(tmp_path: Path, size: int, backing: str) -> None:
    path = tmp_path / "disk.0"
    path.write_bytes(qcow2(size, backing))
    # A larger one is none that JSON can carry, and would have the host's whole answer refused.
    assert node_inventory.qcow2_size_and_backing(str(path)) == (min(size, 1 << 53), backing)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_a_header_of_any_bytes_has_a_size_and_a_name_without_zeroes(tmp_path: Path, data: bytes, magic: bool) -> None:
    path = tmp_path / "disk.0"
    path.write_bytes(b"QFI\xfb" * magic + data)
    size, backing = node_inventory.qcow2_size_and_backing(str(path))
    assert 0 <= size < 1 << 64 and "\0" not in backing and len(backing) <= 1023


def test_a_link_in_a_disks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "disk.0").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        node_inventory.qcow2_size_and_backing(str(tmp_path / "disk.0"))
