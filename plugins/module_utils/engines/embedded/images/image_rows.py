# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns rows of images into objects of the model, and back."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ....model import image_operations
from ....model.image import Image
from ....model.states import ImageState, ImageType
from ..store import Store

# The columns that are the fields of an image. The count of its machines follows from vm_images; the other fields are
# written apart.
COLUMNS = tuple(
    field.name for field in dataclasses.fields(Image) if field.name not in ("id", "name", "uuid", "vms", "attributes")
)
_NUMBERS = frozenset(("type", "state", "persistent"))
_JSON = frozenset(("attributes", "checksums", "notes"))
SELECT = "SELECT images.*, (SELECT count(DISTINCT vm_id) FROM vm_images WHERE image_id = images.id) AS vms FROM images"


def get(store: Store, image_id: int | None) -> Image:
    """Return the image of that id, which is in the catalog, with the count of its machines."""
    return image_of(store.rows(f"{SELECT} WHERE images.id = ?", image_id)[0])


def image_of(row: sqlite3.Row | Mapping[str, Any]) -> Image:
    """Return the image of a row of table images, which has its count of machines as vms."""
    values: dict[str, Any] = {column: row[column] for column in COLUMNS}
    values["type"] = ImageType(values["type"])
    values["state"] = ImageState(values["state"])
    values["persistent"] = bool(values["persistent"])
    values["checksums"] = json.loads(values["checksums"] or "{}")
    values["notes"] = json.loads(values["notes"])
    values["operation"] = image_operations.read(values["operation"])
    return Image(
        id=row["id"],
        name=row["name"],
        uuid=row["uuid"],
        vms=row["vms"],
        attributes=json.loads(row["attributes"]),
        **values,
    )


def stored(column: str, value: Any) -> Any:
    """Return the value of a field as its column has it."""
    if column in _JSON:
        return json.dumps(dict(value))
    if column == "operation":
        return image_operations.write(value)
    return int(value) if column in _NUMBERS else value
