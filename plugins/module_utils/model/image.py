# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from .states import ImageState, ImageType


@dataclass(frozen=True)
class Image:
    """id: None only in check mode, for an image that would be created. uuid and generation identify its content:
    the generation rises after each writable use. source: its file on the front-end. size: MiB, virtual.
    sha256: of the stored file as imported, "" once a machine has written to it. checksum: as given, of the file given.
    origin: where it was taken from, without credentials. vms: how many machines use it. attributes: the user's own."""

    id: Optional[int]
    name: str
    type: ImageType = ImageType.OS
    state: ImageState = ImageState.LOCKED
    uuid: str = ""
    generation: int = 0
    persistent: bool = False
    datastore_id: int = 1
    source: str = ""
    format: str = "raw"
    size: int = 0
    sha256: str = ""
    checksum: str = ""
    origin: str = ""
    dev_prefix: str = ""
    target: str = ""
    description: str = ""
    error: str = ""
    vms: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
