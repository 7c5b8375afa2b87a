# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes an image of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from ..errors import WrongState
from .flags import TRUE
from .image_operations import Operation
from .states import ImageState, ImageType

# An attribute: its administrator knows what is in it.
TRUSTED = "TRUSTED"
NOT_FINISHED = "the installation into it is not finished"


@dataclass(frozen=True)
class Image:
    """Describes an image.
    id: None only in check mode, for an image that would be created.
    uuid, generation: identify its content: the generation rises after each writable use.
    source: its file on the front-end.
    size: MiB, virtual.
    sha256: the digest of the stored file as imported, "" once a machine has written to it.
    checksums: digests of the given file, by their algorithms.
    origin: where it was taken from, without credentials.
    vms: how many machines use it.
    attributes: the user's own.
    firmware, bus: what the system in it was installed with (BIOS, UEFI, UEFI_SECURE; virtio, scsi, sata, ide), "" if
    that is not known.
    luks_secret: UUID of the libvirt secret that opens it, "" if it is not encrypted.
    snapshots: JSON list of the disk snapshots that its file holds, "" for none.
    unfinished: at which step what writes into it (an installation) is, "" once it is done.
    operation: what is under way with it; None also for a LOCKED image that is being stored.
    notes: what was done to its content, for the next run to know."""

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
    checksums: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    dev_prefix: str = ""
    target: str = ""
    description: str = ""
    error: str = ""
    vms: int = 0
    firmware: str = ""
    bus: str = ""
    luks_secret: str = ""
    snapshots: str = ""
    unfinished: str = ""
    operation: Optional[Operation] = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def checksum(self) -> str:
        """Return its checksums as users read them: algorithm:digest, with blanks between several."""
        return " ".join(f"{algorithm}:{digest}" for algorithm, digest in self.checksums.items())

    @property
    def is_trusted(self) -> bool:
        """Return whether this host may read its file systems: the user said so, and no guest wrote to it since."""
        marked = self.attributes.get(TRUSTED, "").upper() in TRUE
        return marked and self.notes.get("trusted", 0) == self.generation


def checksums_of(text: str) -> dict[str, str]:
    """Return the checksums of an image that shows this text as its checksum."""
    return dict(each.split(":", 1) for each in text.split())


def refuse_unfinished(asked: str, image: Image) -> None:
    """Raise WrongState where an installation into the image is not at its end."""
    if image.unfinished:
        raise WrongState(
            asked,
            f"it is being installed: {NOT_FINISHED} (it is at: {image.unfinished})",
            "Wait for its end, or give it up: state: absent for its entry of nebula_installs",
        )
