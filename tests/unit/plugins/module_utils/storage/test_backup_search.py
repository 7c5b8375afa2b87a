# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup is meant, by name, id and time; none that can't be used is passed over in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_backups import MadeBackups

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Ambiguous,
    Conflict,
    ImageRefused,
    NebulaError,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_search, backup_verification
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_search import OwnMachine

ONE, OTHER = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", "1b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
DISK = {0: b"x" * 65536}


@pytest.fixture
def made(tmp_path: Path) -> MadeBackups:
    return MadeBackups(tmp_path / "backups")


def test_a_machine_is_found_by_its_name(made: MadeBackups) -> None:
    made.full(7, ONE, DISK)
    place = backup_search.open_place(str(made.directory), "", "/nowhere")
    assert backup_search.machine_of(place, "web-7").vm_id == 7
    made.full(7, OTHER, DISK)
    with pytest.raises(Ambiguous, match=f"7-{ONE}, 7-{OTHER}"):
        backup_search.machine_of(place, "web-7")
    assert backup_search.machine_of(place, f"7-{OTHER}").catalog == OTHER
    own = backup_search.open_place(str(made.directory), ONE, "/nowhere")
    with pytest.raises(Ambiguous, match=f"7-{ONE}, 7-{OTHER}"):
        backup_search.machine_of(own, "web-7")
    assert backup_search.machine_of(own, "web-7", own=OwnMachine(7, "")).catalog == ONE
    with pytest.raises(NotFound, match="none of machine 8, which is called so here; of others that say so: 7-"):
        backup_search.machine_of(own, "web-7", own=OwnMachine(8, ""))
    with pytest.raises(NotFound, match="there are of web-7"):
        backup_search.machine_of(place, "web-8")


def test_what_no_key_has_sealed_says_nothing_of_a_name(tmp_path: Path) -> None:
    sealed = MadeBackups(tmp_path / "backups", "a key")
    made = sealed.full(9, ONE, DISK, name="evil-9")
    forged = replace(
        made, id="20291130T040000Z-ffffff", time=made.time + 9, name="web-0", seal="", encrypted=False, disks=()
    )
    (sealed.place(made) / f"{forged.id}.json").write_text(json.dumps(to_plain(forged)), encoding="utf-8")
    place = backup_search.open_place(str(sealed.directory), ONE, "/nowhere")
    with pytest.raises(NotFound, match="there are of evil-9"):
        backup_search.machine_of(place, "web-0", "a key")
    assert backup_search.machine_of(place, "evil-9", "a key").vm_id == 9
    with pytest.raises(NebulaError, match="its seal is not by this key"):
        backup_search.machine_of(place, "evil-9", "another key")


def test_the_backup_is_of_the_machine_that_is_meant(made: MadeBackups) -> None:
    backup = made.full(7, ONE, DISK, uuid="one")
    backup_search.require_meant(backup, "web-7")
    backup_search.require_meant(backup, f"7-{ONE}", OwnMachine(8, ""))
    backup_search.require_meant(backup, "renamed", OwnMachine(7, "one"))
    with pytest.raises(Conflict, match="it is of a machine that was called web-7"):
        backup_search.require_meant(backup, "web-0")
    with pytest.raises(Conflict, match="it is of machine one, and this one is two"):
        backup_search.require_meant(backup, "web-7", OwnMachine(7, "two"))


def test_a_directory_that_was_renamed_holds_no_backup(made: MadeBackups) -> None:
    backup = made.full(9, ONE, DISK, name="web-0")
    made.place(backup).rename(made.directory / f"7-{ONE}")
    place = backup_search.open_place(str(made.directory), ONE, "/nowhere")
    with pytest.raises(NotFound):
        backup_search.machine_of(place, "web-0")
    assert backup_search.machine_of(place, "web-0", own=OwnMachine(7, "")).backups == []


def test_a_backup_is_found_by_id_and_time(made: MadeBackups) -> None:
    first = made.full(7, ONE, DISK, time=1795993400, id="20261129T230320Z-000001")
    second = made.full(7, ONE, DISK, time=1796000000, id="20261130T005320Z-000002")
    place = backup_search.open_place(str(made.directory), ONE, "/nowhere")
    with place.machine(7) as held:
        for wanted, backup in (
            (first.id, first),
            ("latest", second),
            ("2026-11-29", first),
            ("2026-11-30T00:53:19Z", first),
            ("20261130T005320Z", second),
        ):
            assert backup_search.chosen(held, wanted).id == backup.id, wanted
        for wanted in ("2026-11-28", "tomorrow", "2026-13-45", "20261130T005320Z-ffffff", "../x"):
            with pytest.raises(NotFound, match=f"backup {wanted} of machine web-7") as caught:
                backup_search.chosen(held, wanted)
            assert ("nebula_machine_restore=list" in caught.value.remedy) == ("2" in wanted and wanted != "2026-13-45")


def test_a_newer_one_that_is_damaged_is_not_passed_over(made: MadeBackups) -> None:
    first = made.full(7, ONE, DISK)
    second = made.full(7, ONE, DISK)
    (made.place(second) / second.disks[0].file.name).unlink()
    place = backup_search.open_place(str(made.directory), ONE, "/nowhere")
    with place.machine(7) as held:
        with pytest.raises(NebulaError, match="it is not there"):
            backup_search.chosen(held, "latest")
        assert backup_search.chosen(held, first.id).id == first.id
    assert [len(each.unreadable) for each in backup_search.machines(place)] == [1]


def test_under_a_key_what_is_plain_is_not_chosen(tmp_path: Path) -> None:
    made = MadeBackups(tmp_path / "backups", "a key")
    sealed = made.full(7, ONE, DISK)
    made.key = ""
    plain = made.full(7, ONE, DISK)
    place = backup_search.open_place(str(made.directory), ONE, "/nowhere")
    with place.machine(7, key="a key") as held:
        assert [each.id for each in held.backups()] == [sealed.id, plain.id] and held.unreadable == []
        for wanted in (plain.id, "latest"):
            with pytest.raises(ImageRefused, match=r"it is not sealed.*leave the key out"):
                backup_search.chosen(held, wanted)
        assert backup_search.chosen(held, sealed.id).id == sealed.id
        one, other = backup_verification.verify(held)
        assert one.faults == () and "it is not sealed" in other.faults[0]
    with place.machine(7) as held:
        assert backup_search.chosen(held, "latest").id == plain.id
