# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of two nodes are backed up by a playbook: by a front-end that is no node, and by the nodes themselves."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.sent_site import WRITES, Sent, hosts

PLACE = "/var/lib/machine-backups"
KEY = "a key-Zx9 of the user's"


class Backed(Sent):
    """node1 has a machine that is off, node2 two that run."""

    def __init__(self) -> None:
        super().__init__()
        self.variables["nebula_images"] = self.variables["nebula_images"][1:]
        self.variables["nebula_templates"] = self.variables["nebula_templates"][1:]
        self.variables["nebula_vms"] = [
            {"name": "off", "template": "base", "host": "node1", "state": "poweroff"},
            {"name": "web-%i", "count": 2, "template": "base", "host": "node2"},
        ]
        self.variables["nebula_machine_backup_directory"] = PLACE

    def backup(self, *words: str, ends: int = 0, check: str = "--diff", **changes: Any) -> str:
        given = [part for word in words for part in ("-e", word)]
        code, output = self.run("playbooks/backup_machines.yml", check, *given, **changes)
        assert (code != 0) == bool(ends), output
        assert KEY not in output
        return output

    def manifests(self, node: Node | None = None, place: str = PLACE) -> dict[str, list[dict[str, Any]]]:
        """Of each machine, the oldest first. The front-end's own are those of this process."""
        found: dict[str, list[dict[str, Any]]] = {}
        for path in sorted((node.path(place) if node else Path(place)).glob("*/[0-9]*.json")):
            manifest = json.loads(path.read_text())
            found.setdefault(manifest["name"], []).append({**manifest, "path": path})
        return found


@contextlib.contextmanager
def backed() -> Iterator[Backed]:
    site = Backed()
    try:
        with hosts(site):
            yield site
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


def rows(output: str) -> list[list[str]]:
    """The words of the table's rows."""
    table = output[output.index("\nBackups of machines") :].splitlines()
    return [line.split() for line in table if line.startswith(("off ", "web-0 ", "web-1 "))]


def content(manifest: dict[str, Any], directory: Path) -> bytes:
    """What the commands of the manifest restore, without us."""
    (disk,) = manifest["disks"]
    made = directory / "restored"
    words = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(manifest["path"].parent / disk["file"]["name"])]
    subprocess.run([*words, str(made)], check=True)
    return made.read_bytes()


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_a_front_end_backs_up_what_nodes_run() -> None:
    with backed() as site:
        site.done("site.yml")
        output = site.backup(check="--check")
        assert [row[:3] for row in rows(output)] == [
            ["off", "node1", "would"],
            ["web-0", "node2", "would"],
            ["web-1", "node2", "would"],
        ], output
        assert not Path(PLACE).exists()

        output = site.backup()
        assert [row[:3] for row in rows(output)] == [
            ["off", "node1", "full"],
            ["web-0", "node2", "full"],
            ["web-1", "node2", "full"],
        ], output
        found = site.manifests()
        assert {name: [each["consistency"] for each in of] for name, of in found.items()} == {
            "off": ["off"],
            "web-0": ["crash-consistent"],
            "web-1": ["crash-consistent"],
        }
        (web,) = found["web-0"]
        assert content(web, site.directory)[:1024] == WRITES * 2
        # Secrets are named, and are nowhere.
        assert web["secrets"] == ["CONTEXT/TOKEN"] and "TOKEN" not in web["template"].get("CONTEXT", {})
        assert sorted(path.name for path in Path(PLACE).iterdir())[-1] == "nebula-machine-backups.json"

        output = site.backup("vm=web-*")
        assert [row[:3] for row in rows(output)] == [
            ["web-0", "node2", "incremental"],
            ["web-1", "node2", "incremental"],
        ]
        found = site.manifests()
        assert [each["kind"] for each in found["web-0"]] == ["full", "incremental"] and len(found["off"]) == 1
        assert content(found["web-0"][1], site.directory)[:1024] == WRITES * 2

        output = site.backup("nebula_machine_backup_state=verified")
        assert len(rows(output)) == 5 and "altered" not in output, output
        with (
            found["off"][0]["path"]
            .with_suffix("")
            .with_name(found["off"][0]["disks"][0]["file"]["name"])
            .open("r+b") as file
        ):
            file.seek(70_000)
            file.write(b"x")
        output = site.backup("nebula_machine_backup_state=verified", ends=1)
        assert "VM off: " in output and "It was altered or damaged" in output, output

        # One is merged into the next.
        output = site.backup("vm=web-0", nebula_machine_backup_keep={"last": 1})
        assert "web-0: 2 older backups were removed" in output, output
        (only,) = site.manifests()["web-0"]
        assert only["kind"] == "full" and content(only, site.directory)[:1024] == WRITES * 2
        assert_consistent(site)


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_what_is_asked_in_another_way() -> None:
    with backed() as site:
        site.done("site.yml")
        for setting, value, words in (
            ("host", ["node7"], "nebula_machine_backup_host node7: none of these machines is one of it"),
            ("directory", "backups", "the path is not absolute"),
            ("datastore", "files", "it is a datastore of type FILE"),
            ("keep", {"lst": 3}, "there is no such rule"),
        ):
            output = " ".join(site.backup(ends=1, **{f"nebula_machine_backup_{setting}": value}).split())
            assert words in output, output
        output = " ".join(site.backup("vm=wbe-0", ends=1).split())
        assert "vm wbe-0: the catalog has no machine of that name. Did you mean 'web-" in output, output
        code, output = site.run("playbooks/backup_machines.yml", "--forks", "1")
        assert code != 0 and "Set forks to 2 or more" in output, output
        code, output = site.run("playbooks/backup_machines.yml", "--limit", "node2")
        assert code != 0 and "it is not part of this run" in output, output

        # Each node has its own, and the front-end nothing; what is encrypted is under a key that no output has.
        given = {"nebula_machine_backup_at": "node", "nebula_machine_backup_key": KEY}
        output = site.backup(**given)
        assert [row[:3] for row in rows(output)] == [
            ["off", "node1", "full"],
            ["web-0", "node2", "full"],
            ["web-1", "node2", "full"],
        ], output
        first, second = (site.manifests(node) for node in site.nodes)
        assert ([*first], [*second], site.manifests()) == (["off"], ["web-0", "web-1"], {})
        assert second["web-0"][0]["encrypted"] and second["web-0"][0]["disks"][0]["stored"] == "luks"
        output = site.backup("nebula_machine_backup_state=verified", **given)
        assert len(rows(output)) == 3, output

        # One that is not there costs its own machines, and no others.
        output = site.backup("nebula_machine_backup_datastore=default", ends=1, nebula_move_port=1)
        assert output.count("was not met at") >= 1 or output.count("can't listen there") >= 1, output
        output = site.backup("nebula_machine_backup_datastore=default", "vm=web-*")
        assert [row[:3] for row in rows(output)] == [["web-0", "node2", "full"], ["web-1", "node2", "full"]], output
        assert [*site.manifests(place=f"{site.root}/datastores/1/machine_backups")] == ["web-0", "web-1"]
        assert_consistent(site)
