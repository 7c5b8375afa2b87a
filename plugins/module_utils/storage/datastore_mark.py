# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the file in the image datastore by which a node finds out that it sees the front-end's datastores itself."""

from __future__ import annotations

import contextlib
import os

from ..host.files import remove_file, write_atomically
from .datastore_layout import MARKER, image_directory


def write(root: str, catalog: str) -> bool:
    """Write the UUID of the catalog into the mark, on the front-end. Return whether that changed it. catalog: "" for
    an engine whose catalog has no UUID. Then there is no mark."""
    return bool(catalog) and write_atomically(path(root), catalog + "\n", mode=0o444)


def remove(root: str) -> None:
    """Remove the mark, and what killed runs left of writing it."""
    directory, name = os.path.split(path(root))
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir(directory):
            if entry.startswith(f".{name}.") and entry.endswith(".tmp"):
                remove_file(os.path.join(directory, entry))
    remove_file(path(root))


def path(root: str) -> str:
    return os.path.join(image_directory(root), MARKER)
