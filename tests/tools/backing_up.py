# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of machines of one host to a directory of it, by its own driver."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    machine_backups,
    machine_reading,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupRequest


def back_up_all(request: BackupRequest, driver: Driver, root: str) -> list[dict[str, Any]]:
    """What became of each machine, in their order."""
    place = machine_backups.open_place(request, root)
    begin = functools.partial(machine_reading.readable, request, driver, root)
    with ThreadPoolExecutor(max(1, min(request.at_once, len(request.machines)))) as pool:
        return list(pool.map(functools.partial(machine_backups.back_up, request, place, begin), request.machines))
