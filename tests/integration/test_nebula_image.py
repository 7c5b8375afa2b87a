# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module, action plugin and role as users run them: ansible-playbook, locally and over a real sshd on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import web_server
import yaml

from ansible_collections.nebula.provision.tests.integration.image_runs import CONTENT, MIB


def test_a_local_path_and_again(site, disk):
    first = site.module(name="demo", path="disk.raw", description="d")
    assert first["changed"] and first["image"]["state"] == "READY"
    assert first["image"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert first["images"] == [first["image"]]
    again = site.module(name="demo", path="disk.raw", description="d")
    assert not again["changed"] and again["image"] == first["image"]
    assert not site.module(name="demo", path="disk.raw", arguments=["--check", "--diff"])["changed"]
    assert "+++ after" not in site.output


def test_check_mode_and_diff_on_a_bare_host(site, disk):
    done = site.module(arguments=["--check", "--diff"], images=[{"name": "demo", "path": str(disk)}])
    assert done["changed"] and done["images"][0]["id"] is None
    assert '+  "name": "demo"' in site.output
    assert not site.root.exists()


def test_a_missing_local_file_is_told_and_nothing_of_it_kept(site):
    blank = {"name": "a", "size": 3, "type": "DATABLOCK"}
    done = site.module(status=None, images=[blank, {"name": "demo", "path": "nowhere.raw"}])
    assert done["failed"] and "image demo: path nowhere.raw: it is not on the control node" in done["msg"]
    assert [(image["name"], image["state"]) for image in done["images"]] == [("a", "READY")]
    assert len(list((site.root / "datastores/1").iterdir())) == 1


def test_failures_leave_the_others(site, disk):
    done = site.module(
        status=None,
        images=[
            {"name": "bad", "path": str(disk), "checksum": "sha256:" + "0" * 64},
            {"name": "good", "path": str(disk)},
            {"name": "typo", "pth": str(disk)},
        ],
    )
    assert done["failed"] and "key 'pth'" in done["msg"] and "Did you mean 'path'" in done["msg"]
    done = site.module(
        status=None,
        images=[
            {"name": "bad", "path": str(disk), "checksum": "sha256:" + "0" * 64},
            {"name": "good", "path": str(disk)},
        ],
    )
    assert done["failed"] and [e["kind"] for e in done["errors"]] == ["ChecksumMismatch"]
    assert {i["name"]: i["state"] for i in done["images"]} == {"bad": "ERROR", "good": "READY"}


def test_credentials_are_not_shown(site, monkeypatch):
    with web_server.serve() as web:
        web.files["/disk"] = CONTENT
        web.credentials = "user:hunter2"
        for options in ({"name": "demo", "path": "URL"}, {"images": [{"name": "other", "path": "URL"}]}):
            text = json.dumps(options).replace("URL", web.url.replace("//", "//user:hunter2@") + "/disk")
            done = site.module(arguments=["-vvv", "--diff"], **json.loads(text))
            assert done["images"][0]["state"] == "READY"
            # The last lines of -vvv show the module's arguments.
            assert "hunter2" not in json.dumps(done)
            assert "hunter2" not in site.output.replace(json.dumps(options), "")


def test_the_role_with_a_url_over_and_over(site):
    role = {"hosts": "nebula_nodes", "gather_facts": False, "roles": ["nebula.provision.image"]}
    with web_server.serve() as web:
        web.files["/disk"] = CONTENT
        role["vars"] = {
            "nebula_root": str(site.root),
            "nebula_images": [{"name": "demo", "path": web.url + "/disk"}, {"name": "data", "size": 8, "fs": "ext4"}],
        }
        assert "changed=1 " in site.run(role)
        assert "changed=0 " in site.run(role)
        role["vars"]["nebula_images"] = [{"name": "demo", "state": "absent"}, {"name": "data", "state": "absent"}]
        assert "changed=1 " in site.run(role)
        assert os.listdir(site.root / "datastores" / "1") == []


def test_from_the_control_node_over_ssh(site, disk, sshd):
    """Sent in chunks as another user, who becomes root; a part that is there already is not sent again."""
    site.over_ssh(sshd)
    root = Path("/var/tmp") / f"nebula-test-{os.getpid()}"
    try:
        done = site.module(root=str(root), images=[{"name": "demo", "path": "disk.raw"}, {"name": "two", "size": 2}])
        assert [i["state"] for i in done["images"]] == ["READY", "READY"]
        assert Path(done["images"][0]["source"]).read_bytes() == CONTENT
        assert sorted(os.listdir(root / "datastores" / "1")) == sorted(
            os.path.basename(i["source"]) for i in done["images"]
        )
        again = site.module(root=str(root), images=[{"name": "demo", "path": "disk.raw"}, {"name": "two", "size": 2}])
        assert not again["changed"]
        # As a broken upload leaves it: the first megabytes, which differ here to show that they are kept.
        text = json.dumps([str(disk), len(CONTENT), disk.stat().st_mtime_ns])
        part = root / "datastores" / "1" / (".upload-" + hashlib.sha256(text.encode()).hexdigest())
        part.write_bytes(CONTENT[:512].ljust(MIB, b"Z"))
        done = site.module(root=str(root), images=[{"name": "rest", "path": "disk.raw"}])
        assert Path(done["images"][0]["source"]).read_bytes() == CONTENT[:512].ljust(MIB, b"Z") + CONTENT[MIB:]
        assert not part.exists()
        check = site.module(root=str(root), arguments=["--check"], images=[{"name": "new", "path": "disk.raw"}])
        assert check["changed"] and check["images"][0]["id"] is None
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_progress_is_shown(site):
    with web_server.serve() as web:
        web.files["/disk"] = CONTENT
        web.stall_after = 2 * MIB
        program = Path(sys.executable).with_name("ansible-playbook")
        task = {"nebula.provision.nebula_image": {"name": "demo", "path": web.url + "/disk", "root": str(site.root)}}
        site.run({"hosts": "front", "gather_facts": False, "tasks": []})
        (site.directory / "book.yml").write_text(
            yaml.safe_dump([{"hosts": "front", "gather_facts": False, "tasks": [task]}])
        )
        process = subprocess.Popen(
            [program, "-i", "inventory.yml", "book.yml"], cwd=site.directory, env=site.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("nebula_image: demo "):
                web.stall_after = None
                web.release.set()
        assert process.wait() == 0, "".join(lines)
        assert any(" % at " in line for line in lines if line.startswith("nebula_image: demo "))
