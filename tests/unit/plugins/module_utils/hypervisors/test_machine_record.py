# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a machine by its directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_node import CATALOG, OTHER, Node, directory, machine, mark

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import RECORD, Record
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm, TaskOutcome

# What no field of any document may hold is refused: a NUL.
words = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Record,
        words,
        st.integers(0, 1 << 40),
        words,
        generation=st.integers(0, 1 << 40),
        definition=words,
        tasks=st.lists(st.builds(TaskOutcome, words, st.integers(0, 1 << 30)), max_size=3).map(tuple),
        images=st.lists(words, max_size=3).map(tuple),
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert from_plain(Record, json.loads(json.dumps(to_plain(record)))) == record


def test_where_there_is_no_record_or_an_empty_one_there_is_none(tmp_path: Path) -> None:
    assert records.read_record(str(tmp_path)) is None
    assert records.read_record(str(tmp_path / "absent")) is None
    (tmp_path / records.RECORD).write_text(" \n", encoding="ascii")
    assert records.read_record(str(tmp_path)) is None
    mark(tmp_path / "7", generation=3)
    assert records.read_record(str(tmp_path / "7")) == Record(CATALOG, 7, "uuid-7", 3)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{")


def _another_form(path: Path) -> None:
    path.write_text('{"catalog": 7, "vm_id": "x"}', encoding="ascii")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [_garbage, _another_form, _link])
def test_a_record_that_can_not_be_read_is_somebodys(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / records.RECORD)
    with pytest.raises(ForeignObject, match=f"file {tmp_path}/vm.json: it can't be read.*move the directory away"):
        records.read_record(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        (".vm.json.x1.tmp", True),
        (".disk.0.tmp.raw", True),
        (".tmp", True),
        ("vm.json.tmp", False),
        (".vm.json", False),
        ("disk.0", False),
        ("disk.tmp.raw", False),
    ],
)
def test_what_a_killed_run_was_writing_is_known_by_its_name(name: str, left: bool) -> None:
    assert records.is_left_behind(name) is left


def test_directories_without_the_catalogs_mark_are_foreign(root: str) -> None:
    assert records.foreign_directories(root, CATALOG) == frozenset()
    mark(directory(root, 1))
    mark(directory(root, 2), catalog=OTHER)
    for number, file in ((3, "disk.0"), (4, ".disk.0.tmp"), (5, records.RECORD)):
        directory(root, number).mkdir()
        (directory(root, number) / file).touch()
    (directory(root, 6)).mkdir()
    (directory(root, 7)).write_text("a file", encoding="ascii")
    _garbage_at = directory(root, 8)
    _garbage_at.mkdir()
    _garbage(_garbage_at / records.RECORD)
    for name in ("09", "lost+found", "-1"):
        Path(root, "datastores", "0", name).mkdir()
    assert records.foreign_directories(root, CATALOG) == {2, 3, 7, 8}
    assert records.foreign_directories(root, OTHER) == {1, 3, 7, 8}


def test_what_machines_rest_on_is_read_from_their_own_directories(here: Node) -> None:
    here.one("RUNNING")
    record = replace(here.record(), images=("an image",))
    text = json.dumps(to_plain(record))
    (here.directory() / RECORD).write_text(text, encoding="utf-8")
    # An administrator's copy, of which no machine is.
    (here.directory().parent / "0.old").mkdir()
    (here.directory().parent / "0.old" / RECORD).write_text(text.replace("an image", "another"), encoding="utf-8")
    (here.directory().parent / "1").mkdir()
    assert records.images_in_use(str(here.root)) == {"an image"}


@pytest.mark.parametrize(
    ("wanted", "installs", "state", "started", "was"),
    [
        ("RUNNING", True, "POWEROFF", 3, True),
        ("RUNNING", True, "POWEROFF", 4, True),
        ("RUNNING", True, "POWEROFF", 2, False),
        ("RUNNING", True, "POWEROFF", None, False),
        ("RUNNING", True, "RUNNING", 3, False),
        ("RUNNING", True, None, 3, False),
        ("RUNNING", False, "POWEROFF", 3, False),
        ("POWEROFF", True, "POWEROFF", 3, False),
    ],
)
def test_only_an_installer_that_this_decision_has_started_is_over(
    wanted: str, installs: bool, state: str | None, started: int | None, was: bool
) -> None:
    planned = PlannedVm(machine(attributes={MARK: "debian"} if installs else {}), 3, wanted)
    record = None if started is None else Record(CATALOG, 0, "uuid-0", started=started)
    assert records.was_started(planned, record, state) is was


@pytest.mark.parametrize("values", [{"generation": 1 << 31}, {"operated": -2}, {"started": 1 << 53}, {"port": 1 << 40}])
def test_a_record_with_numbers_that_nothing_has_is_nobodys(tmp_path: Path, values: dict[str, int]) -> None:
    known = {"catalog": CATALOG, "vm_id": 7, "uuid": "uuid-7", **values}
    (tmp_path / "vm.json").write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(ForeignObject, match="a number that nothing of it has"):
        records.read_record(str(tmp_path))


def test_a_directory_of_an_id_that_no_catalog_gives_is_nobodys_machine(tmp_path: Path) -> None:
    for number in (7, 999_999_999_999_999_999):
        place = tmp_path / "datastores" / "0" / str(number)
        place.mkdir(parents=True)
        (place / "something").touch()
    assert records.foreign_directories(str(tmp_path), CATALOG) == {7}
