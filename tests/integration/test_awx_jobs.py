# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Job templates of role awx as jobs, on a host that is reached over ssh: from nothing to machines, by lists and by
answers, and to nothing, and what they say to the next node of a workflow. test_awx_jobs_life has the others."""

from __future__ import annotations

from typing import Any

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.awx_runs import Team, rows, team
from ansible_collections.nebula.provision.tests.integration.site_runs import HALTS, RUNNING

SMALL = HALTS.replace('"halt"', '"small"')


@in_bare_world
def test_machines_come_and_go_by_jobs() -> None:
    with team() as (site, jobs):
        provision(site, jobs.job)
        by_answers(site, jobs.job)


def provision(site: Team, job: Any) -> None:
    done = job("provision", check=True).successful()
    assert done.changed > 5 and not site.root.exists()
    done = job("provision").successful()
    assert rows(done, "vms", "id", "name", "host", "state", "ip") == [(0, "web", "node1", "RUNNING", "10.66.0.10")]
    assert done.artifacts["nebula_stats_differing"] == 0 and done.artifacts["nebula_stats_differences"] == []
    assert done.changed > 5 and site.machines() == {"web": RUNNING}
    assert job("provision").successful().changed == 0
    found, printed = site.source()
    assert found["nebula_machines"]["hosts"] == ["web"] and found["host_node1"]["hosts"] == ["web"], found
    assert found["_meta"]["hostvars"]["web"]["ansible_host"] == "10.66.0.10" and "WARNING" not in printed, printed
    done = job("status").successful()
    assert rows(done, "hosts", "name", "vms") == [("node1", 1)] and rows(done, "leases", "ip", "vm") == [
        ("10.66.0.10", "web")
    ]


def by_answers(site: Team, job: Any) -> None:
    """Answers are text, with blanks at their ends as people type them; blank ones are as if they were not there."""
    image = {"answer_images_path": "small.raw", "answer_images_size": 2, "answer_images_checksum": " "}
    done = job("upload image", answer_images_name=" small ", **image).successful()
    assert rows(done, "images", "name", "type", "size", "state", "persistent") == [("small", "OS", 2, "READY", False)]
    done = job("store template", answer_templates_name="small", answer_templates_template=SMALL).successful()
    assert rows(done, "templates", "name") == [("small",)]
    machines = {"answer_vms_name": "job-%i", "answer_vms_count": 2}
    done = job("instantiate", answer_vms_template="small", answer_vms_host="", **machines).successful()
    assert rows(done, "vms", "name", "state") == [("job-0", "RUNNING"), ("job-1", "RUNNING")]
    assert job("verify", **machines).successful().changed == 0
    job("verify", answer_vms_name="nobody").failed("VM nobody")
    assert site.machines() == {"web": RUNNING, "job-0": RUNNING, "job-1": RUNNING}
    done = job("instantiate", answer_vms_state="absent", answer_vms_name="job-%i", answer_vms_hard="yes").successful()
    assert site.machines() == {"web": RUNNING}
    job("upload image", answer_images_name="small", answer_images_path="nowhere.raw", answer_images_size="many").failed(
        "answer_images_size: 'many' is not a whole number. Type digits only, such as 10240"
    )
