# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front-end that answers what it likes names no file of the control node but the copy that was asked for, by the
ansible-core of this Python. test_lost_catalog.py fetches real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from forging import adding

ROOT = Path(__file__).resolve().parents[2]
UUID = "0123abcd-0000-4000-8000-000000000001"
EARLIER = f"{UUID}-00000007-20260101T000000Z.db"
LATER = f"{UUID}-00000008-20260102T000000Z.db"
# As a pattern this is another directory.
KEPT = "kept [1]*"


def backup(place: Path, path: Path, manifest: str = "") -> subprocess.CompletedProcess[str]:
    """Run the playbook. path: what the front-end answers that the copy is."""
    interpreter = place / "python3"
    named = {"path": str(path), "manifest": manifest or f"{path}.json"}
    interpreter.write_text(adding({"failed": False, "msg": "", "exception": "", "backup": {**named, "catalog": UUID}}))
    interpreter.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter)}
    host |= {"nebula_root": str(place / "root"), "nebula_backup_fetch": str(place / KEPT)}
    groups: dict[str, Any] = {group: {"hosts": {"front": {}}} for group in ("nebula_frontend", "nebula_nodes")}
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"front": host}, "children": groups}}))
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(place / "home")}
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", place / "hosts.yml", ROOT / "playbooks/backup.yml"],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def copies(place: Path) -> Path:
    """Make a copy that an earlier run has fetched, and what the front-end gives now."""
    for directory, text in ((KEPT, "of an earlier run"), ("given", "forged")):
        (place / directory).mkdir()
        for name in (EARLIER, LATER, f"{LATER}\n")[: 1 if directory == KEPT else None]:
            (place / directory / name).write_text(text)
            (place / directory / f"{name}.json").write_text(text)
    return place / "given"


def test_the_copy_that_was_made_is_fetched(tmp_path: Path) -> None:
    done = backup(tmp_path, copies(tmp_path) / LATER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each.name for each in (tmp_path / KEPT).iterdir()} == {
        name for copy in (EARLIER, LATER) for name in (copy, f"{copy}.json")
    }


@pytest.mark.parametrize("name", [EARLIER, f"{LATER}\n"])
def test_a_copy_of_an_earlier_run_stays_and_no_other_file_is_named(tmp_path: Path, name: str) -> None:
    done = backup(tmp_path, copies(tmp_path) / name)
    assert done.returncode == 2 and "Nothing was fetched" in done.stdout + done.stderr, done.stdout + done.stderr
    assert {each.name: each.read_text() for each in (tmp_path / KEPT).iterdir()} == dict.fromkeys(
        (EARLIER, f"{EARLIER}.json"), "of an earlier run"
    )
