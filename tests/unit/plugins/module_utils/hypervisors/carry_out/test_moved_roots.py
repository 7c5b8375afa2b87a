# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of containers go from host to host; the machines themselves are in memory. Real containers move in
tests/integration/test_container_moves.py."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_node import machine
from moving_nodes import Pair, moved

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import passage
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import RANGES, id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, LIVE, SOURCE, TARGET
from ansible_collections.nebula.provision.plugins.module_utils.storage import machine_disks, roots

pytestmark = pytest.mark.root
FIRST = id_range(1).start


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    # A door looks that often whether it is to be closed.
    monkeypatch.setattr(passage, "_STEP", 0.02)
    # Whoever makes roots has a way to their directories.
    for each in (tmp_path, *tmp_path.parents):
        each.chmod(each.stat().st_mode | 0o711)
    image = tmp_path / "image.tar"
    with tarfile.open(image, "w") as tar:
        for name in ("etc", "bin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("etc/issue")
        entry.size = 7
        tar.addfile(entry, io.BytesIO(b"welcome"))
    found = Pair(tmp_path)
    found.vm = machine(
        1, disks=(Disk(0, "", image="i", image_uuid="u", source=str(image), format="tar", driver="tar"),)
    )
    yield found
    for node in found.nodes.values():
        for root in (node.root / "datastores" / "0").glob("*/disk.0"):
            roots.remove(str(root))


def begun(pair: Pair, state: str = "RUNNING") -> Path:
    """Have the machine on the source. Return its root there."""
    outcome = pair.source.one(state, pair.generation, pair.vm)
    assert outcome.error is None, outcome
    root = pair.source.directory(1) / "disk.0"
    written = root / "etc" / "written"
    written.write_text("by the machine", encoding="ascii")
    os.chown(written, FIRST + 5, FIRST + 6)
    written.chmod(0o640)
    (root / "etc" / "issue").unlink()
    return root


def seen(root: Path) -> tuple[str, int, int, int, bool]:
    status = (root / "etc" / "written").stat()
    text = (root / "etc" / "written").read_text(encoding="ascii")
    gone = not (root / "etc" / "issue").exists()
    return text, status.st_uid - FIRST, status.st_gid - FIRST, stat.S_IMODE(status.st_mode), gone


EXPECTED = ("by the machine", 5, 6, 0o640, True)


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF"])
def test_a_root_comes_with_what_the_machine_made_of_it(pair: Pair, state: str) -> None:
    before = begun(pair, state)
    found = pair.move(COLD, wanted=state)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", ""), found
    assert moved(found[TARGET]) == ("arrived", state, ""), found
    assert seen(pair.target.directory(1) / "disk.0") == EXPECTED
    assert pair.directories() == [TARGET] and not before.exists()
    # It is its own, whatever it showed before, and never made anew.
    assert not (pair.target.directory(1) / "disk.0.layers").exists()
    assert pair.target.one(state, pair.generation, pair.vm).error is None
    assert seen(pair.target.directory(1) / "disk.0") == EXPECTED


def test_what_does_not_come_along_is_in_its_log(pair: Pair) -> None:
    root = begun(pair)
    os.mknod(root / "etc" / "socket", 0o600 | stat.S_IFSOCK)
    os.chown(root / "etc" / "socket", FIRST, FIRST)
    found = pair.move(COLD)
    assert moved(found[TARGET]) == ("arrived", "RUNNING", "")
    assert any(
        "1 sockets, device nodes and attributes of disk 0 do not come along" in each for each in found[SOURCE].log
    )
    assert not (pair.target.directory(1) / "disk.0" / "etc" / "socket").exists()


def test_one_that_can_not_be_packed_stays_and_runs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    before = begun(pair)

    def changed(*_given: object) -> roots.Saved:
        raise InUse("disk 0", "it changed while it was read")

    monkeypatch.setattr(roots, "pack", changed)
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "InUse")
    assert found[TARGET].moved == "absent" and found[TARGET].error is not None
    assert pair.on() == {SOURCE: "RUNNING"} and pair.directories() == [SOURCE]
    assert seen(before) == EXPECTED


