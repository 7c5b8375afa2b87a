#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role awx against a living AWX: applied, applied again, read back, and its jobs launched, as far as they need no node.

The project's repository, with this collection in it, is written to a directory that AWX reaches by git. Everything else
is in an organization of its own, and is removed at the end.
usage: AWX_URL=… AWX_PASSWORD=… make test-awx       (or tests/awx/run.py, with an environment that has awx.awx)

    AWX_URL                   such as https://awx.example.org
    AWX_USERNAME, AWX_PASSWORD, or AWX_TOKEN          of a system administrator; the user is admin if nothing is said
    AWX_GIT_DIRECTORY         where the repository is written
    AWX_GIT_URL               how AWX reaches it; file:// and that directory if nothing is said
    AWX_KEEP                  anything: what was made stays"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.tests.awx.controller import Controller

ROOT = Path(__file__).resolve().parents[2]
ORGANIZATION = "nebula-test"
PREFIX = "nebula-test "
SECRET = f"s3cr3t-{secrets.token_hex(8)}"
HOSTS = """
nebula_frontend: {hosts: {front: {}}}
nebula_nodes: {hosts: {front: {}, node2: {}}}
all:
  vars:
    ansible_connection: local
    ansible_become: false
    ansible_python_interpreter: /usr/bin/python3
    # The front-end is the container of the job: what is forecast for it is never made.
    nebula_allow_ephemeral: true
"""
MACHINES = """
plugin: nebula.provision.nebula
frontend: front
connection: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3, ansible_become: false}
"""
ASKS = {"name": "asks first", "nodes": [
    {"name": "look", "job_template": "status"},
    {"name": "is it well?", "approval": "Nothing was changed so far", "after": ["look"]},
    {"name": "look again", "job_template": "status", "after": ["is it well?"]},
    {"name": "read the machines", "inventory_source": f"{PREFIX}machines", "after": ["look again"]},
]}  # fmt: skip
SLICED = "whether Job Slicing of the job template is 1"


