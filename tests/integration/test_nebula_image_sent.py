# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads over a real sshd on loopback that are killed, and go on; and what is added to an image is sent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from raw_disks import BOOT

from ansible_collections.nebula.provision.tests.integration.image_runs import MIB


def test_what_is_added_to_an_image_is_sent_over_ssh(site, disk, sshd):
    """In check mode: what is done with it is tested where it is done (test_image_recipes.py)."""
    site.over_ssh(sshd)
    site.module(name="base", path=str(disk))
    (disk.parent / "motd").write_text("geheim motd")
    (disk.parent / "own.deb").write_bytes(b"!<arch>")
    spec = {
        "name": "web", "from": "base", "packages": ["own.deb", "nginx"], "commands": ["true"],
        "files": [{"path": "/etc/motd", "src": "motd"}, {"path": "/etc/issue", "content": "x"}],
    }  # fmt: skip
    done = site.module(arguments=["--check", "--diff", "-vvv"], **spec)
    assert done["changed"] and done["image"]["origin"] == "image base" and "warnings" not in done
    assert "geheim" not in site.output and "Z2VoZWlt" not in site.output
    lost = site.module(status=None, **{**spec, "packages": ["nowhere.deb"]})
    assert "nowhere.deb is not on the control node" in lost["msg"]
    # One image that a secret is given for goes the same way, whatever else is asked.
    secret = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
    safe = {"name": "safe", "size": 2, "luks_secret": secret, "luks_passphrase": "hunter2"}
    done = site.module(arguments=["-vvv", "--diff"], **safe)
    assert done["image"]["luks_secret"] == secret and "hunter2" not in site.output


@pytest.mark.parametrize("victim", ["controller", "everything"])
def test_an_upload_that_is_killed_goes_on(site, sshd, tmp_path, victim):
    """Of three chunks, as the second is on its way: the next run, at once, sends what is missing."""
    content = BOOT + (os.urandom(MIB) * 150)[512:]
    (tmp_path / "files").mkdir()
    disk = tmp_path / "files" / "large.raw"
    disk.write_bytes(content)
    site.over_ssh(sshd)
    root = Path("/var/tmp") / f"nebula-test-{os.getpid()}"
    datastore = root / "datastores" / "1"
    images = [{"name": "large", "path": "large.raw"}]
    task = {"nebula.provision.nebula_image": {"root": str(root), "images": images}}
    try:
        # The inventory, and a play that is not waited for.
        site.run({"hosts": "front", "gather_facts": False, "tasks": []})
        book = tmp_path / "book.yml"
        book.write_text(yaml.safe_dump([{"hosts": "front", "gather_facts": False, "tasks": [task]}]))
        run = subprocess.Popen(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory.yml", "book.yml"],
            cwd=tmp_path, env=site.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        limit = time.monotonic() + 300
        while not any(path.stat().st_size for path in datastore.glob(".upload-*")):
            assert run.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        for pid in (run.pid, *children(run.pid)) if victim == "controller" else (run.pid, *descendants(run.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait()
        received = max(path.stat().st_size for path in datastore.glob(".upload-*"))
        assert 0 < received < len(content)
        done = site.module(root=str(root), images=images)
        assert done["images"][0]["state"] == "READY"
        assert Path(done["images"][0]["source"]).read_bytes() == content
        assert os.listdir(datastore) == [os.path.basename(done["images"][0]["source"])]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in list(found):
        with contextlib.suppress(FileNotFoundError):
            found += descendants(child)
    return found
