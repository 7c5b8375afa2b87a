# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the id of an object that an engine has given it. Ids begin with 0, and what was not stored has none."""

from __future__ import annotations

from typing import Any

from ..errors import NotFound

# The container of OpenVZ that machine 0 has; the others follow.
FIRST_CONTAINER = 100_000
# Objects that are not called as their class.
_KINDS = {"VmRecord": "VM", "StoredTemplate": "template"}


def id_of(thing: Any) -> int:
    """Return the id of an object (image, network, host, machine …); raise NotFound for one that was not stored."""
    if thing.id is None:
        kind = type(thing).__name__
        raise NotFound(f"{_KINDS.get(kind, kind.lower())} {thing.name}", "it has no id", "It was not stored")
    return int(thing.id)
