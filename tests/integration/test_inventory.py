# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as hosts of an inventory: of a catalog that site.yml made, read here and over ssh, and reached by way of
their node."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.plugin_utils.machine_hosts import jump_arguments
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login, listening
from ansible_collections.nebula.provision.tests.integration.site_runs import HALTS, Case, torn_down

# A machine's name and its label say this, and nothing runs it.
TEMPLATED = "{{ lookup('pipe', 'echo ran >>RAN') }}"
SECRET = "s3cr3t-of-the-template"
PYTHON = ("-e", "ansible_python_interpreter=/usr/bin/python3")
ODD = {"name": "odd {{ name }}", "template": "web", "hard": True}
MACHINES = [
    {"name": "web", "template": "web", "hard": True, "attributes": {"ROLE": "front", "LABELS": "blue, the green"}},
    {"name": "bare", "template": "bare", "hard": True},
    {"name": "wrong", "template": "web", "attributes": {"CPU_MODEL": {"MODEL": "nosuchcpu"}}},
    # The node has this name.
    {"name": "node1", "template": "bare", "hard": True},
]


class Inventoried(Case):
    """A site whose machines are hosts. options: of the plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = self.directory / "ran"
        note = TEMPLATED.replace("RAN", str(self.ran))
        # What is to stay a text is marked in the inventory.
        self.variables["nebula_templates"] = [
            {"name": "web", "template": f'{HALTS}\nPASSWORD = "{SECRET}"\n'},
            {"name": "bare", "template": 'CPU = 0.05\nMEMORY = 32\nDISK = [ IMAGE = "halt", DEV_PREFIX = "vd" ]'},
        ]
        self.note = note
        self.variables["nebula_vms"] = [*MACHINES, ODD | {"attributes": {"NOTE": note}}]

    def inventory(self, **changes: Any) -> Path:
        """The directory with both files; templates in machines are marked as texts."""
        both = self.directory / "both"
        both.mkdir(exist_ok=True)
        hosts = super().inventory(**changes)
        text = hosts.read_text()
        for each in (ODD["name"], self.note):
            text = text.replace(json.dumps(each), f"!unsafe {json.dumps(each)}")
        (both / "hosts.yml").write_text(text)
        return both

    def machines_yml(self, place: Path, **options: Any) -> Path:
        source = place / "machines.nebula.yml"
        source.write_text(yaml.safe_dump({"plugin": "nebula.provision.nebula", **options}))
        return source

    def listed(self, source: Path, *before: str) -> tuple[int, str, dict[str, Any]]:
        """Exit status, output, and the inventory that ansible-inventory prints."""
        command = [*before, str(self.programs / "ansible-inventory"), "-i", str(source), "--list"]
        done = subprocess.run(
            command, cwd=self.checkout, env=self.runs_with(), capture_output=True, text=True, timeout=100, check=False
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        # Before ansible-core 2.19 a warning is broken into lines.
        return done.returncode, " ".join((done.stdout + done.stderr).split()), found


@in_bare_world
def read_here() -> None:
    with torn_down(Inventoried()) as site:
        listed_here(site)


def listed_here(site: Inventoried) -> None:
    code, output = site.run("site.yml")
    # One of the machines was made to fail.
    assert code != 0 and "nosuchcpu" in output, output
    both = site.inventory()
    site.machines_yml(both, keyed_groups=[{"key": "nebula_machine.attributes.ROLE", "prefix": "role"}])
    code, output, found = site.listed(both)
    assert code == 0 and not site.ran.exists(), output
    hosts = found["_meta"]["hostvars"]
    # By their ids are those whose names Ansible would take for something else.
    assert {*found["nebula_machines"]["hosts"]} == {"web", "bare", "wrong", "one-3", "one-4"}, output
    assert SECRET not in json.dumps({name: each for name, each in hosts.items() if name != "node1"})
    assert "machine 'node1' is host one-3 here" in output
    assert hosts["node1"]["ansible_connection"] == "local", "the node is still itself"
    web = hosts["web"]["nebula_machine"]
    assert hosts["web"]["ansible_host"] == web["ip"] == "10.66.0.10"
    # The node is this machine itself: there is nothing to jump over.
    assert "ansible_ssh_common_args" not in hosts["web"] and "ansible_host" not in hosts["bare"]
    assert (
        web["networks"] == ["Public"] and web["labels"] == ["blue", "the green"] and "CONTEXT" not in web["attributes"]
    )
    assert web["attributes"]["PASSWORD"] == "(secret)"
    groups = {
        "host_node1": "web", "network_Public": "web", "template_bare": "bare", "state_RUNNING": "web",
        "label_the_green": "web", "image_halt": "bare", "role_front": "web", "state_BOOT_FAILURE": "wrong",
    }  # fmt: skip
    for group, host in groups.items():
        assert host in found[group]["hosts"], group
    assert hosts["wrong"]["nebula_machine"]["error"]

    # What the catalog holds is text to a playbook, too.
    used = site.directory / "used.yml"
    shown = "{{ [inventory_hostname, nebula_machine] | to_json }}"
    task = {"ansible.builtin.copy": {"content": shown, "dest": f"{site.directory}/used-{{{{ inventory_hostname }}}}"}}
    play = {"hosts": "nebula_machines", "gather_facts": False, "connection": "local", "tasks": [task]}
    used.write_text(json.dumps([play]))
    code, output = site.execute([str(site.programs / "ansible-playbook"), "-i", str(both), *PYTHON, str(used)])
    assert code == 0 and not site.ran.exists(), output
    name, machine = json.loads((site.directory / "used-one-4").read_text())
    assert (name, machine["name"], machine["attributes"]["NOTE"]) == ("one-4", ODD["name"], site.note)

    # One that nobody can find any more, and no condition that any of them breaks.
    subprocess.run(["virsh", "-q", "-c", "qemu:///system", "destroy", "one-1"], check=True)
    subprocess.run(["virsh", "-q", "-c", "qemu:///system", "undefine", "one-1", "--nvram"], check=True)
    site.run("site.yml", nebula_vms=[])
    site.machines_yml(
        both,
        filters=[
            "nebula_machine.state != 'BOOT_FAILURE'",
            "nebula_machine.nics[0].ip | default('10.66') is match('10.66')",
        ],
        compose={"answer": "nebula_machine.id * 2", "missing": "nebula_machine.nothing.there"},
        groups={"odd": "nebula_machine.id is odd", "broken": "nebula_machine.nothing.there"},
        group_by=["state"],
    )
    code, output, found = site.listed(both)
    assert code == 0 and {*found["nebula_machines"]["hosts"]} == {"web", "bare", "one-3", "one-4"}, output
    assert found["state_UNKNOWN"]["hosts"] == ["bare"] and "host_node1" not in found
    assert {*found["odd"]["hosts"]} == {"bare", "one-3"} and "broken" not in found
    hosts = found["_meta"]["hostvars"]
    # Before ansible-core 2.19 a result is a string, and what is missing is null.
    assert str(hosts["bare"]["answer"]) == "2" and not hosts["web"].get("missing")

    # What is no condition is an error, and so is a front-end that can't be asked.
    for options, text in (
        ({"filters": ["nebula_machine.id =="]}, "filter 'nebula_machine.id ==' is no condition"),
        ({"frontend": "nowhere.invalid"}, "the catalog can't be read on the front-end nowhere.invalid"),
    ):
        site.machines_yml(both, **options)
        site.environment = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
        code, output, _found = site.listed(both)
        assert (code != 0, text in output, "Traceback" in output) == (True, True, False), output
    site.machines_yml(both, root="/nowhere/there")
    code, output, found = site.listed(both)
    assert code == 0 and "there is no catalog in /nowhere/there on the front-end node1" in output, output
    assert "nebula_machines" not in found and not Path("/nowhere").exists()
    kept = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(site.directory / "cache"),
    }
    site.machines_yml(both, **kept)
    assert site.listed(both)[0] == 0
    # Nothing is asked that was asked before: the catalog may be away. Another way to the front-end is another question.
    away = site.root.rename(site.root.with_name("away"))
    code, output, found = site.listed(both)
    away.rename(site.root)
    assert code == 0 and len(found["nebula_machines"]["hosts"]) == 5, output
    site.machines_yml(both, **kept, connection={"ansible_connection": "ssh", "ansible_port": 1})
    code, output, found = site.listed(both)
    assert code != 0 and "the catalog can't be read on the front-end node1" in output, output
    site.machines_yml(both)


# What is the guest's: its address, on the bridge of its network, and an ssh server.
GUEST = """
set -e
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add 10.66.0.10/24 dev eth0
ip link set eth0 up
ip link set lo up
exec /usr/sbin/sshd -D -e -f {place}/config
"""
# Where Ansible runs: it has a link to the node, and no route to its machines.
CONTROL = """
set -e
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add 10.78.0.2/24 dev eth0
ip link set eth0 up
ip link set lo up
exec cat
"""


@contextlib.contextmanager
def namespace(script: str, name: str, log: Path) -> Iterator[int]:
    """The process of a network namespace; its eth0 is the peer of link `name`, which is up."""
    argv = ["unshare", "-n", "sh", "-c", script]
    with log.open("wb") as file, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=file, stderr=file) as there:
        try:
            own = os.readlink("/proc/self/ns/net")
            wait_for(lambda: os.readlink(f"/proc/{there.pid}/ns/net") != own, "a network of its own")
            link = ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(there.pid)]
            subprocess.run(link, check=True)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
            yield there.pid
        finally:
            there.terminate()


@in_bare_world
def read_over_ssh() -> None:
    """The catalog is on a host of somebody who may use sudo, and its machines are behind that host."""
    with torn_down(Inventoried()) as site:
        listed_over_ssh(site)


def listed_over_ssh(site: Inventoried) -> None:
    code, output = site.run("site.yml")
    assert code != 0 and "nosuchcpu" in output, output
    place = site.directory / "far"
    place.mkdir()
    with contextlib.ExitStack() as held:
        control = held.enter_context(namespace(CONTROL, "control", place / "control.log"))
        subprocess.run(["ip", "address", "add", "10.78.0.1/24", "dev", "control"], check=True)
        login = held.enter_context(a_login(site.directory, "/usr/bin:/bin", "10.78.0.1"))
        # What AWX gives to the source of an inventory: environment variables of a credential, and a file.
        site.environment = {
            "NEBULA_FRONTEND": "one",
            "NEBULA_FRONTEND_USER": login["ansible_user"],
            "NEBULA_FRONTEND_KEY_FILE": login["ansible_ssh_private_key_file"],
            "NEBULA_FRONTEND_BECOME": "true",
            "NEBULA_FRONTEND_HOST_KEY_CHECKING": "false",
            "NEBULA_ROOT": str(site.root),
        }
        address = {"ansible_host": login["ansible_host"], "ansible_port": login["ansible_port"]}
        source = site.machines_yml(place, connection=address)
        code, output, found = site.listed(source, "nsenter", "-t", str(control), "-n")
        assert code == 0 and len(found["nebula_machines"]["hosts"]) == 5, output

        # Beside the hosts nothing has to be said: the front-end is in its group, and the node says how it is reached.
        both = site.inventory(**login, ansible_python_interpreter="/usr/bin/python3")
        compose = {"ansible_user": "'root'", "ansible_python_interpreter": "'/usr/bin/python3'"}
        key = place / "user"
        compose["ansible_ssh_private_key_file"] = repr(str(key))
        site.environment = {}
        site.machines_yml(both, compose=compose)
        code, output, found = site.listed(both, "nsenter", "-t", str(control), "-n")
        assert code == 0, output
        assert "ProxyCommand" in found["_meta"]["hostvars"]["web"]["ansible_ssh_common_args"]

        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
        (place / "config").write_text(
            f"ListenAddress 10.66.0.10\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\nPidFile none\n"
            "StrictModes no\nUsePAM no\nSetEnv SHLVL=2\nPermitRootLogin prohibit-password\n"
        )
        held.enter_context(namespace(GUEST.format(place=place), "guest", place / "guest.log"))
        subprocess.run(["ip", "link", "set", "guest", "master", "nbr0"], check=True)
        shutil.copy2(login["ansible_ssh_private_key_file"], place / "node")
        # A connection that is kept would go on by way of the node.
        site.environment = {"ANSIBLE_HOST_KEY_CHECKING": "false", "ANSIBLE_SSH_ARGS": "-o ControlPath=none"}
        argv = ["nsenter", "-t", str(control), "-n", str(site.programs / "ansible"), "web", "-i", str(both)]
        argv += ["-m", "ansible.builtin.command", "-a", "ip -o address"]
        answers: list[str] = []

        def answered() -> bool:
            code, output = site.execute(argv)
            answers.append(output)
            return code == 0

        wait_for(answered, "an answer of the machine", seconds=60)
        assert "10.66.0.10/24" in answers[-1], answers[-1]
        code, output = site.execute([*argv, "-e", "ansible_ssh_common_args="])
        assert code != 0 and "UNREACHABLE" in output, f"the machine was reached without its node\n{output}"


def test_machines_of_a_catalog_that_is_here():
    read_here()


def test_machines_behind_a_node_that_is_reached_by_ssh():
    read_over_ssh()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_ssh_goes_by_way_of_a_node_to_addresses_of_both_families(tmp_path, address):
    """One real sshd is the node at 127.0.0.1, and the machine at the address."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nListenAddress [::1]:{port}\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    node = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(tmp_path / "user"),
        "ansible_ssh_common_args": shlex.join(options),
    }
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "config")]) as daemon:
        try:
            wait_for(lambda: listening("127.0.0.1", port), "sshd")
            argv = ["ssh", *options, *shlex.split(jump_arguments("node1", node)), "-o", "BatchMode=yes"]
            argv += ["-i", str(tmp_path / "user"), "-p", str(port), f"root@{address}", 'echo "$SSH_CONNECTION"']
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.split()[2] in ("127.0.0.1" if address == "localhost" else address, "::1"), done.stdout
        finally:
            daemon.terminate()
