# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live migration between two dom0s with a link and a shared directory between them: a part of `make test-xen`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_pair import SHARED, pair  # noqa: E402

PLACE = "/root/migration"
STEPS = 1500

pytestmark = [
    pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all"),
    pytest.mark.timeout(4 * STEPS),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with pair(tmp_path_factory.mktemp("pair")) as hosts:
        for host in hosts.hosts:
            host.load(PLACE, *(ROOT / "tests" / "tools" / f"xen_{name}.py" for name in ("operations", "migration")))
            host.prepare(PLACE)
        yield hosts


class Journey:
    def __init__(self, hosts, kind, name):
        self.hosts, self.kind = hosts, kind
        # Its own: what a guest said in another test is not what this one says.
        self.directory = f"{SHARED}/{name}-{kind}"

    def does(self, number, step, *arguments):
        """What went wrong, "" if nothing did."""
        argv = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_migration.py", f"{PLACE}/demo"]
        argv += [self.directory, self.kind, step, *arguments]
        told = self.hosts.hosts[number].sudo(argv, check=False, timeout=STEPS)
        assert told.returncode == 0, told.stderr
        done = json.loads(told.stdout)
        print(*done.values(), sep="\t")
        return done["error"]


@pytest.fixture
def journey(hosts, request):
    made = Journey(hosts, request.param, request.node.originalname)
    yield made
    for number in (0, 1):
        made.does(number, "remove")


@pytest.mark.parametrize("journey", ["pv"], indirect=True)
def test_a_pv_machine_stays(hosts, journey):
    """Debian builds its Xen without shadow paging (CONFIG_SHADOW_PAGING), by which what such a machine writes would be
    followed."""
    assert journey.does(0, "start") == ""
    assert journey.does(1, "expect") == ""
    said = journey.does(0, "migrate", hosts.login(1))
    assert "can't follow what a PV machine writes" in said and "The machine runs on here" in said, said
    assert "one-" not in hosts.second.sudo(["xl", "list"]).stdout
    assert journey.does(0, "live") == ""


@pytest.mark.parametrize("journey", ["pvh", "hvm"], indirect=True)
def test_it_goes_on_on_the_other_host(hosts, journey):
    assert journey.does(0, "start") == ""
    assert journey.does(1, "expect") == ""
    assert journey.does(0, "migrate", hosts.login(1)) == ""
    assert journey.does(1, "live") == ""


@pytest.mark.parametrize("journey", ["pvh"], indirect=True)
def test_there_and_back(hosts, journey):
    assert journey.does(0, "start") == ""
    assert journey.does(1, "expect") == ""
    assert journey.does(0, "migrate", hosts.login(1)) == ""
    assert journey.does(0, "expect") == ""
    assert journey.does(1, "migrate", hosts.login(0)) == ""
    assert journey.does(0, "live") == ""


@pytest.mark.parametrize("journey", ["pvh"], indirect=True)
def test_one_that_fails_runs_on(hosts, journey):
    """First where nobody expects it, then where its bridge is not."""
    assert journey.does(0, "start") == ""
    assert "does not expect it" in journey.does(0, "migrate", hosts.login(1))
    assert journey.does(1, "expect") == ""
    hosts.second.sudo(["ip", "link", "delete", "nbrops0"])
    said = journey.does(0, "migrate", hosts.login(1))
    assert "The machine runs on here" in said, said
    assert "one-" not in hosts.second.sudo(["xl", "list"]).stdout
    assert journey.does(0, "stays") == ""
