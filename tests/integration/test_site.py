# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml, status and teardown as a person runs them, on a bare host without systemd: real libvirtd, real guests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent, findings
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.kvm import EMULATED
from ansible_collections.nebula.provision.tests.integration.guests import demo

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-Zx9"
# What only a real run can do: in check mode no node has done anything.
ONLY_REAL = {"Record what the nodes did"}

NETWORK = {
    "name": "Public",
    "bridge": "nbr0",
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "gateway": "10.66.0.1",
    "nat": True,
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 8}],
}
TEMPLATE = """
CPU = 0.1
MEMORY = 128
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME", BRACES = "{{ '{{' }} not_a_variable }}" ]
"""


class Site:
    """An inventory of its own in the world's directory, and runs of playbooks over it."""

    # Where playbooks and ansible.cfg are taken from, and which Ansible runs them.
    checkout = ROOT
    programs = Path(sys.executable).parent

    def __init__(self, image: str) -> None:
        self.directory = Path(os.environ["NEBULA_WORLD"])
        self.root = self.directory / "nebula"
        self.environment: dict[str, str] = {}
        self.variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "nebula_root": str(self.root),
            "nebula_reserved_memory": 0,
            "nebula_images": [{"name": "demo", "path": image}],
            "nebula_networks": [NETWORK],
            "nebula_templates": [{"name": "web", "template": TEMPLATE}],
            "nebula_vms": [{"name": "web-%i", "count": 2, "template": "web"}],
        }

    def run(self, playbook: str, *arguments: str, **changes: Any) -> tuple[int, str]:
        inventory = self.inventory(**changes)
        return self.execute([str(self.programs / "ansible-playbook"), "-i", str(inventory), *arguments, playbook])

    def inventory(self, **changes: Any) -> Path:
        hosts = {"hosts": {"node1": {**self.variables, **changes}}}
        inventory = self.directory / "hosts.yml"
        inventory.write_text(json.dumps({"nebula_frontend": hosts, "nebula_nodes": {"hosts": {"node1": {}}}}))
        return inventory

    def execute(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.runs_with(),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def runs_with(self) -> dict[str, str]:
        """The environment of its runs."""
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"),
            "HOME": str(self.directory / "home"),
            "LC_ALL": "C.UTF-8",
            **self.environment,
        }
        environment.pop("PYTHONPATH", None)
        (self.directory / "home").mkdir(exist_ok=True)
        return environment


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def changed_tasks(output: str) -> list[str]:
    """Names of the tasks that say changed, without their roles."""
    found, task = [], ""
    for line in output.splitlines():
        begun = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
        task = begun[1] if begun else task
        if line.startswith("changed:"):
            found.append(task)
    return found


def recap(output: str) -> dict[str, int]:
    line = re.search(r"^node1 +: (.*)$", output, re.MULTILINE)
    assert line, output
    return {key: int(value) for key, value in (pair.split("=") for pair in line[1].split())}


