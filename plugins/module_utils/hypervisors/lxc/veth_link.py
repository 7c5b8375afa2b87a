# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps udev from giving a NIC of a container another MAC than libvirt has given it.

libvirt makes both ends first, which have a random MAC then, and sets the MAC after that. systemd's udev gives
whatever has a random MAC one of its own, also when libvirt has set it just before: then the container has no NIC of
its MAC."""

from __future__ import annotations

from pathlib import Path

from ...errors import ForeignObject, NotFound
from ...host.files import read_limited, remove_file, write_atomically
from ...host.node_file import Changes

PATH = Path("/etc/systemd/network/10-nebula-provision-veth.link")
MARK = "# Written by nebula.provision: NICs of containers keep the MAC that libvirt gives them."
# libvirt calls the container's end vnet0 until it is in there; the host's end is called after the machine.
TEXT = f"""{MARK}
[Match]
OriginalName=vnet* one-*
Driver=veth

[Link]
NamePolicy=keep
MACAddressPolicy=none
"""
LARGEST = 1 << 16
_DOES = "keeps MACs of containers"


def prepare(changes: Changes) -> None:
    """Write the file where systemd is; udev reads it when the file comes."""
    if not PATH.parent.is_dir():
        return
    before = _installed_text()
    if before == TEXT:
        return
    if before is not None and MARK not in before:
        raise ForeignObject(f"file {PATH}", "one of this name is there that is not ours", "Rename or remove it")
    changes.did(str(PATH), "not there" if before is None else "of another version", _DOES)
    if not changes.check_mode:
        write_atomically(str(PATH), TEXT, mode=0o644)


def give_back(changes: Changes) -> bool:
    """Remove the file if it is ours. Return whether it was."""
    before = _installed_text()
    if before is None or MARK not in before:
        return False
    changes.did(str(PATH), _DOES, "not there")
    if not changes.check_mode:
        remove_file(str(PATH))
    return True


def _installed_text() -> str | None:
    try:
        return read_limited(str(PATH), LARGEST, follow=False).decode("utf-8", "replace")
    except NotFound:
        return None
