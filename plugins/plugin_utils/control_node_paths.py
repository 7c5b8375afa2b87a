# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves relative paths on the control node: where files that a user names are looked for, and where a run writes.

A playbook of this collection runs from wherever the collection is installed. The user's files are beside the inventory,
beside the user's own playbook, or in the working directory; never in the collection, which the next installation
removes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.utils.path import unfrackpath

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.flags import flag

OWN = Path(__file__).resolve().parents[2]
COLLECTIONS = "ansible_collections"


class FileNotThere(Exception):
    """Says that there is no file of that name in any of the places, which the message names."""


class NotWritable(Exception):
    """Says that the directory cannot be written to. The message has the reason and what to do."""


def is_ours(remote_src: Any) -> bool:
    """Return whether a path is one of the control node. The module refuses a value that is neither yes nor no."""
    try:
        return remote_src in (None, "") or not flag(remote_src, "remote_src")
    except NebulaError:
        return False


def find(name: str, variables: Mapping[str, Any], below: str = "files", only_files: bool = False) -> str:
    """Return the absolute path of the file on the control node that a user's text names. Raise NotThere if there is
    none.
    variables: the task's variables.
    below: a subdirectory of each place that is searched, too.
    only_files: whether only regular files count."""
    if name.startswith(("/", "~")):
        path = unfrackpath(name, follow=False)
        if os.path.isfile(path) or (os.path.exists(path) and not only_files):
            return str(path)
        raise FileNotThere("is not on the control node")
    candidates = list(_candidates(name, variables, below))
    found = next((path for path in candidates if os.path.isfile(path)), None)
    if found is None and not only_files:
        # The caller reports what it is instead of a file.
        found = next((path for path in candidates if os.path.exists(path)), None)
    if found is None:
        raise FileNotThere(f"is not on the control node: {_searched(variables)}")
    return found


def output_directory(name: str, variables: Mapping[str, Any]) -> str:
    """Return the absolute path of the directory that a user's text names and that a run writes into. Raise NotWritable
    if that is impossible; nothing is made then.

    A relative path is below the inventory's directory. If the inventory is a directory, Ansible reads everything below
    it as inventory, so the path is beside it."""
    if name.startswith(("/", "~")):
        path = str(unfrackpath(name, follow=False))
    else:
        inventories = _inventories(variables)
        if not inventories:
            raise NotWritable(
                f"{name} is relative to the inventory's directory, and this inventory is in none. Give an absolute path"
            )
        path = os.path.normpath(os.path.join(_outside_inventories(inventories[0], variables), name))
    installed = _collection_of(path)
    if installed:
        raise NotWritable(
            f"{path} is in the directory of collection {installed}, which the next installation removes. Keep the "
            "inventory elsewhere, or give an absolute path"
        )
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise NotWritable(f"{path} can't be made: {there} is no directory. Give another path")
    if not os.access(there, os.W_OK | os.X_OK):
        raise NotWritable(f"{path}: nothing can be written to {there} on the control node. Give another, absolute path")
    return path


def _candidates(name: str, variables: Mapping[str, Any], below: str) -> Iterator[str]:
    for place in (*_roles(variables), *_inventories(variables), *_playbooks(variables), os.getcwd()):
        if below and name.split("/", maxsplit=1)[0] != below:
            yield os.path.join(place, below, name)
        yield os.path.join(place, name)


def _roles(variables: Mapping[str, Any]) -> list[str]:
    """Return the directories of the user's own roles and task files that contain the task; they are searched first."""
    search = [os.path.abspath(str(path)) for path in variables.get("ansible_search_path") or ()]
    playbooks = _playbooks(variables)
    return [path for path in search if path not in playbooks and not _is_ours(path)]


def _inventories(variables: Mapping[str, Any]) -> list[str]:
    """Return the directory of the inventory that has the host, then those of the other inventories, in their order."""
    found = [str(variables["inventory_dir"])] if variables.get("inventory_dir") else []
    found += [path if os.path.isdir(path) else os.path.dirname(path) for path in _sources(variables)]
    return list(dict.fromkeys(os.path.abspath(path) for path in found))


def _sources(variables: Mapping[str, Any]) -> list[str]:
    sources = variables.get("ansible_inventory_sources") or ()
    # A list of host names is an inventory source without a directory.
    named = [str(source) for source in ([sources] if isinstance(sources, str) else sources) if "," not in str(source)]
    return [os.path.abspath(os.path.expanduser(source)) for source in named]


def _outside_inventories(directory: str, variables: Mapping[str, Any]) -> str:
    """Return the directory, or the nearest one above it whose files Ansible does not all read as inventory."""
    for source in sorted(path for path in _sources(variables) if os.path.isdir(path)):
        if directory == source or directory.startswith(source.rstrip("/") + "/"):
            return os.path.dirname(source)
    return directory


def _playbooks(variables: Mapping[str, Any]) -> list[str]:
    """Return the directories of the user's own playbooks. While one of ours is imported, Ansible names ours."""
    named = [str(each) for each in context.CLIARGS.get("args") or ()]
    found = [os.path.dirname(os.path.abspath(path)) for path in named if os.path.isfile(path)]
    if variables.get("playbook_dir"):
        found.insert(0, os.path.abspath(str(variables["playbook_dir"])))
    return [path for path in dict.fromkeys(found) if not _is_ours(path)]


def _is_ours(path: str) -> bool:
    """Return whether the directory is this collection's. In a checkout, users keep files too, so only some count."""
    real = Path(path).resolve()
    owns = [OWN] if COLLECTIONS in OWN.parts else [OWN / "playbooks", OWN / "roles"]
    return any(real == own or own in real.parents for own in owns)


def _collection_of(path: str) -> str:
    """Return the name of the installed collection that contains the path, "" if none does."""
    for spelling in (os.path.abspath(path), os.path.realpath(path)):
        parts = Path(spelling).parts
        for index, part in enumerate(parts[:-2]):
            if part == COLLECTIONS:
                return ".".join(parts[index + 1 : index + 3])
    return ""


def _searched(variables: Mapping[str, Any]) -> str:
    inventories, playbooks = ", ".join(_inventories(variables)), ", ".join(_playbooks(variables))
    roles = _roles(variables)
    return (
        (f"neither in {', '.join(roles)}, nor" if roles else "neither")
        + f" beside the inventory ({inventories or 'which is in no directory'}), nor beside the playbook "
        f"({playbooks or 'which is of this collection'}), nor in the working directory ({os.getcwd()})"
    )
