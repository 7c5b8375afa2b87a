# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of a node gets its disks back by a playbook, from a front-end that is no node, from the node itself, and
from a datastore; the next backup is a full one, and says why."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from auditor import assert_consistent
from in_world import in_nodes

from ansible_collections.nebula.provision.tests.integration.sent_site import WRITES, root_of
from ansible_collections.nebula.provision.tests.integration.test_role_machine_backup import (
    KEY,
    Backed,
    backed,
    rows,
)


def restored(site: Backed, *words: str, ends: int = 0, **changes: Any) -> str:
    given = [part for word in words for part in ("-e", word)]
    code, output = site.run("playbooks/restore_machines.yml", *given, **changes)
    assert (code != 0) == bool(ends), output
    assert KEY not in output
    return output


def disk(site: Backed) -> str:
    (found,) = root_of(site.nodes[0]).glob("datastores/0/*/disk.0")
    return str(found)


def begins_with(site: Backed, content: bytes) -> bool:
    """Whether the disk does, with its overlay alone: what is restored is all of it."""
    node = site.nodes[0].run("qemu-io", "-f", "qcow2", "-r", "-c", "read -v 0 512", inner(site)).stdout
    return content[:16].hex(" ") in node


def inner(site: Backed) -> str:
    """The path of the disk on its node."""
    return "/" + disk(site).removeprefix(str(site.nodes[0].path("/"))).lstrip("/")


def spoil(site: Backed) -> None:
    """Have the disk of the machine be another one."""
    site.nodes[0].run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 65536", inner(site))
    assert begins_with(site, b"\7" * 16)


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_from_wherever_the_backup_is() -> None:
    with backed() as site:
        site.variables["nebula_vms"] = site.variables["nebula_vms"][:1]
        site.variables["nebula_vms"][0]["state"] = "running"
        site.done("site.yml")
        for given in (
            {"nebula_machine_backup_key": KEY},
            {"nebula_machine_backup_at": "node"},
            {"nebula_machine_backup_datastore": "default"},
        ):
            output = site.backup("vm=off", **given)
            assert [row[:3] for row in rows(output)] == [["off", "node1", "full"]], output
            if "nebula_machine_backup_key" in given:
                # What nobody read is not known of the others, which are off from now on.
                assert json.loads(next(iter(site.manifests()["off"]))["path"].read_text())["encrypted"]
                site.done("playbooks/machine.yml", "-e", "vm=off", "-e", "do=poweroff")
            spoil(site)
            output = restored(site, "nebula_machine_restore=list", **given)
            assert "off" in output
            if "nebula_machine_backup_key" in given:
                code, output = site.run("playbooks/restore_machines.yml", "-e", "vm=off", "--forks", "1", **given)
                assert code != 0 and "Set forks to 2 or more" in " ".join(output.split()), output
                code, output = site.run("playbooks/restore_machines.yml", "-e", "vm=off", "--check", **given)
                assert code == 0 and "What would be restored" in output, output
                assert begins_with(site, b"\7" * 16)
            output = restored(site, "vm=off", **given)
            assert "Restored" in output
            assert begins_with(site, WRITES)
            assert [each for each in os.listdir(os.path.dirname(disk(site))) if "restore" in each] == []
            output = site.backup("vm=off", **given)
            (row,) = rows(output)
            assert row[2] == "full", output
            if "nebula_machine_backup_key" in given:
                assert row[3:6] == ["it", "was", "restored"], output
        assert_consistent(site)
