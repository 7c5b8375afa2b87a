# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook install_os as a person runs it, on a bare host: foreseen, killed, gone on with, and run again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from auditor import assert_consistent
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.guests import fake_installer
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.test_site import Site, changed_tasks, recap

PLAYBOOK = "playbooks/install_os.yml"
SECRET = "s3cr3t-Installed"


def table(output: str) -> dict[str, list[str]]:
    """The last table of installations: words of each row by name."""
    rows = output.rpartition("\nInstallations\n")[2].split("\n\n")[0].splitlines()
    return {row.split()[0]: re.split(r" {2,}", row.strip())[1:] for row in rows[1:] if not row.startswith("ok:")}


def holds(directory: Path, secret: str) -> list[str]:
    return [
        str(path)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes()
    ]


@in_bare_world
def test_foreseen_killed_gone_on_with_and_run_again() -> None:
    site = Site("none")
    isos = site.directory / "isos"
    isos.mkdir()
    # Long enough to be killed meanwhile, wherever the machine is.
    fake_installer.build(isos / "slow.iso", wait=18 * 15)
    fake_installer.build(isos / "fast.iso", end="reboot")
    small = {"MEMORY": 64, "CPU": 0.1}
    answers = {"kind": "kickstart", "hostname": "fake", "root_password_hash": SECRET, "user": ""}
    site.variables.update(
        nebula_images=[],
        nebula_networks=[],
        nebula_templates=[],
        nebula_vms=[],
        nebula_manage_packages=False,
        nebula_installs=[
            {
                "name": "slow",
                "iso": str(isos / "slow.iso"),
                "size": 10240,
                "boot": "iso",
                "answers": answers,
                "timeout": 300,
            },
            {
                "name": "fast",
                "iso": str(isos / "fast.iso"),
                "size": 4,
                "end": "reboot",
                "template": small,
                "verify": False,
            },
            {"name": "never", "iso": str(isos / "never.iso"), "size": 4},
        ],
    )

    code, output = site.run(PLAYBOOK, "--check")
    assert code != 0 and "install never: iso" in output and not site.root.exists(), output
    assert table(output)["slow"][0] == "to be installed", output

    log = site.directory / "killed.log"
    with log.open("w") as file:
        begun = subprocess.Popen(
            [str(site.programs / "ansible-playbook"), "-i", str(site.inventory()), PLAYBOOK],
            cwd=site.checkout,
            env=site.runs_with(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    told = re.compile(r"nebula_install: slow \d+ % written after \d+:\d\d: fake installer: starting")
    wait_for(lambda: told.search(log.read_text()), "how far the slow installer is", 200)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()

    code, output = site.run(PLAYBOOK, "-vvv")
    assert code != 0, output
    assert "install never: iso" in output.rpartition("Say what went wrong")[2]
    rows = table(output)
    assert rows["slow"][0] == "ready, verified" and rows["fast"][0] == "ready, not verified", rows
    assert rows["slow"][2:4] == ["OS", "READY"] and int(rows["slow"][-1]) > 0, rows
    assert rows["never"][0] == "to be installed"
    assert SECRET not in output
    assert holds(site.root, SECRET) == [] and holds(site.directory / "home", SECRET) == []
    assert not list((site.root / "datastores/0").iterdir())

    del site.variables["nebula_installs"][2]
    code, output = site.run(PLAYBOOK)
    assert code == 0 and recap(output)["changed"] == 0, output
    assert changed_tasks(output) == []
    assert_consistent(site)
