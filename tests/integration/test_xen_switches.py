# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen in networks of OVN and of Open vSwitch, in a real dom0, each operation by the drivers: a part of
`make test-xen`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_host import MoreXenHost  # noqa: E402
from xen_switches import OPERATIONS, WHOLE  # noqa: E402

PLACE = "/root/switches"
# libvirt's own way to the same script.
BY_LIBVIRT = ("deploy", "lease", "reach", "attach", "detach", "reboot", "remove")

pytestmark = [
    pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all"),
    pytest.mark.timeout(3600),
]


@pytest.fixture
def host(tmp_path):
    """One that has no OVN yet."""
    with MoreXenHost(tmp_path / "xen") as host:
        programs = [ROOT / "tests" / "tools" / name for name in ("xen_operations.py", "xen_switches.py")]
        host.load(PLACE, *programs)
        yield host


@pytest.mark.parametrize(
    ("driver", "kinds"),
    [("xen", {"pv": WHOLE, "hvm": OPERATIONS["hvm"]}), ("xen_libvirt", {"pv": BY_LIBVIRT, "hvm": OPERATIONS["hvm"]})],
)
def test_operations(host, driver, kinds):
    host.prepare(PLACE)
    if driver == "xen_libvirt":
        host.sudo(["systemctl", "start", "libvirtd"], timeout=600)
    argv = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_switches.py", f"{PLACE}/demo", driver]
    told = host.sudo([*argv, *(f"{kind}:{','.join(kinds[kind])}" for kind in kinds)], check=False, timeout=3550)
    done = [json.loads(line) for line in told.stdout.splitlines()]
    for line in done:
        print(*line.values(), sep="\t")
    assert told.returncode == 0, told.stderr
    assert [line for line in done if line["error"]] == []
    assert [line["operation"] for line in done] == [operation for kind in kinds for operation in kinds[kind]]
