# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as hosts of an inventory, of a catalog that site.yml made and that is read here; ssh by way of a node."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.plugin_utils.inventory_hosts import jump_arguments
from ansible_collections.nebula.provision.tests.integration.inventoried import ODD, PYTHON, SECRET, Inventoried
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import listening
from ansible_collections.nebula.provision.tests.integration.site_runs import torn_down


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


@in_bare_world
def test_machines_of_a_catalog_that_is_here() -> None:
    with torn_down(Inventoried()) as site:
        listed_here(site)


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
