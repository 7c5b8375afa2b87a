# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml, status and teardown as a person runs them, on a bare host without systemd: real libvirtd, real guests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

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

    def __init__(self, image: str) -> None:
        self.directory = Path(os.environ["NEBULA_WORLD"])
        self.root = self.directory / "nebula"
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
        return self.execute([program("ansible-playbook"), "-i", str(inventory), *arguments, playbook])

    def inventory(self, **changes: Any) -> Path:
        hosts = {"hosts": {"node1": {**self.variables, **changes}}}
        inventory = self.directory / "hosts.yml"
        inventory.write_text(json.dumps({"nebula_frontend": hosts, "nebula_nodes": {"hosts": {"node1": {}}}}))
        return inventory

    def execute(self, command: list[str]) -> tuple[int, str]:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "HOME": str(self.directory / "home"),
            "LC_ALL": "C.UTF-8",
        }
        environment.pop("PYTHONPATH", None)
        (self.directory / "home").mkdir(exist_ok=True)
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        return done.returncode, done.stdout + done.stderr


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


# A command that sees /dev with a log to which what it says goes: this machine's own /dev is not for tests to add to.
WITH_SYSLOG = """
set -eu
socket=$1 dev=$2; shift 2
mount -t tmpfs -o mode=755 tmpfs "$dev"
for path in /dev/*; do
    own=$dev/${path##*/}
    if [ -L "$path" ]; then cp -P "$path" "$own"
    elif [ "$path" = /dev/ptmx ]; then ln -s pts/ptmx "$own"  # one that is bound finds no pts beside it
    elif [ -d "$path" ]; then mkdir "$own"; mount --rbind "$path" "$own"
    else : > "$own"; mount --bind "$path" "$own"
    fi
done
: > "$dev/log"
mount --bind "$socket" "$dev/log"
mount --rbind "$dev" /dev
exec "$@"
"""


@contextlib.contextmanager
def syslog(place: Path) -> Iterator[tuple[list[str], list[str]]]:
    """What to put before a command, and the lines that it and its children send to syslog: complete at the end."""
    path, dev = place / "syslog", place / "dev"
    lines: list[str] = []
    dev.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))

        def read() -> None:
            while line := receiver.recv(1 << 20):
                lines.append(line.decode(errors="replace"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield ["unshare", "--mount", "sh", "-c", WITH_SYSLOG, "sh", str(path), str(dev)], lines
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))
            reader.join()
            path.unlink()
            dev.rmdir()


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


def holders(root: Path, text: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


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
    kept(site)
    more(site, tasks)

    code, output = site.run("playbooks/status.yml")
    assert code == 0 and recap(output)["changed"] == 0, output
    for line in ("web-3", "10.66.0.13", "demo", "Public", "MONITORED"):
        assert line in output

    code, output = site.run("playbooks/teardown.yml")
    assert code == 0, output
    assert not site.root.exists(), sorted(site.root.rglob("*"))
    assert host_state() == before
    code, output = site.run("playbooks/teardown.yml")
    assert code == 0 and recap(output)["changed"] == 0, output


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
    """Bad entries are refused by name, the good one among them is done, and its secrets are seen nowhere."""
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
    secret_is_only_where_it_is_needed(site, output)


def secret_is_only_where_it_is_needed(site: Site, output: str) -> None:
    # The inventory says it itself at -vvvv only if asked to; nothing that runs may.
    assert SECRET not in output
    assert holders(site.directory / "home", SECRET) == []
    found = holders(site.root, SECRET)
    assert {path.name.split("-")[0] for path in found} == {"nebula.db", "disk.1"}, found
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path


def kept(site: Site) -> None:
    """What AWX keeps of a run (the job events of ansible-runner), and what modules say to syslog, holds no secret: of a
    template that is made, a machine that is changed, one that is refused."""
    inventory = site.inventory(
        nebula_templates=[
            *site.variables["nebula_templates"],
            {"name": "closed", "template": f'{TEMPLATE} GRAPHICS = [ TYPE = "VNC", PASSWD = "{SECRET[:8]}" ]'},
        ],
        nebula_vms=[
            {"name": "good", "template": "web", "context": {"PASSWORD": SECRET, "TOKEN": SECRET + "2"}},
            {"name": "bad", "template": "web", "context": {"PASSWORD": SECRET}, "attributes": {"MEMORY": "lots"}},
        ],
    )
    place = site.directory / "runner"
    place.mkdir()
    path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
    runner = ["env", path, program("ansible-runner"), "run", str(place), "--ident", "job", "--project-dir", str(ROOT)]
    runner += ["--inventory", str(inventory), "-p", "site.yml", "-vvvv", "--cmdline=--diff"]
    with syslog(site.directory) as (prefix, lines):
        _code, output = site.execute([*prefix, *runner])
    events = [json.loads(path.read_text()) for path in (place / "artifacts/job/job_events").glob("*.json")]
    tasks = {event["event_data"].get("task_action") for event in events if event["event"].startswith("runner_on_")}
    for module in ("nebula_image", "nebula_template", "nebula_vm", "nebula_deploy", "nebula_vm_record"):
        assert f"nebula.provision.{module}" in tasks, output
    assert any("Invoked with" in line and "templates=" in line for line in lines), lines
    assert any("Invoked with" in line and "images=" in line for line in lines), lines
    for word in (SECRET, SECRET[:8]):
        assert holders(place, word) == []
        assert [line for line in lines if word in line] == []
        assert word not in output
    shutil.rmtree(place)


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
