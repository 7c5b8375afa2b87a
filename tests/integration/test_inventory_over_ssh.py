# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as hosts of an inventory, of a catalog that is read over ssh, and reached by way of their node."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.inventoried import Inventoried
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login
from ansible_collections.nebula.provision.tests.integration.site_runs import torn_down

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


@in_bare_world
def test_machines_behind_a_node_that_is_reached_by_ssh() -> None:
    """The catalog is on a host of somebody who may use sudo, and its machines are behind that host."""
    with torn_down(Inventoried()) as site:
        listed_over_ssh(site)
