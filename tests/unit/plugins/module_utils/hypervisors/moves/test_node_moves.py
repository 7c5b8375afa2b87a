# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import LARGEST
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.node_moves import NodeMove
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ABSENT,
    ARRIVED,
    CLEARED,
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    STAGES,
    STAYED,
    MoveSeen,
)

CATALOG, OTHER = "0b4c0e1f", "77777777"


def entry(vm_id: int = 1, stage: str = LEAVING, token: str = "", catalog: str = CATALOG, way: str = LIVE) -> NodeMove:
    return NodeMove(vm_id, f"uuid-{vm_id}", token or f"token-{vm_id}", stage, catalog, way)


def accepted(root: str, number: int = 1, catalog: str = CATALOG) -> None:
    node_file.update(root, lambda before: before)
    node_file.accept(root, catalog, number, "")


def written(tmp_path: Path, *entries: NodeMove) -> str:
    for each in entries:
        node_moves.write(str(tmp_path), each)
    return str(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_what_is_written_is_read(tmp_path: Path, stage: str, way: str) -> None:
    made = entry(0, stage, way=way)
    root = written(tmp_path, made)
    assert node_moves.read(root, 0) == made
    assert node_moves.read(root, 1) is None
    node_moves.write(root, dataclasses.replace(made, stage=LEFT))
    found = node_moves.read(root, 0)
    assert found is not None and found.stage == LEFT
    assert (tmp_path / "moves").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "moves" / "0").stat().st_mode & 0o777 == 0o600


def test_where_nothing_moved_there_is_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert (node_moves.read(root, 1), node_moves.entries(root), node_moves.seen(root, CATALOG)) == (None, [], ())
    node_moves.remove(root, 1)
    node_moves.forget(root, CATALOG, 1, (), (1,))
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    root = written(tmp_path, entry(1), entry(2))
    node_moves.remove(root, 1)
    assert node_moves.entries(root) == [entry(2)]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"x", b"\xff", b'{"vm_id": "1"}', b"x" * (LARGEST + 1), b'{"vm_id": 1, "stage": 2}']
)
def test_one_that_is_damaged_is_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    root = written(tmp_path, entry(1), entry(2))
    (tmp_path / "moves" / "1").write_bytes(content)
    with pytest.raises(CatalogError, match="may run here"):
        node_moves.read(root, 1)
    # The others are known all the same, and the damaged one stays for whoever looks.
    assert node_moves.entries(root) == [entry(2)]
    accepted(root)
    node_moves.forget(root, CATALOG, 1, (), (1, 2))
    assert os.listdir(tmp_path / "moves") == ["1"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    root = written(tmp_path, entry(1))
    (tmp_path / "moves" / "2").symlink_to("1")
    with pytest.raises(CatalogError):
        node_moves.read(root, 2)


def test_files_of_others_are_no_entries(tmp_path: Path) -> None:
    root = written(tmp_path, entry(3))
    for name in ("03", "x", ".4.tmp", "-1", "5 ", "٣"):
        (tmp_path / "moves" / name).write_text("x", encoding="ascii")
    assert node_moves.entries(root) == [entry(3)]


def test_a_poll_sees_those_of_its_catalog(tmp_path: Path) -> None:
    root = written(tmp_path, entry(2, COMING), entry(1, LEFT), entry(3, LEFT, catalog=OTHER))
    assert node_moves.seen(root, CATALOG) == (MoveSeen(1, "token-1", LEFT), MoveSeen(2, "token-2", COMING))
    assert node_moves.seen(root, OTHER) == (MoveSeen(3, "token-3", LEFT),)


@pytest.mark.parametrize("catalog", [CATALOG, OTHER])
@pytest.mark.parametrize("moving", [(), ("token-1",), ("another",)])
@pytest.mark.parametrize("brought", [(), (1,), (2,)])
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_forgotten(
    tmp_path: Path, stage: str, brought: tuple[int, ...], moving: tuple[str, ...], catalog: str
) -> None:
    root = written(tmp_path, entry(1, stage))
    accepted(root, catalog=catalog)
    node_moves.forget(root, catalog, 1, moving, brought)
    over = stage in (CLEARED, ARRIVED, STAYED, ABSENT) or brought == (1,)
    forgotten = catalog == CATALOG and moving != ("token-1",) and over
    assert (node_moves.read(root, 1) is None) is forgotten


def test_an_older_plan_forgets_nothing(tmp_path: Path) -> None:
    """The newer one may be about that very move."""
    root = written(tmp_path, entry(1, ARRIVED))
    accepted(root, 2)
    node_moves.forget(root, CATALOG, 1, (), (1,))
    assert node_moves.entries(root) == [entry(1, ARRIVED)]
    node_moves.forget(root, CATALOG, 2, (), ())
    assert node_moves.entries(root) == []


def test_one_run_at_a_time_moves_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_moves, "LOCK_SECONDS", 0.05)
    root, other = str(tmp_path / "a"), str(tmp_path / "b")
    for each in (root, other):
        os.mkdir(each)
    with node_moves.alone(root):
        with pytest.raises(TimedOut), node_moves.alone(root):
            pass
        with node_moves.alone(other):
            pass
    with node_moves.alone(root):
        pass


def test_the_next_run_removes_what_a_killed_one_was_about_to_write(tmp_path: Path) -> None:
    root = written(tmp_path, entry(1), entry(10))
    kept = ("1.tmp", ".x.abc.tmp", ".1.abc", ".1.tmp")
    for name in (".1.6z58f2id.tmp", ".10.o99blg_s.tmp", ".3.ypb2hakr.tmp", *kept):
        (tmp_path / "moves" / name).write_text("{", encoding="ascii")
    with node_moves.alone(root):
        assert sorted(os.listdir(tmp_path / "moves")) == sorted(("1", "10", *kept))
    assert node_moves.entries(root) == [entry(1), entry(10)]


def test_nothing_of_a_killed_run_stays_where_it_is_given_back(tmp_path: Path) -> None:
    root = written(tmp_path, entry(1))
    (tmp_path / "moves" / ".1.6z58f2id.tmp").write_text("{", encoding="ascii")
    node_moves.give_back(root)
    assert os.listdir(tmp_path) == []
