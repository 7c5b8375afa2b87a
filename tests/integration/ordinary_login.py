# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of somebody who is not root: reached by ssh, in a world of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for


@contextlib.contextmanager
def a_login(directory: Path, path: str, address: str = "127.0.0.1") -> Iterator[dict[str, Any]]:
    """A user without any right but sudo, reached by ssh: what its host needs in an inventory. path: the PATH of its
    commands. The users of the machine are covered in this world's mount namespace only."""
    place = Path(tempfile.mkdtemp(prefix="login-", dir=directory))
    place.chmod(0o755)
    for name, line in {
        "passwd": f"operator:x:4711:4711::{place}/home:/bin/sh",
        "group": "operator:x:4711:",
        "shadow": "operator:*:19000:0:99999:7:::",
    }.items():
        shutil.copy2(f"/etc/{name}", place / name)
        with (place / name).open("a") as file:
            file.write(f"{line}\n")
        subprocess.run(["mount", "--bind", str(place / name), f"/etc/{name}"], check=True)
    (place / "sudoers").mkdir(mode=0o750)
    (place / "sudoers/operator").write_text("operator ALL=(ALL:ALL) NOPASSWD: ALL\n")
    (place / "sudoers/operator").chmod(0o440)
    subprocess.run(["mount", "--bind", str(place / "sudoers"), "/etc/sudoers.d"], check=True)
    (place / "home").mkdir()
    os.chown(place / "home", 4711, 4711)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)], check=True)
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    (place / "config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\nPidFile none\n"
        f"StrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\nSetEnv PATH={path}\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(place / "config")], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listening(address, port), "sshd")
        yield {
            "ansible_connection": "ssh",
            "ansible_host": address,
            "ansible_port": port,
            "ansible_user": "operator",
            "ansible_ssh_private_key_file": str(place / "user"),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            "ansible_become": True,
        }
    finally:
        daemon.terminate()
        daemon.wait()
        for name in ("passwd", "group", "shadow", "sudoers.d"):
            subprocess.run(["umount", f"/etc/{name}"], check=True)


def listening(address: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0
