# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds host names that a guest would not get, or only the beginning of them (truncated_values.py has other values)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ...dataclass import dataclass

# Bytes of a host name that Linux has (HOST_NAME_MAX), those between two dots, those of one with its domain, of which
# guests have what is before the first dot if the whole is too long, and characters of one in NetBIOS.
HOST_NAME = 64
LABEL = 63
WHOLE_NAME = 253
NETBIOS_NAME = 15


@dataclass(frozen=True)
class CutValue:
    """Describes a value of which something is lost. key: attribute and value, the same on any device."""

    asked: str
    key: tuple[str, str] = field(repr=False)
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.asked}: {self.found}. {self.remedy}"


def cuts_of_host_name(variables: Mapping[str, str]) -> list[CutValue]:
    """Return the host name of a context, if no guest can have it. Variables into which a machine's own values are put
    are judged with those values."""
    found = []
    for key in ("SET_HOSTNAME", "HOSTNAME"):
        name = variables.get(key, "")
        plain = name.strip().rstrip(".")
        length, label = (_byte_length(text) for text in (plain, max(plain.split("."), key=_byte_length)))
        if "$" in name or (label <= LABEL and length <= WHOLE_NAME):
            continue
        if label > HOST_NAME and label == length:
            why = f"it has {length} bytes, and a host name {HOST_NAME} at most"
        elif label > LABEL:
            why = f"a part of it has {label} bytes, and one between two dots has {LABEL} at most"
        else:
            why = f"it has {length} bytes, and with its domain a host name has {WHOLE_NAME} at most"
        shown = f"CONTEXT/{key} = {name!r}"
        found.append(CutValue(shown, (key, name), f"{why}: its guest would not get it", "Give a shorter name"))
    return found


def _byte_length(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def cuts_of_windows_name(variables: Mapping[str, str]) -> list[CutValue]:
    """Return the host name of a Windows, if its program cuts it to what the older protocol of its network has."""
    key = "SET_HOSTNAME" if variables.get("SET_HOSTNAME") else "HOSTNAME"
    name = variables.get(key, "").partition(".")[0]
    if len(name) <= NETBIOS_NAME:
        return []
    found = (
        f"its host name has {len(name)} characters, and Windows would be {name[:NETBIOS_NAME]!r}, to which "
        "cloudbase-init cuts it for its network (NetBIOS): other machines may be called the same"
    )
    remedy = f"Give a host name of up to {NETBIOS_NAME} characters, as {key} in CONTEXT or by the machine's name"
    return [CutValue(f"CONTEXT/{key} = {name!r}", ("NETBIOS", name), found, remedy)]
