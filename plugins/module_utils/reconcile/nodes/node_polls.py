# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Polls a node, and shows what was found there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ...dataclass import replace
from ...errors import HypervisorError, MissingDependency
from ...hypervisors.base import Driver
from ...hypervisors.poll import poll
from ...hypervisors.registry import open_driver
from ...model.dataclass_json import to_plain
from ...model.plan import Observed
from ...sync import Result


@contextlib.contextmanager
def driver_if_there(name: str, check_mode: bool) -> Iterator[Driver | None]:
    """Yield the driver; None in check mode where an earlier task would have installed or started what it needs."""
    try:
        driver = open_driver(name)
    except (HypervisorError, MissingDependency):
        if not check_mode:
            raise
        yield None
        return
    with contextlib.closing(driver):
        yield driver


def poll_node(params: Mapping[str, Any], driver: Driver | None, check_mode: bool) -> Result:
    """Return what runs on the node."""
    observed = poll(driver, params["root"], params["host"], params["catalog"] or "", params["hypervisor"])
    return Result(payload={"observed": observed_view(observed, check_mode)})


def observed_view(observed: Observed, check_mode: bool) -> Any:
    """Return how results show what was found on a node."""
    # In check mode bridges of earlier tasks do not exist, so none is reported as missing.
    return to_plain(replace(observed, networks=None) if check_mode else observed)
