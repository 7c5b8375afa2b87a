# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a copy of a catalog, and what became of it when it was restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from .image import Image

FORMAT = 1


@dataclass(frozen=True)
class CatalogCopy:
    """Holds what a copy of a catalog says of itself.
    plan: the number of its newest plan.
    machines: how many are not DONE.
    next_ids: by kind, the id that the next object gets.
    known: UUIDs of its machines.
    restored: of which copy it was made, and its plan then; "" if it was not.
    plan_key: the key of its plans' proofs (model.plan.Plan.proof), "" in copies of older versions.
    plan_key_since: the newest plan that went out without a proof."""

    catalog: str
    plan: int
    schema: int
    machines: int = 0
    images: tuple[Image, ...] = ()
    next_ids: Mapping[str, int] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    restored: str = ""
    plan_key: str = field(default="", repr=False)
    plan_key_since: int = 0


@dataclass(frozen=True)
class ImageFile:
    """Describes an image of a backup.
    source: where its file is.
    copy: its name beside the backup, "" if it was not copied.
    size: bytes of the file; None if there was none.
    sha256: "" once a machine may have written to it."""

    name: str
    uuid: str
    source: str
    size: Optional[int] = None
    sha256: str = ""
    copy: str = ""


@dataclass(frozen=True)
class Manifest:
    """Describes what lies beside a backup's file and makes it complete.
    time: UTC.
    size, sha256: bytes and digest of the file."""

    file: str
    catalog: str
    plan: int
    schema: int
    time: str
    size: int
    sha256: str
    machines: int = 0
    images: tuple[ImageFile, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class UnknownMachine:
    """Describes a machine with the catalog's mark that the restored catalog does not know, or has on another host.
    forget: the command that ends it.
    files: names of the files that its disks are or rest on.
    known: the catalog that gave way has it.
    elsewhere: the host on which the restored catalog has this very machine, "" if it does not know the machine."""

    host: str
    vm_id: int
    uuid: str
    name: str
    state: str
    hypervisor: str = "kvm"
    generation: int = 0
    macs: tuple[str, ...] = ()
    forget: str = ""
    files: frozenset[str] = frozenset()
    known: bool = False
    elsewhere: str = ""


@dataclass(frozen=True)
class RestoreResult:
    """Describes what became of a catalog that was restored.
    plan, next_id: as they are now, above all that was found on the nodes and in the catalog that gave way.
    ahead: a plan was decided that the copy has not.
    hosts: the nodes that follow the catalog.
    raised: machines whose node had acted on a newer decision.
    missing: machines that their host does not have.
    held: addresses that no machine gets while a stranger has them.
    rested: sentences about images that strangers' disks are or rest on.
    proof: the proof of the plan's number (model.plan.Plan.proof)."""

    catalog: str
    plan: int
    next_id: int
    ahead: bool = False
    raised: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    strangers: tuple[UnknownMachine, ...] = ()
    held: tuple[str, ...] = ()
    rested: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    proof: str = field(default="", repr=False)
