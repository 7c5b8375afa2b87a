# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the directory on the front-end with the key by which it comes to nodes, and with their host keys."""

from __future__ import annotations

import contextlib
import os
import shutil

from ..host.files import remove_empty_directory, remove_file
from ..host.rsync import KEY, KNOWN, SENDING, key
from ..model.transfer import CHECK

DIRECTORY = "ssh"


def place(root: str) -> str:
    return os.path.join(root, DIRECTORY)


def has_key(root: str) -> bool:
    return os.path.exists(os.path.join(place(root), f"{KEY}.pub"))


def public_key(root: str, check_mode: bool) -> str:
    """Return the public key of the front-end, which is made if there is none yet; "" in check mode if there is none."""
    return "" if check_mode and not has_key(root) else key(place(root))


def remove_key(root: str) -> None:
    """Remove the key and the host keys of nodes. Files of others stay."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(place(root)):
            if name in (KEY, f"{KEY}.pub") or name.startswith(f"{KNOWN}.") or name.endswith(CHECK):
                remove_file(os.path.join(place(root), name))
            elif name.startswith(SENDING):
                shutil.rmtree(os.path.join(place(root), name), ignore_errors=True)
    remove_empty_directory(place(root))
