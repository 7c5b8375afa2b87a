# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drops the checkpoints of a domain: what libvirt and QEMU know of the blocks that were written since its backups."""

from __future__ import annotations

from typing import Any

from ...deps import require
from ...errors import Conflict

# How the names of those begin that backups of ours made.
OURS = "nebula-"


def refuse_foreign(domain: Any) -> None:
    """Raise Conflict, by name, if the domain has checkpoints of somebody else."""
    foreign = sorted(name for each in domain.listAllCheckpoints(0) if not (name := each.getName()).startswith(OURS))
    if foreign:
        raise Conflict(
            f"checkpoints of domain {domain.name()}",
            f"somebody else has made some: {', '.join(foreign)}",
            f"Delete them, if nobody needs them for a backup: virsh checkpoint-delete {domain.name()} {foreign[0]}",
        )


def drop_checkpoints(domain: Any) -> list[str]:
    """Drop all checkpoints of ours, and while the domain runs their bitmaps in its disks; those in the files of one
    that is off are for its caller (storage.disk_saving.drop_bitmaps). Raise Conflict, before anything is dropped, for
    one of somebody else. Return the names of those that were dropped."""
    lv = require("libvirt")
    refuse_foreign(domain)
    dropped = []
    # Each before the one that it was made after.
    for each in domain.listAllCheckpoints(lv.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)[::-1]:
        dropped.append(each.getName())
        if domain.isActive():
            try:
                each.delete(0)
                continue
            except lv.libvirtError as error:
                # QEMU was killed since, or the disk has gone: there is no bitmap any more.
                if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN_CHECKPOINT:
                    continue
        each.delete(lv.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    return dropped
