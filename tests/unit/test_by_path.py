# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions that go through trees by path, or by recursion, are called where nobody but root, or whoever runs this, has
written the tree. What a guest may have made is gone through by host/trees.py, host/beneath.py and host/confined.py."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins/module_utils"
BY_PATH = {
    *("shutil.rmtree", "shutil.copytree", "shutil.move", "shutil.chown", "shutil.copy", "shutil.copy2"),
    *("os.walk", "os.fwalk", "os.removedirs", "os.renames"),
}
# Programs that go through trees.
PROGRAMS = {"rm", "cp", "mv", "chown", "chmod", "du", "tar", "find", "rsync"}
# Where, what, and why it may.
KNOWN = {
    ("guest_disk/open/edits.py", "shutil.rmtree"): "a directory that this run has made, 0700, with files of its own",
    ("guest_disk/inject.py", "shutil.rmtree"): "scratch directories of 0700 that this user has made",
    ("storage/image_files.py", "shutil.rmtree"): "beside a disk, in a directory of root's, with files of ours",
    ("storage/demo_image.py", "shutil.rmtree"): "unpacked packages of the distribution, in a scratch directory",
    ("reconcile/transfer_key.py", "shutil.rmtree"): "keys below a directory of root's",
    ("network/moves.py", "shutil.rmtree"): "below /run, in directories of root's, with files of ours",
    ("host/units.py", "os.walk"): "units of systemd, which root writes",
    ("host/trees.py", "du"): "it measures, opens each directory below the one above, and follows no link",
    ("hypervisors/openvz/private_area.py", "tar"): "it opens each directory below the one above, and follows no link",
}


def called(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{node.attr}"} & BY_PATH
        elif isinstance(node, ast.List) and node.elts and isinstance(node.elts[0], ast.Constant):
            found |= {str(node.elts[0].value)} & PROGRAMS
        elif isinstance(node, ast.ImportFrom) and node.module in ("shutil", "os"):
            found |= {f"{node.module}.{name.name}" for name in node.names} & BY_PATH
    return found


def test_whatever_goes_through_a_tree_by_path_is_known_with_its_reason() -> None:
    found = {
        (str(path.relative_to(UTILS)), name) for path in sorted(UTILS.rglob("*.py")) for name in sorted(called(path))
    }
    assert found - set(KNOWN) == set(), "use host/trees.py or host/beneath.py, or say here who else can write there"
    assert set(KNOWN) - found == set(), "no longer there"
