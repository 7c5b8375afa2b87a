# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Xen driver in a real dom0. NEBULA_XEN=all runs each operation on machines of each kind, and all troubles, as
`make test-xen` does; else a PV machine lives, and three troubles are met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_host import XenHost  # noqa: E402
from xen_operations import ALL, KINDS  # noqa: E402
from xen_troubles import ALL as TROUBLES  # noqa: E402
from xen_troubles import MET  # noqa: E402

from ansible_collections.nebula.provision.tests.integration.guests import debian  # noqa: E402

GOLDENS = sorted((ROOT / "tests" / "fixtures" / "deployment" / "xen").glob("*.cfg"))
PLACE = "/root/operations"
LIFE = ("deploy", "poll", "log", "weigh", "attach", "detach", "shutdown", "remove")
SAMPLE = {**dict.fromkeys(KINDS, ()), "pv": LIFE}
# A Debian of its own says nothing of what the demo guest does.
WHOLE = {
    **dict.fromkeys(KINDS, ALL),
    "debian": ("deploy", "poll", "reboot", "save", "restore", "shutdown", "start", "cancel", "remove"),
}
WANTED = WHOLE if os.environ.get("NEBULA_XEN") == "all" else SAMPLE

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with XenHost(tmp_path_factory.mktemp("xen")) as host:
        programs = [ROOT / "tests" / "tools" / name for name in ("xen_operations.py", "xen_troubles.py")]
        host.load(PLACE, *programs, *GOLDENS)
        if WANTED is WHOLE:
            with debian.for_xen().open("rb") as disk:
                packed = subprocess.run(["gzip", "-1c"], stdin=disk, stdout=subprocess.PIPE, check=True).stdout
            host.put(packed, ["sh", "-c", f"gzip -d | cp --sparse=always /dev/stdin {PLACE}/demo/debian.raw"])
        host.prepare(PLACE)
        yield host


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_xl_understands_each_golden(host, golden):
    """It has in mind what the template says, and has nothing to complain of."""
    told = host.sudo(["xl", "create", "-n", "-d", f"{PLACE}/{golden.name}"], check=False)
    assert told.returncode == 0, told.stderr
    said = told.stderr.replace("Parsing config from ", "").replace(f"{PLACE}/{golden.name}", "").strip()
    assert said == "", said
    found, vm = json.loads(told.stdout), json.loads(golden.with_suffix(".json").read_text())["vm"]
    assert found["b_info"]["target_memkb"] == vm["memory"] << 10
    assert found["b_info"]["max_vcpus"] == (vm.get("vcpu") or 1)
    assert [nic["mac"] for nic in found.get("nics", [])] == [nic["mac"] for nic in vm.get("nics", [])]
    disks = [*vm.get("disks", []), *filter(None, [vm.get("context")])]
    assert len(found.get("disks", [])) == len(disks)
    assert {disk["vdev"] for disk in found.get("disks", [])} == {disk["target"].partition(":")[0] for disk in disks}


def run(host, program, *arguments, timeout):
    """Its lines. They are shown as they are, for whoever reads the log."""
    told = host.sudo(
        ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/{program}", f"{PLACE}/demo", *arguments],
        check=False,
        timeout=timeout,
    )
    done = [json.loads(line) for line in told.stdout.splitlines()]
    for line in done:
        print(*line.values(), sep="\t")
    assert told.returncode == 0, told.stderr
    return done


@pytest.mark.timeout(1200)
def test_troubles(host):
    """What goes wrong is told before, or cleared away."""
    names = TROUBLES if WANTED is WHOLE else MET
    done = run(host, "xen_troubles.py", *names, timeout=1150)
    assert [line for line in done if line["error"]] == []
    assert [line["trouble"] for line in done] == list(names)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if WANTED[kind]])
def test_operations(host, kind):
    done = run(host, "xen_operations.py", "xen", f"{kind}:{','.join(WANTED[kind])}", timeout=3550)
    assert [line["operation"] for line in done] == list(WANTED[kind])
    assert [line for line in done if line["error"]] == []
    assert "Triple fault" not in host.sudo(["xl", "dmesg"]).stdout
