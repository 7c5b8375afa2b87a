# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each job template of role awx as a job, on a host that is reached over ssh: what it does, what it says to the next
node of a workflow, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from auditor import assert_consistent_here
from canaries import Canaries
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.awx_runs import INVENTORY, Team
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login
from ansible_collections.nebula.provision.tests.integration.site_runs import HALTS, RUNNING

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SMALL = HALTS.replace('"halt"', '"small"')
PLACES = ("web_password", "another")


def rows(job: Any, name: str, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(row[key] for key in keys) for row in job.artifacts[f"nebula_stats_{name}"]]


@in_bare_world
def test_each_job_template_is_a_job() -> None:
    canaries = Canaries(**dict.fromkeys(PLACES, 14))
    secret = "{{ lookup('nebula.provision.secret', 'web_password') }}"
    jobs = []
    with a_login(Path(os.environ["NEBULA_WORLD"]), PATH) as login:
        site = Team(login, canaries)
        site.variables["nebula_vms"] = [{"name": "web", "template": "web", "context": {"PASSWORD": secret}}]

        def job(name: str, **options: Any) -> Any:
            jobs.append(site.job(name, **options))
            return jobs[-1].ended()

        provision(site, job)
        by_answers(site, job)
        care(site, job)
        refused(site, job)
        cancelled(site, jobs)
        done = job("tear down", answer_teardown_confirm=INVENTORY).successful()
        assert rows(done, "removed_vms", "name") == [("web",)], done.output
        # The catalog that gave way to the backup stays with whoever asked for it.
        assert all(path.name.startswith("nebula.db.before-") for path in site.root.iterdir())
        shutil.rmtree(site.root)
        for each in jobs:
            kept = "\n".join(path.read_text() for path in each.place.glob("artifacts/1/**/*") if path.is_file())
            assert "Check the inventory" in kept and canaries.seen(kept + each.output) == {}, each.name


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
    site.variables["nebula_vms"][0]["memory"] = 64
    done = job("provision").failed("1 not as asked: web", "MEMORY")
    assert [(d["object"], d["name"]) for d in done.artifacts["nebula_stats_differences"]] == [("vm", "web")]
    assert done.artifacts["nebula_stats_differing"] == 1
    done = job("provision", answer_on_difference="warn").ended()
    assert done.process.returncode == 0 and done.artifacts["nebula_stats_differing"] == 1, done.output
    del site.variables["nebula_vms"][0]["memory"]
    assert site.machines() == {"web": RUNNING}


def cancelled(site: Team, jobs: list[Any]) -> None:
    """A job whose container goes while nodes act, two jobs at once, and what comes after them."""
    more = {"name": "more-%i", "count": 6, "template": "web"}
    site.variables["nebula_vms"].append(more)
    jobs.append(site.job("provision"))
    site.begun(jobs[-1], "Act on each node")
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
    jobs.append(site.job("provision").successful())
    assert site.machines() == {"web": RUNNING}
    site.variables["nebula_vms"].pop()
