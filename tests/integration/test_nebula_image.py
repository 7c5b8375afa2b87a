# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module, action plugin and role as users run them: ansible-playbook, locally and over a real sshd on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import web_server
import yaml

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
CONTENT = random.Random(2).randbytes(3 * MIB) + bytes(2 * MIB) + b"end"
LOGIN = "nebula-test-login"


@pytest.fixture(scope="module")
def sshd():
    """A server of its own on loopback: (port, key, user). The user is not root, and may become it."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None or shutil.which("sudo") is None:
        pytest.skip("needs openssh-server and sudo")
    # Not pytest's own directory: the login has to be able to read there.
    directory = Path(tempfile.mkdtemp(prefix="nebula-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    home = directory / "home"
    home.mkdir()
    sudoers = Path(f"/etc/sudoers.d/{LOGIN}")
    for name in ("host", "login"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/login.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile {directory}/pid\nSubsystem sftp internal-sftp\nAllowUsers {LOGIN}\n"
    )
    made_run = not os.path.exists("/run/sshd")
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    server = None
    try:
        # Left by a run that was killed; its name is ours alone.
        subprocess.run(["userdel", "--force", LOGIN], capture_output=True)
        subprocess.run(["useradd", "-d", home, "-s", "/bin/sh", "-p", "*", LOGIN], check=True)
        shutil.chown(home, LOGIN)
        sudoers.write_text(f"{LOGIN} ALL=(ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
        server = subprocess.Popen([program, "-D", "-e", "-f", directory / "config"], stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        yield port, directory / "login", LOGIN
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        sudoers.unlink(missing_ok=True)
        # By force: a session may be about to end, and the user would stay.
        subprocess.run(["userdel", "--force", LOGIN], capture_output=True)
        shutil.rmtree(directory)
        if made_run:
            os.rmdir("/run/sshd")


class Site:
    """A directory with an inventory, and playbooks run from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "nebula"
        self.host = {"ansible_connection": "local"}
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_LOCAL_TEMP": str(directory / "local_tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(directory / "ansible_home"),
            "ANSIBLE_PIPELINING": "1",
            "LC_ALL": "C.UTF-8",
        }
        (directory / "ansible.cfg").touch()

    def over_ssh(self, sshd) -> None:
        port, key, user = sshd
        self.host = {
            "ansible_host": "127.0.0.1", "ansible_port": port, "ansible_user": user, "ansible_become": True,
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args":
                "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
                # A shared connection would outlive the test.
                " -o ControlMaster=no -o ControlPath=none",
        }  # fmt: skip

    def run(self, *plays: dict, arguments=(), status: int | None = 0) -> str:
        host = {**self.host, "ansible_python_interpreter": "/usr/bin/python3"}
        group = {"hosts": {"front": host}}
        inventory = {"all": {"children": {"nebula_frontend": group, "nebula_nodes": {"hosts": {"front": {}}}}}}
        (self.directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
        (self.directory / "book.yml").write_text(yaml.safe_dump([*plays]))
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", "inventory.yml", "book.yml", *arguments],
            cwd=self.directory, env=self.environment, text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def module(self, arguments=(), status: int | None = 0, **values) -> dict:
        """The module's result."""
        values = {"root": str(self.root), **values}
        tasks = [
            {"nebula.provision.nebula_image": values, "register": "r", "ignore_errors": status != 0},
            {
                "ansible.builtin.copy": {"content": "{{ r | to_json }}", "dest": str(self.directory / "result")},
                "delegate_to": "localhost",
                "check_mode": False,
                "diff": False,
                "become": False,
                "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            },
        ]
        self.output = self.run({"hosts": "front", "gather_facts": False, "tasks": tasks}, arguments=arguments, status=0)
        return json.loads((self.directory / "result").read_text())


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "files" / "disk.raw"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


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
        part.write_bytes(b"Z" * MIB)
        done = site.module(root=str(root), images=[{"name": "rest", "path": "disk.raw"}])
        assert Path(done["images"][0]["source"]).read_bytes() == b"Z" * MIB + CONTENT[MIB:]
        assert not part.exists()
        check = site.module(root=str(root), arguments=["--check"], images=[{"name": "new", "path": "disk.raw"}])
        assert check["changed"] and check["images"][0]["id"] is None
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_what_is_added_to_an_image_is_sent_over_ssh(site, disk, sshd):
    """In check mode: what is done with it is tested where it is done (test_image_recipes.py)."""
    site.over_ssh(sshd)
    site.module(name="base", path=str(disk))
    (disk.parent / "motd").write_text("geheim motd")
    (disk.parent / "own.deb").write_bytes(b"!<arch>")
    wish = {
        "name": "web", "from": "base", "packages": ["own.deb", "nginx"], "commands": ["true"],
        "files": [{"path": "/etc/motd", "src": "motd"}, {"path": "/etc/issue", "content": "x"}],
    }  # fmt: skip
    done = site.module(arguments=["--check", "--diff", "-vvv"], **wish)
    assert done["changed"] and done["image"]["origin"] == "image base" and "warnings" not in done
    assert "geheim" not in site.output and "Z2VoZWlt" not in site.output
    lost = site.module(status=None, **{**wish, "packages": ["nowhere.deb"]})
    assert "nowhere.deb is not on the control node" in lost["msg"]
    # One image that a secret is given for goes the same way, whatever else is asked.
    secret = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
    safe = {"name": "safe", "size": 2, "luks_secret": secret, "luks_passphrase": "hunter2"}
    done = site.module(arguments=["-vvv", "--diff"], **safe)
    assert done["image"]["luks_secret"] == secret and "hunter2" not in site.output


@pytest.mark.parametrize("victim", ["controller", "everything"])
def test_an_upload_that_is_killed_goes_on(site, sshd, tmp_path, victim):
    """Of three chunks, as the second is on its way: the next run, at once, sends what is missing."""
    content = os.urandom(MIB) * 150
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
