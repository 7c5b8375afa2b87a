# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisors there are. A new one is a file and a line here."""

from __future__ import annotations

from ..errors import Unsupported
from .base import Driver
from .kvm import KvmDriver

DRIVERS: dict[str, type[Driver]] = {"kvm": KvmDriver}


def open_driver(name: str) -> Driver:
    """Connect to this node's hypervisor."""
    if name not in DRIVERS:
        raise Unsupported(f"hypervisor {name}", "this collection has no driver for it", f"Known: {', '.join(DRIVERS)}")
    return DRIVERS[name]()
