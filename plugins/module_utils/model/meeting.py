# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads where hosts are met by others that work with them in one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidValue
from .move import MeetingPlace

# An address of this kind leads each host to itself.
_LOOPBACK = ("localhost", "ip6-localhost", "::1")


def read_places(given: Any) -> dict[str, MeetingPlace]:
    """Return where hosts are met, by their names. Raise InvalidValue."""
    remedy = "Give a dict of address and port by the names of hosts"
    if not isinstance(given, Mapping):
        raise InvalidValue("option meeting_places", f"it is a {type(given).__name__}", remedy)
    found = {}
    for host, each in given.items():
        where = f"option meeting_places: host {host}"
        if not isinstance(each, Mapping) or set(each) != {"address", "port"}:
            raise InvalidValue(where, "it does not have address and port, and these alone", remedy)
        address, port = each["address"], each["port"]
        if not isinstance(address, str) or not address.strip():
            raise InvalidValue(f"{where}: address", "it is no text, or empty", remedy)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 1 << 16:
            raise InvalidValue(f"{where}: port {port!r}", "it is no number from 1 to 65535", "Set nebula_move_port")
        found[str(host)] = MeetingPlace(address.strip(), port)
    return found


def leads_to_itself(address: str) -> bool:
    """Return whether the address leads each host to itself."""
    return address.lower() in _LOOPBACK or address.startswith("127.")
