# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of Xen moves cold between two dom0s with a link between them: a part of `make test-xen`. Both carry out
their plans at the same time, as two hosts of a run do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_pair import ADDRESSES, Pair, pair  # noqa: E402

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import (  # noqa: E402
    from_plain,
    to_plain,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (  # noqa: E402
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    SOURCE,
    TARGET,
    PlannedMove,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (  # noqa: E402
    Plan,
    PlannedVm,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm  # noqa: E402

PLACE, NODE = "/root/moves", "/var/lib/moves"
SECONDS = 1500
MIB = 1 << 20
APPLY = """
import json, sys
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes.node_plans import apply_plan
print(json.dumps(apply_plan(json.load(open(sys.argv[1])), False).payload))
"""

pytestmark = [
    pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all"),
    pytest.mark.timeout(4 * SECONDS),
]


class Dom0s:
    """catalog: which makes their plans."""

    def __init__(self, hosts: Pair) -> None:
        self.hosts = hosts.hosts
        self.catalog, self.number = str(uuid.uuid4()), 0
        self.pairs = [self.key_pair(), self.key_pair()]
        boot = {"kernel": f"{PLACE}/demo/kernel", "initrd": f"{PLACE}/demo/initrd"}
        self.vm = Vm(
            1,
            str(uuid.uuid4()),
            "web",
            "xen",
            cpu=0.5,
            memory=160,
            os=Os(machine="xenpv", kernel_cmd="console=hvc0 quiet net.ifnames=0 mitigations=off", **boot),
            disks=(Disk(0, "xvda", bus="xen", type="FS", size=8, driver="raw", format="raw"),),
        )

    @staticmethod
    def key_pair() -> tuple[str, str]:
        words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=host"
        done = subprocess.run([*words.split(), "-keyout", "-"], check=True, capture_output=True, text=True).stdout
        key, end, certificate = done.partition("-----END PRIVATE KEY-----\n")
        return certificate, key + end

    def apply(self, number: int, planned: PlannedVm, **values: Any) -> VmOutcome:
        certificate, key = self.pairs[number]
        plan = Plan(self.catalog, self.number, f"dom0-{number}", (planned,), certificate=certificate, key=key, **values)
        asked = {
            "plan": json.dumps(to_plain(plan)),
            "host": plan.host,
            "root": NODE,
            "hypervisor": "xen",
            "catalog": self.catalog,
            "threads": 0,
            "detach_timeout": 60,
            "restricted_dirs": [],
            "safe_dirs": [],
            "_progress_file": "",
        }
        self.hosts[number].put(json.dumps(asked).encode(), ["sh", "-c", f"umask 077; cat > {PLACE}/asked"])
        words = ["env", f"PYTHONPATH={PLACE}", "python3", "-c", APPLY, f"{PLACE}/asked"]
        done = self.hosts[number].sudo(words, check=False, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout.strip().splitlines()[-1])["outcomes"]
        return from_plain(VmOutcome, found)

    def bring(self, number: int, wanted: str) -> None:
        self.number += 1
        outcome = self.apply(number, PlannedVm(self.vm, self.number, wanted))
        assert outcome.error is None, outcome

    def move(self, source: int, target: int) -> list[VmOutcome]:
        self.number += 1
        token = uuid.uuid4().hex

        def planned(role: str, peer: int) -> PlannedVm:
            address = ADDRESSES[target] if role == SOURCE else ""
            values: dict[str, Any] = {"address": address, "certificate": self.pairs[peer][0], "meeting": 120}
            move = PlannedMove(token, role, COLD, f"dom0-{peer}", limit=SECONDS, **values)
            return PlannedVm(self.vm, self.number, "RUNNING", previous="RUNNING", move=move, shutdown_timeout=600)

        with ThreadPoolExecutor() as both:
            acting = [
                both.submit(self.apply, number, planned(role, peer), moving=(token,))
                for number, role, peer in ((source, SOURCE, target), (target, TARGET, source))
            ]
            return [each.result() for each in acting]

    def file(self, number: int, name: str) -> str:
        return f"{NODE}/datastores/0/1/{name}"

    def wait_for_boots(self, number: int, times: int) -> None:
        look = f"grep -c 'nebula-guest: ready' {self.file(number, 'console.log')}"
        # Not for ever: the test has its time.
        wait = f'until [ "$({look})" -ge {times} ]; do sleep 1; done'
        self.hosts[number].sudo(["timeout", "600", "sh", "-c", wait], timeout=700)

    def names(self, number: int) -> str:
        return str(self.hosts[number].sudo(["xl", "list"]).stdout)


@pytest.fixture(scope="module")
def dom0s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dom0s]:
    with pair(tmp_path_factory.mktemp("pair")) as hosts:
        for host in hosts.hosts:
            host.load(PLACE)
            host.prepare(PLACE)
            host.sudo(["mkdir", "-m", "711", NODE])
        yield Dom0s(hosts)


def test_a_machine_moves_from_dom0_to_dom0(dom0s: Dom0s) -> None:
    dom0s.bring(0, "POWEROFF")
    content = os.urandom(8 * MIB)
    dom0s.hosts[0].put(content, ["sh", "-c", f"cat > {dom0s.file(0, 'disk.0')}"])
    dom0s.bring(0, "RUNNING")
    dom0s.wait_for_boots(0, 1)
    left, came = dom0s.move(0, 1)
    assert (left.error, left.moved) == (None, HAS_LEFT), left
    assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
    assert "one-1" not in dom0s.names(0) and "one-1" in dom0s.names(1)
    there = f"test ! -e /etc/xen/one-1.cfg && test ! -e {NODE}/datastores/0/1"
    assert dom0s.hosts[0].sudo(["sh", "-c", there], check=False).returncode == 0
    # Its console came along, and it has booted once more.
    dom0s.wait_for_boots(1, 2)
    digest = dom0s.hosts[1].sudo(["sha256sum", dom0s.file(1, "disk.0")]).stdout.split()[0]
    assert digest == hashlib.sha256(content).hexdigest()
