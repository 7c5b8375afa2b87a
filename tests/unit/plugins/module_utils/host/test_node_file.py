# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers, whose plans it takes, and what it has."""

from __future__ import annotations

import os
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ForeignObject,
    StalePlan,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert node_file.read(root) == node_file.NodeFile()
    whole = node_file.NodeFile(
        catalog=CATALOG,
        plan=7,
        accelerator={"accelerator": "qemu"},
        daemons=(node_file.Daemon("libvirtd", 12, 345, "boot"),),
        kvm_device={"uid": 0, "gid": 0, "mode": 0o600},
        directories=("/a", "/a/b"),
    )
    assert node_file.update(root, lambda _before: whole) == whole
    assert node_file.read(root) == whole
    assert stat.S_IMODE((tmp_path / node_file.NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"catalog": "x", "of a later version": 1}', '{"daemons": [3]}'])
def test_a_damaged_one_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / node_file.NAME).write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=node_file.NAME):
        node_file.read(str(tmp_path))


def test_plans_are_taken_in_order(tmp_path: Path) -> None:
    root = str(tmp_path)
    node_file.update(root, lambda before: before)
    assert node_file.accept(root, CATALOG, 3).plan == 3
    assert node_file.accept(root, CATALOG, 3).plan == 3
    assert node_file.accept(root, CATALOG, 5, "proof of 5").plan == 5
    with pytest.raises(StalePlan, match="plan 5"):
        node_file.accept(root, CATALOG, 4)
    with pytest.raises(ForeignObject, match=CATALOG):
        node_file.accept(root, "another", 9)
    assert (node_file.read(root).plan, node_file.read(root).proof) == (5, "proof of 5")
    assert node_file.is_current(root, CATALOG, 5)
    assert node_file.is_current(root, CATALOG, 6)
    assert not node_file.is_current(root, CATALOG, 4)
    assert not node_file.is_current(root, "another", 9)


def test_no_plan_comes_to_what_is_no_node(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with pytest.raises(StalePlan, match="is no node"):
        node_file.accept(root, CATALOG, 3)
    assert not os.path.exists(root)
    os.mkdir(root)
    with pytest.raises(StalePlan, match="is no node"):
        node_file.accept(root, CATALOG, 3)
    assert os.listdir(root) == []
    node_file.update(root, lambda before: before)
    node_file.accept(root, CATALOG, 3)
    node_file.update(root, lambda before: replace(before, given_back=True))
    for number in (3, 4):
        with pytest.raises(StalePlan, match="is no node"):
            node_file.accept(root, CATALOG, number)
    with node_file.fence(root, CATALOG, 3) as current:
        assert not current
    assert not node_file.is_current(root, CATALOG, 3)


def test_while_the_fence_is_held_no_newer_plan_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path)
    node_file.update(root, lambda before: before)
    node_file.accept(root, CATALOG, 3)
    monkeypatch.setattr(node_file, "LOCK_SECONDS", 0)
    with node_file.fence(root, CATALOG, 3) as current, pytest.raises(TimedOut):
        assert current
        node_file.accept(root, CATALOG, 4)
    node_file.accept(root, CATALOG, 4)
    with node_file.fence(root, CATALOG, 3) as current:
        assert not current


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    root = str(tmp_path)

    def add(name: str) -> None:
        node_file.update(root, lambda before: replace(before, directories=(*before.directories, name)))

    threads = [threading.Thread(target=add, args=(str(number),)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(node_file.read(root).directories, key=int) == [str(number) for number in range(12)]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ports_that_are_listened_on(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert port not in node_file.listening_ports()
        listener.listen()
        assert port in node_file.listening_ports()


def test_low_ports_and_connections_do_not_count(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:170D 00000000:0000 0A 0\n"
        "   1: 00000000:170C 00000000:0000 0A 0\n"
        "   2: 0100007F:170E 0100007F:1770 01 0\n"
        "   3: 00000000:0016 00000000:0000 0A 0\n",
        encoding="ascii",
    )
    assert node_file.listening_ports((str(table), str(tmp_path / "none"))) == {0x170C, 0x170D}


def test_what_the_host_has() -> None:
    assert node_file.memory() > 100
    assert node_file.processors() >= 1
    assert node_file.cpu_shares() in (0, 100, 1024)
    assert len(node_file.boot_id()) == 36


@pytest.mark.parametrize("text", ["", "\n", "\udcff", None])
def test_a_machine_without_an_id_has_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "machine-id"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    assert node_file.machine_id(str(path)) == ""


def test_a_machine_id_is_not_told_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("0123456789abcdef0123456789abcdef\n")
    second.write_text("1123456789abcdef0123456789abcdef\n")
    found = node_file.machine_id(str(first))
    assert len(found) == 32 and found not in first.read_text() and found != node_file.machine_id(str(second))


def test_memory_is_what_machines_could_have(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 8388608 kB\nMemFree: 1 kB\nHugePages_Total: 512\nHugetlb: 1048576 kB\n")
    absent = str(tmp_path / "none")
    assert node_file.memory(str(meminfo), (absent,)) == 7168
    for text, found in (("max\n", 7168), ("9223372036854771712\n", 7168), ("2147483648\n", 2048)):
        limit.write_text(text)
        assert node_file.memory(str(meminfo), (absent, str(limit))) == found
    assert 0 < node_file.memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
