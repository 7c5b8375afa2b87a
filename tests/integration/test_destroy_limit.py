# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of site.yml whose list would destroy the disks of more machines than it may: it stops before anything of it is
done, in check mode with the same words, and goes on with the word that it says. Teardown needs none."""

from __future__ import annotations

import re
from typing import Any

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import Case, changed_tasks, recap, torn_down

WEB: dict[str, Any] = {"name": "web-%i", "count": 3, "template": "web", "hard": True}


def refusal(output: str) -> str:
    found = re.findall(r"destroying the disks of .*?correct the list", output, re.DOTALL)
    (said,) = {re.sub(r"\s+", " ", each) for each in found}
    return said


def stopped(site: Case, *texts: str, **changes: Any) -> None:
    """The lists go too far: nothing is done, not even what is not about machines, and a check says the same."""
    new = [*site.variables["nebula_templates"], {"name": "another", "template": "CPU = 1\nMEMORY = 32\n"}]
    before, machines = site.rows("SELECT name FROM templates"), site.machines()
    said = []
    for arguments in (("--check",), ()):
        code, output = site.run("site.yml", *arguments, nebula_templates=new, **changes)
        assert code != 0 and changed_tasks(output) == [], output
        said.append(refusal(output))
        for text in texts:
            assert text in said[-1], said[-1]
    assert said[0] == said[1]
    assert site.rows("SELECT name FROM templates") == before and site.machines() == machines


@in_bare_world
def test_a_run_that_would_destroy_the_disks_of_several_machines_stops_before_anything() -> None:
    with torn_down(Case()) as site:
        site.variables["nebula_destroy_limit"] = "1"
        site.done(nebula_vms=[WEB])
        everything = "3 machines (web-2, web-1, web-0): one run may do that to 1 machine,"
        stopped(site, everything, "-e nebula_destroy_limit=3", nebula_vms=[{**WEB, "count": 0}])
        stopped(site, "3 machines (web-0, web-1, web-2)", nebula_vms=[{**WEB, "memory": 48, "recreate": True}])
        stopped(site, "2 machines", nebula_vms=[{"name": f"web-{n}", "state": "absent"} for n in (0, 1)])
        # A limit that can't be read is no reason to do everything else first.
        new = [*site.variables["nebula_templates"], {"name": "another", "template": "CPU = 1\nMEMORY = 32\n"}]
        code, output = site.run("site.yml", "-e", "nebula_destroy_limit=3.5", nebula_templates=new, nebula_vms=[WEB])
        assert code != 0 and "neither a number of machines nor a percentage" in output, output
        assert "Prepare the front-end" not in output and changed_tasks(output) == [], output
        # Nor is a batch of restarts that can't be, or a word that nobody knows.
        for said, asked in (
            ("neither a number of machines from 1 up nor a percentage", ["-e", "nebula_restart_batch=150%"]),
            ("neither a number of machines from 1 up nor a percentage", ["-e", "nebula_restart_batch=0"]),
            (
                "nebula_restart: there is no such choice. Known are never, rolling, all",
                ["-e", "nebula_restart=perhaps"],
            ),
        ):
            code, output = site.run("site.yml", *asked, nebula_templates=new, nebula_vms=[{**WEB, "memory": 48}])
            assert code != 0 and said in re.sub(r"\s+", " ", output), output
            assert changed_tasks(output) == [] and len(site.machines()) == 3, output
        # The list alone: what the look finds to be all that there is to do.
        code, output = site.run("site.yml", nebula_vms=[{**WEB, "count": 0}])
        assert code != 0 and everything in refusal(output), output
        code, output = site.run("site.yml", "--tags", "vm", nebula_vms=[{**WEB, "count": 0}])
        assert code != 0 and everything in refusal(output), output
        assert len(site.machines()) == 3

        site.done(nebula_vms=[{**WEB, "count": 2}])
        assert len(site.machines()) == 2, "one needs no word"
        code, output = site.run(
            "site.yml", "--check", "-e", "nebula_destroy_limit=100%", nebula_vms=[{**WEB, "count": 0}]
        )
        assert code == 0 and "The disks of 2 machines would be destroyed: web-1, web-0" in output, output
        code, output = site.run("site.yml", "-e", "nebula_destroy_limit=2", nebula_vms=[{**WEB, "count": 0}])
        assert code == 0 and site.machines() == {}, output
        # Blank, as a survey may have it, is the default.
        site.variables["nebula_destroy_limit"] = ""
        site.done(nebula_vms=[{**WEB, "count": 4}])
        stopped(
            site,
            "4 machines (web-3, web-2, web-1, web-0): one run may do that to 3 machines,",
            nebula_vms=[{**WEB, "count": 0}],
        )
        site.done(nebula_vms=[{**WEB, "count": 1}])
        code, output = site.run("site.yml", nebula_vms=[{**WEB, "count": 1}])
        assert code == 0 and recap(output)["changed"] == 0, output
