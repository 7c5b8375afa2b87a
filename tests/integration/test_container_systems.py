# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole systems in containers: Debian with systemd as init, which reads its context by the context program or by its
own cloud-init, comes up with its address, is verified by the playbooks, and powers itself off when it is asked to."""

from __future__ import annotations

import base64
import re
import subprocess

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.guests import containers
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.lxc_node import groups_of_their_own, without_unified_cgroups
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, host_state, recap, torn_down

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKE test"
# A line per fact, as the last thing that cloud-init or the context program does.
FACTS = """#!/bin/sh
say() { printf 'fact %s %s\\n' "$1" "$2" > /dev/console; }
say hostname "$(cat /proc/sys/kernel/hostname)"
say init "$(cat /proc/1/comm)"
say root "$(tr -s ' ' < /proc/self/uid_map)"
say address "$(ip -o -4 addr show dev eth0 | awk '{ print $4 }')"
say route "$(ip route show default | awk '{ print $3 }')"
say datasource "$(cat /var/lib/cloud/instance/datasource 2> /dev/null)"
say key "$(cat /home/*/.ssh/authorized_keys /root/.ssh/authorized_keys 2> /dev/null | grep -c FAKEfake)"
say failed "$(systemctl list-units --failed --plain --no-legend | awk '{ print $1 }' | tr '\\n' ' ')"
say end
"""
TEMPLATE = {
    "CPU": 0.2,
    "MEMORY": 256,
    "NIC": {"NETWORK": "Public"},
    "CONTEXT": {"NETWORK": "YES", "SET_HOSTNAME": "$NAME", "SSH_PUBLIC_KEY": KEY},
}
USER_DATA = {"USER_DATA": base64.b64encode(FACTS.encode()).decode(), "USER_DATA_ENCODING": "base64"}
# Which of its sources cloud-init takes for each format.
SOURCES = {"nocloud": "NoCloud", "configdrive": "ConfigDrive"}
MACHINES = ("debian", *SOURCES)


class Systems(Site):
    def __init__(self) -> None:
        roots = containers.images()
        super().__init__(str(roots.debian))
        self.variables |= {
            "nebula_hypervisor": "lxc",
            "nebula_verify_timeout": 300,
            "nebula_images": [
                {"name": "debian", "path": str(roots.debian), "format": "tar"},
                {"name": "cloud", "path": str(roots.cloud), "format": "tar"},
            ],
            "nebula_templates": [
                {"name": "debian", "template": {**TEMPLATE, "DISK": {"IMAGE": "debian"}}},
                {"name": "cloud", "template": {**TEMPLATE, "DISK": {"IMAGE": "cloud"}}},
            ],
            "nebula_vms": [
                {"name": "debian", "template": "debian", "context": {"START_SCRIPT": FACTS}},
                *(
                    {"name": name, "template": "cloud", "context_format": name, "context": USER_DATA}
                    for name in SOURCES
                ),
            ],
        }

    def console(self, name: str) -> str:
        path = self.root / f"datastores/0/{MACHINES.index(name)}/console.log"
        return path.read_text(errors="replace").replace("\r", "")

    def facts(self, name: str, times: int = 1) -> dict[str, str]:
        wait_for(lambda: self.console(name).count("fact end") >= times, f"the facts of {name}", 120)
        return dict(re.findall(r"\bfact (\w+) (.*)", self.console(name)))

    def to_be(self, state: str) -> None:
        machines = [{**machine, "state": state} for machine in self.variables["nebula_vms"]]
        code, output = self.run("site.yml", nebula_vms=machines)
        assert code == 0, output


def domains() -> dict[str, str]:
    done = subprocess.run(["virsh", "-c", "lxc:///system", "list", "--all"], check=True, capture_output=True, text=True)
    rows = (line.split(None, 2) for line in done.stdout.splitlines()[2:] if line.strip())
    return {name: state for _number, name, state in rows}


@in_bare_world
def flow() -> None:
    groups_of_their_own()
    before = host_state()
    with without_unified_cgroups(), torn_down(Systems()) as site:
        code, output = site.run("site.yml")
        assert code == 0, output
        code, output = site.run("site.yml")
        assert code == 0 and recap(output)["changed"] == 0, output
        for number, name in enumerate(MACHINES):
            facts = site.facts(name)
            assert (facts["hostname"], facts["init"], facts["failed"]) == (name, "systemd", "")
            assert facts["root"].split() == ["0", str(603979776 + number * 65536), "65536"]
            assert (facts["address"], facts["route"]) == (f"10.66.0.{10 + number}/24", "10.66.0.1")
            assert int(facts["key"]) >= 1
            assert facts["datasource"].startswith(f"DataSource{SOURCES[name]}" if name in SOURCES else "")
            ping = ["ping", "-c", "1", "-W", "5", f"10.66.0.{10 + number}"]
            assert subprocess.run(ping, capture_output=True, check=False).returncode == 0
            # agetty's prompt, behind which is a whole login.
            wait_for(lambda name=name: f"{name} login: " in site.console(name), f"the prompt of {name}")
        # systemd is asked by a signal, and ends all in good order.
        site.to_be("poweroff")
        assert set(domains().values()) == {"shut off"}
        for name in MACHINES:
            assert "Reached target \x1b[0;1;39mfinal.target" in site.console(name), site.console(name)
        site.to_be("running")
        assert set(domains().values()) == {"running"}
        code, output = site.run("playbooks/audit.yml")
        assert code == 0, output
    assert host_state() == before


@pytest.mark.timeout(1800)
def test_debian_in_containers() -> None:
    containers.images()
    flow()
