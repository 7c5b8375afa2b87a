# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the directories of a catalog that is gone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..context import files_on_frontend
from ..engines.registry import engine_of
from ..host.files import remove_empty_directory
from ..storage import datastore_mark
from ..storage.datastore_layout import SYSTEM, image_directory, numbers
from . import transfer_key


def remove_directories(params: Mapping[str, Any]) -> None:
    """Remove the directories of a catalog that is gone. What shows that something is left, if this run is killed here,
    goes last before the root."""
    root = params["root"]
    files_on_frontend.remove_kept(root)
    transfer_key.remove_key(root)
    datastore_mark.remove(root)
    images = [image_directory(root, number) for number in numbers(root) if number != SYSTEM]
    for directory in (*images, os.path.join(root, "datastores")):
        # A directory that holds something belongs to a node, or to somebody.
        remove_empty_directory(directory)
    engine_of(params).forget(params)
    remove_empty_directory(root)
