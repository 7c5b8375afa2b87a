# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node filters of its machines, from the lists of a site to its nftables."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import NETWORK, Case, host_state, recap, torn_down

WEB = {"rule_type": "inbound", "protocol": "TCP", "range": "80"}
FIREWALL = {"FIREWALL": "[*] 111.111.111.0/24 [22] 222.222.0.0/16"}


def table() -> str:
    names = subprocess.run(["nft", "list", "tables", "bridge"], check=True, capture_output=True, text=True).stdout
    found = [name for name in names.split() if name.startswith("nebula_")]
    argv = ["nft", "--stateless", "list", "table", "bridge", *found]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout if found else ""


def chain(name: str) -> list[str]:
    """Its rules, without their comments; [] if there is none."""
    lines = table().partition(f"chain {name} {{\n")[2].partition("}\n\n")[0]
    return [line.strip().partition(" comment ")[0] for line in lines.splitlines() if line.strip() != "}"]


def led(name: str, kind: str) -> list[str]:
    """The rules of the chains of this kind that a chain leads to: those of groups are one NIC's and another's."""
    targets = [rule[len("jump ") :] for rule in chain(name) if rule.startswith(f"jump {kind}_")]
    return [rule for target in targets for rule in chain(target)]


def pids() -> list[str]:
    return subprocess.run(["pgrep", "qemu-system"], capture_output=True, text=True).stdout.split()


def groups(*ranges: str) -> list[dict[str, Any]]:
    return [{"name": "web", "rules": [{**WEB, "range": ports} for ports in ranges]}]


@pytest.mark.timeout(900)
@in_bare_world
def test_a_site_filters_what_its_lists_say() -> None:
    before = host_state()
    with torn_down(Case()) as site:
        site.variables |= {
            "nebula_networks": [{**NETWORK, "security_groups": ["web"]}],
            "nebula_security_groups": groups("80"),
            "nebula_vms": [{"name": "web-0", "template": "web"}, {"name": "web-1", "template": "web"}],
        }
        site.refused("VM web-1: CONTEXT/FIREWALL: [ssh]: 'ssh' is no port", nebula_vms=[
            {"name": "web-1", "template": "web", "context": {"FIREWALL": "[ssh] 10.0.0.0/8"}},
        ])  # fmt: skip
        assert table() == ""
        site.variables["nebula_vms"][1]["context"] = FIREWALL
        assert recap(site.done())["changed"] > 0
        for number, mac in enumerate(("02:00:0a:42:00:0a", "02:00:0a:42:00:0b")):
            assert any(f"ether saddr != {mac} drop" in rule for rule in chain(f"out_{number}_0"))
            assert any("tcp dport 80" in rule for rule in led(f"in_{number}_0", "passing_in"))
        assert led("in_0_0", "firewall") == []
        assert led("in_1_0", "firewall")[:2] == [
            "ip saddr 111.111.111.0/24 return",
            "ip saddr 222.222.0.0/16 tcp dport 22 return",
        ]
        assert recap(site.done())["changed"] == 0
        # A group that changes is in force on machines that run, and these go on running.
        running, site.variables["nebula_security_groups"] = pids(), groups("80", "443")
        code, output = site.run("site.yml", "--check")
        assert code == 0 and recap(output)["changed"] > 0, output
        assert not any("443" in rule for rule in led("in_0_0", "passing_in"))
        assert recap(site.done())["changed"] > 0
        assert any("tcp dport 443" in rule for rule in led("in_0_0", "passing_in")) and pids() == running
        assert recap(site.done())["changed"] == 0
        # What is gone is found by an audit and made anew by the next run; what has ended has no rules.
        subprocess.run(["nft", "flush", "chain", "bridge", table().split()[2], "in_0_0"], check=True)
        code, output = site.run("playbooks/audit.yml")
        assert "VM web-0 (id 0), NIC 0" in output and "rules-missing" in output, output
        site.done(nebula_vms=[site.variables["nebula_vms"][0], {"name": "web-1", "state": "absent", "hard": True}])
        assert chain("in_0_0") and not chain("in_1_0") and "firewall_" not in table()
        site.done(nebula_vms=[{"name": "web-0", "state": "absent", "hard": True}])
        assert table() == ""
    assert json.dumps(host_state()["nft"]) == json.dumps(before["nft"])
