# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file gets its name in a datastore when it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names
from ansible_collections.nebula.provision.plugins.module_utils.storage.final_names import NEW, PART

pytestmark = pytest.mark.usefixtures("no_owners")


def test_a_destination_is_held_and_nothing_of_it_stays(place):
    destination = place / "image"
    Path(str(destination) + NEW).write_bytes(b"what a killed run had stored")
    with final_names.locked_destination(str(destination), 0):
        assert os.listdir(place) == ["image" + PART]
        with pytest.raises(TimedOut, match="another run holds it"), final_names.locked_destination(str(destination), 0):
            pytest.fail("two runs have it")
    assert os.listdir(place) == []


def test_a_failed_run_gives_its_destination_back(place):
    with pytest.raises(KeyError), final_names.locked_destination(str(place / "image"), 0):
        raise KeyError
    assert os.listdir(place) == []


def test_what_could_not_be_made_leaves_nothing(place):
    def fail(temporary: str) -> None:
        Path(temporary).write_bytes(b"half")
        raise InvalidValue("x", "y")

    with pytest.raises(InvalidValue):
        final_names.make(str(place / "image"), fail)
    assert os.listdir(place) == []
