# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_deploy takes, and how it polls a node. What carries plans out is in the module itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Optional

from ..arguments import ENGINE, PROGRESS
from ..errors import HypervisorError, MissingDependency
from ..host.restricted import RESTRICTED
from ..hypervisors.base import Driver
from ..hypervisors.poll import poll
from ..hypervisors.registry import DRIVERS, open_driver
from ..model import defaults
from ..model.plain import to_plain
from ..model.plan import Observed
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["polled", "applied", "audited", "compared"], "default": "polled"},
        "plan": {"type": "json", "no_log": True},
        "host": {"type": "str", "required": True},
        "catalog": {"type": "str"},
        "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
        "threads": {"type": "int", "default": 0},
        "safe_dirs": {"type": "list", "elements": "path", "default": []},
        "restricted_dirs": {"type": "list", "elements": "path", "default": [*RESTRICTED]},
        **ENGINE,
        **PROGRESS,
    },
    "required_if": [("state", "applied", ["plan"]), ("state", "compared", ["plan"])],
}


def libraries(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the libraries that this call needs."""
    builds = params["state"] in ("applied", "compared")
    return [*DRIVERS[params["hypervisor"]].libraries, *(["pycdlib"] if builds else [])]


@contextlib.contextmanager
def opened(name: str, check_mode: bool) -> Iterator[Optional[Driver]]:
    """The driver; None in check mode where an earlier task would have installed or started what it needs."""
    try:
        driver = open_driver(name)
    except (HypervisorError, MissingDependency):
        if not check_mode:
            raise
        yield None
        return
    with contextlib.closing(driver):
        yield driver


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Poll the node: state polled."""
    with opened(params["hypervisor"], check_mode) as driver:
        return Result(payload={"observed": polled(params, driver, check_mode)})


def polled(params: Mapping[str, Any], driver: Optional[Driver], check_mode: bool) -> Any:
    observed = poll(driver, params["root"], params["host"], params["catalog"] or "", params["hypervisor"])
    return shown(observed, check_mode)


def shown(observed: Observed, check_mode: bool) -> Any:
    # In check mode bridges of earlier tasks do not exist, so none is reported as missing.
    return to_plain(replace(observed, networks=None) if check_mode else observed)
