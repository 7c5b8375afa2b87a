# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that the state, the type or the use of an image does not allow."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.images.conftest import (
    machine,
)


def test_a_name_is_taken_once(images, ready):
    ready("a")
    ready("b")
    with pytest.raises(Conflict, match="id 0 has that name"):
        images.allocate(Image(id=None, name="a"))
    with pytest.raises(Conflict):
        images.update("b", name="a")
    assert images.update("b", name="c").name == "c"


def test_what_is_refused_while_it_is_used(images, ready, store):
    ready()
    images.uses.acquire(machine(store, 7, "web"), 0, 0, writable=False)
    for change in ({"type": ImageType.DATABLOCK}, {"persistent": True}, {"state": ImageState.DISABLED}):
        with pytest.raises(InUse, match=r"web \(id 7\)"):
            images.update(0, **change)
    with pytest.raises(InUse, match=r"web \(id 7\)"):
        images.delete("demo")
    assert images.update(0, description="d", dev_prefix="vd").description == "d"
    images.uses.release(7, written=True)
    assert images.update(0, type=ImageType.DATABLOCK, persistent=True).persistent is True
    images.delete("demo")


def test_types_change_within_their_family(images, ready):
    ready("disk")
    ready("file", type=ImageType.KERNEL)
    assert images.update("disk", type=ImageType.CDROM).type == ImageType.CDROM
    assert images.update("file", type=ImageType.CONTEXT).type == ImageType.CONTEXT
    with pytest.raises(Conflict, match="DATABLOCK, OS only"):
        images.update("disk", type=ImageType.KERNEL)
    with pytest.raises(Conflict, match="KERNEL, RAMDISK only"):
        images.update("file", type=ImageType.OS)


@pytest.mark.parametrize("kind", [ImageType.CDROM, ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT])
def test_what_can_not_be_persistent(images, kind):
    with pytest.raises(InvalidValue, match="Only OS and DATABLOCK"):
        images.allocate(Image(id=None, name="x", type=kind, persistent=True))


def test_a_persistent_disk_does_not_become_a_cdrom(images, ready):
    ready(persistent=True)
    with pytest.raises(InvalidValue):
        images.update(0, type=ImageType.CDROM)


def test_disabling_and_enabling(images, ready):
    ready()
    assert images.update(0, state=ImageState.DISABLED).state == ImageState.DISABLED
    assert images.update(0, state=ImageState.READY).state == ImageState.READY
    images.allocate(Image(id=None, name="other"))
    with pytest.raises(WrongState, match="LOCKED"):
        images.update("other", state=ImageState.DISABLED)
    with pytest.raises(InvalidValue, match="by use"):
        images.update(0, state=ImageState.USED)
