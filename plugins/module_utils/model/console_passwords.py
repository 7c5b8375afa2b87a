# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a console's password VNC and SPICE look at. Pure."""

from __future__ import annotations

# Bytes, by the type of graphics.
LENGTHS = {"vnc": 8, "spice": 59}


def is_cut(kind: str, password: str) -> bool:
    """Whether a console of that type looks at a part of the password only."""
    return len(_bytes(password)) > LENGTHS[kind]


def first(kind: str, password: str) -> str:
    """The part of a password that a console of that type looks at, in whole characters. libvirt starts no machine with
    a longer one."""
    return _bytes(password)[: LENGTHS[kind]].decode(errors="ignore")


def _bytes(password: str) -> bytes:
    return password.encode(errors="replace")
