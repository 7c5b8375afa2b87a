# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host under two names, a host that is renamed, hosts of one machine id, and a host that shows another's mark: with
the machines that run there."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, hosts, root_of


class Named(Sent):
    """The nodes have the names of the inventory that `names` gives them, with variables of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, tuple[Node, dict[str, Any]]] = {node.name: (node, {}) for node in self.nodes}

    def inventory(self, **changes: Any) -> Path:
        path = super().inventory(**changes)
        inventory = json.loads(path.read_text())
        group = inventory["all"]["children"]["nebula_nodes"]
        group["hosts"] = {name: {**group["hosts"][node.name], **more} for name, (node, more) in self.names.items()}
        path.write_text(json.dumps(inventory))
        return path

    def refused(self, name: str, **changes: Any) -> str:
        """The output of a run in which this one name was refused, and nothing else failed."""
        code, output = self.run("site.yml", **changes)
        assert code != 0, output
        failed = {line.split()[0] for line in output.splitlines() if "failed=1" in line}
        assert failed == {name}, output
        return " ".join(output.split())

    def catalog(self) -> dict[str, list[tuple[Any, ...]]]:
        with closing(sqlite3.connect(self.root / "nebula.db")) as db:
            wanted = {
                "hosts": "SELECT name, memory, cpu, vms FROM hosts ORDER BY id",
                "marks": "SELECT name, mark, shown FROM host_marks WHERE name IN (SELECT name FROM hosts)",
                "vms": "SELECT vms.id, hosts.name, vms.state FROM vms JOIN hosts ON hosts.id = host_id ORDER BY 1",
                "history": "SELECT DISTINCT host FROM history ORDER BY 1",
            }
            return {key: db.execute(text).fetchall() for key, text in wanted.items()}


def changed(output: str) -> int:
    """How many changes the run says that it made, on all hosts."""
    return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", output))


def running(node: Node) -> dict[str, str]:
    """Its domains, with what tells that they were not started anew."""
    names = node.run("virsh", "-q", "list", "--name").stdout.split()
    return {name: node.run("cat", f"/run/libvirt/qemu/{name}.pid").stdout for name in names}


def node_file(node: Node, **changes: Any) -> dict[str, Any]:
    path = root_of(node) / "nebula.node"
    found: dict[str, Any] = json.loads(path.read_text())
    if changes:
        path.write_text(json.dumps({**found, **changes}))
    return found


def a_second_name(site: Named, first: Node, wanted: list[dict[str, Any]]) -> None:
    """It is refused alone. The host on record goes on, and gets what the list has for it."""
    names = dict(site.names)
    site.names["other"] = (first, {})
    site.variables["nebula_vms"] = wanted
    output = site.refused("other")
    assert "host other: it carries the mark of host node1: both names are of one host" in output, output
    assert running(first).keys() == {"one-0", "one-1"}
    assert [row[0] for row in site.catalog()["hosts"]] == ["node1", "node2"]
    code, output = site.run("playbooks/audit.yml")
    assert code != 0 and "host other: this host: it carries the mark of host node1" in output, output
    assert not {word for word in ("virsh", "rm -r", "destroy", "undefine") if word in output}, output
    assert running(first).keys() == {"one-0", "one-1"}
    # A run of the machines alone does nothing by the second name.
    output = site.done("site.yml", "--tags", "vm")
    assert "Nothing was done under the name other" in " ".join(output.split()) and changed(output) == 0, output
    site.names = names
    assert changed(site.done("site.yml")) == 0


def an_older_site(site: Named, *nodes: Node) -> None:
    """As the migration leaves it, hosts have marks in the catalog that they were never given."""
    with closing(sqlite3.connect(site.root / "nebula.db")) as db, db:
        db.execute("UPDATE host_marks SET shown = 0")
    for node in nodes:
        node_file(node, mark="")
    before = running(nodes[0])
    assert changed(site.done("site.yml")) == 0
    marks = {name: mark for name, mark, shown in site.catalog()["marks"] if shown}
    assert [node_file(node)["mark"] for node in nodes] == [marks["node1"], marks["node2"]]
    assert running(nodes[0]) == before


def clones(site: Named, first: Node, second: Node) -> None:
    own = second.path("/etc/machine-id").read_text()
    second.path("/etc/machine-id").write_text(first.path("/etc/machine-id").read_text())
    output = site.done("site.yml")
    assert changed(output) == 0
    assert "Hosts node1 and node2 have the same machine id, and different marks" in " ".join(output.split()), output
    second.path("/etc/machine-id").write_text(own)
    assert "machine id" not in site.done("site.yml")


def a_liar(site: Named, first: Node, second: Node, mark: str) -> None:
    """A node that was taken over shows the mark and the machine id of another: it is refused, and nothing else."""
    before, machines, own = site.catalog(), running(first), node_file(second)
    id_of_second = second.path("/etc/machine-id").read_text()
    second.path("/etc/machine-id").write_text(first.path("/etc/machine-id").read_text())
    node_file(second, mark=mark)
    output = site.refused("node2")
    assert "host node2: it carries the mark of host node1" in output, output
    assert site.catalog() == before and running(first) == machines
    code, output = site.run("playbooks/audit.yml")
    assert code != 0 and "host node2: this host: it carries the mark of host node1" in output, output
    node_file(second, **own)
    second.path("/etc/machine-id").write_text(id_of_second)
    assert changed(site.done("site.yml")) == 0


def renamed(site: Named, first: Node, wanted: list[dict[str, Any]]) -> None:
    machines, before = running(first), site.catalog()
    site.names = {"kvm1": (first, {}), "node2": site.names["node2"]}
    site.variables["nebula_vms"] = [{**item, "host": "kvm1"} for item in wanted]
    output = site.refused("kvm1")
    assert "set nebula_renamed_from: node1 for kvm1" in output, output
    assert site.catalog() == before and running(first) == machines

    site.names["kvm1"] = (first, {"nebula_renamed_from": "node1"})
    assert changed(site.done("site.yml", "--check")) == 1 and site.catalog() == before
    assert changed(site.done("site.yml")) == 1
    after = site.catalog()
    assert after["vms"] == [(0, "kvm1", 3), (1, "kvm1", 3)] and after["history"] == [("kvm1",)]
    assert [row[0] for row in after["hosts"]] == ["kvm1", "node2"] and running(first) == machines
    assert changed(site.done("site.yml")) == 0
    code, output = site.run("playbooks/audit.yml")
    assert code == 0, output


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_a_host_is_known_by_its_mark() -> None:
    site = Named()
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    site.variables["nebula_templates"] = site.variables["nebula_templates"][1:]
    with hosts(site):
        first, second = site.nodes
        wanted = [{"name": name, "template": "base", "host": "node1"} for name in ("web", "db")]
        site.variables["nebula_vms"] = wanted[:1]
        site.done("site.yml")
        assert changed(site.done("site.yml")) == 0
        before = site.catalog()
        marks = {name: mark for name, mark, _shown in before["marks"]}
        assert [node_file(node)["mark"] for node in (first, second)] == [marks["node1"], marks["node2"]]

        a_second_name(site, first, wanted)
        an_older_site(site, first, second)
        clones(site, first, second)
        a_liar(site, first, second, marks["node1"])
        renamed(site, first, wanted)
