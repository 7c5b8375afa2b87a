# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files of a machine without a network: by its guest agent, from the inventory of the catalog."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login
from ansible_collections.nebula.provision.tests.integration.site_runs import Case, torn_down

TEMPLATE = 'CPU = 0.2\nMEMORY = 128\nDISK = [ IMAGE = "agent", DEV_PREFIX = "vd" ]\n'
# More than goes to the node at once, every byte, and nothing that repeats itself.
CONTENT = bytes(range(256)) + os.urandom(4 * 1024 * 1024 + 7)
LOCAL = {"ansible_connection": "local"}
# Python's modules can't run in this guest, and the connection's files are wanted by themselves.
ACTION = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        self._connection.put_file(self._task.args["content"], self._task.args["there"])
        self._connection.fetch_file(self._task.args["there"], self._task.args["back"])
        return {"changed": True}
"""


class Guests(Case):
    """A site with machines that have no NIC: one has an agent, one has none, one does not run."""

    def __init__(self, image: str) -> None:
        super().__init__()
        self.cache = tempfile.mkdtemp(dir=self.directory)
        self.variables["nebula_images"] = [{"name": "agent", "path": image}]
        self.variables["nebula_networks"] = []
        self.variables["nebula_templates"] = [
            {"name": "agent", "template": TEMPLATE},
            {"name": "deaf", "template": TEMPLATE + 'FEATURES = [ GUEST_AGENT = "NO" ]\n'},
        ]
        self.variables["nebula_vms"] = [
            {"name": "bare", "template": "agent", "hard": True},
            {"name": "deaf", "template": "deaf", "hard": True},
            {"name": "stopped", "template": "agent", "state": "poweroff", "hard": True},
        ]

    def inventories(self, **node: Any) -> list[str]:
        """The arguments that name all of them. node: variables by which it is reached."""
        source, group = self.directory / "machines.nebula.yml", self.directory / "guests.yml"
        kept = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": self.cache}
        source.write_text(yaml.safe_dump({"plugin": "nebula.provision.nebula", **kept}))
        group.write_text(
            yaml.safe_dump({"nebula_machines": {"vars": {"ansible_connection": "nebula.provision.guest"}}})
        )
        return ["-i", str(self.inventory(**node)), "-i", str(group), "-i", str(source)]

    def ask(self, host: str, module: str, arguments: str, *more: str, **node: Any) -> tuple[int, str]:
        argv = [str(self.programs / "ansible"), host, *self.inventories(**node), "-m", module, "-a", arguments]
        code, output = self.execute([*argv, *more])
        return code, " ".join(output.split())


def use_agent(site: Guests) -> None:
    code, output = site.run("site.yml")
    assert code == 0, output
    wait_for(lambda: site.ask("bare", "raw", "true")[0] == 0, "an answer of the guest", 60)
    code, output = site.ask("bare", "raw", "echo it is $(id -u); echo not >&2; exit 7")
    assert code == 7 or ("rc=7" in output and "it is 0" in output and "not" in output), output
    # As much as libvirt lets through, on both of its outputs.
    many = "head -c 1048576 /dev/zero | tr '\\0' x"
    code, output = site.ask("bare", "raw", f"{many}; ({many}) >&2")
    assert code == 0 and output.count("x" * 1048576) == 2, output[:2000]
    # A signal ends it as in a shell.
    assert "rc=143" in site.ask("bare", "raw", "kill -TERM $$; true")[1]

    # A file of every byte goes there and comes back. A longer one is replaced, and an empty one is one, too.
    content, back = site.directory / "content", site.directory / "back"
    (site.directory / "action_plugins").mkdir()
    (site.directory / "action_plugins/carried.py").write_text(ACTION)
    carried = site.directory / "carried.yml"
    task = {"carried": {"content": str(content), "there": "/run/carried", "back": str(back)}}
    carried.write_text(json.dumps([{"hosts": "bare", "gather_facts": False, "tasks": [task]}]))
    for part in (CONTENT, CONTENT[:1000], b""):
        content.write_bytes(part)
        code, output = site.execute([str(site.programs / "ansible-playbook"), *site.inventories(), str(carried)])
        assert code == 0 and back.read_bytes() == part, output
    script = site.directory / "script"
    script.write_bytes(b'#!/bin/sh\nsha256sum "$0"; cat; exit 0\n' + CONTENT)
    code, output = site.ask("bare", "script", str(script))
    assert code == 0 and hashlib.sha256(script.read_bytes()).hexdigest() in output, output

    # What can't be done says what to do.
    for host, module, arguments, sentence in (
        ("deaf", "raw", "true", "Running a command in guest one-1 on node node1: its guest agent does not answer: "),
        ("stopped", "raw", "true", "guest one-2 on node node1: the machine does not run. Start it first"),
        ("bare", "raw", "head -c 20000000 /dev/zero", "since it printed more than 1 MiB"),
        ("bare", "raw", "head -c 20000000 /dev/zero >&2", "since it printed more than 1 MiB"),
        ("bare", "script", f"{script} executable=/nowhere/sh", "rc"),
    ):
        code, output = site.ask(host, module, arguments)
        assert code != 0 and sentence in output and "Traceback" not in output, output
    task["carried"]["there"] = "/nowhere/there"
    carried.write_text(json.dumps([{"hosts": "bare", "gather_facts": False, "tasks": [task]}]))
    code, output = site.execute([str(site.programs / "ansible-playbook"), *site.inventories(), str(carried)])
    assert code != 0 and "Writing /nowhere/there in guest one-0 on node node1: it failed in the machine" in output, (
        output
    )
    others = json.dumps({"nebula_machine": {"id": 0, "host": "node1", "catalog": "another"}})
    code, output = site.ask("bare", "raw", "true", "-e", others)
    assert code != 0 and "the domain does not carry the catalog's mark" in output, output
    for variables, sentence in (
        ({"nebula_guest_node": {}}, "variable nebula_guest_node is empty"),
        ({"nebula_machine": {}}, "variable nebula_machine is not set"),
        ({"nebula_machine": {"id": 0}}, "variable nebula_machine has no host"),
        ({"nebula_machine": {"id": 9, "host": "node1"}}, "there is no such domain"),
        ({"nebula_guest_node": {"ansible_connection": "nowhere"}}, "there is no connection plugin 'nowhere'"),
        (
            {"nebula_guest_node": {**LOCAL, "ansible_become": True, "ansible_become_method": "nowhere"}},
            "there is no become plugin 'nowhere'",
        ),
        ({"nebula_guest_node": {**LOCAL, "ansible_python_interpreter": sys.executable}}, "No module named 'libvirt'"),
    ):
        code, output = site.ask("bare", "raw", "true", "-e", json.dumps(variables))
        assert code != 0 and sentence in output and "Traceback" not in output, output

    # Somebody who is not root reaches the node by ssh.
    with a_login(site.directory, "/usr/bin:/bin") as login:
        reached = {**login, "ansible_become": True, "ansible_host_key_checking": False}
        code, output = site.ask("bare", "raw", "echo reached", **reached)
        assert code == 0 and "reached" in output, output
        powerless = json.dumps({"nebula_guest_node": {**reached, "ansible_become": False}})
        code, output = site.ask("bare", "raw", "true", "-e", powerless, **reached)
        assert code != 0 and "access to libvirt" in output, output
    left = subprocess.run(["pgrep", "-f", "ask_agent"], capture_output=True, text=True, check=False)
    assert left.stdout == "", left.stdout
    assert not Path("/nowhere").exists()


@in_bare_world
def test_commands_and_files_by_the_agent(agent: str) -> None:
    with torn_down(Guests(agent)) as site:
        use_agent(site)