def host_state() -> dict[str, Any]:
    """What a teardown has to leave as it was."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    device = os.stat("/dev/kvm")
    return {
        "links": sorted(link["ifname"] for link in json.loads("".join(lines("ip", "-json", "link")))),
        "nft": lines("nft", "list", "ruleset"),
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "kvm": (device.st_uid, device.st_gid, stat.S_IMODE(device.st_mode)),
        "daemons": [line for line in lines("ps", "-eo", "args") if re.search(r"libvirtd|virtlogd|qemu-system", line)],
    }


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
    assert code != 0 and "its hypervisor has no domain of it. Run site.yml again" in output, output
    assert "nebula_audit_repair=true" in output
    assert [each["kind"] for each in findings(site, "-e", "nebula_audit_repair=true")] == ["domain-missing"]
    vms = [{"name": "web-%i", "count": 4, "template": "web", "cpu": 0.2}]
    code, output = site.run("site.yml", nebula_vms=vms)
    assert code == 0, output
    assert_consistent(site)


@in_bare_world
def flow(image: str) -> None:
    site = Site(image)
    before = host_state()

    code, checked = site.run("site.yml", "--check", "--diff")
    assert code == 0, checked
    assert not site.root.exists(), "check mode made files"
    assert host_state() == before

    code, output = site.run("site.yml")
    assert code == 0, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked)), "check mode predicted something else"
    table = [line.split() for line in output.splitlines() if re.match(r" *\d+  web-", line)]
    assert [row[:6] for row in table] == [
        ["0", "web-0", "node1", "RUNNING", "10.66.0.10", "02:00:0a:42:00:0a"],
        ["1", "web-1", "node1", "RUNNING", "10.66.0.11", "02:00:0a:42:00:0b"],
    ]
    console = Path(table[1][6]).read_text(errors="replace")
    assert "hostname=web-1" in console and "10.66.0.11/24" in console

    code, output = site.run("site.yml")
    assert code == 0 and recap(output)["changed"] == 0, output
    tasks = output.count("TASK [")

    differing(site)
    mixed(site)
    more(site, tasks)

    code, output = site.run("playbooks/status.yml")
    assert code == 0 and recap(output)["changed"] == 0, output
    for line in ("web-3", "10.66.0.13", "demo", "Public", "MONITORED"):
        assert line in output

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


def differing(site: Site) -> None:
    """What can't be changed on the living machine is told, whatever hides the plans; what can is forecast and done."""
    vms = [{"name": "web-%i", "count": 2, "template": "web", "memory": 160, "cpu": 0.2, "context": {"TOKEN": SECRET}}]
    code, checked = site.run("site.yml", "--check", "--diff", nebula_vms=vms)
    assert code == 0 and '+  "cpu": 0.2' in checked, checked
    code, output = site.run("site.yml", "--diff", nebula_vms=vms)
    assert code == 0, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked))
    for text in (checked, output):
        assert '+    "CONTEXT": "[ TOKEN = (secret) ]"' in text and SECRET not in text, text
        assert re.search(r"WARNING.*VM web-0 \(id 0\) differs in MEMORY: it has 128, the list says 160", text), text


def mixed(site: Site) -> None:
    """Bad entries are refused by name, the good one among them is done, and its secret is not shown."""
    vms = [
        {"name": "web-%i", "count": 2, "template": "web", "cpu": 0.2},
        {"name": "nosuch", "template": "wbe"},
        {"name": "greedy", "template": "web", "memory": 99999999},
        {"name": "twin", "template": "web", "nics": [{"NETWORK": "Public", "IP": "10.66.0.10"}]},
        {"name": "good", "template": "web", "context": {"PASSWORD": SECRET}},
    ]
    code, output = site.run("site.yml", "-vvvv", "--diff", nebula_vms=vms)
    assert code != 0
    failure = output[output.rindex("Say what went wrong on the front-end") :]
    for text in ("VM nosuch", "'wbe'", "web", "VM greedy", "MiB left", "VM twin", "10.66.0.10", "web-0"):
        assert text in failure, f"{text} in\n{failure}"
    assert re.search(r"good +node1 +RUNNING", output), "the others of the batch go on, and the table shows it"
    assert SECRET not in output


def more(site: Site, tasks: int) -> None:
    """More machines are no more tasks; braces stay what they are."""
    vms = [{"name": "web-%i", "count": 4, "template": "web", "cpu": 0.2}, {"name": "good", "state": "absent"}]
    code, output = site.run("site.yml", nebula_vms=vms)
    assert code == 0, output
    code, output = site.run("site.yml", nebula_vms=vms)
    assert code == 0 and recap(output)["changed"] == 0, output
    assert output.count("TASK [") == tasks
    directory = next(iter(re.findall(r"(\S+)/console.log", output)))
    read = ["isoinfo", "-R", "-x", "/context.sh", "-i", f"{directory}/disk.1"]
    context = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert "BRACES='{{ not_a_variable }}'" in context


@pytest.mark.timeout(900)
def test_the_whole_flow():
    flow(image=str(demo.image()))
