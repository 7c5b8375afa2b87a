# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site of one host in a world of its own, and runs of playbooks over it: what tests of playbooks have in common."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-Zx9"
# What only a real run can do: in check mode no node has done anything.
ONLY_REAL = {"Record what the nodes did"}
# What a real run does by one task on a single host, check mode does by this one.
IN_ONE_CALL = {"Bring the machines of a single host to the list": "Act on each node"}

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
    # What one run may take.
    seconds = 500

    def __init__(self, image: str) -> None:
        self.directory = Path(os.environ["NEBULA_WORLD"])
        self.root = self.directory / "nebula"
        self.environment: dict[str, str] = {}
        self.variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "nebula_root": str(self.root),
            "nebula_reserved_memory": 0,
            # How many machines a run may end without a word is a matter of test_destroy_limit.py.
            "nebula_destroy_limit": "100%",
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
            timeout=self.seconds,
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
    """Names of the tasks that say changed, without their roles, and as check mode has them."""
    found, task = [], ""
    for line in output.splitlines():
        begun = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
        task = begun[1] if begun else task
        if line.startswith("changed:"):
            found.append(IN_ONE_CALL.get(task, task))
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
        "nft": lines("nft", "--stateless", "--terse", "list", "ruleset"),
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "kvm": (device.st_uid, device.st_gid, stat.S_IMODE(device.st_mode)),
        "daemons": [line for line in lines("ps", "-eo", "args") if re.search(r"libvirtd|virtlogd|qemu-system", line)],
    }


# A boot sector that halts: what is tested is said by hypervisor and catalog, not by guests.
HALTING = b"\xfa\xf4\xeb\xfc".ljust(510, b"\0") + b"\x55\xaa" + b"\0" * (1 << 20)
HALTS = """
CPU = 0.05
MEMORY = 32
DISK = [ IMAGE = "halt", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES" ]
"""
NUMBER = 47.25
# Words of Python, SQLite and Ansible that tell users nothing.
UNTOLD = ("Traceback", "sqlite3", "Error:", "<class", "NoneType'", "is undefined")


@contextlib.contextmanager
def torn_down(site: Site) -> Iterator[Site]:
    """The world is there for the tests that come after this one, too."""
    try:
        yield site
    finally:
        code, output = site.run("playbooks/teardown.yml")
        assert code == 0, output
        assert not site.root.exists(), sorted(site.root.rglob("*"))


class Case(Site):
    """A site of machines that boot at once and say nothing."""

    def __init__(self) -> None:
        image = Path(os.environ["NEBULA_WORLD"]) / "halt.raw"
        image.write_bytes(HALTING)
        super().__init__(str(image))
        self.variables |= {
            "nebula_accelerator": "qemu",
            "nebula_manage_packages": False,
            "nebula_verify": False,
            "nebula_images": [{"name": "halt", "path": str(image)}],
            "nebula_templates": [{"name": "web", "template": HALTS}],
            "nebula_vms": [],
        }

    def refused(self, *texts: str, arguments: tuple[str, ...] = (), **changes: Any) -> str:
        """The output of a run that fails with all these texts."""
        code, output = self.run("site.yml", *arguments, **changes)
        assert code != 0, output
        for text in texts:
            assert text in output, f"{text} in\n{output}"
        for text in (*UNTOLD, str(NUMBER)):
            assert text not in output, f"{text} in\n{output}"
        return output

    def done(self, **changes: Any) -> str:
        code, output = self.run("site.yml", **changes)
        assert code == 0, output
        return output

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.root / "nebula.db")) as catalog:
            return catalog.execute(sql).fetchall()

    def machines(self) -> dict[str, int]:
        """LCM states by name, after a look that the catalog holds as much for them as there are machines."""
        found = {str(name): int(state) for name, state in self.rows("SELECT name, lcm_state FROM vms WHERE state != 6")}
        assert self.rows("SELECT vms, memory_used FROM hosts WHERE name = 'node1'") == [(len(found), 32 * len(found))]
        directories = [path for path in (self.root / "datastores/0").glob("*") if path.name.isdigit()]
        assert len(directories) == len(found)
        return found


RUNNING, BOOT_FAILURE = 3, 36
