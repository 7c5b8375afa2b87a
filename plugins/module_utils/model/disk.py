# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a disk of a virtual machine, and where its content comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from . import defaults
from .disk_snapshots import Snapshot
from .injected_files import Injected

# Formats of images that are disks.
RAW = "raw"
DISK_FORMATS = (RAW, "qcow2")
# The format of an image that is no disk: the archive of a root file system, of which a container gets a directory.
TAR = "tar"
# The format of a container's own copy.
DIRECTORY = "directory"
# The type of a directory of the host that a guest mounts: it is no disk, and stands among them in a template.
SHARED_DIRECTORY = "FILESYSTEM"
# The directory, in a machine's own, where a hypervisor that makes disks itself has them.
IMAGES = "images"


@dataclass(frozen=True)
class Disk:
    """Describes one DISK = [ … ] with its image resolved.
    type: FILE, CDROM, FS or SWAP (these two are volatile: made empty for this machine), or SHARED_DIRECTORY.
    clone: True gives the machine an overlay or copy of its own; False uses the image's file in place.
    save: the content is the image's when the machine ends (a persistent image).
    source: the image's file in the front-end's datastore, "" for volatile disks.
    image_uuid, generation: identify the source's content; a base in a node's cache is called after both.
    format: the source's, never probed on a node. TAR: it is the root file system of a container.
    driver: the format of the machine's own disk.N (raw or qcow2), never probed either.
    size: MiB of the machine's disk, never below the image's.
    bus: virtio, scsi, ide, sata, or "" for the hypervisor's own choice from the target.
    luks_secret: UUID of the libvirt secret that opens it, "" if it is not encrypted.
    snapshots: the snapshots that its file holds, as recorded.
    inject: files that are written into it when it is made, in the way inject_via.
    trusted: this host's kernel may mount it to write them.
    by_hypervisor: the hypervisor itself makes it of its source (or of nothing): there is no file of it here, and the
    node's source is what the hypervisor gets.
    boot_order: 1 is first, 0 none.
    options: CACHE, IO, DISCARD, TOTAL_IOPS_SEC … as given, upper-case names."""

    disk_id: int
    target: str
    type: str = "FILE"
    bus: str = ""
    image_id: Optional[int] = None
    image: str = ""
    image_uuid: str = ""
    generation: int = 0
    source: str = ""
    format: str = "raw"
    driver: str = "qcow2"
    size: int = 0
    clone: bool = True
    save: bool = False
    readonly: bool = False
    fs: str = ""
    boot_order: int = 0
    luks_secret: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    inject: tuple[Injected, ...] = field(default=(), repr=False)
    inject_via: str = "auto"
    trusted: bool = False
    by_hypervisor: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> str:
        """Return how the host caches it, in lower case; "" leaves that to the hypervisor."""
        return self.options.get("CACHE", defaults.CACHE).lower()

    @property
    def discard(self) -> str:
        """Return what becomes of blocks that the guest discards, in lower case; "" leaves that to the hypervisor."""
        return self.options.get("DISCARD", defaults.DISCARD).lower()


@dataclass(frozen=True)
class DiskFiles:
    """Says where a disk of a machine really is on the node.
    path: the file the hypervisor opens, or the directory of a container's root (format DIRECTORY).
    block: it is a block device.
    backing: the chain below it, nearest first, as (path, format)."""

    path: str
    format: str
    backing: tuple[tuple[str, str], ...] = ()
    block: bool = False
