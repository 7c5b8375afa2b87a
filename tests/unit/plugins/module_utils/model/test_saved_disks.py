# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image is what a machine's disk was saved as."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    REWRITE,
    Clone,
    Rewrite,
    Save,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.saved_disks import (
    holds_saved_disk,
    is_being_saved,
    origin_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState

ORIGIN = origin_of("01234567-89ab-4cde-8f01-23456789abcd", 2)
WHOLE = (
    ImageState.READY,
    ImageState.USED,
    ImageState.USED_PERS,
    ImageState.DISABLED,
    ImageState.CLONE,
    ImageState.LOCKED_USED_PERS,
)


def image(state=ImageState.READY, origin=ORIGIN, operation=None):
    return Image(1, "saved", state=state, origin=origin, operation=operation)


def test_an_origin_names_one_disk_of_one_machine():
    assert origin_of("uuid", 0) == "vm:uuid/disk.0"
    assert len({origin_of(uuid, disk) for uuid in ("a", "b") for disk in (0, 1)}) == 4


@pytest.mark.parametrize("state", WHOLE)
def test_what_was_saved_is_saved_in_every_state_that_leaves_it_whole(state):
    assert holds_saved_disk(image(state), ORIGIN)


@pytest.mark.parametrize("state", [ImageState.INIT, ImageState.ERROR, ImageState.DELETE])
def test_what_is_not_whole_is_not_saved(state):
    assert not holds_saved_disk(image(state), ORIGIN)


def test_what_is_from_elsewhere_is_not_what_was_saved():
    assert not holds_saved_disk(None, ORIGIN)
    assert not holds_saved_disk(image(origin="/srv/other.qcow2"), ORIGIN)
    assert not holds_saved_disk(image(origin=origin_of("other", 2)), ORIGIN)


@pytest.mark.parametrize("operation", [None, Save(ORIGIN)])
def test_a_locked_image_is_being_saved_where_nothing_else_locked_it(operation):
    locked = image(ImageState.LOCKED, operation=operation)
    assert is_being_saved(locked, ORIGIN)
    assert not holds_saved_disk(locked, ORIGIN)


@pytest.mark.parametrize("operation", [Rewrite(REWRITE, {}, ImageState.READY), Save("vm:other/disk.0"), Clone(1)])
def test_an_image_that_something_else_locked_was_saved_before(operation):
    locked = image(ImageState.LOCKED, operation=operation)
    assert not is_being_saved(locked, ORIGIN)
    assert holds_saved_disk(locked, ORIGIN)


@pytest.mark.parametrize("state", [ImageState.READY, ImageState.ERROR, ImageState.USED])
def test_only_a_locked_image_is_being_saved(state):
    assert not is_being_saved(image(state, operation=Save(ORIGIN)), ORIGIN)


@pytest.mark.parametrize("origin", ["", "/srv/a.qcow2", "https://example.org/a.qcow2"])
def test_what_is_stored_of_a_file_is_no_save(origin):
    assert not is_being_saved(image(ImageState.LOCKED, origin), origin)
