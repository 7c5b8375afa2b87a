# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads ISOLCPUS of a host: which of its processors no machine gets to itself."""

from __future__ import annotations

import re

from ..errors import InvalidValue

ATTRIBUTE = "ISOLCPUS"
# Of the largest hosts that kernels are built for.
_MOST = 8192
_PART = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def read(text: str, where: str) -> frozenset[int]:
    """Return the numbers of a list as the kernel writes it: 0-3,8. Raise InvalidValue for anything else."""
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MOST:
            raise InvalidValue(
                f"{where}: {ATTRIBUTE} = {text[:80]!r}",
                "it is no list of processors",
                "Write their numbers, as in 0-3,8",
            )
        found.update(range(first, last + 1))
    return frozenset(found)
