# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a site that people change, audit and break: what test_site.py has in short."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
from xml.etree import ElementTree as ET

import pytest
from auditor import assert_consistent, findings
from canaries import ways
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import EMULATED
from ansible_collections.nebula.provision.tests.integration.site_runs import (
    ONLY_REAL,
    SECRET,
    Site,
    changed_tasks,
    host_state,
    recap,
)


def waiting(site: Site) -> None:
    """What the living machines can't have at once waits for their next start, which a later list brings one by one."""
    vms = [{"name": "web-%i", "count": 2, "template": "web", "memory": 160, "cpu": 0.2, "context": {"TOKEN": SECRET}}]
    code, checked = site.run("site.yml", "--check", "--diff", nebula_vms=vms)
    assert code == 0 and '+  "cpu": 0.2' in checked, checked
    code, output = site.run("site.yml", "--diff", nebula_vms=vms)
    assert code == 0, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked))
    for text in (checked, output):
        assert '+    "CONTEXT": "[ TOKEN = (secret) ], at once"' in text and not ways(SECRET, text), text
        assert '+    "MEMORY": "160, at its next start"' in text and '+    "CPU": "0.2, at once"' in text, text
        assert "2 with changes at the next start: web-0 (MEMORY), web-1 (MEMORY)" in text, text
    code, output = site.run("site.yml", nebula_vms=vms)
    assert code == 0 and recap(output)["changed"] == 0 and "web-1 (MEMORY)" in output, output
    said = "VM web-0 (id 0) MEMORY: 128 now, 160 at its next start"
    code, output = site.run("playbooks/status.yml")
    assert code == 0 and said in " ".join(output.split()), output
    code, output = site.run("site.yml", nebula_vms=vms, nebula_on_waiting="fail")
    failure = output[output.rindex("TASK [") :]
    assert code == 2 and said in failure and "nebula_on_waiting: report" in failure, output
    assert_consistent(site)
    # One that does not come back, as far as anybody can tell, leaves the others alone.
    deaf = {"nebula_verify_pattern": "^never said$", "nebula_verify_timeout": 5}
    code, output = site.run("site.yml", nebula_vms=vms, nebula_restart="rolling", **deaf)
    assert code == 2 and "1 with changes at the next start: web-1 (MEMORY)" in output, output
    assert [memory_of(vm_id) for vm_id in (0, 1)] == [160, 128]
    assert_consistent(site)
    code, output = site.run("site.yml", "--diff", nebula_vms=vms, nebula_restart="rolling")
    assert code == 0 and output.count("Choose the next machines") == 1, output
    assert output.count("Wait until the guests say") == 2 and "at the next start" not in output, output
    assert [memory_of(vm_id) for vm_id in (0, 1)] == [160, 160]
    assert_consistent(site)
    code, output = site.run("site.yml", nebula_vms=vms, nebula_restart="rolling")
    assert code == 0 and recap(output)["changed"] == 0, output
    vms[0].pop("memory")
    code, output = site.run("site.yml", nebula_vms=vms, nebula_restart="all")
    assert code == 0 and output.count("Choose the next machines") == 1 and "at the next start" not in output, output
    assert [memory_of(vm_id) for vm_id in (0, 1)] == [128, 128]


def memory_of(vm_id: int) -> int:
    """The MiB with which a machine runs."""
    command = ["virsh", "-c", "qemu:///system", "dumpxml", f"one-{vm_id}"]
    text = subprocess.run(command, capture_output=True, check=True).stdout
    return int(ET.fromstring(text).findtext("memory", "")) // 1024


def differing(site: Site) -> None:
    """What can't be changed on the living machine is told, whatever hides the plans; what can is forecast and done."""
    uuid = {"OS": {"UUID": "11111111-2222-4333-8444-555555555555"}}
    vms = [{"name": "web-%i", "count": 2, "template": "web", "cpu": 0.3, "attributes": uuid}]
    code, checked = site.run("site.yml", "--check", "--diff", nebula_vms=vms)
    assert code == 2 and '+  "cpu": 0.3' in checked, checked
    code, output = site.run("site.yml", "--diff", nebula_vms=vms)
    assert code == 2, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked))
    said = r"VM web-0 \(id 0\) differs in OS: it has .*; left as it is: set recreate: true"
    for text in (checked, output):
        assert re.search(rf"WARNING.*{said}", text), text
        # The last task: the table and what the guests say come before it.
        failure = text[text.rindex("TASK [") :]
        assert "Report the differences that remain" in failure and re.search(said, failure), text
        assert "\\\\n" not in failure, "each has a line of its own"
        assert text.index("Wait until the guests say") < text.index("HOW TO GET IN") < text.rindex("TASK ["), text
    code, output = site.run("site.yml", nebula_vms=vms, nebula_on_difference="warn")
    assert code == 0 and recap(output)["changed"] == 0 and re.search(rf"WARNING.*{said}", output), output