@pytest.fixture
def holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A container that stands still while its root is copied, which its driver has made, and goes on at the other
    host."""
    monkeypatch.setattr(passage, "_STEP", 0.02)
    pair = Pair(tmp_path)
    pair.vm = machine(1, disks=(Disk(0, "", image="i", format="tar", driver="tar", by_hypervisor=True),))
    for node in pair.nodes.values():
        node.driver.copies_departing_disks, node.driver.holds_departing_roots = False, True
        node.driver.own_root, node.driver.beside = "private", {"context.json": 100}
    assert pair.source.one("RUNNING", 1, pair.vm).error is None
    directory = pair.source.directory(1)
    (directory / "private").mkdir()
    (directory / "private/file").write_bytes(b"by the machine")
    (directory / "context.json").write_bytes(b"[]")
    return pair


def test_the_root_of_one_that_runs_comes_once_it_stands_still(holding: Pair) -> None:
    found = holding.move(LIVE)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", ""), found
    assert moved(found[TARGET]) == ("arrived", "RUNNING", ""), found
    there = holding.target.directory(1)
    assert (there / "private/file").read_bytes() == b"by the machine"
    assert (there / "context.json").read_bytes() == b"[]"
    did = holding.source.driver.names()
    assert did.index("depart") < did.index("pack_root")
    assert holding.directories() == [TARGET] and holding.on() == {TARGET: "RUNNING"}


def test_nothing_comes_of_one_that_runs_before_its_root_is_whole(holding: Pair) -> None:
    holding.target.driver.fails["take_root"] = InUse("disk 0", "there is no room for it")
    found = holding.move(LIVE)
    assert moved(found[TARGET])[::2] == ("absent", "InUse")
    assert moved(found[SOURCE])[:2] == ("stayed", "RUNNING")
    assert holding.on() == {SOURCE: "RUNNING"} and holding.directories() == [SOURCE]
    assert (holding.source.directory(1) / "private/file").read_bytes() == b"by the machine"


def test_one_that_does_not_come_as_a_whole_leaves_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    before = begun(pair)

    def cut(_directory: str, fd: int, *_given: object) -> roots.Saved:
        os.write(fd, b"no archive at all".ljust(1024, b"x"))
        return roots.Saved(1, 1024, 0)

    monkeypatch.setattr(roots, "pack", cut)
    found = pair.move(COLD)
    assert found[TARGET].moved == "absent"
    assert found[TARGET].error is not None and found[TARGET].error["kind"] == "ImageRefused"
    assert found[SOURCE].moved == "stayed"
    assert pair.on() == {SOURCE: "RUNNING"} and pair.directories() == [SOURCE]
    assert seen(before) == EXPECTED


def test_its_users_may_be_nobody_else_s_on_the_other_host(pair: Pair) -> None:
    begun(pair)
    (pair.target.directory(1 + RANGES) / "disk.0").mkdir(parents=True)
    found = pair.move(COLD)
    assert moved(found[SOURCE])[0] == "stayed" and moved(found[TARGET])[0] == "absent"
    assert found[TARGET].error is not None and f"machine {1 + RANGES}" in found[TARGET].error["found"]
    assert pair.on() == {SOURCE: "RUNNING"} and pair.directories() == [SOURCE]


def test_there_is_room_for_it_before_it_comes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(pair)
    monkeypatch.setattr(roots, "size", lambda *_given: 1 << 49)
    found = pair.move(COLD)
    assert found[TARGET].error is not None and found[TARGET].error["kind"] == "NoSpace"
    assert pair.on() == {SOURCE: "RUNNING"} and pair.directories() == [SOURCE]


def test_a_copy_without_its_root_is_not_started_with_a_new_one(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the catalog it is the target's, whatever went wrong: what the machine wrote is nowhere else, perhaps."""
    begun(pair)
    pair.move(COLD)
    assert machine_disks.remove(str(pair.target.directory(1)))
    record = pair.target.directory(1) / "vm.json"
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace('"coming": ""', f'"coming": "{pair.token}"'), encoding="utf-8")
    assert pair.token in record.read_text(encoding="utf-8")
    pair.target.note("coming", COLD)
    outcome = pair.target.one("RUNNING", pair.generation + 1, pair.vm)
    assert outcome.error is not None and "did not come with the machine" in outcome.error["found"]
    assert not (pair.target.directory(1) / "disk.0").exists()
