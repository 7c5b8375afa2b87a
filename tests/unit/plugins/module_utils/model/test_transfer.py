# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of images are called in a node's cache, which of them are past, and which are on their way back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    ENDED,
    METHODS,
    OWN,
    SAVED,
    SENT,
    SHARED,
    PlannedImage,
    is_name,
    is_outdated,
    name_of,
)

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
OTHER = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("kind", "local"), [(BASE, f"{UUID}-3"), (SAVED, f"{UUID}-3"), (OWN, f"own-{UUID}-3"), (ENDED, f"own-{UUID}-3")]
)
def test_a_file_that_a_machine_writes_to_has_a_name_that_no_base_has(kind: str, local: str) -> None:
    assert PlannedImage(kind, name_of(UUID, 3), "debian", "/srv/a").local == local


def test_the_front_end_sends_what_machines_begin_with_and_the_default_is_shared() -> None:
    assert set(SENT) == {BASE, OWN}
    assert METHODS[0] == SHARED


@given(st.uuids(), st.integers(min_value=0, max_value=10**18 - 1))
@settings(max_examples=50)
def test_every_content_of_every_image_has_a_name(uuid: object, generation: int) -> None:
    assert is_name(name_of(str(uuid), generation))


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID,
        f"{UUID}-",
        f"{UUID}-01",
        f"{UUID}--1",
        f"{UUID}-{10**18}",
        f"{UUID}-1.part",
        f"{UUID}-1\n",
        f"own-{UUID}-1",
        f"../{UUID}-1",
        f"{UUID.upper()}-1",
        f"{UUID[:-1]}-1",
    ],
)
def test_nothing_else_is_a_name(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize("prefix", ["", "own-"])
def test_a_content_is_past_once_its_image_has_a_later_one(prefix: str) -> None:
    generations = {UUID: 3, OTHER: 0}
    assert [is_outdated(f"{prefix}{UUID}-{number}", generations) for number in (0, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_outdated(f"{prefix}{OTHER}-0", generations)


@pytest.mark.parametrize("name", [f"{UUID}-0", "lost+found", "", f"{OTHER}-x", f"{OTHER}-1.part"])
def test_what_is_of_no_known_image_is_never_past(name: str) -> None:
    assert not is_outdated(name, {OTHER: 9})
