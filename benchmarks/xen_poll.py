#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a poll of many machines asks of Xen. Runs in dom0, as root, with PYTHONPATH where the collection is.

usage: xen_poll.py KERNEL COUNT

Prints {"calls": of xl in one poll, "seconds": of it, "list": seconds of `xl list -v`}.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.driver import DEFINITIONS, XenDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
TIMES = 5


def main(kernel: str, count: str) -> None:
    driver = XenDriver()
    marks = [Mark(CATALOG, index, f"5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f{index:04x}", 1) for index in range(int(count))]
    try:
        for mark in marks:
            vm = Vm(
                vm_id=mark.vm_id, uuid=mark.uuid, name="polled", hypervisor="xen", cpu=0.1, memory=64,
                os=Os(machine="xenpvh", kernel=kernel),
            )  # fmt: skip
            driver.define(vm, driver.render(vm, Site("/nowhere", CATALOG, 1, {}, "xen")), mark)
            # It need not run to be listed.
            subprocess.run(["xl", "create", "-q", "-p", str(DEFINITIONS / f"one-{mark.vm_id}.cfg")], check=True)
        calls = counted()
        assert len(driver.survey(CATALOG).vms) == len(marks)
        made = len(calls)
        print(
            json.dumps(
                {
                    "calls": made,
                    "seconds": timed(lambda: driver.survey(CATALOG)),
                    "list": timed(lambda: subprocess.run(["xl", "list", "-v"], check=True, capture_output=True)),
                }
            )
        )
    finally:
        for mark in marks:
            driver.remove(mark)


def counted() -> list[Any]:
    """What is added to with each program that is run."""
    calls: list[Any] = []
    run = xl.run

    def counting(argv: Any, **options: Any) -> Any:
        calls.append(argv)
        return run(argv, **options)

    xl.run = counting  # type: ignore[assignment]
    return calls


def timed(work: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
