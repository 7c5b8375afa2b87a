# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the files of this host's UEFI firmware for a machine that comes as it runs. libvirt chooses them for a machine
that starts. One that comes has to get those that are like its old host's; and where the definition of a migration
leaves the choice to libvirtd 9.0, that ends with a signal."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import Unsupported
from .domain_xml import add_text_element
from .parsed_definitions import parsed

# Where packages of firmware describe it, and where an administrator does: a file of the same name counts there.
DESCRIPTORS = ("/usr/share/qemu/firmware", "/etc/qemu/firmware")
_SECURE = frozenset(("secure-boot", "enrolled-keys"))


def explicit(own: str, offered: str, asked: str, places: Collection[str] = DESCRIPTORS) -> str:
    """Return this host's own definition with the files of its firmware named, which it leaves to libvirt else.
    offered: the definition with which the machine runs on its old host.
    Raise Unsupported where this host has no firmware like that one's."""
    # What is parsed is kept for others.
    root = copy.deepcopy(parsed(own))
    os_ = root.find("os")
    if os_ is None or os_.get("firmware") is None:
        return own
    secure = os_.find("firmware/feature[@name='secure-boot'][@enabled='yes']") is not None
    loader = (ET.fromstring(offered).findtext("os/loader") or "").strip()
    known = _known(places, secure)
    if loader not in known:
        has = ", ".join(sorted(known)) or "none"
        raise Unsupported(
            asked,
            f"it runs with firmware {loader[:200]!r} of its host, and this one has {has}",
            "Install the same package ovmf on both hosts, or move it cold (move: cold)",
        )
    nvram = (os_.findtext("nvram") or "").strip()
    del os_.attrib["firmware"]
    for each in (*os_.findall("firmware"), *os_.findall("nvram")):
        os_.remove(each)
    marks = {"readonly": "yes", **({"secure": "yes"} if secure else {}), "type": "pflash"}
    add_text_element(os_, "loader", loader, **marks)
    add_text_element(os_, "nvram", nvram, template=known[loader])
    return ET.tostring(root, encoding="unicode")


def _known(places: Collection[str], secure: bool) -> dict[str, str]:
    """Return the firmware of this host with or without secure boot: the files of the variables with which machines
    begin, by the files of its program."""
    described: dict[str, Any] = {}
    for place in places:
        for path in sorted(Path(place).glob("*.json")):
            # One that is empty takes the other one's away.
            described[path.name] = {}
            with contextlib.suppress(OSError, ValueError):
                described[path.name] = json.loads(path.read_text(encoding="utf-8"))
    return dict(filter(None, (_files(each, secure) for each in described.values())))


def _files(described: Any, secure: bool) -> tuple[str, str] | None:
    mapping = described.get("mapping") if isinstance(described, dict) else None
    if not isinstance(mapping, Mapping) or mapping.get("device") != "flash":
        return None
    features = _SECURE.intersection(described.get("features") or ())
    names = [(mapping.get(each) or {}).get("filename", "") for each in ("executable", "nvram-template")]
    return (names[0], names[1]) if all(names) and features == (_SECURE if secure else frozenset()) else None
