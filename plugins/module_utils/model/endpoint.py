# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins an address and what follows it after a colon, such as a port, and splits them. An IPv6 address has colons
itself, so that it stands in brackets there (RFC 3986)."""

from __future__ import annotations


def bracketed(address: str) -> str:
    """Return the address as it stands before a colon. A name and an IPv4 address stay as they are."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def endpoint(address: str, port: int) -> str:
    return f"{bracketed(address)}:{port}"


def split(text: str) -> tuple[str, str]:
    """Return the address, without brackets, and the port of an endpoint; ("", "") if it is none."""
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        address = ""
    return (address, port) if colon and address and port.isdecimal() else ("", "")
