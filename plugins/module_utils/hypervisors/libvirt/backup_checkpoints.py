# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forgets the checkpoints of a machine's backups: what libvirt knows of them, and the bitmaps in which QEMU keeps what
was written since. Either may be there without the other, after a QEMU that was killed, or a run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import NebulaError
from ...model.disk import DiskFiles
from ...storage import disk_bitmaps
from ...storage.disk_bitmaps import OURS
from . import qemu_monitor


def names(lv: Any, domain: Any) -> list[str]:
    """Return the names of all checkpoints that libvirt knows of the domain."""
    try:
        return [str(each.getName()) for each in domain.listAllCheckpoints()]
    except lv.libvirtError as error:
        if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN:
            return []
        raise


def forget(lv: Any, domain: Any, doomed: Collection[str], files: Mapping[int, DiskFiles], asked: str) -> None:
    """Forget checkpoints, and their bitmaps in the machine's disks. files: where these are, if it is off."""
    for name in doomed:
        if domain.isActive():
            _forget_running(lv, domain, name, asked)
        else:
            # First the bitmaps: a run that is killed in between comes back for what libvirt still knows.
            _remove_from_files(files, name, asked)
            _forget_name(lv, domain, name)


def _remove_from_files(files: Mapping[int, DiskFiles], name: str, asked: str) -> None:
    for disk in files.values():
        # Of one that can't be opened now, as an encrypted one, it goes while the machine runs (remove_orphans).
        with contextlib.suppress(NebulaError):
            disk_bitmaps.remove(disk, lambda each: each == name, asked)


def _forget_running(lv: Any, domain: Any, name: str, asked: str) -> None:
    try:
        domain.checkpointLookupByName(name).delete()
    except lv.libvirtError as error:
        if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN_CHECKPOINT:
            return
        # Of a disk, the bitmap is gone or broken.
        _remove_bitmaps(lv, domain, {name}, asked)
        _forget_name(lv, domain, name)


def _forget_name(lv: Any, domain: Any, name: str) -> None:
    with contextlib.suppress(lv.libvirtError):
        domain.checkpointLookupByName(name).delete(lv.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)


def remove_orphans(lv: Any, domain: Any, prefix: str, asked: str) -> None:
    """Remove the bitmaps of a running machine that begin so, and belong to no checkpoint that libvirt knows: the
    machine was defined anew, or has come from another host."""
    known = set(names(lv, domain))
    found = {bitmap for _node, bitmap in _bitmaps(lv, domain, asked) if bitmap.startswith(prefix)}
    _remove_bitmaps(lv, domain, found - known, asked)


def _remove_bitmaps(lv: Any, domain: Any, doomed: Collection[str], asked: str) -> None:
    if not doomed:
        return
    for node, bitmap in _bitmaps(lv, domain, asked):
        if bitmap in doomed:
            # What QEMU itself is about to forget is no error.
            with contextlib.suppress(NebulaError):
                qemu_monitor.ask(lv, domain, asked, "block-dirty-bitmap-remove", node=node, name=bitmap)


def _bitmaps(lv: Any, domain: Any, asked: str) -> list[tuple[str, str]]:
    nodes = qemu_monitor.ask(lv, domain, asked, "query-named-block-nodes", flat=True)
    return [
        (str(node["node-name"]), str(bitmap["name"]))
        for node in nodes
        for bitmap in node.get("dirty-bitmaps", ())
        if bitmap.get("name") and OURS.fullmatch(str(bitmap["name"]))
    ]
