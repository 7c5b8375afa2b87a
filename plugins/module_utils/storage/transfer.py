# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image's file reaches a node. A method is a function and a line in METHODS."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import NotFound, Unsupported
from ..model.disk import Disk

# A disk whose source is on the front-end → the path of the same content on this node.
Method = Callable[[Disk], str]


def shared(disk: Disk) -> str:
    """The datastore is on this node under the front-end's own path: it is the front-end, or mounts it."""
    path = os.path.realpath(disk.source)
    if not os.path.isfile(path):
        raise NotFound(
            f"image {disk.image} (id {disk.image_id}): its file {disk.source} on this node",
            "there is none",
            "Mount the front-end's datastores here under the same path; if the file is lost, import the image again",
        )
    return path


METHODS: dict[str, Method] = {"shared": shared}


def method(name: str) -> Method:
    try:
        return METHODS[name]
    except KeyError:
        raise Unsupported(
            f"transfer method {name!r}", "there is none of that name", f"Known are {', '.join(METHODS)}"
        ) from None
