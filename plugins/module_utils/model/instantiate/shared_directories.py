# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads DISK with TYPE = FILESYSTEM: a directory of the host that a guest mounts (virtiofs)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...dataclass import replace
from ...errors import InvalidValue
from .. import hypervisor_rules
from ..device_matching import is_shared_directory
from ..disk import DIRECTORY, SHARED_DIRECTORY, Disk
from ..template import Template
from .template_values import read_flag

# Bytes that a guest's kernel reads of a tag.
_LONGEST_TAG = 36
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# What is said of a disk, and means nothing of a directory.
_OF_DISKS = ("TARGET", "DEV_PREFIX", "BUS", "SIZE", "FORMAT", "FS", "DRIVER", "CACHE", "IO", "DISCARD", "ORDER")


def check_shared_directory(vector: Mapping[str, str], hypervisor: str, where: str) -> None:
    """Raise InvalidValue for a directory that no machine can be given."""
    if not hypervisor_rules.rules_of(hypervisor).shares_directories:
        raise InvalidValue(
            f"{where}: TYPE = FILESYSTEM",
            f"machines of {hypervisor} get no directory of their host",
            "Use a machine of KVM, or an empty disk: TYPE = fs",
        )
    _plain_path(vector.get("SOURCE", "").strip(), f"{where}: SOURCE", "of the host, such as /srv/shared")
    if vector.get("MOUNT_POINT", "").strip():
        _plain_path(vector["MOUNT_POINT"].strip(), f"{where}: MOUNT_POINT", "in the guest, such as /srv/data")
    tag = vector.get("MOUNT_TAG", "").strip()
    if tag and not (_TAG.fullmatch(tag) and len(tag) <= _LONGEST_TAG):
        raise InvalidValue(
            f"{where}: MOUNT_TAG = {tag!r}",
            "no guest finds a directory by that",
            f"Use letters, digits, and . - _, {_LONGEST_TAG} at most",
        )
    read_flag(vector, "READONLY", where)
    for key in _OF_DISKS:
        if vector.get(key, "").strip():
            raise InvalidValue(f"{where}: {key} = {vector[key]}", "it is a directory, and no disk", f"Leave {key} out")


def check_tags(template: Template, where: str) -> None:
    """Raise InvalidValue for two directories with the same tag."""
    known: dict[str, int] = {}
    for index, vector in enumerate(template.vectors("DISK")):
        if not is_shared_directory(vector):
            continue
        tag = vector.get("MOUNT_TAG", "").strip() or _default_tag(index)
        if tag in known:
            raise InvalidValue(
                f"{where}: DISK {index}: MOUNT_TAG = {tag}", f"DISK {known[tag]} has it", "Give each its own"
            )
        known[tag] = index


def shared_directory_of(index: int, vector: Mapping[str, str], options: Mapping[str, str], where: str) -> Disk:
    """Return the directory as one of the machine's disks, which its hypervisor makes of nothing."""
    named = {
        **options,
        "MOUNT_TAG": vector.get("MOUNT_TAG", "").strip() or _default_tag(index),
        "MOUNT_POINT": vector.get("MOUNT_POINT", "").strip() or f"/mnt/one-fs-{index}",
    }
    disk = Disk(index, "", type=SHARED_DIRECTORY, source=vector["SOURCE"].strip(), format=DIRECTORY, driver=DIRECTORY)
    return replace(disk, readonly=read_flag(vector, "READONLY", where), by_hypervisor=True, options=named)


def _default_tag(index: int) -> str:
    return f"one-tag-{index}"


def variables_of(disks: Sequence[Disk]) -> dict[str, str]:
    """Return what a guest's context says of directories that it is to mount, as a real oned does."""
    found = {}
    for disk in disks:
        if disk.type == SHARED_DIRECTORY:
            for key in ("MOUNT_TAG", "MOUNT_POINT"):
                found[f"DISK{disk.disk_id}_{key}"] = disk.options[key]
    return found


def _plain_path(path: str, where: str, example: str) -> None:
    words = path.split("/")[1:]
    if not path.startswith("/") or not all(words) or {".", ".."} & set(words) or not path.isprintable():
        raise InvalidValue(
            f"{where} = {path!r}",
            "it is no plain path of a directory" if path else "it is not set",
            f"Give the path of a directory {example}: from the root on, without . and .., and without a / at its end",
        )
