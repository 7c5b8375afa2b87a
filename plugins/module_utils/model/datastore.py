# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a datastore of the catalog: a directory where files of one kind lie."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from shlex import quote
from typing import Optional

from ..dataclass import dataclass
from .states import ImageType


class DatastoreType(enum.IntEnum):
    """Lists the types of datastores with OpenNebula's numbers; OpenNebula's names have _DS at their end."""

    IMAGE = 0
    SYSTEM = 1
    FILE = 2


SYSTEM = 0
DEFAULT = 1
FILES = 2
# The file in a shared one by which it is known.
SHARED_MARK = ".nebula-datastore"
# The ids of those that users make begin here.
FIRST = 100
# Types of images whose files lie in datastores of type FILE.
FILE_TYPES = frozenset((ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT))


@dataclass(frozen=True)
class Datastore:
    """Describes a datastore.
    id: None only in check mode, for a datastore that would be created.
    capacity_check: whether an empty disk has to fit as large as a machine sees it, though it takes no room yet.
    images: how many lie there.
    attributes: the user's own.
    shared: of type SYSTEM: one directory that all of its hosts see. Else each host has one of its own.
    hosts: of type SYSTEM: the names of those that have it.
    mark: of a shared one: what its directory is known by, as hosts have shown it; "" until one of them has."""

    id: Optional[int]
    name: str
    type: DatastoreType = DatastoreType.IMAGE
    capacity_check: bool = True
    description: str = ""
    images: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    hosts: tuple[str, ...] = ()
    mark: str = ""


def type_for(kind: ImageType) -> DatastoreType:
    """Return the type of the datastore where an image of this type lies."""
    return DatastoreType.FILE if kind in FILE_TYPES else DatastoreType.IMAGE


def default_datastore(kind: ImageType) -> int:
    return FILES if kind in FILE_TYPES else DEFAULT


def mark_anew(mark: str, path: str) -> str:
    """Return how the mark is made anew by which a datastore is known. No run does that: who has mounted a directory
    knows whether it is the one in which the disks of the machines are, and a run would have to guess."""
    return (
        "If the right directory is mounted there, and only its mark was lost or replaced, write that anew on one of "
        f"its hosts, as root: echo {quote(mark)} >{path}"
    )
