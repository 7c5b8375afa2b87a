# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian without a network, with its own agent, its own login and its own Python: Ansible's modules configure it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.guests import cloud_init
from ansible_collections.nebula.provision.tests.integration.site_runs import torn_down
from ansible_collections.nebula.provision.tests.integration.test_guest_connection import Guests

PASSWORD = "p4ss w'ord"
USER_DATA = f"""#cloud-config
chpasswd:
  expire: false
  users:
    - {{name: root, password: "{PASSWORD}", type: text}}
"""
CONTENT = os.urandom(300_000)


class Debian(Guests):
    def __init__(self, disk: str, kernel: str, initrd: str, append: str) -> None:
        super().__init__(disk)
        # Where QEMU's user may read them.
        kernel, initrd = (shutil.copy(path, self.directory) for path in (kernel, initrd))
        template = {
            "CPU": 1, "MEMORY": 768,
            "OS": {"KERNEL": kernel, "INITRD": initrd, "KERNEL_CMD": append},
            "DISK": {"IMAGE": "agent", "DEV_PREFIX": "vd"},
            "CONTEXT": {"USER_DATA": USER_DATA},
        }  # fmt: skip
        self.variables["nebula_templates"] = [{"name": "debian", "template": template}]
        self.variables["nebula_vms"] = [{"name": "bare", "template": "debian", "hard": True}]

    def play(self, tasks: list[dict[str, Any]], *more: str) -> tuple[int, str]:
        playbook = self.directory / "play.yml"
        variables = {"ansible_python_interpreter": "/usr/bin/python3"}
        playbook.write_text(json.dumps([{"hosts": "bare", "gather_facts": False, "vars": variables, "tasks": tasks}]))
        return self.execute([str(self.programs / "ansible-playbook"), *self.inventories(), *more, str(playbook)])


def carried(place: Path, name: str) -> list[dict[str, Any]]:
    """Modules, facts, files both ways, and another user."""
    return [
        {"ansible.builtin.setup": {"gather_subset": ["!all", "min"]}},
        {"ansible.builtin.copy": {"src": str(place / "content"), "dest": f"/srv/{name}", "mode": "0640"}},
        {"ansible.builtin.fetch": {"src": f"/srv/{name}", "dest": f"{place}/{name}", "flat": True}},
        {"ansible.builtin.command": "sleep 2", "async": 60, "poll": 1, "changed_when": False},
        {
            "ansible.builtin.command": "id -un",
            "changed_when": False,
            "become": True,
            "become_user": "nobody",
            "register": "who",
        },
        {"ansible.builtin.assert": {"that": ["who.stdout == 'nobody'", "ansible_facts.distribution == 'Debian'"]}},
    ]


@in_bare_world
def configured(disk: str, kernel: str, initrd: str, append: str) -> None:
    with torn_down(Debian(disk, kernel, initrd, append)) as site:
        configure(site)


def configure(site: Debian) -> None:
    place = site.directory
    (place / "content").write_bytes(CONTENT)
    code, output = site.run("site.yml")
    assert code == 0, output
    ready = {"ansible.builtin.wait_for_connection": {"timeout": 400, "sleep": 1}}
    code, output = site.play([ready, *carried(place, "agent")])
    assert code == 0 and (place / "agent").read_bytes() == CONTENT, output
    code, output = site.play(carried(place, "agent"))
    assert code == 0 and "changed=0 " in output, output

    console = ["-e", json.dumps({"nebula_guest_way": "console", "ansible_user": "root", "ansible_password": PASSWORD})]
    # A module is some 200 KB, and takes its time.
    code, output = site.play([{"ansible.builtin.ping": {}}, {"ansible.builtin.raw": "id -un"}], *console)
    assert code == 0 and "changed=1 " in output, output
    log = (site.root / "datastores/0/0/console.log").read_text(errors="replace")
    assert PASSWORD not in log and log.rstrip().endswith("login:"), log[-2000:]
    code, output = site.play([{"ansible.builtin.raw": "true"}], *console, "-e", "ansible_password=wr0ng")
    log = (site.root / "datastores/0/0/console.log").read_text(errors="replace")
    assert code != 0 and "wr0ng" not in output + log, output
    assert "it refuses user root with this password" in output, output + log[-2000:]


@pytest.mark.timeout(1500)
def test_a_debian_without_a_network_is_configured():
    image = cloud_init.image()
    configured(disk=str(image.disk), kernel=str(image.kernel), initrd=str(image.initrd), append=image.append)
