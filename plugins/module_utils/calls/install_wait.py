# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_install_wait takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, PROGRESS
from ..deps import respawn_if_missing
from ..host.progress import Reporter
from ..hypervisors.registry import DRIVERS
from ..install import watch_requests
from ..model import defaults
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "installs": {"type": "list", "elements": "dict", "required": True},
        "vms": {"type": "list", "elements": "dict", "required": True},
        "catalog": {"type": "str", "required": True},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        **ENGINE,
        **PROGRESS,
    }
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    return [*DRIVERS[params["hypervisor"]].libraries]


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    watched = watch_requests.watched_of(params["installs"], params["vms"], now=check_mode)
    if not watched:
        return Result(payload={"waited": []})
    say = Reporter(params["_progress_file"]).say
    return watch_requests.result_of(
        watch_requests.wait(watched, params["hypervisor"], params["catalog"], say), check_mode
    )
