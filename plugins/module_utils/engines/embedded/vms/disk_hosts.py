# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells on which host lies what machines write to their disks, and how it comes back from there."""

from __future__ import annotations

import sqlite3

from ....dataclass import dataclass
from ....model.image_operations import Return
from ....model.transfer import SHARED
from ..hosts import Hosts
from .vm_rows import VmRows


@dataclass(frozen=True)
class DiskHosts:
    hosts: Hosts
    rows: VmRows

    def host_with_newest(self, row: sqlite3.Row) -> str:
        """Return the host from which what the machine wrote has to come back; "" if it writes to our own files."""
        host = self.hosts.by_id().get(row["host_id"])
        return "" if host is None or host.transfer == SHARED else host.name

    def return_operation(self, row: sqlite3.Row) -> Return | None:
        """Return the operation of images by which what the machine wrote comes back; None if nothing has to."""
        away = self.host_with_newest(row)
        return Return(away, ran=self.rows.ever_ran(row["id"])) if away else None
