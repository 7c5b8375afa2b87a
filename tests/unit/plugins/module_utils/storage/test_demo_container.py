# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo image of containers is a root file system, and the same for the same busybox."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container, demo_guest, tar_archive


def test_it_is_a_root_file_system_and_the_same_each_time(tmp_path: Path) -> None:
    made = demo_container.archive(b"busybox")
    assert made == demo_container.archive(b"busybox") != demo_container.archive(b"another")
    path = tmp_path / "demo.tar"
    path.write_bytes(made)
    assert tar_archive.check(str(path), "image demo") == len(made)
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        found = {entry.name: entry for entry in tar}
        assert {(entry.uid, entry.gid) for entry in found.values()} == {(0, 0)}
        init = found["./sbin/init"]
        assert init.issym() and f"./{init.linkname.removeprefix('../')}" in found
        assert found["./bin/busybox"].mode & 0o111 and found["./tmp"].mode == 0o1777


@pytest.mark.parametrize("text", [demo_guest.BOOT, demo_guest.CONTAINER_BOOT, demo_guest.SHELL])
def test_its_scripts_are_ones_that_busybox_reads(text: str) -> None:
    done = subprocess.run(["busybox", "sh", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_container_mounts_nothing_that_its_host_has_made_for_it() -> None:
    for line in demo_guest.CONTAINER_BOOT.splitlines():
        assert not line.strip().startswith(("mount ", "load ", "insmod "))
    assert "disk " not in demo_guest.CONTAINER_BOOT.partition("report() {")[2].partition("}")[0]
