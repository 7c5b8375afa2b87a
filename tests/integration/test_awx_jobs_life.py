# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each job template of role awx that test_awx_jobs does not have: what it says to the next node of a workflow, what it
refuses, and jobs that are cancelled, or at it at once."""

from __future__ import annotations

import re
from typing import Any

from auditor import assert_consistent_here
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.awx_runs import Jobs, Team, rows, team
from ansible_collections.nebula.provision.tests.integration.site_runs import RUNNING


@in_bare_world
def test_each_job_template_is_a_job() -> None:
    with team() as (site, jobs):
        jobs.job("provision").successful()
        care(site, jobs.job)
        refused(site, jobs.job)
        cancelled(site, jobs)


def care(site: Team, job: Any) -> None:
    done = job("audit", answer_audit_deep="yes").successful()
    assert done.artifacts["nebula_stats_differing"] == 0
    page = site.directory / "picture" / "topology.html"
    done = job("topology", answer_topology_frontend_file=str(page)).successful()
    assert rows(done, "topology", "networks", "nodes", "machines", "where", "file") == [(1, 1, 1, "node1", str(page))]
    assert "10.66.0.10" in page.read_text(encoding="utf-8")
    backups = str(site.directory / "backups")
    site.variables["nebula_backup_directory"] = backups
    done = job("back up", answer_backup_keep="").successful()
    ((path, machines),) = rows(done, "backup", "path", "machines")
    assert path.startswith(backups) and machines == 1
    done = job("restore", answer_restore_force="yes").successful()
    assert done.artifacts["nebula_stats_unknown_vms"] == []
    # What it looks for in a real image takes minutes, and is test_image_check's.
    done = job("check image", answer_image_checks_name="nowhere").failed("the catalog has none of that name")
    assert done.artifacts["nebula_stats_differing"] == 1
    assert rows(done, "image_points", "image", "result") == [("nowhere", "not read")]
    for name in ("install, keep the disk", "convert", "install an OS"):
        assert job(name).successful().artifacts["nebula_stats_installs"] == []
    assert_consistent_here(str(site.root))


def refused(site: Team, job: Any) -> None:
    job("forget host", answer_lost_host="node1").failed("Host node1 answers: it is not gone", "Nothing was changed")
    job("tear down", answer_teardown_confirm="another").failed(
        "name of the job's inventory, the site", "Nothing was changed"
    )
    # A slice of an inventory whose front-end is in another one.
    job("provision", groups={"nebula_nodes": ["node2"]}).failed(
        "group nebula_frontend has 0 hosts", "whether Job Slicing of the job template is 1", "Nothing was changed"
    )
    uuid = {"OS": {"UUID": "11111111-2222-4333-8444-555555555555"}}
    site.variables["nebula_vms"][0]["attributes"] = uuid
    done = job("provision").failed("1 not as asked: web", "differs in OS")
    assert [(d["object"], d["name"]) for d in done.artifacts["nebula_stats_differences"]] == [("vm", "web")]
    assert done.artifacts["nebula_stats_differing"] == 1
    done = job("provision", answer_on_difference="warn").ended()
    assert done.process.returncode == 0 and done.artifacts["nebula_stats_differing"] == 1, done.output
    del site.variables["nebula_vms"][0]["attributes"]
    assert site.machines() == {"web": RUNNING}


def cancelled(site: Team, jobs: Jobs) -> None:
    """A job whose container goes while nodes act, two jobs at once, and what comes after them."""
    more = {"name": "more-%i", "count": 6, "template": "web"}
    site.variables["nebula_vms"].append(more)
    jobs.append(site.job("provision"))
    site.begun(jobs[-1], "Bring the machines of a single host to the list")
    jobs[-1].cancel()
    jobs += [site.job("provision"), site.job("provision"), site.job("status").successful()]
    for each in (each.ended() for each in jobs[-3:-1]):
        # Each does it, or says that the other one is at it; whoever is second never undoes what the first did.
        assert each.process.returncode == 0 or re.search("another run|[Rr]un (it )?again", each.output), each.output
        assert "Traceback" not in each.output, each.output
    jobs.append(site.job("provision").successful())
    assert site.machines() == {"web": RUNNING, **{f"more-{number}": RUNNING for number in range(6)}}
    assert_consistent_here(str(site.root))
    site.variables["nebula_vms"][-1] = {**more, "count": 0, "hard": True}
    # A survey that is left blank asks for the default limit, whatever the inventory says.
    jobs.append(site.job("provision").failed("nebula_destroy_limit=6"))
    jobs.append(site.job("provision", answer_destroy_limit="6").successful())
    assert site.machines() == {"web": RUNNING}
    site.variables["nebula_vms"].pop()
