# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores machines on their host."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...arguments import parse_json
from ...hypervisors.carry_out import disk_restores
from ...hypervisors.registry import open_driver
from ...model.dataclass_json import from_plain, to_plain
from ...model.machine_restore import MachineToRestore
from ...sync import Item, Result


def restore(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Restore disks of a machine in their places; in check mode, say which."""
    request = from_plain(MachineToRestore, parse_json(params["request"], "request"))
    with contextlib.closing(open_driver(params["hypervisor"])) as driver:
        done = disk_restores.restore(request, driver, params["root"], check_mode)
    shown = to_plain(done)
    warnings = shown.pop("warnings")
    item = Item(f"machine {done.name}", {"disks": "as they were"}, {"disks": f"of backup {done.backup}"}, changed=True)
    return Result([item], {"restored": shown}, [*warnings])
