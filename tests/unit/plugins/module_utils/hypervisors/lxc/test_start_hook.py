# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program that libvirt calls for each container leaves alone.
tests/integration/test_lxc_boot.py has what it does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_xml import NAMESPACE
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import start_hook

OURS = f'<domain><metadata><n:vm xmlns:n="{NAMESPACE}" directory="%s"/></metadata>%s</domain>'


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text(start_hook.text(), encoding="utf-8")
    path.chmod(0o755)
    return path


def called(program: Path, xml: str, operation: str = "prepare", step: str = "begin") -> subprocess.CompletedProcess:
    words = [str(program), "one-1", operation, step, "-"]
    return subprocess.run(words, input=xml, capture_output=True, text=True, check=False)


def test_machines_of_others_and_other_moments_are_none_of_its_business(program: Path, tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    directory.mkdir()
    # Whatever it did with this would be an error.
    (directory / "disk.0.layers").write_text("no directory", encoding="utf-8")
    mine = OURS % (directory, "")
    for xml, operation, step in (
        ("<domain/>", "prepare", "begin"),
        (OURS % ("/nowhere/at/all", ""), "prepare", "begin"),
        (OURS % ("relative", ""), "prepare", "begin"),
        (mine, "start", "begin"),
        (mine, "stopped", "end"),
        (mine, "release", "end"),
        ("not even XML", "migrate", "begin"),
    ):
        done = called(program, xml, operation, step)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (xml, operation)
    assert called(program, mine).returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that are root's")
def test_a_directory_that_others_can_write_to_says_nothing(program: Path, tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    directory.mkdir()
    assert called(program, OURS % (directory, "")).returncode == 0
    for mode, owner in ((0o777, 0), (0o755, 1000)):
        directory.chmod(mode)
        os.chown(directory, owner, owner)
        done = called(program, OURS % (directory, ""))
        assert done.returncode == 1 and "others than root can write to it" in done.stderr


def test_a_root_that_was_never_whole_is_no_error_and_one_whose_mark_is_damaged_is(
    program: Path, tmp_path: Path
) -> None:
    layers = tmp_path / "machine" / "disk.0.layers"
    layers.mkdir(parents=True)
    assert called(program, OURS % (tmp_path / "machine", "")).returncode == 0
    (layers / "layers.json").write_text(json.dumps({"base": "/nowhere"}), encoding="utf-8")
    assert called(program, OURS % (tmp_path / "machine", "")).returncode == 1


def test_a_console_that_can_not_be_read_keeps_no_container_from_running(program: Path, tmp_path: Path) -> None:
    for console in ("", "<devices><console/></devices>", '<devices><console tty="/nowhere/0"/></devices>'):
        done = called(program, OURS % (tmp_path, console), "started")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
