# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what goes onto a machine's context ISO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ..dataclass import dataclass

# How a context is laid out on its medium; the first is the default.
FORMATS = ("opennebula", "configdrive", "nocloud")
# What the guest sees the medium as; the first is the default.
DEVICES = ("cdrom", "disk")


@dataclass(frozen=True)
class ContextFile:
    """Describes a file or directory for the ISO.
    source: its path on the host that reads it, or a URL.
    target: its name on the ISO.
    sha256: the digest of what came from the URL.
    image: the image of type CONTEXT whose file it is."""

    source: str
    target: str
    sha256: str = ""
    image: str = ""

    @property
    def key(self) -> str:
        """Return what a plan calls the source: another machine may have other content from the same URL."""
        return self.sha256 or self.source


@dataclass(frozen=True)
class Context:
    """Describes the context of a machine.
    disk_id: the context is disk.<disk_id>.
    variables: names in upper case to final values, all expanded.
    format, device: one of FORMATS, and one of DEVICES.
    exact: its variables are filled in as OpenNebula does it; those of older machines are not, and stay as they were."""

    disk_id: int
    target: str
    bus: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[ContextFile, ...] = field(default=(), repr=False)
    format: str = FORMATS[0]
    device: str = DEVICES[0]
    exact: bool = False
