# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores machines on their host; on the front-end, brings it the backup that it does not have."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...arguments import parse_json
from ...dataclass import replace
from ...hypervisors.base import Driver
from ...hypervisors.carry_out import disk_restores
from ...hypervisors.registry import open_driver
from ...model.dataclass_json import from_plain, to_plain
from ...model.machine_restore import MachineRestored, MachineToRestore
from ...sync import Item, Result
from . import luks_secrets


def request_of(params: Mapping[str, Any]) -> MachineToRestore:
    """Return what this host is asked for. Raise InvalidValue for what is none."""
    request = from_plain(MachineToRestore, parse_json(params["request"], "request"))
    return replace(request, key=params["key"] or "") if request.directory else request


def is_of_other_host(request: MachineToRestore) -> bool:
    """Return whether this is the front-end, which brings the backup to the host of the machine."""
    return request.passage is not None and not request.passage.gives


def restore(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Restore disks of a machine in their places; in check mode, say which."""
    request = request_of(params)
    if is_of_other_host(request):
        return _bring(request, params["root"], check_mode)
    with contextlib.closing(open_driver(params["hypervisor"])) as driver:
        done = _restored(request, driver, params, check_mode)
    shown = to_plain(done)
    warnings = shown.pop("warnings")
    item = Item(f"machine {done.name}", {"disks": "as they were"}, {"disks": f"of backup {done.backup}"}, changed=True)
    return Result([item], {"restored": shown}, [*warnings])


def _restored(
    request: MachineToRestore, driver: Driver, params: Mapping[str, Any], check_mode: bool
) -> MachineRestored:
    passage, root = request.passage, params["root"]
    passphrases = luks_secrets.wanted_of(parse_json(params["luks_secrets"] or "[]", "luks_secrets"))
    if passage is None:
        return disk_restores.restore(request, driver, root, check_mode, passphrases=passphrases)
    # Of TLS, which only this needs.
    from ...hypervisors.backups.receiving import Foreseen, receive

    if check_mode:
        return disk_restores.restore(request, driver, root, True, Foreseen(request), passphrases)
    return receive(
        request, passage, lambda origin: disk_restores.restore(request, driver, root, False, origin, passphrases)
    )


def _bring(request: MachineToRestore, root: str, check_mode: bool) -> Result:
    from ...hypervisors.backups.bringing import bring

    if request.passage is not None:
        bring(request, request.passage, root, check_mode)
    return Result()
