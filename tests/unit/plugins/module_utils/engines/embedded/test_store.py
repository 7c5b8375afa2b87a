# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog's file: what opening it changes, and what it leaves alone."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import schema, store
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import mounts
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog with a host, whose schema is one version older than that of the code."""
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1", hypervisor="kvm", memory=4096, cpu=4.0))
    step = "ALTER TABLE hosts ADD COLUMN rack TEXT NOT NULL DEFAULT 'none'"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    return tmp_path


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()}


def opened(root: Path, check_mode: bool) -> tuple[str, list[str], list[str]]:
    with contextlib.closing(EmbeddedEngine(str(root), check_mode)) as engine, engine.session():
        racks = [row["rack"] for row in engine.store.rows("SELECT rack FROM hosts")]
        return engine.catalog(), racks, [host.name for host in engine.hosts.pool()]


def test_check_mode_reads_an_older_catalog_and_migrates_nothing(older: Path) -> None:
    before = digests(older)
    forecast = opened(older, check_mode=True)
    assert forecast[1:] == (["none"], ["node1"])
    assert digests(older) == before
    assert opened(older, check_mode=False) == forecast
    assert digests(older) != before
    migrated = digests(older)
    assert opened(older, check_mode=True) == forecast
    assert digests(older) == migrated


VERSION_1 = Path(__file__).resolve().parents[5] / "fixtures" / "catalog" / "version_1.sql"


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_catalog_of_version_1_counts_overheads_once_they_are_known(tmp_path: Path, check_mode: bool) -> None:
    """As the first version of this collection wrote it: a host with two machines, of 1 and of 4 processors."""
    with contextlib.closing(sqlite3.connect(tmp_path / "nebula.db")) as old:
        old.executescript(VERSION_1.read_text(encoding="utf-8"))
        old.execute("PRAGMA user_version = 1")
    with contextlib.closing(EmbeddedEngine(str(tmp_path), check_mode)) as engine, engine.session():
        host = engine.hosts.info("node1")
        assert (host.memory_used, host.overhead_used, host.vms) == (384, 0, 2)
        host = engine.hosts.update("node1", overhead=Overhead(fixed=60, vcpu=8, share=0.25))
        assert (host.memory_used, host.overhead_used) == (384, 60 + 8 + 32 + 60 + 32 + 64)
    with contextlib.closing(EmbeddedEngine(str(tmp_path), check_mode)) as engine:
        # They were never started; the books are right.
        assert {finding.kind for finding in engine.ledger().findings} == {"machine-unfinished"}


@pytest.mark.parametrize("name", ["share", "a share"])
def test_a_catalog_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The kernel's table of mounts is a file of the test's own."""
    (tmp_path / name).mkdir()
    point = str(tmp_path / name).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\nserver:/export {point} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "mounts"))
    with pytest.raises(CatalogError) as caught:
        EmbeddedEngine(str(tmp_path / name), create=True)
    assert f"{tmp_path / name} is mounted by nfs4" in caught.value.found and caught.value.remedy
    assert list((tmp_path / name).iterdir()) == []


def test_a_newer_catalog_is_refused(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(older, check_mode=False)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION - 1)
    for check_mode in (True, False):
        with pytest.raises(CatalogError, match="Use the newer"):
            opened(older, check_mode)


def test_a_full_disk_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine:
        pages = engine.store.db.execute("PRAGMA page_count").fetchone()[0]
        engine.store.db.execute(f"PRAGMA max_page_count = {pages}")
        many = {f"A{number}": "x" * 1000 for number in range(20)}
        with pytest.raises(NoSpace, match="no room") as caught, engine.session():
            engine.hosts.allocate(Host(None, "small"))
            # As an item of a list: it is no error of the item, and the others must not go on.
            with engine.attempt():
                engine.hosts.allocate(Host(None, "large", attributes=many))
        assert "Make room" in str(caught.value) and "database" not in str(caught.value)
        with engine.session():
            assert engine.hosts.pool() == []


@pytest.mark.parametrize("content", [b"no catalog at all" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "nebula.db").write_bytes(content)
    with pytest.raises(CatalogError, match="damaged, or not a catalog"):
        opened(tmp_path, check_mode=True)
    assert (tmp_path / "nebula.db").read_bytes() == content


def test_damage_within_is_told_where_it_is_met(tmp_path: Path) -> None:
    opened_store = store.Store(str(tmp_path), create=True)
    opened_store.close()
    path = tmp_path / "nebula.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(CatalogError, match="damaged"), contextlib.closing(store.Store(str(tmp_path))) as damaged:
        damaged.rows("SELECT * FROM hosts")


def test_one_that_is_ended_while_it_is_opened_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written last is in its log, which goes first."""
    whole, root = tmp_path / "whole", tmp_path / "root"
    whole.mkdir()
    with contextlib.closing(EmbeddedEngine(str(whole), create=True)) as engine:
        with engine.session():
            engine.hosts.allocate(Host(None, "node1", hypervisor="kvm", memory=4096, cpu=4.0))
        # As long as somebody has it open, the log is not merged into it.
        shutil.copytree(whole, root)
    real = store.Store._prepare

    def ended(self: store.Store) -> None:
        (root / store.CATALOG).rename(root / store.ENDED)
        for name in store.BESIDE:
            (root / name).unlink(missing_ok=True)
        real(self)

    monkeypatch.setattr(store.Store, "_prepare", ended)
    with pytest.raises(CatalogError, match="another run has removed or replaced it meanwhile"):
        EmbeddedEngine(str(root))


def test_what_is_read_once_is_read_anew_after_a_change_and_in_the_next_transaction(tmp_path: Path) -> None:
    with contextlib.closing(store.Store(str(tmp_path), create=True)) as opened_store:
        read: list[int] = []

        def look() -> int:
            read.append(len(read))
            return len(read)

        # Outside of a transaction somebody else may write at any time.
        assert [opened_store.once("a", look) for _ in range(2)] == [1, 2]
        with opened_store.transaction():
            assert [opened_store.once("a", look) for _ in range(2)] == [3, 3]
            opened_store.drop("b")
            assert opened_store.once("a", look) == 3
            opened_store.drop("a")
            assert opened_store.once("a", look) == 4
            opened_store.drop()
            assert opened_store.once("a", look) == 5
        with opened_store.transaction():
            assert opened_store.once("a", look) == 6
        with pytest.raises(ZeroDivisionError), opened_store.transaction():
            raise ZeroDivisionError
        assert opened_store.kept == {}
