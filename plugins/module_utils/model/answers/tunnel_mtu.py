# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers of its part in OVN (nebula_ovn_host's `host`), as far as the catalog goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Bytes of the largest packet of IP.
LARGEST = 65535


def inner_mtu(answer: Any) -> int:
    """Return the bytes that its tunnels leave for packets of machines; 0 where it does not answer so."""
    host = answer.get("host") if isinstance(answer, Mapping) else None
    size = host.get("inner_mtu") if isinstance(host, Mapping) else None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST:
        return 0
    return size
