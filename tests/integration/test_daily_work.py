# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does every day with real machines: a check that foresees what the run refuses, a disk that can't be
saved, a disk that comes and goes, and a tag that is misspelt."""

from __future__ import annotations

import re
from typing import Any

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import (
    HALTS,
    ONLY_REAL,
    Case,
    changed_tasks,
    torn_down,
)

WEB: dict[str, Any] = {"name": "web", "template": "web", "hard": True}
ROOT_DISK = {"IMAGE": "halt", "DEV_PREFIX": "vd"}
MORE = {"TYPE": "FS", "SIZE": "4", "FORMAT": "raw", "DEV_PREFIX": "vd"}


def refused(output: str) -> list[str]:
    """What the last task says, which reports all errors."""
    said = re.findall(r'"msg": (.*)', output)
    assert said, output
    return sorted(re.findall(r"(?:template|VM|virtual machine|image|disk) [^\\]*", said[-1]))


def same(site: Case, *texts: str, **changes: Any) -> None:
    """The check and the run fail with the same words, and say of the same tasks that they change something."""
    checked, done = (site.run("site.yml", *arguments, **changes) for arguments in (("--check",), ()))
    assert checked[0] != 0 and done[0] != 0, checked[1] + done[1]
    assert refused(checked[1]) == refused(done[1])
    assert set(changed_tasks(checked[1])) == set(changed_tasks(done[1])) - ONLY_REAL
    for text in texts:
        assert text in checked[1] and text in done[1], checked[1]


@in_bare_world
def test_what_an_operator_does_every_day() -> None:
    with torn_down(Case()) as site:
        templates = site.variables["nebula_templates"]
        bad = [
            {"name": "large", "template": HALTS.replace("MEMORY = 32", "MEMORY = 1G")},
            {"name": "odd", "template": HALTS, "strict": "yess"},
            {"name": "bare", "template": HALTS.replace("halt", "gone")},
            {"name": "unscripted", "template": HALTS.replace('NETWORK = "YES"', 'FILES = "/nowhere/init.sh"')},
        ]
        images = [*site.variables["nebula_images"], {"name": "gone", "path": "/nowhere/x.raw", "remote_src": True}]
        machines = [WEB, *({"name": each["name"], "template": each["name"]} for each in bad)]
        texts = ("template large: MEMORY", "strict", "image gone: path /nowhere/x.raw", "/nowhere/init.sh is not there")
        same(site, *texts, nebula_images=images, nebula_templates=[*templates, *bad], nebula_vms=machines)
        assert list(site.machines()) == ["web"], "it stands on nothing that was refused"

        saved = [{**WEB, "save_as": [{"image": "golden", "description": "as it was"}]}]
        code, output = site.run("site.yml", "--check", "--diff", nebula_vms=saved)
        assert code != 0 and "no guest agent answers" in output, output
        assert '"image": "golden"' in output and '"description": "as it was"' in output, output
        code, output = site.run("site.yml", nebula_vms=saved)
        assert code != 0 and "no guest agent answers" in output, output

        off = {**WEB, "state": "poweroff"}
        site.done(nebula_vms=[{**off, "disks": [ROOT_DISK, MORE]}])
        site.done(nebula_vms=[{**off, "disks": [ROOT_DISK], "detach": True}])
        (log,) = [path.read_text() for path in (site.root / "datastores/0").glob("*/vm.log")]
        came, went = (line.split("[I]: ")[1] for line in log.splitlines() if "Disk 1 " in line or "Disk 2 " in line)
        assert "was attached: vdb, FS, 4 MiB" in came and "was detached: vdb, FS, 4 MiB" in went, log

        code, output = site.run("site.yml", "--tags", "vms", nebula_vms=[WEB])
        assert code == 0 and "Did you mean vm?" in re.sub(r"\s+", " ", output), output
        code, output = site.run("site.yml", "--tags", "vm", nebula_vms=[WEB])
        assert code == 0 and "no task of playbook" not in output, output