def more(site: Site, tasks: int) -> None:
    """More machines are no more tasks, and a run with nothing to do has few; braces stay what they are."""
    idle = []
    for count in (3, 4):
        vms = [{"name": "web-%i", "count": count, "template": "web", "cpu": 0.2}]
        code, output = site.run("site.yml", nebula_vms=vms)
        assert code == 0 and output.count("TASK [") < tasks, output
        code, output = site.run("site.yml", nebula_vms=vms)
        assert code == 0 and recap(output)["changed"] == 0, output
        idle.append(output.count("TASK ["))
    assert idle[0] == idle[1] <= tasks / 3, (idle, tasks)
    directory = next(iter(re.findall(r"(\S+)/console.log", output)))
    read = ["isoinfo", "-R", "-x", "/context.sh", "-i", f"{directory}/disk.1"]
    context = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert "BRACES='{{ not_a_variable }}'" in context


def renamed(site: Site) -> None:
    """A machine gets another name while it runs. Its guest is believed by the old one until it is started anew."""
    web = {"name": "web-%i", "count": 3, "template": "web", "cpu": 0.2}
    db = {"name": "db", "renamed_from": "web-3", "template": "web", "cpu": 0.2}
    command = ["virsh", "-c", "qemu:///system", "domid", "one-3"]
    running = subprocess.run(command, capture_output=True, check=True).stdout
    code, output = site.run("site.yml", "--diff", nebula_vms=[web, db])
    assert code == 0 and '+  "name": "db"' in output, output
    assert "its guest goes by the name web-3 until it is started anew" in " ".join(output.split()), output
    assert subprocess.run(command, capture_output=True, check=True).stdout == running, "it ran on"
    assert_consistent(site)
    code, output = site.run("site.yml", nebula_vms=[web, db])
    assert code == 0 and recap(output)["changed"] == 0 and "goes by the name" not in output, output
    # Then nothing but the new one counts.
    code, output = site.run("site.yml", nebula_vms=[web, {**db, "state": "reset"}])
    assert code == 0 and recap(output)["changed"] > 0, output
    code, output = site.run("site.yml", nebula_vms=[web, {**db, "state": "absent", "hard": True}])
    assert code == 0, output


def audited(site: Site) -> None:
    """What is not as it should be is told with what to do, and what is not ours is told by the status."""

    def virsh(*arguments: str) -> None:
        subprocess.run(["virsh", "-c", "qemu:///system", *arguments], check=True, capture_output=True)

    assert_consistent(site)
    stranger = (
        "<domain type='qemu'><name>stranger</name><memory unit='MiB'>37</memory><os><type>hvm</type></os></domain>"
    )
    path = site.directory / "stranger.xml"
    path.write_text(stranger)
    virsh("create", str(path))
    code, output = site.run("playbooks/status.yml")
    foreign = 37 + EMULATED.of(37, 1)
    assert code == 0 and re.search(rf"node1 +[0-9a-f-]{{36}} +{foreign}\b", output), output
    virsh("destroy", "stranger")
    with contextlib.closing(sqlite3.connect(site.root / "nebula.db")) as db, db:
        (vm_id,) = db.execute("SELECT max(id) FROM vms WHERE state != 6").fetchone()
        db.execute("UPDATE hosts SET vms = vms + 3")
    virsh("destroy", f"one-{vm_id}")
    virsh("undefine", f"one-{vm_id}")
    code, output = site.run("playbooks/audit.yml")
    assert code != 0 and "its hypervisor has no domain of it. Run playbook nebula.provision.site again" in output, (
        output
    )
    assert "nebula_audit_repair=true" in output
    assert [each["kind"] for each in findings(site, "-e", "nebula_audit_repair=true")] == ["domain-missing"]
    vms = [{"name": "web-%i", "count": 4, "template": "web", "cpu": 0.2}]
    code, output = site.run("site.yml", nebula_vms=vms)
    assert code == 0, output
    assert_consistent(site)


def not_given_back(site: Site) -> None:
    """The catalog stays until every node was given back: without it nobody knows what such a node still has."""
    unknown = site.root / "datastores" / "0" / "4242"
    unknown.mkdir()
    # The front-end and another node, which do not fail.
    node2 = {**site.variables, "nebula_root": str(site.directory / "second")}
    nodes = {"hosts": {"node1": site.variables, "node2": node2}}
    inventory = site.directory / "apart.yml"
    inventory.write_text(json.dumps({"nebula_frontend": {"hosts": {"front": site.variables}}, "nebula_nodes": nodes}))
    command = [str(site.programs / "ansible-playbook"), "-i", str(inventory), "playbooks/teardown.yml"]
    code, output = site.execute(command)
    assert code != 0 and "one-4242" in output, output
    assert "node1 did not answer, was not in this run or was not given" in output, output
    assert (site.root / "nebula.db").exists()
    unknown.rmdir()


@pytest.mark.timeout(900)
@in_bare_world
def test_a_site_that_people_change(image: str) -> None:
    site = Site(image)
    before = host_state()
    code, output = site.run("site.yml")
    assert code == 0, output
    tasks = output.count("TASK [")

    waiting(site)
    differing(site)
    more(site, tasks)
    renamed(site)
    audited(site)
    # The machines that would be ended are there; nothing is done, and nothing fails.
    there = host_state()
    code, output = site.run("playbooks/teardown.yml", "--check")
    assert code == 0 and "taken as ended in check mode" in output, output
    assert host_state() == there != before
    not_given_back(site)

    code, output = site.run("playbooks/teardown.yml")
    assert code == 0, output
    assert not site.root.exists(), sorted(site.root.rglob("*"))
    assert host_state() == before
    code, output = site.run("playbooks/teardown.yml")
    assert code == 0 and recap(output)["changed"] == 0, output
