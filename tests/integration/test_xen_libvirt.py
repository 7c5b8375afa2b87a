# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen by libvirt, in a real dom0: a part of `make test-xen`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_host import MoreXenHost  # noqa: E402
from xen_operations import ALL  # noqa: E402

PLACE = "/root/operations"
GOLDENS = sorted((ROOT / "tests" / "fixtures" / "deployment" / "xen").glob("*.xml"))

pytestmark = pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with MoreXenHost(tmp_path_factory.mktemp("xen")) as host:
        host.load(PLACE, ROOT / "tests" / "tools" / "xen_operations.py", *GOLDENS)
        host.sudo(["systemctl", "start", "libvirtd"], timeout=600)
        host.prepare(PLACE)
        yield host


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_libvirt_understands_each_golden(host, golden):
    """And so does xl what libvirt makes of it."""
    told = host.sudo(
        ["virsh", "-c", "xen:///system", "domxml-to-native", "xen-xl", f"{PLACE}/{golden.name}"], check=False
    )
    assert told.returncode == 0, told.stderr
    assert "name = " in told.stdout


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["pv", "pvh", "hvm"])
def test_operations(host, kind):
    argv = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_operations.py", f"{PLACE}/demo", "xen_libvirt", kind]
    told = host.sudo(argv, check=False, timeout=3550)
    done = [json.loads(line) for line in told.stdout.splitlines()]
    for line in done:
        print(*line.values(), sep="\t")
    assert told.returncode == 0, told.stderr
    assert [line["operation"] for line in done] == list(ALL)
    assert [line for line in done if line["error"]] == []
