# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook says before it begins, also with --limit, where Ansible has no localhost; and that one of whose hosts
--limit leaves none does not end as if it had done something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INVENTORY = """
all:
  vars: {ansible_connection: local, nebula_root: %s, nebula_imagse: []}
  hosts: {other: }
nebula_frontend: {hosts: {front: }}
nebula_nodes: {hosts: {node1: , node2: }}
"""
# The others are about no site, or take their hosts from the inventory.
PLAYBOOKS = {
    **dict.fromkeys(
        (
            "audit",
            "image_check",
            "machine",
            "maintenance",
            "restore",
            "status",
            "teardown",
            "topology",
        ),
        "node1, node2",
    ),
    **dict.fromkeys(("backup", "forget_host"), "front"),
    **dict.fromkeys(("backup_machines", "install_os", "ovn", "restore_machines", "site"), "front, node1, node2"),
}


def run(directory: Path, playbook: str, *arguments: str) -> tuple[int, str]:
    """Of the playbook the tasks that are always run: the checks before it."""
    inventory = directory / "hosts.yml"
    inventory.write_text(INVENTORY % (directory / "nebula"))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", str(inventory), "--tags", "always,vms", *arguments, str(ROOT / f"playbooks/{playbook}.yml")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("limit", ["", "node2", "node1,node2", "front,node1"])
def test_slips_are_told_with_a_limit_as_without(tmp_path: Path, limit: str) -> None:
    code, output = run(tmp_path, "site", *(("--limit", limit) if limit else ()), "-e", "vm=web-0")
    assert code == 0, output
    for told in ("--tags vms: no task of playbook", "nebula_imagse: nothing reads", "-e vm=web-0: playbook nebula"):
        assert output.count(f"[WARNING]: {told}") == 1, output
    # Nothing is done on the host that stands in for localhost, and its checks are counted once.
    before = output.partition("PLAY [Look whether anything is to be done]")[0]
    assert len(re.findall(r"ok: \[\S+\](?! =>)", before)) == 1, output
    assert "has no host of group nebula_nodes" not in output


@pytest.mark.parametrize(
    "setting", ["nebula_audit_repair=ture", "nebula_lost_host_gone=", "nebula_maintenance_return=", "nebula_ovn=yess"]
)
def test_a_setting_of_playbooks_is_true_or_false(tmp_path: Path, setting: str) -> None:
    code, output = run(tmp_path, "audit", "-e", setting)
    assert code != 0 and f"{setting.partition('=')[0]}: it is neither true nor false. Give one of them" in output, (
        output
    )


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_a_limit_that_leaves_no_host_of_the_playbook_is_an_error(tmp_path: Path, playbook: str) -> None:
    code, output = run(tmp_path, playbook, "--limit", "other")
    assert code != 0 and f"so playbook nebula.provision.{playbook} would do nothing. " in output, output
    assert f"Name one of {PLAYBOOKS[playbook]}, or leave --limit out. Nothing was changed" in output, output


@pytest.mark.parametrize(("limit", "playbook"), [("front", "machine"), ("front", "audit"), ("node1", "backup")])
def test_the_other_hosts_of_a_site_are_not_enough(tmp_path: Path, limit: str, playbook: str) -> None:
    code, output = run(tmp_path, playbook, "--limit", limit)
    assert code != 0 and f"--limit {limit}: it has no host of nebula_" in output, output


def test_a_front_end_alone_may_be_prepared_and_it_is_said_what_is_not_done(tmp_path: Path) -> None:
    code, output = run(tmp_path, "site", "--limit", "front")
    assert code == 0 and "--limit front: it has no host of group nebula_nodes. The front-end is prepared" in output


def test_each_playbook_that_checks_the_inventory_is_known_here() -> None:
    checking = {
        path.stem: play.get("vars", {}).get("__nebula_playbook")
        for path in (ROOT / "playbooks").glob("*.yml")
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        if play.get("ansible.builtin.import_playbook") == "check_inventory.yml"
    }
    assert checking == {name: name for name in PLAYBOOKS}
