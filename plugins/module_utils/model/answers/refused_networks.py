# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which networks a node can't have (nebula_node_network's `refused`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 100_000
LONGEST_NAME = 256


def read(answer: Any) -> set[str] | None:
    """Return the names of the networks that the node refused; None where it did not answer so."""
    names = answer.get("refused") if isinstance(answer, Mapping) else None
    if not isinstance(names, (list, tuple)) or len(names) > MOST:
        return None
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names):
        return None
    return {*names}
