# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns installations as results show them into what is watched on a node, and back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..errors import InvalidValue, NebulaError, TimedOut
from ..hypervisors.base import Mark
from ..hypervisors.registry import open_driver
from ..sync import Item, Result
from . import installation_end
from .watch_machines import Ending, Watched, watch

EXAMPLE = "Give the list `waits` of nebula_install, and the machines of role vm"


def watched_of(
    waits: Sequence[Mapping[str, Any]], vms: Sequence[Mapping[str, Any]], now: bool = False
) -> list[Watched]:
    """Return the installations whose machines are in the list. now: whether to look only once."""
    machines = {vm.get("name"): vm for vm in vms}
    found = []
    for index, wait in enumerate(waits):
        vm = machines.get(wait.get("machine"))
        # In check mode machines are predicted, and have no console.
        if vm is None or not vm.get("console"):
            continue
        end = str(wait.get("end") or installation_end.POWEROFF)
        if (
            not isinstance(wait.get("name"), str)
            or not isinstance(vm.get("id"), int)
            or end not in installation_end.ENDS
        ):
            raise InvalidValue(f"option installs, item {index}", "it is no installation", EXAMPLE)
        found.append(
            Watched(
                name=wait["name"],
                vm_id=vm["id"],
                machine=str(vm.get("name")),
                console=str(vm["console"]),
                # The link that the machine's first disk is, to the image's own file.
                disk=os.path.join(str(vm.get("directory") or ""), "disk.0"),
                size=int(wait.get("size") or 0),
                end=end,
                pattern=str(wait.get("pattern") or ""),
                failures=tuple(str(text) for text in wait.get("failures") or ()),
                marker=bool(wait.get("marker")),
                keys=bool(wait.get("keys")),
                fresh=bool(wait.get("fresh")),
                timeout=0.0 if now else float(wait.get("timeout") or 0),
                access=str(vm.get("access") or ""),
            )
        )
    return found


def wait(watched: Sequence[Watched], hypervisor: str, catalog: str, say: Callable[[str], None]) -> list[Ending]:
    """Watch installations on this node by its hypervisor until each is at its end, and return their endings.
    say: takes a line of JSON with how far each is."""
    with contextlib.closing(open_driver(hypervisor)) as driver:

        def states() -> dict[int, tuple[str, str]]:
            return {vm.vm_id: (vm.state, vm.ended) for vm in driver.survey(catalog).vms}

        def press(vm_id: int) -> None:
            # The machine may have ended in between; the next look finds out.
            with contextlib.suppress(NebulaError):
                driver.press_key(Mark(catalog, vm_id))

        def count(vm_id: int) -> int | None:
            try:
                return driver.written(Mark(catalog, vm_id))
            except NebulaError:
                return None

        return watch(watched, states, lambda lines: say(json.dumps(lines, ensure_ascii=False)), press, count)


def result_of(endings: Sequence[Ending], check_mode: bool) -> Result:
    """Return the result that shows these endings."""
    failed = [ending for ending in endings if ending.error is not None]
    payload = {"waited": [ending_view(ending) for ending in endings]}
    if check_mode:
        # In check mode a foreseen start may resolve the error, and a single look cannot exceed a time limit.
        foreseen = [ending.error for ending in failed if not isinstance(ending.error, TimedOut)]
        return Result([], payload, [f"In check mode this is no failure: {error}" for error in foreseen])
    return Result([Item(ending.watched.name, error=ending.error, changed=False) for ending in failed], payload)


def ending_view(ending: Ending) -> dict[str, Any]:
    return {
        "name": ending.watched.name,
        "vm_id": ending.watched.vm_id,
        "installed": ending.installed,
        "how": ending.how,
        "seconds": round(ending.seconds, 1),
        "percent": ending.percent,
        "last_lines": list(ending.last_lines),
    }
