# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_verify takes and does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, PROGRESS
from ..host.console.expected_guest import KINDS
from ..host.console.guest_wait import wait
from ..host.progress import Reporter
from ..model import defaults
from ..reconcile.verify_guests import machines_of, sources, verdict_view
from ..sync import Item, Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "vms": {"type": "json", "required": True},
        "timeout": {"type": "int", "default": defaults.VERIFY_SECONDS},
        "pattern": {"type": "str", "default": ""},
        "patterns": {"type": "dict", "default": {}},
        "by": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(KINDS)},
        **ENGINE,
        **PROGRESS,
    }
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    report = functools.partial(Reporter(params["_progress_file"]).report, word="verified")
    machines = machines_of(params["vms"], params["pattern"], params["patterns"], params["by"])
    timeout = 0 if check_mode else params["timeout"]
    with sources(machines) as others:
        wanted = [machine.wanted for machine in machines]
        verdicts = wait(wanted, timeout, report, keep=not check_mode, sources=others)
    failed = [] if check_mode else [verdict for verdict in verdicts if verdict.error is not None]
    return Result(
        [Item(verdict.wanted.name, error=verdict.error, changed=False) for verdict in failed],
        {"vms": [verdict_view(verdict) for verdict in verdicts]},
    )
