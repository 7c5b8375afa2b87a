# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out how this host can encrypt the memory of machines."""

from __future__ import annotations

from pathlib import Path

PARAMETERS = "/sys/module/kvm_amd/parameters"
_KINDS = (("sev", "SEV"), ("sev_es", "SEV-ES"))


def kinds(parameters: str = PARAMETERS) -> tuple[str, ...]:
    """Return the words of MEMORY_ENCRYPTION/TYPE that it has."""
    return tuple(word for name, word in _KINDS if _is_on(f"{parameters}/{name}"))


def _is_on(path: str) -> bool:
    try:
        return Path(path).read_text(encoding="ascii").strip().upper() in ("Y", "1")
    except OSError:
        return False
