# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module and role of images as users run them, locally and over an sshd of the tests' own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from raw_disks import BOOT

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
CONTENT = BOOT + random.Random(2).randbytes(3 * MIB) + bytes(2 * MIB) + b"end"
LOGIN = "nebula-test-login"


def sh(*argv, **options):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
