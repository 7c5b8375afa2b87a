# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the files of a directory are seen as, in a mount of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[5]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
PROGRAM = (
    "import os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from ansible_collections.nebula.provision.plugins.module_utils.host import id_mapped_mounts, kernel_calls\n"
    "from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import (\n"
    "    BASES, IdRange, id_range)\n"
    "try:\n"
    "    id_mapped_mounts.mount(*sys.argv[2:4], BASES, IdRange(id_range(3).start, int(sys.argv[4])))\n"
    "    print(*(os.lstat(sys.argv[3] + '/' + name).st_uid - id_range(3).start for name in ('', 'root', 'user')))\n"
    "except OSError as error:\n    print(error.strerror)\n"
)


def mounted(source: Path, target: Path, count: int = 65536) -> str:
    words = [sys.executable, "-c", PROGRAM, str(ROOT / "collections"), str(source), str(target), str(count)]
    return subprocess.run(["unshare", "-m", *words], check=True, capture_output=True, text=True).stdout


def test_files_of_an_image_are_seen_as_a_machines(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    first = 0x64000000
    source.mkdir()
    for path, uid in ((source, 0), (source / "root", 0), (source / "user", 1000)):
        path.touch()
        os.chown(path, first + uid, first + uid)
    assert mounted(source, target) == "0 0 1000\n"
    assert os.stat(source / "user").st_uid == first + 1000 and os.listdir(target) == []
    assert mounted(source, target, 0) == "Invalid argument\n"
    assert mounted(source, tmp_path / "missing") == "No such file or directory\n"
    # A file system that has no owners.
    assert mounted(Path("/proc/self"), target) in ("Invalid argument\n", "Operation not permitted\n")