class Trial:
    """controller: AWX. place: the repository's directory. found: what was shown, for the table."""

    def __init__(self, controller: Controller, work: Path) -> None:
        self.controller, self.work = controller, work
        self.repository = Path(os.environ["AWX_GIT_DIRECTORY"]).resolve() / "nebula-test.git"
        self.url = os.environ.get("AWX_GIT_URL", f"file://{self.repository}")
        self.failed = 0
        self.jobs: list[int] = []
        self.variables: dict[str, Any] = {
            "nebula_awx_organization": ORGANIZATION,
            "nebula_awx_prefix": PREFIX,
            "nebula_awx_inventory": ORGANIZATION,
            "nebula_awx_project": {"scm_url": self.url, "scm_branch": "main"},
            "nebula_awx_inventory_sources": [
                {"name": f"{PREFIX}site", "source_path": "inventory/hosts.yml", "update_on_launch": True},
                {"name": f"{PREFIX}machines", "source_path": "machines.nebula.yml", "login": True},
            ],
            "nebula_awx_credentials": [
                {
                    "name": f"{PREFIX}login",
                    "type": "login",
                    "inputs": {"user": "operator", "private_key": self._key(), "become_password": SECRET},
                },
                {"name": f"{PREFIX}secrets", "type": "secrets", "inputs": {"secrets": f"web_password: {SECRET}"}},
            ],
            "nebula_awx_workflows": [ASKS],
        }

    def _key(self) -> str:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.work / "key")], check=True)
        return (self.work / "key").read_text()

    def show(self, what: str, check: Callable[[], str]) -> None:
        """Do it, and print a line about it."""
        begun = time.monotonic()
        try:
            found = check()
            word = "ok"
        except Exception as error:  # the others are shown as well
            found, word = f"{type(error).__name__}: {error}", "FAILED"
            self.failed += 1
        print(f"{word:7}{what:48}{time.monotonic() - begun:7.1f} s  {found}", flush=True)

    def play(self, playbook: str, *arguments: str, **changes: Any) -> tuple[int, str, int]:
        """Return how a playbook ended, what it printed, and how much it changed."""
        variables = self.work / "variables.json"
        variables.touch(mode=0o600)
        variables.write_text(json.dumps({**self.variables, **changes}))
        program = [str(Path(sys.executable).parent / "ansible-playbook"), *arguments, "-e", f"@{variables}", playbook]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
            **self.controller.environment(),
        }
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        changed = re.search(r"changed=(\d+)", done.stdout.rpartition("PLAY RECAP")[2])
        return done.returncode, done.stdout + done.stderr, int(changed[1]) if changed else 0

    def write_project(self) -> str:
        place = self.work / "project"
        code, output, _changed = self.play("playbooks/project.yml", "-e", f"nebula_project={place}")
        assert code == 0, output
        (place / "inventory/hosts.yml").write_text(HOSTS)
        (place / "inventory/group_vars/all/site.yml").unlink()
        (place / "machines.nebula.yml").write_text(MACHINES)
        (place / "small.raw").write_bytes(b"\0" * (1 << 20))
        # The collection is not published under this version yet.
        (place / "collections/requirements.yml").unlink()
        target = place / "collections/ansible_collections/nebula/provision"
        target.mkdir(parents=True)
        for name in ("galaxy.yml", "LICENSE", "README.md", "meta", "playbooks", "plugins", "roles"):
            keep = shutil.ignore_patterns("__pycache__", "collections")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=keep)
            else:
                shutil.copy(ROOT / name, target / name)
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-C", str(place)]
        for command in (["init", "-q", "-b", "main"], ["add", "-A", "-f"], ["commit", "-q", "-m", "Project"]):
            subprocess.run([*git, *command], check=True)
        shutil.rmtree(self.repository, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", "--bare", str(place), str(self.repository)], check=True)
        subprocess.run(["chmod", "-R", "a+rX", str(self.repository)], check=True)
        return f"{sum(1 for path in place.rglob('*') if path.is_file())} files"

    def apply(self, least: int, most: int, **changes: Any) -> str:
        code, output, changed = self.play("playbooks/awx.yml", **changes)
        assert code == 0, output[-3000:]
        assert least <= changed <= most, f"changed={changed}: {output[-3000:]}"
        assert SECRET not in output
        return f"changed={changed}"

    def again(self) -> str:
        before = self.controller.count("tokens/")
        found = self.apply(0, 0)
        assert self.controller.count("tokens/") == before, "it left tokens in AWX"
        return found

    def refuse(self) -> str:
        before = self.controller.count("activity_stream/")
        question = {"variable": "nebula_backup_keep", "ask": "How many", "type": "integer", "default": 10, "max": 5}
        bad = [{"name": "back up", "questions": [question]}]
        code, output, _changed = self.play("playbooks/awx.yml", nebula_awx_job_templates=bad)
        assert code != 0 and "default 10 is not between 0 and 5" in output and "Nothing was changed" in output, output
        assert self.controller.count("activity_stream/") == before
        return "a default out of bounds, which AWX would take"

    def read_back(self) -> str:
        templates = self.controller.all("job_templates/", name__startswith=PREFIX)
        surveys = questions = 0
        for template in templates:
            spec = self.controller.get(f"job_templates/{template['id']}/survey_spec/").get("spec", [])
            surveys, questions = surveys + bool(spec), questions + len(spec)
            assert template["survey_enabled"] == bool(spec)
        flows = self.controller.all("workflow_job_templates/", name__startswith=PREFIX)
        nodes = self.controller.all(
            "workflow_job_template_nodes/", workflow_job_template__organization__name=ORGANIZATION
        )
        links = sum(len(node["success_nodes"]) for node in nodes)
        assert (len(templates), len(flows), len(nodes), links) == (15, 3, 12, 9), (templates, flows, nodes, links)
        return f"{len(templates)} job templates, {surveys} surveys with {questions} questions, {len(flows)} workflows"

    def update(self) -> str:
        hosts = ""
        for name in ("site", "machines"):
            (source,) = self.controller.all("inventory_sources/", name=f"{PREFIX}{name}")
            update = self.controller.post(f"inventory_sources/{source['id']}/update/", {})
            done = self.controller.ended("inventory_updates", update["id"])
            assert done["status"] == "successful", self.controller.text(f"inventory_updates/{done['id']}")
        for group in self.controller.all("groups/", inventory__name=ORGANIZATION):
            names = sorted(host["name"] for host in self.controller.all(f"groups/{group['id']}/hosts/"))
            hosts += f"{group['name']}: {', '.join(names)}; "
        assert "nebula_frontend: front" in hosts and "nebula_nodes: front, node2" in hosts, hosts
        return hosts.removesuffix("; ")

    def launch(self, name: str, **options: Any) -> dict[str, Any]:
        (template,) = self.controller.all("job_templates/", name=f"{PREFIX}{name}")
        launched = self.controller.post(f"job_templates/{template['id']}/launch/", options)
        self.jobs.append(launched["id"])
        return launched

    def job(self, name: str, **options: Any) -> tuple[dict[str, Any], str]:
        done = self.controller.ended("jobs", self.launch(name, **options)["id"])
        return done, self.controller.text(f"jobs/{done['id']}")

    def status(self) -> str:
        done, text = self.job("status")
        assert done["status"] == "successful" and "Virtual machines, as of" in text, text
        assert "WARNING" not in text, text
        assert done["artifacts"]["nebula_stats_vms"] == [] and done["artifacts"]["nebula_stats_differing"] == 0, done
        return "artifacts: " + ", ".join(sorted(done["artifacts"]))

    def upload(self) -> str:
        answers = {"answer_images_name": "small", "answer_images_path": "small.raw", "answer_images_size": 2}
        done, text = self.job("upload image", job_type="check", extra_vars=answers)
        assert done["status"] == "successful", text
        (image,) = done["artifacts"]["nebula_stats_images"]
        assert (image["name"], image["type"], image["size"]) == ("small", "OS", 2), image
        return f"forecast: image {image['name']} of {image['size']} MB, from a survey's answers"

    def tear_down(self) -> str:
        done, text = self.job("tear down", extra_vars={"answer_teardown_confirm": "another"})
        assert done["status"] == "failed" and f"the job's inventory, {ORGANIZATION}" in text.replace("\n", " "), text
        again = self.controller.post(f"jobs/{done['id']}/relaunch/", {"hosts": "failed"})
        self.jobs.append(again["id"])
        done = self.controller.ended("jobs", again["id"])
        text = self.controller.text(f"jobs/{done['id']}")
        assert done["status"] == "failed" and "Nothing was changed" in text, text
        return f"refused, and again when launched on failed hosts ({done['limit']})"

    def slice(self) -> str:
        (template,) = self.controller.all("job_templates/", name=f"{PREFIX}status")
        self.controller.patch(f"job_templates/{template['id']}/", {"job_slice_count": 2})
        done = self.controller.ended("workflow_jobs", self.launch("status")["id"])
        found = {}
        for node in self.controller.all(f"workflow_jobs/{done['id']}/workflow_nodes/"):
            job = self.controller.get(f"jobs/{node['job']}/")
            found[job["job_slice_number"]] = (job["status"], self.controller.text(f"jobs/{job['id']}"))
        (one, two) = found[1], found[2]
        assert one[0] == "successful", one[1]
        assert two[0] == "failed" and SLICED in two[1], two[1]
        return (
            "the slice with the front-end works, the other is refused; the role takes the slicing back: "
            + self.apply(1, 1)
        )

    def at_once(self) -> str:
        ids = [self.launch("status")["id"] for _ in range(3)]
        done = [self.controller.ended("jobs", job) for job in ids]
        assert {job["status"] for job in done} == {"successful"}
        begun, ended = max(job["started"] for job in done), min(job["finished"] for job in done)
        assert begun < ended, "they came one after another"
        return "three jobs of one template"

    def cancel(self) -> str:
        job = self.launch("status")["id"]
        self.controller.wait(lambda: self.controller.get(f"jobs/{job}/")["status"] == "running", "the job's begin")
        self.controller.post(f"jobs/{job}/cancel/", {})
        assert self.controller.ended("jobs", job)["status"] == "canceled"
        done, text = self.job("status")
        assert done["status"] == "successful", text
        return "the next one is successful"

    def approve(self) -> str:
        (flow,) = self.controller.all("workflow_job_templates/", name=f"{PREFIX}asks first")
        job = self.controller.post(f"workflow_job_templates/{flow['id']}/launch/", {})

        def pending() -> list[dict[str, Any]]:
            nodes = self.controller.all(f"workflow_jobs/{job['id']}/workflow_nodes/", identifier="is it well?")
            return [self.controller.get(f"workflow_approvals/{node['job']}/") for node in nodes if node["job"]]

        self.controller.wait(lambda: bool(pending()), "the approval")
        (approval,) = pending()
        assert approval["status"] == "pending" and approval["description"] == ASKS["nodes"][1]["approval"], approval
        self.controller.post(f"workflow_approvals/{approval['id']}/approve/", {})
        done = self.controller.ended("workflow_jobs", job["id"])
        assert done["status"] == "successful", done
        nodes = self.controller.all(f"workflow_jobs/{job['id']}/workflow_nodes/")
        (again,) = (node for node in nodes if node["identifier"] == "look again")
        given = json.loads(self.controller.get(f"jobs/{again['job']}/")["extra_vars"])
        assert given["nebula_stats_vms"] == [], given
        return "waited, was approved, went on; the next job has the statistics of the first"

    def another_kind(self) -> str:
        """A node that was a job becomes an approval: nothing of the job template is touched, and it is asked for."""
        job = [
            ASKS["nodes"][0],
            {"name": "is it well?", "job_template": "audit", "after": ["look"]},
            *ASKS["nodes"][2:],
        ]
        self.apply(1, 2, nebula_awx_workflows=[{**ASKS, "nodes": job}])
        self.apply(0, 0, nebula_awx_workflows=[{**ASKS, "nodes": job}])
        self.apply(1, 2)
        self.apply(0, 0)
        (node,) = self.controller.all(
            "workflow_job_template_nodes/",
            identifier="is it well?",
            workflow_job_template__organization__name=ORGANIZATION,
        )
        kind = node["summary_fields"]["unified_job_template"]["unified_job_type"]
        assert kind == "workflow_approval" and len(node["success_nodes"]) == 1, node
        assert self.controller.count("job_templates/", name=f"{PREFIX}audit") == 1
        return "a job, and an approval again"

    def another_team(self) -> str:
        """Another organization has the same names of credentials and sources."""
        name = "nebula-test-2"
        other = {"nebula_awx_organization": name, "nebula_awx_inventory": name, "nebula_awx_prefix": f"{name} "}
        first = self.apply(5, 20, **other)
        again, ours = self.apply(0, 0, **other), self.apply(0, 0)
        self.clean(name)
        return f"{first}, again {again}; ours: {ours}"

    def removed(self) -> str:
        gone = [{**ASKS, "nodes": [*ASKS["nodes"][:3]]}]
        first = self.apply(1, 1, nebula_awx_workflows=gone)
        nodes = self.controller.count("workflow_job_template_nodes/", workflow_job_template__name=f"{PREFIX}asks first")
        assert nodes == 3, nodes
        last = self.apply(1, 1, nebula_awx_workflows=[{"name": ASKS["name"], "state": "absent"}])
        assert self.controller.count("workflow_job_templates/", name=f"{PREFIX}asks first") == 0
        return f"a node: {first}; the workflow: {last}"

    def hidden(self) -> str:
        for job in self.jobs:
            kind = "jobs" if self.controller.count("jobs/", id=job) else "workflow_jobs"
            kept = json.dumps(self.controller.get(f"{kind}/{job}/"))
            if kind == "jobs":
                kept += self.controller.text(f"jobs/{job}") + json.dumps(self.controller.all(f"jobs/{job}/job_events/"))
            assert SECRET not in kept, job
        for credential in self.controller.all("credentials/", organization__name=ORGANIZATION):
            assert SECRET not in json.dumps(credential)
        return f"in no output, event or record of {len(self.jobs)} jobs"

    def clean(self, organization: str = ORGANIZATION) -> str:
        paths = ("workflow_job_templates", "job_templates", "inventories", "credentials", "projects")
        gone = 0
        for path in paths:
            for each in self.controller.all(f"{path}/", organization__name=organization):
                self.controller.delete(f"{path}/{each['id']}/")
                gone += 1
        for each in self.controller.all("organizations/", name=organization):
            self.controller.delete(f"organizations/{each['id']}/")
        if organization == ORGANIZATION:
            shutil.rmtree(self.repository, ignore_errors=True)
        return f"{gone} objects"


def main() -> int:
    missing = [name for name in ("AWX_URL", "AWX_GIT_DIRECTORY") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)}: not set.\n\n{__doc__}", file=sys.stderr)
        return 2
    controller = Controller(os.environ["AWX_URL"])
    with tempfile.TemporaryDirectory(prefix="nebula-awx-") as directory:
        trial = Trial(controller, Path(directory))
        print(f"AWX {controller.get('ping/')['version']}")
        trial.clean()
        trial.show("the project's repository", trial.write_project)
        trial.show("data that AWX should not get", trial.refuse)
        trial.show("the role", lambda: trial.apply(8, 20))
        trial.show("the role again", trial.again)
        trial.show("what AWX has", trial.read_back)
        trial.show("inventory sources", trial.update)
        trial.show("job status", trial.status)
        trial.show("job upload image, in check mode", trial.upload)
        trial.show("job tear down, not confirmed", trial.tear_down)
        trial.show("jobs at once", trial.at_once)
        trial.show("a cancelled job", trial.cancel)
        trial.show("a sliced job", trial.slice)
        trial.show("a workflow with an approval", trial.approve)
        trial.show("a node of another kind", trial.another_kind)
        trial.show("another organization", trial.another_team)
        trial.show("what is taken out of the lists", trial.removed)
        trial.show("secrets", trial.hidden)
        if "AWX_KEEP" not in os.environ:
            trial.show("all of it removed", trial.clean)
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())
