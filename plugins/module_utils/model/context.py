# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes onto a machine's context ISO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ContextFile:
    """A file or directory for the ISO. source: its path on the node that makes the ISO; target: its name on the ISO."""

    source: str
    target: str


@dataclass(frozen=True)
class Context:
    """disk_id: the context is disk.<disk_id>. variables: names in upper case to final values, all expanded."""

    disk_id: int
    target: str
    bus: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[ContextFile, ...] = ()
