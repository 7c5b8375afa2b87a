# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads MEMORY_ENCRYPTION and MEMORY_TUNE_OFFSET."""

from __future__ import annotations

from ...errors import InvalidValue
from ..object_names import known_are
from ..template import Template
from ..vm import MemoryEncryption
from .template_values import read_whole

ENCRYPTIONS = ("SEV", "SEV-ES")
# MiB that QEMU itself takes of memory that a host may not swap out, as a real oned has it.
_OFFSET = 256


def read_encryption(template: Template, where: str) -> MemoryEncryption | None:
    """Return how the machine's memory is to be encrypted, None for not at all."""
    vectors = template.vectors("MEMORY_ENCRYPTION")
    if not vectors and not template.get("MEMORY_ENCRYPTION").strip():
        return None
    kind = vectors[0].get("TYPE", "").strip().upper() if vectors else ""
    if kind not in ENCRYPTIONS:
        raise InvalidValue(
            f"{where}: MEMORY_ENCRYPTION/TYPE = {kind}",
            "no machine's memory is encrypted so, and one that is to be must not run without",
            known_are(kind, ENCRYPTIONS, "{}"),
        )
    text = template.get("MEMORY_TUNE_OFFSET").strip()
    offset = read_whole(text, f"{where}: MEMORY_TUNE_OFFSET", "Give whole MB") if text else _OFFSET
    return MemoryEncryption(kind, offset)


def check_encryption(template: Template, where: str) -> None:
    """Raise InvalidValue for memory that is to be encrypted in a way that no machine has."""
    read_encryption(template, where)
