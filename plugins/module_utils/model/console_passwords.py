# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says how much of a console's password VNC and SPICE look at."""

from __future__ import annotations

# Bytes, by the type of graphics.
LENGTHS = {"vnc": 8, "spice": 59}


def is_cut(kind: str, password: str) -> bool:
    """Return whether a console of that type looks at a part of the password only."""
    return kind in LENGTHS and _size(password) > LENGTHS[kind]


def used_part(kind: str, password: str) -> str:
    """Return the part of a password that such a console looks at, in whole characters. libvirt refuses longer ones."""
    if not is_cut(kind, password):
        return password
    password = password[: LENGTHS[kind]]
    while is_cut(kind, password):
        password = password[:-1]
    return password


def _size(password: str) -> int:
    return len(password.encode(errors="surrogatepass"))
