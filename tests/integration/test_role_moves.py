# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of a list move to another node, and a node is emptied for maintenance and filled again, by playbooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from auditor import assert_consistent
from in_world import in_nodes

from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, hosts
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks


def where(site: Sent) -> dict[str, tuple[str, str]]:
    """The host and the state of each machine, as the catalog has them."""
    code, output = site.execute(
        [
            str(site.programs / "ansible"), "-i", str(site.inventory()), "front", "-m",
            "nebula.provision.nebula_info", "-a", f"gather=vms root={site.root}",
        ]
    )  # fmt: skip
    assert code == 0, output
    found = json.loads(output[output.index("{") :])
    return {vm["name"]: (vm["host"], vm["state"]) for vm in found["vms"]}


def wanted(name: str, host: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "template": "base", "host": host, **more}


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_machines_of_a_list_move() -> None:
    site = Sent()
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    site.variables["nebula_templates"] = site.variables["nebula_templates"][1:]
    with hosts(site):
        machines = [wanted("web", "node1"), wanted("off", "node1", state="poweroff"), wanted("other", "node2")]
        site.done("site.yml", nebula_vms=machines)
        assert where(site) == {"web": ("node1", "RUNNING"), "off": ("node1", "POWEROFF"), "other": ("node2", "RUNNING")}

        # Another host is a difference, and nothing more.
        machines[0]["host"] = "node2"
        code, output = site.run("site.yml", nebula_vms=machines)
        assert code != 0 and "set move: live (nebula_move: live for all)" in output, output
        assert where(site)["web"] == ("node1", "RUNNING")

        output = site.done("site.yml", "--check", "--diff", nebula_vms=machines, nebula_move="live")
        assert "Machines that would move" in output and "node2, live, with at most 33 MiB copied" in output, output
        assert where(site)["web"] == ("node1", "RUNNING")
        # Both hosts of a move act at the same time.
        code, output = site.run("site.yml", "--forks", "1", nebula_vms=machines, nebula_move="live")
        assert code != 0 and "set forks to 2 or more" in output and where(site)["web"] == ("node1", "RUNNING"), output
        site.done("site.yml", nebula_vms=machines, nebula_move="live")
        assert where(site)["web"] == ("node2", "RUNNING")
        assert changed_tasks(site.done("site.yml", nebula_vms=machines, nebula_move="live")) == []
        assert_consistent(site)


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_a_node_is_maintained() -> None:
    site = Sent()
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    site.variables["nebula_templates"] = site.variables["nebula_templates"][1:]
    machines = [wanted("web", "node1"), wanted("off", "node1", state="poweroff"), wanted("other", "node2")]
    site.variables["nebula_vms"] = machines
    there = {"web": ("node1", "RUNNING"), "off": ("node1", "POWEROFF"), "other": ("node2", "RUNNING")}
    away = {name: ("node2", state) for name, (_host, state) in there.items()}

    def run(host: str, *words: str, check: str = "--diff") -> tuple[int, str]:
        given = [f"nebula_maintenance_host={host}", *words]
        return site.run("playbooks/maintenance.yml", check, *(word for each in given for word in ("-e", each)))

    with hosts(site):
        site.done("site.yml")
        for wrong, reason in (("nodel", "the catalog has no host nodel"), ("", "no host is named")):
            code, output = run(wrong)
            assert code != 0 and reason in output and where(site) == there, output
        code, output = run("all", "nebula_maintenance=begin")
        assert code != 0 and "no host would be left for their machines" in output and where(site) == there, output

        code, output = run("node1", "nebula_maintenance_cold=true", check="--check")
        assert code == 0 and where(site) == there and "MiB COPIED AT MOST" in output, output
        assert [line.split() for line in output.splitlines() if line.startswith(("web ", "off "))] == [
            ["web", "node1", "node2", "live", "-", "33"],
            ["off", "node1", "node2", "cold", "-", "1"],
        ]

        # In two runs, with whatever is done between them.
        code, output = run("node1", "nebula_maintenance=begin")
        assert code == 0 and "2 away from a host that was emptied" in output and where(site) == away, output
        code, output = run("node1")
        assert code != 0 and "Host node1 was disabled before: another run maintains it" in output, output
        # Lists pin machines, and these stay.
        output = site.done("site.yml", nebula_move="live")
        assert "VM web stays on host node2, although the list says node1" in output and where(site) == away, output
        code, output = run("node1", "nebula_maintenance=end")
        assert code == 0 and where(site) == there, output
        assert changed_tasks(site.done("site.yml")) == []

        # In one, each node in turn, with tasks that find it empty.
        tasks = site.directory / "tasks.yml"
        found = "/root/machines"
        command = f"virsh -c qemu:///system list --name --all > {found}"
        tasks.write_text(f"- name: Look\n  ansible.builtin.shell: {command}\n")
        code, output = run("all", f"nebula_maintenance_tasks={tasks}")
        assert code == 0 and where(site) == there, output
        assert [node.path(found).read_text().strip() for node in site.nodes] == ["", ""]
        assert_consistent(site)

        # What goes wrong on a node ends it there.
        tasks.write_text("- name: Fail\n  ansible.builtin.fail: {msg: it has no disk any more}\n")
        code, output = run("all", f"nebula_maintenance_tasks={tasks}")
        assert code != 0 and where(site) == away, output
        code, output = run("node1", "nebula_maintenance=end")
        assert code == 0 and where(site) == there, output


@pytest.mark.timeout(900)
@in_nodes(3)
def test_a_node_is_added_and_taken_away() -> None:
    """As docs/add_a_node.md has it."""
    site = Sent()
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    site.variables["nebula_templates"] = site.variables["nebula_templates"][1:]
    second = site.nodes[1]
    site.variables["nebula_vms"] = [wanted("web", "node1"), {"name": "other", "template": "base"}]

    def forget() -> tuple[int, str]:
        inventory, module = str(site.inventory()), "nebula.provision.nebula_host"
        command = [str(site.programs / "ansible"), "-i", inventory, "nebula_frontend", "-m", module]
        return site.execute([*command, "-a", "name=node2 state=absent"])

    with hosts(site):
        site.nodes = site.nodes[:1]
        site.done("site.yml")
        there = {"web": ("node1", "RUNNING"), "other": ("node1", "RUNNING")}
        assert where(site) == there

        site.nodes.append(second)
        site.done("site.yml", "--check")
        site.done("site.yml")
        assert where(site) == there
        assert changed_tasks(site.done("site.yml")) == []

        site.variables["nebula_vms"] = [wanted("web", "node2", move="live"), {"name": "other", "template": "base"}]
        site.done("site.yml")
        assert where(site) == {**there, "web": ("node2", "RUNNING")}

        code, output = forget()
        assert code != 0 and "web" in output, output
        site.done("playbooks/maintenance.yml", "-e", "nebula_maintenance_host=node2", "-e", "nebula_maintenance=begin")
        assert where(site) == there
        site.variables["nebula_vms"] = [wanted("web", "node1", move="live"), {"name": "other", "template": "base"}]
        site.nodes.remove(second)
        code, output = forget()
        assert code == 0, output
        output = site.done("site.yml")
        assert where(site) == there and changed_tasks(output) == [] and "away" not in output, output
        assert_consistent(site)
