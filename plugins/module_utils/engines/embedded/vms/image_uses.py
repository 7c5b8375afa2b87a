# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images machines use: taken for their disks, and how what they wrote comes back from a host."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from ....errors import NebulaError
from ....model.image import Image
from ....model.operations import Return
from ....model.transfer import SHARED
from ..hosts import Hosts
from ..images.verbs import Images
from ..references import id_of
from .rows import VmRows


@dataclass(frozen=True)
class ImageUses:
    images: Images
    hosts: Hosts
    rows: VmRows

    def acquire(self, vm_id: int, name: str, images: Mapping[int, Image], adopted: bool = False) -> None:
        """Note that the machine's disks use these images, by disk id. adopted: see Images.acquire."""
        for disk_id, image in images.items():
            try:
                self.images.uses.acquire(vm_id, disk_id, id_of(image), image.persistent, adopted)
            except NebulaError as error:
                error.asked = f"VM {name}, disk {disk_id}: {error.asked}"
                raise

    def away(self, row: sqlite3.Row) -> str:
        """The name of the host from which what the machine wrote has to come back, "" if it writes to the front-end's
        own files."""
        host = self.hosts.by_id().get(row["host_id"])
        return "" if host is None or host.transfer == SHARED else host.name

    def back(self, row: sqlite3.Row) -> Return | None:
        """The operation of images by which what the machine wrote comes back, None if nothing has to."""
        away = self.away(row)
        return Return(away, ran=self.rows.ever_ran(row["id"])) if away else None
