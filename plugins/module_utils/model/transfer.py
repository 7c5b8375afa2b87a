# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says how the files of images get to a node, and back: what the catalog decides of it, and the node answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..dataclass import dataclass

# The datastores are on the node under the front-end's paths; each file is copied to it, and back, over ssh.
SHARED, SSH = "shared", "ssh"
METHODS = (SHARED, SSH)
# What a node has of a file: one that nothing writes to and many machines may rest on; a machine's own, which it writes
# to until it ends; the same of one that is to end; one that the node makes of a machine's disk.
BASE, OWN, ENDED, SAVED = "base", "own", "ended", "saved"
# The front-end sends these.
SENT = (BASE, OWN)
# Stands before the name of a file that a machine writes to: it is nobody's base.
OWN_PREFIX = "own-"
# With this behind its name, a second file states the size and digest of a file that has arrived.
CHECK = ".json"
_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-(?:0|[1-9]\d{0,17})")


@dataclass(frozen=True)
class PlannedImage:
    """Describes a file of the front-end that machines of a plan need, or are to make.
    name: another one for each content that the image ever has.
    path: on the front-end.
    sha256: "" if a machine has written to it since it was stored."""

    kind: str
    name: str
    image: str
    path: str
    sha256: str = ""

    @property
    def local(self) -> str:
        """Return what it is called in a node's cache."""
        return OWN_PREFIX + self.name if self.kind in (OWN, ENDED) else self.name


def name_of(uuid: str, generation: int) -> str:
    return f"{uuid}-{generation}"


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def is_outdated(name: str, generations: Mapping[str, int]) -> bool:
    """Return whether the image has gone on to another content. What no image is known of is kept: the catalog may be an
    old copy. generations: by uuid, as the catalog has them."""
    uuid, _hyphen, generation = name.removeprefix(OWN_PREFIX).rpartition("-")
    return is_name(f"{uuid}-{generation}") and generations.get(uuid, -1) > int(generation)
