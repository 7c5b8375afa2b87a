# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies beside a backup, as it is written and read again; and what a copy and a restored catalog say by default."""

from __future__ import annotations

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.catalog_backup import (
    FORMAT,
    CatalogCopy,
    ImageFile,
    Manifest,
    RestoreResult,
    UnknownMachine,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain

FILE = ImageFile("debian", "u", "/srv/debian", 0, "ab", "debian.img")
MANIFEST = Manifest("nebula.db", "c", 9, 2, "2026-01-02T03:04:05Z", 4096, "cd", 3, (FILE,), FORMAT + 1)


@pytest.mark.parametrize("value", [MANIFEST, FILE], ids=lambda value: type(value).__name__)
def test_a_manifest_is_read_as_it_was_written(value: object) -> None:
    assert unset(value) == set()
    assert carried(value) == value


def test_an_image_without_a_file_is_not_one_with_an_empty_file() -> None:
    without = ImageFile("debian", "u", "/srv/debian")
    assert without.size is None and carried(without).size is None
    assert carried(FILE).size == 0


def test_a_manifest_says_its_format_without_being_told() -> None:
    told = to_plain(Manifest("nebula.db", "c", 9, 2, "", 4096, "cd"))
    assert told["format"] == FORMAT
    del told["format"]
    assert from_plain(Manifest, told).format == FORMAT


@pytest.mark.parametrize("key", ["file", "catalog", "plan", "schema", "time", "size", "sha256"])
def test_a_manifest_without_what_makes_a_backup_complete_is_refused_by_that(key: str) -> None:
    told = to_plain(MANIFEST)
    del told[key]
    with pytest.raises(InvalidValue, match=f"Manifest: {key}: missing"):
        from_plain(Manifest, told)


def test_a_copy_of_a_catalog_that_was_never_restored_says_so() -> None:
    copy = CatalogCopy("c", 9, 2)
    assert (copy.restored, copy.known, copy.next_ids, copy.images) == ("", frozenset(), {}, ())


def test_a_stranger_is_unknown_unless_the_catalog_that_gave_way_has_it() -> None:
    stranger = UnknownMachine("node1", 0, "u", "one-0", "RUNNING")
    assert (stranger.known, stranger.hypervisor, stranger.forget) == (False, "kvm", "")
    assert stranger == UnknownMachine("node1", 0, "u", "one-0", "RUNNING", files=frozenset())


def test_a_restored_catalog_without_anything_ahead_of_it_has_nothing_to_tell() -> None:
    restored = RestoreResult("c", 10, 4)
    assert not restored.ahead
    assert restored.raised == restored.missing == restored.strangers == restored.held == restored.rested == ()
