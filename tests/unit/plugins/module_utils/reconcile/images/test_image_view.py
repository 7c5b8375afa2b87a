# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What results show of an image."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    GROW,
    Clone,
    Operation,
    Prepare,
    Return,
    Rewrite,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_view import image_view

IMAGE = Image(3, "demo", source="/var/lib/nebula/datastores/1/abc")

REWORKED = dataclasses.replace(IMAGE, operation=Rewrite(GROW, {"size": 9}, ImageState.READY))


def test_every_field_is_shown_but_the_notes() -> None:
    """Notes are between one run and the next."""
    fields = {field.name for field in dataclasses.fields(Image)}
    assert set(image_view(IMAGE)) == {*fields, "checksum"} - {"checksums", "notes"}


def test_what_is_shown_is_plain_data() -> None:
    image = dataclasses.replace(
        IMAGE, type=ImageType.DATABLOCK, state=ImageState.USED_PERS, attributes={"OS": "x"}, notes={"sparse": 0}
    )
    view = image_view(image)
    assert (view["type"], view["state"], view["attributes"]) == ("DATABLOCK", "USED_PERS", {"OS": "x"})
    assert json.loads(json.dumps(view)) == view
    view["attributes"]["OS"] = "y"
    assert image.attributes == {"OS": "x"}


@pytest.mark.parametrize(("snapshots", "count"), [("", 0), ("[]", 0), ('[{"id": 0}, {"id": 1}]', 2)])
def test_of_snapshots_the_number_is_shown(snapshots: str, count: int) -> None:
    assert image_view(dataclasses.replace(IMAGE, snapshots=snapshots))["snapshots"] == count


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        (None, ""),
        (Clone(7), "clone"),
        (Prepare(ImageState.READY), "prepare"),
        (Return("a b", ran=False), "return"),
        (REWORKED.operation, "grow"),
    ],
)
def test_of_an_operation_it_is_shown_what_it_does(operation: Operation | None, shown: str) -> None:
    assert image_view(dataclasses.replace(IMAGE, operation=operation))["operation"] == shown
