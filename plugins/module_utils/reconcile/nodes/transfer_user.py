# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares a node that the front-end sends files of images to: as which user it comes, what it may do, and how the
node is known."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Sequence
from pathlib import Path

from ...dataclass import replace
from ...errors import Conflict, InUse, InvalidValue, NebulaError
from ...host import node_file, rsync
from ...host.command import find, run
from ...host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from ...model.transfer import METHODS, SHARED, SSH
from ...storage import datastore_mark, node_image_files

AUTO = "auto"
CHOICES = (AUTO, *METHODS)
HOST_KEYS = "/etc/ssh"
LARGEST = 1 << 16
_TIMEOUT = 60


def method_of(wanted: str, root: str, catalog: str) -> str:
    """Return shared or ssh. `auto` means: shared if the catalog's datastore is on this node."""
    if wanted != AUTO:
        return wanted
    try:
        mark = read_limited(datastore_mark.path(root), LARGEST, follow=False).decode()
    except (NebulaError, UnicodeDecodeError):
        return SSH
    return SHARED if mark.strip() == catalog else SSH


def can_be_found_out(root: str, key: str) -> bool:
    """Return whether the front-end's key is known, in a run without the front-end from an earlier run."""
    return bool(key) or os.path.exists(_keys(os.path.join(root, node_image_files.PLACE)))


def present(root: str, key: str, changes: node_file.Changes) -> None:
    """Have the front-end's key do nothing here but exchange files below `transfer`."""
    home = os.path.join(root, node_image_files.PLACE)
    if not can_be_found_out(root, key) and not changes.check_mode:
        raise InvalidValue(
            "a node that files are sent to over ssh",
            "the front-end's key is not known",
            "Run playbook nebula.provision.site, or role nebula.provision.frontend before: it makes the key",
        )
    _user(root, home, changes)
    if changes.check_mode:
        if not os.path.isdir(home):
            changes.did(home, "absent", "present")
    else:
        places = (node_image_files.CACHE, node_image_files.PLACE, node_image_files.IN, node_image_files.OUT)
        _note(root, [os.path.join(root, name) for name in places])
        for name in node_image_files.make_places(root):
            changes.did(os.path.join(root, name), "absent", "present")
    command = f"{shlex.quote(find('rrsync'))} {shlex.quote(home)}" if not changes.check_mode else "rrsync"
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    path = _keys(home)
    if changes.check_mode:
        if not os.path.exists(path):
            changes.did(path, "absent", "present")
        return
    make_directory(os.path.dirname(path), 0o755)
    if not key:
        # The node keeps the key that it has.
        return
    if write_atomically(path, f'restrict,command="{quoted}" {key}\n', mode=0o644):
        changes.did(path, "absent", "present")


def _keys(home: str) -> str:
    return os.path.join(home, ".ssh", "authorized_keys")


def _note(root: str, paths: Sequence[str]) -> None:
    """Note directories before they are made: a run that is killed must not leave what nobody knows of."""

    def change(before: node_file.NodeFile) -> node_file.NodeFile:
        new = [path for path in paths if path not in before.directories and not os.path.isdir(path)]
        return replace(before, directories=(*before.directories, *new))

    node_file.update(root, change)


def _user(root: str, home: str, changes: node_file.Changes) -> None:
    try:
        found = pwd.getpwnam(rsync.USER)
    except KeyError:
        changes.did(f"user {rsync.USER}", "absent", "present")
        if not changes.check_mode:
            node_file.update(root, lambda before: replace(before, user=True))
            # No password matches "*". The shell runs the one command that the key allows.
            words = ["--system", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", "--password", "*"]
            run([find("useradd"), *words, rsync.USER], timeout=_TIMEOUT)
        return
    if os.path.normpath(found.pw_dir) != os.path.normpath(home):
        raise Conflict(
            f"user {rsync.USER} for files that the front-end sends",
            f"there is one, with the home directory {found.pw_dir}",
            f"Remove that user if nobody needs it, or set nebula_root to where its home is {node_image_files.PLACE}",
        )


def absent(root: str, known: node_file.NodeFile, changes: node_file.Changes) -> None:
    """Remove the key, the user and the directories. Raise InUse while files have not come back to the front-end."""
    home = os.path.join(root, node_image_files.PLACE)
    left = node_image_files.returning_sizes(root)
    if left and not changes.check_mode:
        raise InUse(
            "giving the node back",
            f"{len(left)} files that machines wrote have not come back to the front-end: {', '.join(sorted(left)[:5])}",
            "Run playbook nebula.provision.site: it fetches them. What no image needs, remove from "
            f"{os.path.join(root, node_image_files.OUT)}",
        )
    if os.path.lexists(_keys(home)):
        changes.did(_keys(home), "present", "absent")
    if os.path.isdir(home) and not changes.check_mode:
        remove_file(_keys(home))
        remove_empty_directory(os.path.dirname(_keys(home)))
        node_image_files.remove_all(root)
    _remove_user(root, known, changes)


def _remove_user(root: str, known: node_file.NodeFile, changes: node_file.Changes) -> None:
    if not known.user:
        return
    changes.did(f"user {rsync.USER}", "present", "absent")
    if changes.check_mode:
        return
    try:
        pwd.getpwnam(rsync.USER)
    except KeyError:
        pass
    else:
        run([find("userdel"), rsync.USER], timeout=_TIMEOUT)
    node_file.update(root, lambda before: replace(before, user=False))


def host_keys(directory: str = HOST_KEYS) -> list[str]:
    """Return the node's own public keys, as its sshd shows them."""
    found = []
    for path in sorted(Path(directory).glob("ssh_host_*_key.pub")):
        try:
            words = read_limited(str(path), LARGEST, follow=True).decode("ascii").split()
        except (NebulaError, UnicodeDecodeError):
            continue
        if len(words) >= 2:
            found.append(" ".join(words[:2]))
    return found
