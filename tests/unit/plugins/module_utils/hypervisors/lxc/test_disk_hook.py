# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program that libvirt calls before it starts a container leaves alone; what it mounts is in
tests/integration/test_lxc_disks.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import disk_hook

FIXTURES = Path(__file__).parents[5] / "fixtures" / "deployment" / "lxc"


@pytest.mark.parametrize(
    ("arguments", "domain"),
    [
        (("one-5", "prepare", "begin", "-"), "root_alone.xml"),
        (("one-5", "release", "end", "-"), "disks_at_paths.xml"),
        # Its directory is not on this host.
        (("one-5", "prepare", "begin", "-"), "disks_at_paths.xml"),
    ],
)
def test_it_says_nothing_of_what_is_not_its_business(tmp_path: Path, arguments: tuple[str, ...], domain: str) -> None:
    program = tmp_path / "program"
    program.write_text(disk_hook.text(), encoding="utf-8")
    program.chmod(0o755)
    text = (FIXTURES / domain).read_bytes().replace(b"/var/lib/nebula/", b"/nonexistent/")
    done = subprocess.run([str(program), *arguments], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
